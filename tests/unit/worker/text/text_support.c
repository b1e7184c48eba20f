#include "text_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/mem.h"
#include "worker/text/detokenizer.h"
#include "worker/text/utf8.h"

static char *join(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return mem_strdup(path);
}

char *shared_data(const char *path)
{
    const char *root = getenv("GAGGLE_SHARED_DATA");
    char *whole = join(root != NULL ? root : "/nonexistent", path);
    if (access(whole, R_OK) == 0) return whole;
    printf("skipped: no %s\n", whole);
    mem_free(whole);
    return NULL;
}

char *real_tokenizers(void)
{
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    char *unpack = shared_data("unpack");
    if (unpack == NULL) return NULL;
    assert_non_null(scratch);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl(unpack, unpack, scratch, (char *)NULL);
        _exit(127);
    }
    int outcome;
    assert_int_equal(waitpid(child, &outcome, 0), child);
    assert_int_equal(outcome, 0);
    mem_free(unpack);
    return join(scratch, "tokenizers");
}

tokenizer *real_tokenizer(const char *folder, const char *name)
{
    tokenizer *t = NULL;
    error err = {0};
    char *dir = join(folder, name);
    if (tokenizer_load(&t, dir, &err) != ST_OK) fail_msg("%s: %s", name, err.text);
    mem_free(dir);
    return t;
}

tokenizer *small_tokenizer(const char *json)
{
    tokenizer *t = NULL;
    error err = {0};
    if (tokenizer_parse(&t, json, strlen(json), &err) != ST_OK) fail_msg("%s", err.text);
    return t;
}

void assert_ids(const char *what, const token_list *got, const json_t *expected)
{
    size_t same = 0;
    while (same < got->count && same < json_array_size(expected) &&
           got->ids[same] == (uint32_t)json_integer_value(json_array_get(expected, same)))
        same++;
    if (same == got->count && same == json_array_size(expected)) return;
    for (size_t i = 0; i < got->count; i++)
        fprintf(stderr, "%s%u", i > 0 ? "," : "got ", got->ids[i]);
    fail_msg("%s: %zu ids instead of %zu, different from number %zu on", what, got->count,
             json_array_size(expected), same);
}

uint32_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 16);
}

void assert_stream_equals_decode(const tokenizer *t, const uint32_t *ids, size_t count,
                                 bool skip_special)
{
    size_t size;
    char *whole = tokenizer_decode(t, ids, count, skip_special, &size);
    detokenizer *d = detokenizer_create(t, skip_special, true);
    buffer streamed = {0};
    for (size_t i = 0; i < count; i++) {
        detokenizer_push(d, ids[i], &streamed);
        assert_true(utf8_valid(streamed.data, streamed.size));
    }
    detokenizer_finish(d, &streamed);
    assert_int_equal(streamed.size, size);
    if (size > 0) assert_memory_equal(streamed.data, whole, size);
    detokenizer_destroy(d);
    buffer_free(&streamed);
    mem_free(whole);
}
