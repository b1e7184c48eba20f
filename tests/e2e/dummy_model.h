/* dummy_model: a Hugging Face folder without weights, for --load-format dummy: a small Llama of a
 * stated shape with the bundled model's tokenizer and chat template. */
#ifndef GAGGLE_TESTS_DUMMY_MODEL_H
#define GAGGLE_TESTS_DUMMY_MODEL_H

enum { DUMMY_VOCAB = 2048 }; /* the tokenizer's */

typedef struct dummy_shape {
    int layers, hidden, intermediate, heads, kv_heads, head_dim, context;
} dummy_shape;

/* Write it to GAGGLE_TEST_TMP/dummy, once for each test program; returns the folder. */
const char *dummy_model_write(const dummy_shape *shape);

#endif
