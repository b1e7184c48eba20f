/* Goal: a pull that was interrupted goes on where it was and fetches no byte twice; where what is
 * there cannot be used, it begins anew. Method: the hub pauses in the middle of a file until the
 * process has written down what came; then the process is killed, and what the next one is sent is
 * counted.
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
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/json.h"
#include "common/mem.h"
#include "pull_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        PULL_TEST(test_after_kill_9_only_what_is_missing_is_fetched),
        PULL_TEST(test_ctrl_c_is_clean_and_says_how_to_go_on),
        PULL_TEST(test_a_journal_that_does_not_fit_counts_for_nothing),
        PULL_TEST(test_two_pulls_at_once_fetch_everything_once),
        PULL_TEST(test_what_changed_between_two_pulls_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
