/* Goal: systemd hears what a service says, and where nobody listens nothing happens. Method:
 * sockets of our own, by an abstract name and by a path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/service_notify.h"

static int listen_at(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(name);
    memcpy(address.sun_path, name, size);
    if (name[0] == '@') address.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_true(fd >= 0);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static void assert_hears(int fd, const char *text)
{
    char heard[256];
    ssize_t size = recv(fd, heard, sizeof heard - 1, MSG_DONTWAIT);
    assert_true(size >= 0);
    heard[size] = 0;
    assert_string_equal(heard, text);
}

static void test_an_abstract_name_is_told(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "@gaggle-notify-%d", (int)getpid());
    int fd = listen_at(name);
    assert_true(service_notify("READY=1\nSTATUS=serving"));
    assert_hears(fd, "READY=1\nSTATUS=serving");
    assert_true(service_notify("STOPPING=1"));
    assert_hears(fd, "STOPPING=1");
    close(fd);
}

static void test_a_path_is_told(void **state)
{
    (void)state;
    char folder[] = "/tmp/gaggle-notify-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/notify", folder);
    int fd = listen_at(path);
    assert_true(service_notify("READY=1"));
    assert_hears(fd, "READY=1");
    close(fd);
    unlink(path);
    rmdir(folder);
}

static void test_nobody_there_is_no_failure(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    assert_false(service_notify("READY=1"));
    char too_long[200];
    memset(too_long, 'a', sizeof too_long - 1);
    too_long[0] = '/';
    too_long[sizeof too_long - 1] = 0;
    const char *const names[] = {"", "/", "relative", "@", "/nowhere/at/all", too_long};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        assert_false(service_notify("READY=1"));
    }
}

static void test_a_listener_that_does_not_read_holds_nobody_up(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "@gaggle-notify-full-%d", (int)getpid());
    int fd = listen_at(name);
    uint32_t sent = 0;
    while (service_notify("STATUS=again") && sent < 1000000)
        sent++;
    assert_in_range(sent, 1, 999999);
    assert_hears(fd, "STATUS=again");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_abstract_name_is_told),
        cmocka_unit_test(test_a_path_is_told),
        cmocka_unit_test(test_nobody_there_is_no_failure),
        cmocka_unit_test(test_a_listener_that_does_not_read_holds_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
