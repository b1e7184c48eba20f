/* Goal: real workers on GPUs, as far as that can be seen without one: which device a worker takes
 * and what it says about it, `gaggle up` with several, a device that fails while it works, and one
 * whose memory does not hold the answers it was given.
 *
 * Method: the ordinary programs, in a folder where the worker finds the CUDA backend that was
 * compiled for the CPU emulation (tests/cuda_emulation): sm_80 devices, as many and as large as
 * CUDA_EMULATION_DEVICES and CUDA_EMULATION_MEMORY say. Answers together, preempted or going on
 * elsewhere must be the answers alone, for the workers are batch-invariant. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/limits.h"
#include "tests/e2e/answers.h"
#include "tests/e2e/dummy_model.h"
#include "tests/sanitized.h"

#define DEVICE_BYTES (512ull << 20)

static const dummy_shape tiny = {.layers = 2,
                                 .hidden = 64,
                                 .intermediate = 96,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 16,
                                 .context = 128};

static void set_number(const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    setenv(name, text, 1);
}

/* One device of DEVICE_BYTES, and empty logs. */
static int fresh(void **state)
{
    (void)state;
    set_number("CUDA_EMULATION_DEVICES", 1);
    set_number("CUDA_EMULATION_MEMORY", DEVICE_BYTES);
    char path[1100];
    snprintf(path, sizeof path, "%s/gaggle-worker.log", getenv("GAGGLE_TEST_TMP"));
    unlink(path);
    return 0;
}

/* What workers wrote to stderr since the test began; valid until the next call. */
static const char *worker_log(void)
{
    static char text[1 << 18];
    char path[1100];
    snprintf(path, sizeof path, "%s/gaggle-worker.log", getenv("GAGGLE_TEST_TMP"));
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void assert_log_says(const char *what)
{
    const char *log = worker_log();
    if (strstr(log, what) == NULL) fail_msg("no '%s' in the workers' log: %s", what, log);
}

/* Run the worker to its end; its output. */
static char *run_worker(const char *const *args, int *code)
{
    process p;
    process_start(&p, "gaggle-worker", args, false);
    return process_output(&p, code);
}

static void expect_run(const char *const *args, int expected_code, const char *output)
{
    int code;
    char *found = run_worker(args, &code);
    assert_int_equal(code, expected_code);
    assert_string_equal(found, output);
    mem_free(found);
}

/* A member of the first line that a worker wrote. */
static json_t *ready_line(const process *worker)
{
    json_t *line;
    error err = {0};
    if (json_parse(&line, worker->ready, strlen(worker->ready), "ready", &err) != ST_OK)
        fail_msg("%s: %s", err.text, worker->ready);
    return line;
}

static void assert_ready_says(const process *worker, const char *key, const char *beginning)
{
    json_t *line = ready_line(worker);
    const char *text = json_string_value(json_object_get(line, key));
    if (text == NULL || strncmp(text, beginning, strlen(beginning)) != 0)
        fail_msg("%s is not '%s...' in %s", key, beginning, worker->ready);
    json_decref(line);
}

static json_int_t ready_number(const process *worker, const char *key)
{
    json_t *line = ready_line(worker);
    json_int_t number = json_integer_value(json_object_get(line, key));
    json_decref(line);
    return number;
}

/* -- which device ------------------------------------------------------------------------ */

static void test_devices_are_listed_and_a_wrong_one_is_refused(void **state)
{
    (void)state;
    set_number("CUDA_EMULATION_DEVICES", 2);
    expect_run((const char *[]){"devices", NULL}, 0, "cuda:0\ncuda:1\ncpu\n");
    expect_run((const char *[]){"-m", bundled_model(), "--device", "cuda:7", NULL}, 2, "");
    assert_log_says("--device is cuda:7; this machine has 2: cuda:0 and on\n");
    expect_run((const char *[]){"-m", bundled_model(), "--device", "cuda:x", NULL}, 2, "");
    assert_log_says("--device is 'cuda:x'; it must be auto, cpu, cuda or cuda:N\n");
}

static void assert_capital_of_france(const cluster *c)
{
    gaggle_client *client = cluster_client(c);
    const gaggle_message message = {"user", "What is the capital of France?"};
    gaggle_request request = {.messages = &message, .message_count = 1, .max_tokens = 12};
    request.sampling.has_temperature = true; /* 0 */
    gaggle_stream *stream;
    gaggle_error err;
    if (gaggle_submit(&stream, client, &request, &err) != GAGGLE_OK) fail_msg("%s", err.text);
    answer a = {0};
    answer_read(&a, stream, SIZE_MAX);
    gaggle_stream_close(stream);
    buffer_append(&a.text, "", 1);
    if (strstr((const char *)a.text.data, "Paris") == NULL)
        fail_msg("'%s' %s", (const char *)a.text.data, a.sentence);
    answer_free(&a);
    gaggle_client_destroy(client);
}

static void test_auto_takes_the_gpu_and_answers(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 1, .model = bundled_model()});
    assert_ready_says(&c.workers[0], "device", "cuda:0: emulated sm_80, sm_80, BF16");
    assert_capital_of_france(&c);
    cluster_stop(&c);
}

static void test_without_a_gpu_auto_says_why_and_takes_the_cpu(void **state)
{
    (void)state;
    set_number("CUDA_EMULATION_DEVICES", 0);
    expect_run((const char *[]){"devices", NULL}, 0, "cpu\n");
    assert_log_says("no GPU: no CUDA device can be used");
    expect_run((const char *[]){"-m", bundled_model(), "--device", "cuda", NULL}, 1, "");
    assert_log_says("--device cuda: no CUDA device can be used");
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 1, .model = bundled_model()});
    assert_ready_says(&c.workers[0], "device", "cpu: ");
    assert_log_says("using the CPU"); /* a driver without a device is said in other words */
    assert_capital_of_france(&c);
    cluster_stop(&c);
}

/* -- gaggle up ------------------------------------------------------------------------------ */

static bool has_two_gpus(const gaggle_report *r, void *ctx)
{
    (void)ctx;
    if (r->worker_count != 2) return false;
    bool seen[2] = {false, false};
    for (size_t i = 0; i < 2; i++) {
        const gaggle_worker_report *w = &r->workers[i];
        if (!w->connected || strncmp(w->device, "cuda:", 5) != 0) return false;
        uint32_t ordinal = (uint32_t)(w->device[5] - '0');
        if (ordinal < 2) seen[ordinal] = true;
    }
    return seen[0] && seen[1];
}

static void test_up_takes_every_gpu_and_drains_on_interrupt(void **state)
{
    (void)state;
    enum { TOKENS = SANITIZED ? 5 : 20 }; /* all of them fit the drain */
    set_number("CUDA_EMULATION_DEVICES", 2);
    char port[8], url_text[64];
    uint16_t number = free_port();
    snprintf(port, sizeof port, "%u", number);
    snprintf(url_text, sizeof url_text, "tcp://127.0.0.1:%u", number);
    process up;
    process_start(&up, "gaggle",
                  (const char *[]){"up", "-m", bundled_model(), "--port", port, "--prompt", "Hi",
                                   "-n", "2", "--drain-ms", "60000", NULL},
                  true); /* its first line is the end of the first answer */
    const char *url = url_text;
    gaggle_client *client;
    gaggle_error err;
    const gaggle_options options = {.urls = &url, .url_count = 1};
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_OK);
    cluster_wait(client, has_two_gpus, NULL, "two workers on two GPUs");

    gaggle_request request = {.text = "Once", .max_tokens = TOKENS, .ignore_eos = true};
    gaggle_stream *stream;
    assert_int_equal(gaggle_submit(&stream, client, &request, &err), GAGGLE_OK);
    answer a = {0};
    assert_true(answer_read(&a, stream, 2));
    kill(up.pid, SIGINT);
    answer_read(&a, stream, SIZE_MAX);
    assert_int_equal(a.reason, GAGGLE_FINISH_LENGTH);
    assert_int_equal(a.ids.size / sizeof(uint32_t), TOKENS);
    answer_free(&a);
    gaggle_stream_close(stream);
    gaggle_client_destroy(client);
    int code;
    mem_free(process_output(&up, &code));
    assert_int_equal(code, 0);
}

/* -- a device that fails -------------------------------------------------------------------- */

/* Calls that a worker of `tiny` makes of its device, far more than loading takes and far fewer than
 * the answers below. */
#define FAILING_CALL "300"

static void start_tiny(process *worker, const cluster *c, const char *name, const char *fail_at)
{
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", c->worker_port);
    process_start(worker, "gaggle-worker",
                  (const char *[]){"-m", dummy_model_write(&tiny), "--load-format", "dummy",
                                   "--router", url, "--name", name, "--batch-invariant",
                                   "--enforce-eager", "--max-num-seqs", "8",
                                   "--debug-fail-device-call", fail_at, NULL},
                  true);
}

/* "gaggle-worker: a step of 5 sequences, 5 tokens: CUDA device 0 (...): ... in product m=5 ..." */
static void assert_failure_names_call_and_shape(void)
{
    const char *log = worker_log(), *at = strstr(log, "gaggle-worker: ");
    unsigned sequences = 0, tokens = 0;
    char device[64] = "", call[128] = "";
    if (at == NULL ||
        sscanf(at,
               "gaggle-worker: a step of %u sequences, %u tokens: CUDA device 0 (%63[^)]): "
               "cudaErrorLaunchFailure (cudaErrorLaunchFailure) in %127[^\n]",
               &sequences, &tokens, device, call) != 4)
        fail_msg("no step, device or call in: %s", at != NULL ? at : log);
    assert_string_equal(device, "emulated sm_80");
    assert_in_range(sequences, 1, 8);
}

static bool has_two_workers(const gaggle_report *r, void *ctx)
{
    (void)ctx;
    return r->worker_count == 2 && r->workers[0].connected && r->workers[1].connected;
}

static void test_answers_of_a_failed_device_go_on_elsewhere(void **state)
{
    (void)state;
    enum { COUNT = 6, TOKENS = 24 };
    cluster c;
    cluster_start(&c, &(cluster_options){
                          .router_args = {"--worker-grace-ms", "100", "--stall-ms", "600000"}});
    gaggle_client *client = cluster_client(&c);
    process sound, failing;
    start_tiny(&sound, &c, "sound", "0");
    answer alone[COUNT] = {0}, together[COUNT] = {0};
    run_alone(client, alone, COUNT, TOKENS);

    start_tiny(&failing, &c, "failing", FAILING_CALL);
    cluster_wait(client, has_two_workers, NULL, "two workers");
    gaggle_stream *streams[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        streams[i] = submit_mixed(client, i, TOKENS);
    for (uint32_t i = 0; i < COUNT; i++) {
        answer_read(&together[i], streams[i], SIZE_MAX);
        gaggle_stream_close(streams[i]);
        assert_answers_equal(&alone[i], &together[i], i);
        answer_free(&alone[i]);
        answer_free(&together[i]);
    }
    int code;
    mem_free(process_output(&failing, &code)); /* it ended by itself, while it answered */
    assert_int_equal(code, 1);
    assert_failure_names_call_and_shape();
    gaggle_client_destroy(client);
    assert_int_equal(process_stop(&sound, SIGTERM), 0);
    cluster_stop(&c);
}

static void test_without_another_worker_the_answers_end_unavailable(void **state)
{
    (void)state;
    enum { COUNT = 4, TOKENS = 80 };
    cluster c;
    cluster_start(&c, &(cluster_options){.router_args = {"--worker-grace-ms", "100"}});
    gaggle_options options = cluster_client_options(&c);
    options.offline_ms = 300;
    gaggle_client *client;
    gaggle_error err;
    assert_int_equal(gaggle_client_create(&client, &options, &err), GAGGLE_OK);
    process failing;
    start_tiny(&failing, &c, "failing", FAILING_CALL);
    gaggle_stream *streams[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        streams[i] = submit_mixed(client, 4, TOKENS); /* none ends early */
    for (uint32_t i = 0; i < COUNT; i++) {
        answer a = {0};
        answer_read(&a, streams[i], SIZE_MAX);
        assert_int_equal(a.reason, GAGGLE_FINISH_FAILED);
        if (a.code != GAGGLE_UNAVAILABLE) fail_msg("%s", a.sentence);
        assert_in_range(a.ids.size / sizeof(uint32_t), 1, TOKENS - 1);
        answer_free(&a);
        gaggle_stream_close(streams[i]);
    }
    int code;
    mem_free(process_output(&failing, &code));
    assert_int_equal(code, 1);
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

/* The bundled model with its first weights infinite. */
static const char *write_broken_model(void)
{
    static char folder[1024];
    static const char *const links[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    static const uint16_t infinity_bf16 = 0x7f80;
    char from[1100], to[1100];
    snprintf(folder, sizeof folder, "%s/broken", getenv("GAGGLE_TEST_TMP"));
    mkdir(folder, 0755);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(from, sizeof from, "%s/%s", bundled_model(), links[i]);
        snprintf(to, sizeof to, "%s/%s", folder, links[i]);
        unlink(to);
        assert_int_equal(symlink(from, to), 0);
    }
    char *bytes;
    size_t size;
    uint64_t header;
    error err = {0};
    snprintf(from, sizeof from, "%s/model.safetensors", bundled_model());
    if (file_read(&bytes, &size, from, 64 << 20, &err) != ST_OK) fail_msg("%s", err.text);
    memcpy(&header, bytes, sizeof header);
    for (size_t i = 0; i < 64; i++)
        memcpy(bytes + sizeof header + header + 2 * i, &infinity_bf16, 2);
    snprintf(to, sizeof to, "%s/model.safetensors", folder);
    FILE *file = fopen(to, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    mem_free(bytes);
    return folder;
}

/* Every worker of this model would give the same: the answer ends in words, and takes no second
 * worker with it. */
static void test_broken_numbers_end_the_answer_and_one_worker(void **state)
{
    (void)state;
    char url[64];
    cluster c;
    cluster_start(&c, &(cluster_options){.router_args = {"--worker-grace-ms", "100"}});
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", c.worker_port);
    const char *model = write_broken_model();
    process workers[2];
    process_start(&workers[0], "gaggle-worker",
                  (const char *[]){"-m", model, "--router", url, "--name", "w0", NULL}, true);
    gaggle_client *client = cluster_client(&c);
    gaggle_stream *stream = submit_mixed(client, 0, 20);
    process_start(&workers[1], "gaggle-worker",
                  (const char *[]){"-m", model, "--router", url, "--name", "w1", NULL}, true);
    answer a = {0};
    answer_read(&a, stream, SIZE_MAX);
    gaggle_stream_close(stream);
    assert_int_equal(a.reason, GAGGLE_FINISH_FAILED);
    assert_int_equal(a.code, GAGGLE_INTERNAL);
    if (strstr(a.sentence, "not finite numbers") == NULL) fail_msg("%s", a.sentence);
    assert_int_equal(a.ids.size, 0);
    answer_free(&a);
    gaggle_client_destroy(client);
    int code;
    mem_free(process_output(&workers[0], &code)); /* ended by itself */
    assert_int_equal(code, 1);
    assert_int_equal(process_stop(&workers[1], SIGTERM), 0);
    cluster_stop(&c);
}

/* -- memory ------------------------------------------------------------------------------------ */

#define TINY_ARGS                                                                                  \
    "--load-format", "dummy", "--batch-invariant", "--gpu-memory-utilization", "1",                \
        "--max-num-seqs", "8"

enum { BLOCK_BYTES = 2 * 2 * 2 * 16 * 64 * 2 }; /* of `tiny`: layers, K and V, heads, rows of 64 */

/* Tokens of KV that the memory plan leaves on a device of `bytes`. */
static uint64_t planned_tokens(uint64_t bytes)
{
    set_number("CUDA_EMULATION_MEMORY", bytes);
    int code;
    char *plan = run_worker(
        (const char *[]){"-m", dummy_model_write(&tiny), TINY_ARGS, "--dry-run", NULL}, &code);
    assert_int_equal(code, 0);
    const char *kv = strstr(plan, "KV cache");
    unsigned long long tokens = 0;
    if (kv == NULL || sscanf(kv, "KV cache %*f GiB: %llu tokens", &tokens) != 1)
        fail_msg("no KV cache in: %s", plan);
    mem_free(plan);
    return tokens;
}

static bool has_preempted(const gaggle_report *r, void *ctx)
{
    (void)ctx;
    return r->worker_count == 1 && r->workers[0].preemptions > 0;
}

/* A device that is just large enough for one answer of the whole context. */
static void test_answers_beyond_the_memory_are_preempted_and_the_same(void **state)
{
    (void)state;
    const uint64_t wanted = (uint64_t)tiny.context;
    uint64_t all = planned_tokens(DEVICE_BYTES);
    uint64_t bytes = DEVICE_BYTES - (all - wanted) / LIMIT_KV_BLOCK_TOKENS * BLOCK_BYTES;
    assert_int_equal(planned_tokens(bytes), wanted);
    cluster c;
    cluster_start(&c, &(cluster_options){.workers = 1,
                                         .model = dummy_model_write(&tiny),
                                         .worker_args = {TINY_ARGS},
                                         .router_args = {"--stall-ms", "600000"}});
    assert_int_equal(ready_number(&c.workers[0], "kv_tokens"), wanted);
    assert_answers_survive(&c, 4, 40, &(trouble){0});
    gaggle_client *client = cluster_client(&c);
    cluster_wait(client, has_preempted, NULL, "a preemption");
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

static void test_dry_run_prints_the_plan_and_loads_nothing(void **state)
{
    (void)state;
    int code;
    char *plan = run_worker(
        (const char *[]){"-m", bundled_model(), "--max-model-len", "64", "--dry-run", NULL}, &code);
    assert_int_equal(code, 0);
    static const char *const parts[] = {"device memory:", "weights",  "workspace",
                                        "graphs",         "KV cache", "context of 64\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(plan, parts[i]) == NULL) fail_msg("no '%s' in: %s", parts[i], plan);
    mem_free(plan);
    if (strstr(worker_log(), "loading") != NULL) fail_msg("%s", worker_log());
}

static void test_length_and_number_of_answers_keep_to_the_options(void **state)
{
    (void)state;
    cluster c;
    cluster_start(&c,
                  &(cluster_options){.workers = 1,
                                     .model = dummy_model_write(&tiny),
                                     .worker_args = {"--load-format", "dummy", "--max-model-len",
                                                     "64", "--max-num-seqs", "2"}});
    assert_int_equal(ready_number(&c.workers[0], "context"), 64);
    assert_int_equal(ready_number(&c.workers[0], "slots"), 2);
    gaggle_client *client = cluster_client(&c);
    static const uint32_t prompt[60] = {300, 301, 302};
    gaggle_request request = {.ids = prompt, .id_count = 60, .max_tokens = 5};
    gaggle_stream *streams[4];
    gaggle_error err;
    answer a = {0};
    assert_int_equal(gaggle_submit(&streams[0], client, &request, &err), GAGGLE_OK);
    answer_read(&a, streams[0], SIZE_MAX);
    gaggle_stream_close(streams[0]);
    assert_int_equal(a.code, GAGGLE_INVALID_ARGUMENT);
    if (strstr(a.sentence, "64") == NULL) fail_msg("%s", a.sentence);
    answer_free(&a);

    request = (gaggle_request){.ids = prompt, .id_count = 60, .max_tokens = 4, .ignore_eos = true};
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(gaggle_submit(&streams[i], client, &request, &err), GAGGLE_OK);
    for (uint32_t i = 0; i < 4; i++) {
        a = (answer){0};
        answer_read(&a, streams[i], SIZE_MAX);
        if (a.reason != GAGGLE_FINISH_LENGTH) fail_msg("%s", a.sentence);
        assert_int_equal(a.ids.size / sizeof(uint32_t), 4);
        answer_free(&a);
        gaggle_stream_close(streams[i]);
    }
    gaggle_client_destroy(client);
    cluster_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_devices_are_listed_and_a_wrong_one_is_refused, fresh),
        cmocka_unit_test_setup(test_auto_takes_the_gpu_and_answers, fresh),
        cmocka_unit_test_setup(test_without_a_gpu_auto_says_why_and_takes_the_cpu, fresh),
        cmocka_unit_test_setup(test_up_takes_every_gpu_and_drains_on_interrupt, fresh),
        cmocka_unit_test_setup(test_answers_of_a_failed_device_go_on_elsewhere, fresh),
        cmocka_unit_test_setup(test_without_another_worker_the_answers_end_unavailable, fresh),
        cmocka_unit_test_setup(test_broken_numbers_end_the_answer_and_one_worker, fresh),
        cmocka_unit_test_setup(test_answers_beyond_the_memory_are_preempted_and_the_same, fresh),
        cmocka_unit_test_setup(test_dry_run_prints_the_plan_and_loads_nothing, fresh),
        cmocka_unit_test_setup(test_length_and_number_of_answers_keep_to_the_options, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
