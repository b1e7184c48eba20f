/* config_support: one good config.json, edited a field at a time. For the tests of config.h. */
#ifndef GAGGLE_TESTS_CONFIG_SUPPORT_H
#define GAGGLE_TESTS_CONFIG_SUPPORT_H

#include <stddef.h>

#include "worker/model/config.h"

/* A Llama of 5 layers, 64 wide, 8 query and 4 key-value heads, 512 tokens of context. */
extern const char base_config[];

/* The base with the fields of `edit` (an object) set; a field set to "absent" is removed. */
status parse_edited(const char *edit, const char *generation, model_config *config,
                    generation_defaults *defaults, error *err);

/* The same; a refusal fails the test. */
model_config accepted(const char *edit);

typedef struct refusal {
    const char *edit;
    status code;
    const char *sentence;
} refusal;

/* Each of the cases, edits of config.json or whole texts of generation_config.json, is refused. */
void assert_refusals(const refusal *cases, size_t count, bool in_generation);

#define ASSERT_REFUSALS(cases, in_generation)                                                      \
    assert_refusals(cases, sizeof(cases) / sizeof(cases)[0], in_generation)

#define INVALID ST_INVALID_ARGUMENT

#define FULL                                                                                       \
    "[\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","                \
    "\"full_attention\"]"

#define SLIDING_LAST                                                                               \
    "[\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","                \
    "\"sliding_attention\"]"

#define MISTRAL "\"architectures\":[\"MistralForCausalLM\"]"
#define QWEN2   "\"architectures\":[\"Qwen2ForCausalLM\"]"
#define QWEN3   "\"architectures\":[\"Qwen3ForCausalLM\"]"
#define GEMMA2  "\"architectures\":[\"Gemma2ForCausalLM\"]"
#define GEMMA3  "\"architectures\":[\"Gemma3ForCausalLM\"]"
#define PHI3    "\"architectures\":[\"Phi3ForCausalLM\"]"

#define LONGROPE(fields)                                                                           \
    "{\"type\":\"longrope\",\"short_factor\":[1,1,1.5,2],\"long_factor\":[1,4,8,64.5]" fields "}"

#endif
