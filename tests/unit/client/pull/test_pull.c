/* Goal: `gaggle pull` leaves a whole model, laid out as Hugging Face's tools lay it out, or says in
 * words why it could not; it asks for no byte twice that it had, and gives its token to the hub
 * alone. Method: the real binary against a hub of our own that sends people to a store at another
 * port and misbehaves as each test says; what was sent is counted there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "pull_fixture.h"

static void assert_pulled(fixture *f)
{
    if (f->code != 0) fail_msg("ended with %d: %s", f->code, program_err(&f->program));
    assert_whole(f);
}

static void assert_failed(fixture *f, const char *words)
{
    assert_int_equal(f->code, 1);
    assert_said(f, words);
    assert_false(exists(in_model(f, "refs/main")));
}

/* -- what is laid out
 * -------------------------------------------------------------------------------
 */

static void test_a_model_is_laid_out_as_others_expect_it(void **state)
{
    fixture *f = *state;
    setenv("HF_TOKEN", "hf_secret", 1);
    pull(f);
    assert_pulled(f);
    char expected[1100];
    snprintf(expected, sizeof expected, "%s\n", in_model(f, "snapshots/" HUB_COMMIT));
    assert_string_equal(program_out(&f->program), expected);
    assert_true(hub_saw_token(f->hub, "hf_secret"));
    assert_false(hub_store_saw_token(f->hub));
    assert_null(strstr(program_err(&f->program), "hf_secret"));
}

static void test_what_is_there_is_not_fetched_again(void **state)
{
    fixture *f = *state;
    pull(f);
    assert_pulled(f);
    hub_forget(f->hub);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_count(f->hub, "/resolve/", false), 0);
    assert_int_equal(hub_count(f->hub, "/resolve/", true), 0);
    assert_said(f, "everything is there");
}

static void test_a_damaged_file_is_found_by_check(void **state)
{
    fixture *f = *state;
    pull(f);
    FILE *blob = fopen(blob_of(f, SMALL), "r+");
    assert_non_null(blob);
    fputs("damage", blob);
    fclose(blob);
    hub_forget(f->hub);
    gaggle(f, (const char *const[]){PULL_ARGS, "--check", NULL});
    assert_pulled(f);
    assert_said(f, SMALL " is damaged");
    assert_int_equal(hub_sent(f->hub, "/resolve/"), SMALL_BYTES);
}

static void test_one_file_of_weights_does_without_an_index(void **state)
{
    fixture *f = *state;
    hub_stop(f->hub);
    f->hub = hub_start();
    setenv("HF_ENDPOINT", hub_url(f->hub), 1);
    hub_put(f->hub, "config.json", "{}", 2, false);
    hub_put(f->hub, "tokenizer.json", "{ }", 3, false);
    hub_put(f->hub, "model.safetensors", small, sizeof small, true);
    hub_put(f->hub, "empty", "", 0, false);
    hub_put(f->hub, "tokenizer.empty", "", 0, false);
    assert_int_equal(pull(f), 0);
    assert_file(in_model(f, "snapshots/" HUB_COMMIT "/model.safetensors"), small, sizeof small);
    assert_file(in_model(f, "snapshots/" HUB_COMMIT "/tokenizer.empty"), "", 0);
    assert_false(exists(in_model(f, "snapshots/" HUB_COMMIT "/empty")));
}

static void test_a_commit_gets_no_ref(void **state)
{
    fixture *f = *state;
    gaggle(f, (const char *const[]){"pull", HUB_MODEL ":" HUB_COMMIT, NULL});
    assert_int_equal(f->code, 0);
    assert_false(exists(in_model(f, "refs")));
    gaggle(f, (const char *const[]){"pull", HUB_MODEL ":refs/pr/1", NULL});
    assert_int_equal(f->code, 0);
    assert_int_equal(hub_count(f->hub, "/revision/refs%2Fpr%2F1?", false), 1);
    assert_file(in_model(f, "refs/refs/pr/1"), HUB_COMMIT, 40);
}

static void test_offline_asks_nobody(void **state)
{
    fixture *f = *state;
    setenv("HF_HUB_OFFLINE", "1", 1);
    pull(f);
    assert_failed(f, "HF_HUB_OFFLINE is set");
    unsetenv("HF_HUB_OFFLINE");
    pull(f);
    hub_forget(f->hub);
    setenv("HF_HUB_OFFLINE", "1", 1);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_count(f->hub, "", false), 0);
    unlink(in_model(f, "snapshots/" HUB_COMMIT "/" SMALL));
    pull(f);
    assert_int_equal(f->code, 1);
    assert_said(f, "has no " SMALL);
}

static void test_the_token_file_counts(void **state)
{
    fixture *f = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/token", getenv("GAGGLE_TEST_TMP"));
    FILE *file = fopen(path, "w");
    fputs("hf_from_file\n", file);
    fclose(file);
    setenv("HF_TOKEN_PATH", path, 1);
    pull(f);
    assert_pulled(f);
    assert_true(hub_saw_token(f->hub, "hf_from_file"));
}

/* -- going on
 * ------------------------------------------------------------------------------------------
 */

/* What the journal of an unfinished file counts. */
static uint64_t counted(const char *ranges_path)
{
    char *bytes;
    size_t size;
    if (file_read(&bytes, &size, ranges_path, 1 << 20, NULL) != ST_OK) return 0;
    uint64_t sum = 0, number;
    for (size_t at = 24; at + sizeof number <= size; at += sizeof number) {
        memcpy(&number, bytes + at, sizeof number);
        sum += le64toh(number);
    }
    mem_free(bytes);
    return sum;
}

/* Until the process has counted so much. */
static void wait_counted(const fixture *f, const char *path, uint64_t bytes)
{
    char ranges[1100];
    snprintf(ranges, sizeof ranges, "%s.gaggle.ranges", blob_of(f, path));
    int watch = inotify_init1(IN_CLOEXEC);
    assert_true(inotify_add_watch(watch, in_model(f, "blobs"), IN_MODIFY) >= 0);
    while (counted(ranges) < bytes) {
        struct pollfd event = {.fd = watch, .events = POLLIN};
        assert_int_equal(poll(&event, 1, 30000), 1);
        char events[4096];
        assert_true(read(watch, events, sizeof events) > 0);
    }
    close(watch);
    assert_int_equal(counted(ranges), bytes);
}

enum { PAUSE_BYTES = 20000, PARALLEL = 4 };

static void pause_store(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->at_store && strstr(r->target, BIG) != NULL) r->pause_after = PAUSE_BYTES;
}

static void test_after_kill_9_only_what_is_missing_is_fetched(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, pause_store, NULL);
    gaggle_begin(f, &f->program, (const char *const[]){PULL_ARGS, NULL});
    hub_wait_paused(f->hub, PARALLEL);
    wait_counted(f, BIG, PARALLEL * PAUSE_BYTES);
    kill(f->program.pid, SIGKILL);
    assert_int_equal(program_wait(&f->program), -SIGKILL);
    assert_int_equal(hub_sent(f->hub, BIG), PARALLEL * PAUSE_BYTES);

    hub_behave(f->hub, NULL, NULL);
    hub_forget(f->hub);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES - PARALLEL * PAUSE_BYTES);
    assert_int_equal(hub_sent(f->hub, SMALL), SMALL_BYTES);
    assert_int_equal(hub_sent(f->hub, "config.json"), 0);
}

static void test_ctrl_c_is_clean_and_says_how_to_go_on(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, pause_store, NULL);
    gaggle_begin(f, &f->program, (const char *const[]){PULL_ARGS, NULL});
    hub_wait_paused(f->hub, PARALLEL);
    wait_counted(f, BIG, PARALLEL * PAUSE_BYTES);
    kill(f->program.pid, SIGINT);
    assert_int_equal(program_wait(&f->program), 130);
    assert_said(f, "goes on where it was");
    hub_behave(f->hub, NULL, NULL);
    hub_forget(f->hub);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES - PARALLEL * PAUSE_BYTES);
}

static void test_a_journal_that_does_not_fit_counts_for_nothing(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, pause_store, NULL);
    gaggle_begin(f, &f->program, (const char *const[]){PULL_ARGS, NULL});
    hub_wait_paused(f->hub, PARALLEL);
    kill(f->program.pid, SIGKILL);
    program_wait(&f->program);
    char ranges[1100];
    snprintf(ranges, sizeof ranges, "%s.gaggle.ranges", blob_of(f, BIG));
    assert_int_equal(truncate(ranges, 30), 0);
    hub_behave(f->hub, NULL, NULL);
    hub_forget(f->hub);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
}

static void test_two_pulls_at_once_fetch_everything_once(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, pause_store, NULL);
    gaggle_begin(f, &f->program, (const char *const[]){PULL_ARGS, NULL});
    hub_wait_paused(f->hub, PARALLEL);
    program second;
    gaggle_begin(f, &second, (const char *const[]){PULL_ARGS, NULL});
    assert_true(program_says(&second, true, "another process pulls this model; waiting"));
    hub_behave(f->hub, NULL, NULL);
    hub_release(f->hub);
    f->code = program_wait(&f->program);
    assert_pulled(f);
    assert_int_equal(program_wait(&second), 0);
    assert_whole(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
    assert_int_equal(hub_sent(f->hub, SMALL), SMALL_BYTES);
}

/* -- bad connections
 * --------------------------------------------------------------------------------------
 */

static void cut_all(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->body_size > 30000) r->cut_after = 30000;
}

static void test_answers_that_are_cut_go_on_where_they_were(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, cut_all, NULL);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
    assert_int_equal(hub_sent(f->hub, SMALL), SMALL_BYTES);
}

/* An end without Content-Length looks like a good end. */
static void end_early(void *ctx, hub_request *r)
{
    (void)ctx;
    if (!r->at_store || r->body_size < 30000) return;
    r->promised = UINT64_MAX;
    r->cut_after = 30000;
}

static void test_an_answer_that_ends_early_is_not_taken_for_whole(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, end_early, NULL);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
}

static void cut_at_once(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->at_store) r->cut_after = 0;
}

static void test_tries_that_bring_nothing_are_bounded(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, cut_at_once, NULL);
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--retry-ms", "1", "--retries", "3",
                                    "--connections", "1", NULL});
    assert_failed(f, BIG ": 127.0.0.1: ");
    assert_int_equal(hub_count(f->hub, BIG, true), 4);
    assert_said(f, "(1 of 3)");
}

static void silent_first(void *ctx, hub_request *r)
{
    (void)ctx;
    r->silent = r->number == 0 && (strstr(r->target, SMALL) != NULL || r->file == NULL);
}

static void test_silence_is_a_lost_connection(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, silent_first, NULL);
    gaggle(f,
           (const char *const[]){"pull", HUB_MODEL, "--retry-ms", "1", "--timeout", "300ms", NULL});
    assert_pulled(f);
    assert_said(f, "was silent for 0.3 s; trying again");
}

static void silent_always(void *ctx, hub_request *r)
{
    (void)ctx;
    r->silent = true;
}

static void test_a_hub_that_never_answers_is_given_up(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, silent_always, NULL);
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--retry-ms", "1", "--timeout", "150ms",
                                    "--retries", "2", NULL});
    assert_failed(f, "was silent for 0.1 s");
    assert_int_equal(hub_count(f->hub, "", false), 3);
}

static void test_a_hub_that_is_not_there_is_named(void **state)
{
    fixture *f = *state;
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--retry-ms", "1", "--retries", "1", NULL});
    assert_failed(f, "127.0.0.1");
    setenv("HF_ENDPOINT", hub_url(f->hub), 1);
    pull(f);
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    assert_int_equal(gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--retries", "0", NULL}),
                     1);
    assert_said(f, "what was pulled before is whole and can be used");
    setenv("HF_ENDPOINT", "ftp://127.0.0.1", 1);
    assert_int_equal(pull(f), 2);
    assert_said(f, "must be an http:// or https:// URL");
}

static void fail_thrice(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->number < 3) {
        r->answer = 500 + (int)r->number;
        r->body_size = 0;
        if (r->number == 1) r->answer = 503;
    }
}

static void test_errors_of_the_server_pass(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, fail_thrice, NULL);
    pull(f);
    assert_pulled(f);
}

static void too_many_requests(void *ctx, hub_request *r)
{
    if (r->number > 0 || r->file != NULL) return;
    r->answer = 429;
    r->body_size = 0;
    snprintf(r->headers, sizeof r->headers, "Retry-After: %s\r\n", (const char *)ctx);
}

static void test_retry_after_is_kept(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, too_many_requests, "1");
    uint64_t begin_ms = clock_now_ms();
    pull(f);
    assert_pulled(f);
    assert_true(clock_now_ms() - begin_ms >= 1000);
    hub_forget(f->hub);
    hub_behave(f->hub, too_many_requests, "3600");
    assert_int_equal(pull(f), 1);
    assert_said(f, "asks to come back in 3600 s");
    assert_int_equal(hub_count(f->hub, "", false), 1);
}

/* -- servers that know less, or say wrong things
 * -----------------------------------------------------------
 */

static void no_ranges(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->answer != 206) return;
    r->answer = 200;
    r->body -= r->first;
    r->body_size = strstr(r->target, BIG) != NULL ? sizeof big : sizeof small;
    r->headers[0] = '\0';
}

static void test_a_server_without_ranges_will_do(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, no_ranges, NULL);
    pull(f);
    assert_pulled(f);
}

static void no_ranges_and_cuts(void *ctx, hub_request *r)
{
    no_ranges(ctx, r);
    unsigned *cuts = ctx;
    if (strstr(r->target, SMALL) == NULL || !r->at_store || *cuts == 0) return;
    --*cuts;
    r->cut_after = 20000;
}

static void test_a_server_without_ranges_is_asked_anew_but_not_for_ever(void **state)
{
    fixture *f = *state;
    static unsigned twice = 2, always = 1000;
    hub_behave(f->hub, no_ranges_and_cuts, &twice);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, SMALL), 2 * 20000 + SMALL_BYTES);
    unlink(blob_of(f, SMALL));
    unlink(in_model(f, "refs/main"));
    hub_behave(f->hub, no_ranges_and_cuts, &always);
    pull(f);
    assert_failed(f, "knows no ranges");
}

static void out_of_range_once(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->answer != 206 || r->number > 0) return;
    r->answer = 416;
    r->body_size = 0;
}

static void test_a_range_that_is_refused_begins_anew(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, out_of_range_once, NULL);
    pull(f);
    assert_pulled(f);
}

static void change_once(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->file == NULL || strcmp(r->file, SMALL) != 0 || r->answer != 302 || r->number > 0) return;
    char *etag = strstr(r->headers, "X-Linked-Etag: \"");
    memset(etag + strlen("X-Linked-Etag: \""), 'a', 64);
}

static void change_always(void *ctx, hub_request *r)
{
    r->number = 0;
    change_once(ctx, r);
}

static void test_a_file_that_changed_is_listed_again(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, change_once, NULL);
    pull(f);
    assert_pulled(f);
    assert_said(f, SMALL " changed on the hub");
    assert_int_equal(hub_count(f->hub, "/api/models/", false), 2);
    unlink(blob_of(f, SMALL));
    unlink(in_model(f, "refs/main"));
    hub_forget(f->hub);
    hub_behave(f->hub, change_always, NULL);
    pull(f);
    assert_failed(f, SMALL " changed on the hub");
    assert_int_equal(hub_count(f->hub, "/api/models/", false), 3);
}

static void test_what_changed_between_two_pulls_begins_anew(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, pause_store, NULL);
    gaggle_begin(f, &f->program, (const char *const[]){PULL_ARGS, NULL});
    hub_wait_paused(f->hub, PARALLEL);
    kill(f->program.pid, SIGKILL);
    program_wait(&f->program);
    static char other[BIG_BYTES];
    memcpy(other, big, sizeof other);
    other[0] ^= 1;
    hub_put(f->hub, BIG, other, sizeof other, true);
    hub_behave(f->hub, NULL, NULL);
    hub_forget(f->hub);
    assert_int_equal(pull(f), 0);
    assert_file(in_model(f, "snapshots/" HUB_COMMIT "/" BIG), other, sizeof other);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
}

static void wrong_bytes(void *ctx, hub_request *r)
{
    unsigned *times = ctx;
    if (r->file == NULL || strcmp(r->file, SMALL) != 0 || !r->at_store || *times == 0) return;
    --*times;
    r->body = big;
}

static void test_wrong_bytes_are_fetched_again_once(void **state)
{
    fixture *f = *state;
    static unsigned once = 1, always = 1000;
    hub_behave(f->hub, wrong_bytes, &once);
    pull(f);
    assert_pulled(f);
    assert_said(f, "it is fetched anew");
    unlink(blob_of(f, SMALL));
    unlink(in_model(f, "refs/main"));
    hub_behave(f->hub, wrong_bytes, &always);
    hub_forget(f->hub);
    pull(f);
    assert_failed(f, SMALL ": its SHA-256 is ");
    assert_int_equal(hub_sent(f->hub, SMALL), 2 * SMALL_BYTES);
    assert_false(exists(blob_of(f, SMALL)));
}

static void wrong_small_file(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->file != NULL && strcmp(r->file, "config.json") == 0) r->body = small;
}

static void test_small_files_are_checked_as_git_does(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, wrong_small_file, NULL);
    pull(f);
    assert_failed(f, "config.json: its SHA-1 as a git blob is ");
}

static void too_many_bytes(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->answer != 206) return;
    r->body_size += 10;
    r->body -= r->first > 0 ? 10 : 0;
}

static void test_more_bytes_than_asked_for_are_refused(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, too_many_bytes, NULL);
    pull(f);
    assert_failed(f, "sends more bytes than it was asked for");
}

static void another_range(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->answer == 206)
        snprintf(r->headers, sizeof r->headers, "Content-Range: bytes 7-65542/%d\r\n", BIG_BYTES);
}

static void test_another_range_is_refused(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, another_range, NULL);
    pull(f);
    assert_failed(f, "answers with another range");
}

/* -- redirects
 * -------------------------------------------------------------------------------------------
 */

static void send_in_circles(void *ctx, hub_request *r)
{
    (void)ctx;
    if (!r->at_store) return;
    r->answer = 302;
    r->body_size = 0;
    snprintf(r->headers, sizeof r->headers, "Location: %.1000s\r\n", r->target);
}

static void test_redirects_are_bounded(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, send_in_circles, NULL);
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--connections", "1", NULL});
    assert_failed(f, "too many redirects");
    assert_int_equal(hub_count(f->hub, BIG, true), 10);
}

static void send_to_a_file(void *ctx, hub_request *r)
{
    if (r->answer == 302)
        snprintf(r->headers, sizeof r->headers, "Location: %s\r\n", (const char *)ctx);
}

static void test_redirects_lead_to_http_only(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, send_to_a_file, "file:///etc/hostname");
    pull(f);
    assert_failed(f, "a place that is no http URL");
}

static void refuse_shortcuts(void *ctx, hub_request *r)
{
    unsigned *signatures = ctx;
    if (r->answer == 302) {
        char *yes = strstr(r->headers, "signed=yes");
        if (yes != NULL) snprintf(yes, 32, "signed=%u\r\n", ++*signatures);
        return;
    }
    unsigned used;
    const char *signature = strstr(r->target, "signed=");
    if (!r->at_store || signature == NULL || sscanf(signature, "signed=%u", &used) != 1) return;
    if (r->number == 0) return; /* each is good for one request */
    r->answer = 403;
    r->body_size = 0;
}

static void test_a_signature_that_has_expired_is_renewed(void **state)
{
    fixture *f = *state;
    static unsigned signatures;
    hub_behave(f->hub, refuse_shortcuts, &signatures);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
}

static void test_the_hub_is_asked_once_where_a_file_lies(void **state)
{
    fixture *f = *state;
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--piece-size", "64K", "--connections", "1",
                                    NULL});
    assert_pulled(f);
    assert_int_equal(hub_count(f->hub, BIG, false), 1);
    assert_int_equal(hub_count(f->hub, BIG, true), 17);
}

static void rename_model(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->at_store || strstr(r->target, "?blobs=true&new") != NULL || r->file != NULL) return;
    r->answer = 307;
    r->body_size = 0;
    snprintf(r->headers, sizeof r->headers, "Location: %.1000s&new\r\n", r->target);
}

static void test_a_redirect_within_the_hub_keeps_the_token(void **state)
{
    fixture *f = *state;
    setenv("HF_TOKEN", "hf_secret", 1);
    hub_behave(f->hub, rename_model, NULL);
    pull(f);
    assert_pulled(f);
    assert_true(hub_saw_token(f->hub, "hf_secret"));
}

/* -- refusals
 * ---------------------------------------------------------------------------------------------
 */

typedef struct refusal {
    int code;
    const char *error_code, *words_without_token, *words_with_token;
} refusal;

static void refuse(void *ctx, hub_request *r)
{
    const refusal *how = ctx;
    r->answer = how->code;
    r->body_size = 0;
    snprintf(r->headers, sizeof r->headers,
             "X-Error-Code: %s\r\nX-Error-Message: The hub's \x1b own words\r\n", how->error_code);
}

static void test_each_refusal_says_what_to_do(void **state)
{
    fixture *f = *state;
    static refusal cases[] = {
        {401, "GatedRepo", "geese/gosling is gated: accept its licence at http://127.0.0.1:",
         "the account of HF_TOKEN has no access"},
        {403, "GatedRepo", "make a token at", "the account of HF_TOKEN has no access"},
        {401, "RepoNotFound", "knows no public model geese/gosling: is the name right?",
         "knows no model geese/gosling that the account of HF_TOKEN may see"},
        {401, "", "knows no public model", "does not accept HF_TOKEN"},
        {403, "", "The hub's ? own words", "The hub's ? own words"},
        {404, "RevisionNotFound", "geese/gosling has no revision main", "has no revision main"},
        {404, "", "knows no public model", "may see: is the name right?"},
        {418, "", "127.0.0.1 answers 418: The hub's ? own words", "answers 418"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hub_behave(f->hub, refuse, &cases[i]);
        hub_forget(f->hub);
        unsetenv("HF_TOKEN");
        pull(f);
        assert_failed(f, cases[i].words_without_token);
        setenv("HF_TOKEN", "hf_secret", 1);
        pull(f);
        assert_failed(f, cases[i].words_with_token);
        assert_int_equal(hub_count(f->hub, "", false), 2); /* none is tried again */
        assert_false(exists(f->cache));
    }
}

static void refuse_files(void *ctx, hub_request *r)
{
    if (r->file != NULL) refuse(ctx, r);
}

static void test_a_gated_file_is_explained_too(void **state)
{
    fixture *f = *state;
    static refusal gated = {401, "GatedRepo", NULL, NULL};
    hub_behave(f->hub, refuse_files, &gated);
    pull(f);
    assert_failed(f, "geese/gosling is gated");
}

static void other_listing(void *ctx, hub_request *r)
{
    if (r->file != NULL || r->at_store) return;
    r->body = ctx;
    r->body_size = strlen(ctx);
}

static void test_a_listing_that_leads_out_is_refused(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, other_listing,
               "{\"sha\": \"" HUB_COMMIT "\", \"siblings\": [{\"rfilename\": \"../../x\", "
               "\"size\": 3, \"blobId\": \"" HUB_COMMIT "\"}]}");
    pull(f);
    assert_failed(f, "file 0: rfilename: not a path inside the model's folder");
    hub_behave(f->hub, other_listing, "<html>maintenance</html>");
    pull(f);
    assert_failed(f, "the hub's listing: not valid JSON");
    assert_false(exists(f->cache));
}

static void test_a_model_in_other_formats_is_refused_before_anything_is_fetched(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, other_listing,
               "{\"sha\": \"" HUB_COMMIT "\", \"siblings\": ["
               "{\"rfilename\": \"config.json\", \"size\": 3, \"blobId\": \"" HUB_COMMIT "\"},"
               "{\"rfilename\": \"tokenizer.json\", \"size\": 3, \"blobId\": \"" HUB_COMMIT "\"},"
               "{\"rfilename\": \"model-Q4.gguf\", \"size\": 3, \"blobId\": \"" HUB_COMMIT "\"}]}");
    pull(f);
    assert_failed(f, "it has model-Q4.gguf");
    assert_int_equal(hub_count(f->hub, "/resolve/", false), 0);
}

static void test_names_are_checked_before_anybody_is_asked(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"a/b/c",   "../x",  "a--b/c", "a/b:", "a/b:../main", "-a/b",
                                        "a/b.git", "a b/c", "",       "/a",   "a/b:x y"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(gaggle(f, (const char *const[]){"pull", "--", names[i], NULL}), 2);
        assert_said(f, "is not");
    }
    assert_int_equal(gaggle(f, (const char *const[]){"pull", NULL}), 2);
    assert_int_equal(hub_count(f->hub, "", false), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_model_is_laid_out_as_others_expect_it),
        TEST(test_what_is_there_is_not_fetched_again),
        TEST(test_a_damaged_file_is_found_by_check),
        TEST(test_one_file_of_weights_does_without_an_index),
        TEST(test_a_commit_gets_no_ref),
        TEST(test_offline_asks_nobody),
        TEST(test_the_token_file_counts),
        TEST(test_after_kill_9_only_what_is_missing_is_fetched),
        TEST(test_ctrl_c_is_clean_and_says_how_to_go_on),
        TEST(test_a_journal_that_does_not_fit_counts_for_nothing),
        TEST(test_two_pulls_at_once_fetch_everything_once),
        TEST(test_answers_that_are_cut_go_on_where_they_were),
        TEST(test_an_answer_that_ends_early_is_not_taken_for_whole),
        TEST(test_tries_that_bring_nothing_are_bounded),
        TEST(test_silence_is_a_lost_connection),
        TEST(test_a_hub_that_never_answers_is_given_up),
        TEST(test_a_hub_that_is_not_there_is_named),
        TEST(test_errors_of_the_server_pass),
        TEST(test_retry_after_is_kept),
        TEST(test_a_server_without_ranges_will_do),
        TEST(test_a_server_without_ranges_is_asked_anew_but_not_for_ever),
        TEST(test_a_range_that_is_refused_begins_anew),
        TEST(test_a_file_that_changed_is_listed_again),
        TEST(test_what_changed_between_two_pulls_begins_anew),
        TEST(test_wrong_bytes_are_fetched_again_once),
        TEST(test_small_files_are_checked_as_git_does),
        TEST(test_more_bytes_than_asked_for_are_refused),
        TEST(test_another_range_is_refused),
        TEST(test_redirects_are_bounded),
        TEST(test_redirects_lead_to_http_only),
        TEST(test_a_signature_that_has_expired_is_renewed),
        TEST(test_the_hub_is_asked_once_where_a_file_lies),
        TEST(test_a_redirect_within_the_hub_keeps_the_token),
        TEST(test_each_refusal_says_what_to_do),
        TEST(test_a_gated_file_is_explained_too),
        TEST(test_a_listing_that_leads_out_is_refused),
        TEST(test_a_model_in_other_formats_is_refused_before_anything_is_fetched),
        TEST(test_names_are_checked_before_anybody_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
