/* The worker's promise about memory: resident at most weights + KV + 64 MiB.
 *
 * A real worker on one thread serves more answers at once than its stated KV memory holds, so that
 * every block of it has been written, with prompts that fill steps. Then the peak of its
 * resident memory (VmHWM in /proc/PID/status: anonymous pages, the mapped checkpoint, shared
 * libraries and stacks, whatever else) is compared with the sum of the weights' bytes, the KV
 * memory and 64 MiB. It must be above weights + KV, too, or nothing was measured. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/e2e/answers.h"
#include "tests/e2e/dummy_model.h"

#define MIB           (1024.0 * 1024.0)
#define ALLOWANCE_MIB 64.0
#define KV_MIB        16.0
#define KV_FLAG       "16M"

enum { ANSWERS_MAX = 32, PROMPT_TOKENS = 64, ANSWER_TOKENS = 120 };

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* All at once, none with a beginning of another, to the last token. */
static void run_answers(gaggle_client *client, uint32_t count)
{
    gaggle_stream *streams[ANSWERS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t prompt[PROMPT_TOKENS];
        for (uint32_t at = 0; at < PROMPT_TOKENS; at++)
            prompt[at] = 300 + (i * PROMPT_TOKENS + at) % 1500;
        gaggle_request request = {.ids = prompt,
                                  .id_count = PROMPT_TOKENS,
                                  .max_tokens = ANSWER_TOKENS,
                                  .ignore_eos = true};
        gaggle_error err;
        if (gaggle_submit(&streams[i], client, &request, &err) != GAGGLE_OK)
            fail_msg("%s", err.text);
    }
    for (uint32_t i = 0; i < count; i++) {
        answer a = {0};
        answer_read(&a, streams[i], SIZE_MAX);
        if (a.code != GAGGLE_OK) fail_msg("answer %u: %s", i, a.sentence);
        assert_int_equal(a.ids.size / sizeof(uint32_t), ANSWER_TOKENS);
        answer_free(&a);
        gaggle_stream_close(streams[i]);
    }
}

/* `answers` of them need more KV than there is. */
static void assert_within_promise(const char *model, const char *format, double weights_mib,
                                  uint32_t answers)
{
#ifdef SANITIZED
    printf("skipped: a sanitizer's own memory is many times the allowance\n");
    skip();
#endif
    cluster c;
    cluster_start(&c, &(cluster_options){
                          .workers = 1,
                          .model = model,
                          .worker_args = {"--load-format", format, "--kv-cache-memory", KV_FLAG},
                          .router_args = {"--stall-ms", "600000"}});
    gaggle_client *client = cluster_client(&c);
    run_answers(client, answers);
    double peak = (double)process_memory_kib(&c.workers[0], "VmHWM") / 1024;
    double anonymous = (double)process_memory_kib(&c.workers[0], "RssAnon") / 1024;
    double mapped = (double)process_memory_kib(&c.workers[0], "RssFile") / 1024;
    gaggle_client_destroy(client);
    cluster_stop(&c);
    if (peak < 0) {
        printf("skipped: this kernel's /proc/PID/status has no VmHWM\n");
        skip();
    }
    printf("peak %.1f MiB (at the end %.1f anonymous, %.1f mapped), weights %.1f + KV %.1f + %.1f "
           "= %.1f\n",
           peak, anonymous, mapped, weights_mib, KV_MIB, ALLOWANCE_MIB,
           weights_mib + KV_MIB + ALLOWANCE_MIB);
    assert_true(peak <= weights_mib + KV_MIB + ALLOWANCE_MIB);
    assert_true(peak >= weights_mib + KV_MIB);
}

static void test_bundled_model_stays_within_weights_kv_and_64_mib(void **state)
{
    (void)state;
    char path[1100];
    struct stat file;
    snprintf(path, sizeof path, "%s/model.safetensors", bundled_model());
    assert_int_equal(stat(path, &file), 0);
    assert_within_promise(bundled_model(), "auto", (double)file.st_size / MIB, 32);
}

/* 133 MiB of random weights, in anonymous memory: what the worker keeps twice would show. */
static const dummy_shape shape = {.layers = 6,
                                  .hidden = 1024,
                                  .intermediate = 2816,
                                  .heads = 16,
                                  .kv_heads = 4,
                                  .head_dim = 64,
                                  .context = 512};

static void test_dummy_model_stays_within_weights_kv_and_64_mib(void **state)
{
    (void)state;
    uint64_t hidden = (uint64_t)shape.hidden, head_dim = (uint64_t)shape.head_dim;
    uint64_t layer = 2 * hidden * (uint64_t)(shape.heads + shape.kv_heads) * head_dim +
                     3 * hidden * (uint64_t)shape.intermediate + 2 * hidden;
    uint64_t numbers = DUMMY_VOCAB * hidden + (uint64_t)shape.layers * layer + hidden;
    assert_within_promise(dummy_model_write(&shape), "dummy", (double)numbers * 2 / MIB, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bundled_model_stays_within_weights_kv_and_64_mib),
        cmocka_unit_test(test_dummy_model_stays_within_weights_kv_and_64_mib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
