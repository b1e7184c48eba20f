/* Goal: a full disk is said before anything is fetched where that can be known, and otherwise ends
 * a pull in words, without losing what came. Method: a file system of 3 MiB in memory, mounted in a
 * namespace of this test's own; a hub that waits while the disk fills up. Skipped where the system
 * allows no such namespace.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pull_fixture.h"

enum { PAUSE_BYTES = 20000 };

static char disk[512];

static void write_map(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, text, strlen(text)) < 0) perror(path);
    close(fd);
}

/* Before there are threads. */
static bool make_disk(void)
{
    snprintf(disk, sizeof disk, "%s/disk", getenv("GAGGLE_TEST_TMP"));
    mkdir(disk, 0777);
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1", getuid());
    snprintf(groups, sizeof groups, "0 %u 1", getgid());
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
        write_map("/proc/self/setgroups", "deny");
        write_map("/proc/self/uid_map", users);
        write_map("/proc/self/gid_map", groups);
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", disk, "tmpfs", 0, "size=3m") == 0;
}

static int start(void **state)
{
    fixture_start(state);
    fixture *f = *state;
    snprintf(f->cache, sizeof f->cache, "%.400s/hub", disk);
    setenv("HF_HUB_CACHE", f->cache, 1);
    return 0;
}

/* Until nothing more fits, but for `left` bytes. */
static void fill_disk(size_t left)
{
    char path[600];
    snprintf(path, sizeof path, "%s/filler", disk);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    static char page[4096];
    off_t size = 0;
    for (ssize_t wrote; (wrote = write(fd, page, sizeof page)) > 0;)
        size += wrote;
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(ftruncate(fd, size - (off_t)left), 0);
    close(fd);
}

static void empty_disk(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s/filler", disk);
    unlink(path);
}

static void test_a_small_disk_is_seen_before_weights_are_fetched(void **state)
{
    fixture *f = *state;
    fill_disk(1 << 20);
    pull(f);
    assert_int_equal(f->code, 1);
    assert_said(f, "must be fetched, and the disk of");
    assert_said(f, "HF_HUB_CACHE");
    assert_int_equal(hub_count(f->hub, BIG, false), 0);
    empty_disk();
    assert_int_equal(pull(f), 0);
    assert_whole(f);
}

static void pause_store(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->at_store && strstr(r->target, BIG) != NULL) r->pause_after = PAUSE_BYTES;
}

static void test_a_disk_that_fills_up_loses_nothing(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, pause_store, NULL);
    gaggle_begin(f, &f->program, (const char *const[]){PULL_ARGS, NULL});
    hub_wait_paused(f->hub, 4);
    fill_disk(0);
    hub_behave(f->hub, NULL, NULL);
    hub_release(f->hub);
    assert_int_equal(program_wait(&f->program), 1);
    assert_said(f, "the disk is full");
    assert_said(f, "What was fetched is kept");
    empty_disk();
    hub_forget(f->hub);
    assert_int_equal(pull(f), 0);
    assert_whole(f);
    /* What had been counted is not asked for again; what was under way may be. */
    assert_true(hub_sent(f->hub, BIG) < BIG_BYTES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, fixture_stop)

int main(void)
{
    if (!make_disk()) {
        printf("skipped: no file system can be mounted here (%s)\n", strerror(errno));
        return 0;
    }
    const struct CMUnitTest tests[] = {
        TEST(test_a_small_disk_is_seen_before_weights_are_fetched),
        TEST(test_a_disk_that_fills_up_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
