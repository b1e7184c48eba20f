/* Goal: what gaggle doctor says of a machine is what the kernel said of it.
 * Method: texts as kernels write them, whole and broken, and a fake root with a few files of /proc
 * and /sys; the choice of CPU kernels against the one that the backend makes on this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/doctor/checks.h"
#include "client/doctor/host_facts.h"
#include "common/check.h"
#include "common/mem.h"
#include "fake_root.h"
#include "worker/cpu/kernels/kernels.h"

static void test_the_drivers_version_is_found_in_each_form(void **state)
{
    (void)state;
    char version[32];
    assert_true(driver_version_parse(
        version, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 "
                 "UTC 2023\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"));
    assert_string_equal(version, "535.104.05");
    assert_true(driver_version_parse(version,
                                     "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  "
                                     "580.65.06  Release Build  (builder@host)  Sun Jul 27\n"));
    assert_string_equal(version, "580.65.06");
    static const char *const none[] = {
        "",
        "NVRM version:",
        "NVRM version: 535",
        "NVRM version: 535.",
        "NVRM version: no numbers\nGCC version: 12.2.0\n",
        "GCC version: 12.2.0\n",
        "NVRM version: 1.11111111111111111111111111111111111111111\n",
    };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(driver_version_parse(version, none[i]));
}

static void test_memory_is_what_is_available(void **state)
{
    (void)state;
    memory_facts m;
    assert_true(memory_parse(&m, "MemTotal:       32645120 kB\nMemFree:          103424 kB\n"
                                 "MemAvailable:   28311552 kB\nBuffers: 1 kB\n"));
    assert_int_equal(m.total, 32645120ull * 1024);
    assert_int_equal(m.available, 28311552ull * 1024);
    assert_false(memory_parse(&m, ""));
    assert_false(memory_parse(&m, "MemTotal: 1 kB\n"));
    assert_false(memory_parse(&m, "MemTotal: lots\nMemAvailable: 1 kB\n"));
    assert_false(memory_parse(&m, "MemTotal: 99999999999999999999 kB\nMemAvailable: 1 kB\n"));
}

static void test_kernels_follow_from_the_flags(void **state)
{
    (void)state;
    static const struct {
        const char *flags, *kernels;
    } cases[] = {
        {"fpu sse avx2 fma f16c avx512f avx512dq avx512bw avx512vl", "AVX-512"},
        {"fpu sse avx2 fma f16c avx512f avx512dq avx512bw", "AVX2"},
        {"f16c avx2 fma", "AVX2"},
        {"avx512f avx512dq avx512bw avx512vl avx2 fma", "portable"}, /* without F16C */
        {"avx2x fma f16c", "portable"},
        {"fpu sse", "portable"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        cpu_facts cpu;
        snprintf(text, sizeof text,
                 "processor\t: 0\nmodel name\t: Goose 9000\nflags\t\t: %s\nbugs\t\t: avx2\n",
                 cases[i].flags);
        cpu_parse(&cpu, text);
        assert_string_equal(cpu.name, "Goose 9000");
        assert_string_equal(cpu_kernels_name(&cpu), cases[i].kernels);
    }
    cpu_facts arm;
    cpu_parse(&arm, "processor\t: 0\nFeatures\t: fp asimd\n");
    assert_false(arm.x86);
    assert_string_equal(cpu_kernels_name(&arm), "portable");
}

static void test_kernels_are_those_that_the_backend_takes_here(void **state)
{
    (void)state;
    size_t count;
    cpu_facts cpu;
    char *text = host_read("", "/proc/cpuinfo");
    assert_non_null(text);
    cpu_parse(&cpu, text);
    mem_free(text);
    assert_string_equal(cpu_kernels_name(&cpu), cpu_kernels_available(&count)[0]->name);
}

static void test_a_quota_is_read_in_hundredths(void **state)
{
    (void)state;
    assert_int_equal(cpu_quota_parse("200000 100000\n"), 200);
    assert_int_equal(cpu_quota_parse("50000 100000\n"), 50);
    assert_int_equal(cpu_quota_parse("150000 100000\n"), 150);
    assert_int_equal(cpu_quota_parse("max 100000\n"), 0);
    assert_int_equal(cpu_quota_parse("1 0\n"), 0);
    assert_int_equal(cpu_quota_parse("99999999999999 1\n"), 0);
    assert_int_equal(cpu_quota_parse(""), 0);
}

#define TCP_HEAD                                                                                   \
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "  \
    "inode\n"

static void test_the_socket_that_listens_is_found(void **state)
{
    (void)state;
    static const char table[] = TCP_HEAD
        "   0: 0100007F:1CE8 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  0  0 11 1\n"
        "   1: 00000000:1CE9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 22 1\n"
        "   2: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 33 1 "
        "0000000000000000 100 0 0 10 0\n";
    uint64_t inode = 0;
    assert_true(listener_inode(&inode, table, 7400));
    assert_int_equal(inode, 33);
    assert_true(listener_inode(&inode, table, 7401));
    assert_int_equal(inode, 22);
    assert_false(listener_inode(&inode, table, 40000)); /* a connection's, not a listener's */
    assert_false(listener_inode(&inode, table, 7402));
    assert_false(listener_inode(&inode, TCP_HEAD "   0: 0100007F:1CE8 0100007F\n", 7400));
}

static void test_a_container_bounds_what_is_there(void **state)
{
    (void)state;
    const char *root = fake_root();
    memory_facts m;
    assert_false(host_memory(&m, root));
    fake_file("/proc/meminfo", "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n");
    assert_true(host_memory(&m, root));
    assert_int_equal(m.limit, 0);
    fake_file("/sys/fs/cgroup/memory.max", "max\n");
    assert_true(host_memory(&m, root));
    assert_int_equal(m.available, 16ull << 30);
    fake_file("/sys/fs/cgroup/memory.max", "4294967296\n");
    assert_true(host_memory(&m, root));
    assert_int_equal(m.limit, 4ull << 30);
    assert_int_equal(m.available, 4ull << 30);
    fake_file("/sys/fs/cgroup/cpu.max", "150000 100000\n");
    assert_int_equal(host_cpu_quota(root), 150);
}

static void test_version_1_of_control_groups_is_known(void **state)
{
    (void)state;
    const char *root = fake_root();
    memory_facts m;
    fake_file("/proc/meminfo", "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n");
    fake_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    assert_true(host_memory(&m, root));
    assert_int_equal(m.limit, 0);
    fake_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    assert_true(host_memory(&m, root));
    assert_int_equal(m.limit, 1ull << 30);
}

static void test_cards_are_counted_on_the_bus(void **state)
{
    (void)state;
    const char *root = fake_root();
    assert_int_equal(host_nvidia_cards(root), 0);
    fake_file("/sys/bus/pci/devices/0000:00:04.0/vendor", "0x10de\n");
    fake_file("/sys/bus/pci/devices/0000:00:04.0/class", "0x030200\n");
    fake_file("/sys/bus/pci/devices/0000:00:04.1/vendor", "0x10de\n"); /* its sound */
    fake_file("/sys/bus/pci/devices/0000:00:04.1/class", "0x040300\n");
    fake_file("/sys/bus/pci/devices/0000:00:05.0/vendor", "0x8086\n");
    fake_file("/sys/bus/pci/devices/0000:00:05.0/class", "0x030000\n");
    assert_int_equal(host_nvidia_cards(root), 1);
}

static void test_who_holds_a_port_is_named(void **state)
{
    (void)state;
    const char *root = fake_root();
    port_holder holder;
    assert_false(host_port_holder(&holder, root, 7400));
    fake_file("/proc/net/tcp", TCP_HEAD);
    fake_file("/proc/net/tcp6",
              TCP_HEAD "   0: 00000000000000000000000000000000:1CE8 "
                       "00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 "
                       "00000000     0        0 4711 1\n");
    assert_true(host_port_holder(&holder, root, 7400)); /* whose cannot be seen */
    assert_int_equal(holder.pid, 0);
    fake_file("/proc/17/comm", "bystander\n");
    fake_link("/proc/17/fd/3", "socket:[47]");
    fake_file("/proc/812/comm", "nginx\n");
    fake_link("/proc/812/fd/0", "/dev/null");
    fake_link("/proc/812/fd/6", "socket:[4711]");
    assert_true(host_port_holder(&holder, root, 7400));
    assert_int_equal(holder.pid, 812);
    assert_string_equal(holder.name, "nginx");
}

/* A port that somebody listens on: this process. */
static int hold_port(uint16_t *port)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 1) == 0 &&
          getsockname(fd, (struct sockaddr *)&any, &size) == 0);
    *port = ntohs(any.sin_port);
    return fd;
}

static void test_a_port_is_free_or_somebodys(void **state)
{
    (void)state;
    uint16_t port;
    char check[32], line[512], own[32];
    int fd = hold_port(&port);
    findings f = {0};
    snprintf(check, sizeof check, "port %u", port);
    check_port(&f, "", port);
    snprintf(own, sizeof own, "(pid %d) listens there", (int)getpid());
    assert_finding(&f, check, FINDING_WARN, own, "--listen");

    const char *root = fake_root();
    check_port(&f, root, port); /* who it is cannot be seen */
    assert_finding(&f, check, FINDING_WARN, "somebody else's process", "as root");

    snprintf(line, sizeof line,
             TCP_HEAD "   0: 0100007F:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000 "
                      "0 0 5 1\n",
             port);
    fake_file("/proc/net/tcp", line);
    fake_file("/proc/99/comm", "gaggle-router\n");
    fake_link("/proc/99/fd/4", "socket:[5]");
    check_port(&f, root, port);
    assert_finding(&f, check, FINDING_OK, "gaggle-router (pid 99)", NULL);

    close(fd);
    check_port(&f, root, port);
    assert_finding(&f, check, FINDING_OK, "free", NULL);
    findings_free(&f);
}

static void test_a_small_machine_is_warned_of(void **state)
{
    (void)state;
    const char *root = fake_root();
    findings f = {0};
    fake_file("/proc/cpuinfo", "model name\t: Old\033[31m Goose\nflags\t: fpu sse\n");
    fake_file("/proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 524288 kB\n");
    fake_file("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    check_host(&f, root);
    assert_finding(&f, "cpu", FINDING_WARN, "Old?[31m Goose", "AVX2");
    assert_finding(&f, "cpu quota", FINDING_WARN, "0.50 of", "--threads 1");
    assert_finding(&f, "memory", FINDING_WARN, "512 MiB of 2.00 GiB", "end what else");
    assert_true(findings_complete(&f));
    findings_free(&f);

    fake_root();
    check_host(&f, root);
    assert_finding(&f, "memory", FINDING_WARN, "/proc/meminfo", "mount /proc");
    findings_free(&f);
}

static void test_a_clock_is_judged(void **state)
{
    (void)state;
    findings f = {0};
    check_clock(&f, 1700000000);
    assert_finding(&f, "clock", FINDING_FAIL, "2023-11-14", "timedatectl");
    check_clock(&f, 1800000000);
    assert_finding(&f, "clock", FINDING_OK, "2027-01-15 08:00:00 UTC", NULL);
    check_clock_against(&f, "the router", 1800000000, 1800000030);
    assert_finding(&f, "clock", FINDING_OK, "as the router says", NULL);
    check_clock_against(&f, "the router", 1800000000, 1800003600);
    assert_finding(&f, "clock", FINDING_WARN, "3600 s ahead", "set the clock");
    check_clock_against(&f, "the router", 1800000000, 1799999000);
    assert_finding(&f, "clock", FINDING_WARN, "1000 s behind", "set the clock");
    findings_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_drivers_version_is_found_in_each_form),
        cmocka_unit_test(test_memory_is_what_is_available),
        cmocka_unit_test(test_kernels_follow_from_the_flags),
        cmocka_unit_test(test_kernels_are_those_that_the_backend_takes_here),
        cmocka_unit_test(test_a_quota_is_read_in_hundredths),
        cmocka_unit_test(test_the_socket_that_listens_is_found),
        cmocka_unit_test(test_a_container_bounds_what_is_there),
        cmocka_unit_test(test_version_1_of_control_groups_is_known),
        cmocka_unit_test(test_cards_are_counted_on_the_bus),
        cmocka_unit_test(test_who_holds_a_port_is_named),
        cmocka_unit_test(test_a_port_is_free_or_somebodys),
        cmocka_unit_test(test_a_small_machine_is_warned_of),
        cmocka_unit_test(test_a_clock_is_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
