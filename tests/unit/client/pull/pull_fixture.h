/* pull_fixture: a hub with a model on it, an empty cache, and `gaggle pull` between them. */
#ifndef GAGGLE_TESTS_PULL_FIXTURE_H
#define GAGGLE_TESTS_PULL_FIXTURE_H

#include "../run_program.h"
#include "fake_hub.h"

enum { BIG_BYTES = (1 << 20) + 13, SMALL_BYTES = 50001, ARGS_MAX = 16 };

#define BIG   "model-00001-of-00002.safetensors"
#define SMALL "model-00002-of-00002.safetensors"
#define INDEX "model.safetensors.index.json"

typedef struct fixture {
    fake_hub *hub;
    char cache[512];
    program program;
    int code; /* what the last pull ended with */
} fixture;

/* cmocka's setup and teardown: *state is the fixture. */
int fixture_start(void **state);
int fixture_stop(void **state);

extern char big[BIG_BYTES], small[SMALL_BYTES];

/* `gaggle ARGS...`; the list ends with NULL. The second form does not wait. */
int gaggle(fixture *f, const char *const *args);
void gaggle_begin(fixture *f, program *p, const char *const *args);

/* `gaggle pull geese/gosling` with short waits, and "--piece-size 64K". */
int pull(fixture *f);
#define PULL_ARGS                                                                                  \
    "pull", HUB_MODEL, "--retry-ms", "1", "--timeout", "20s", "--piece-size", "64K",               \
        "--connections", "4"

/* What it said on stderr holds `text`. */
void assert_said(const fixture *f, const char *text);

/* "CACHE/models--geese--gosling/NAME" */
const char *in_model(const fixture *f, const char *name);
const char *blob_of(const fixture *f, const char *path);

void assert_file(const char *path, const void *bytes, size_t size);
bool exists(const char *path);

/* All of the model is there, as others lay it out. */
void assert_whole(const fixture *f);

/* The last pull ended well, and so; or it failed, said `words`, and left no model. */
void assert_pulled(fixture *f);
void assert_failed(fixture *f, const char *words);

#define PULL_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)

#endif
