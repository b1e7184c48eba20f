#include "tests/e2e/dummy_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/e2e/processes.h"

static void link_bundled(const char *folder, const char *name)
{
    char from[1100], to[1100];
    snprintf(from, sizeof from, "%s/%s", bundled_model(), name);
    snprintf(to, sizeof to, "%s/%s", folder, name);
    unlink(to);
    CHECK(symlink(from, to) == 0);
}

const char *dummy_model_write(const dummy_shape *s)
{
    static char folder[1024];
    char path[1100];
    snprintf(folder, sizeof folder, "%s/dummy", getenv("GAGGLE_TEST_TMP"));
    mkdir(folder, 0755);
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL);
    fprintf(file,
            "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\","
            " \"vocab_size\": %d, \"hidden_size\": %d, \"intermediate_size\": %d,"
            " \"num_hidden_layers\": %d, \"num_attention_heads\": %d,"
            " \"num_key_value_heads\": %d, \"head_dim\": %d, \"hidden_act\": \"silu\","
            " \"max_position_embeddings\": %d, \"rms_norm_eps\": 1e-05,"
            " \"rope_theta\": 10000.0, \"tie_word_embeddings\": true,"
            " \"bos_token_id\": 1, \"eos_token_id\": 2}\n",
            DUMMY_VOCAB, s->hidden, s->intermediate, s->layers, s->heads, s->kv_heads, s->head_dim,
            s->context);
    CHECK(fclose(file) == 0);
    link_bundled(folder, "tokenizer.json");
    link_bundled(folder, "tokenizer_config.json");
    return folder;
}
