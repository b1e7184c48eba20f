#include <gnu/libc-version.h>
#include <inttypes.h>
#include <sched.h>

#include "client/doctor/checks.h"
#include "client/doctor/host_facts.h"
#include "client/pull/disk.h"
#include "common/limits.h"
#include "common/mem.h"

#define MEMORY_FEW_BYTES (1ull << 30)

static uint32_t usable_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

static void check_cpu(findings *f, const char *root)
{
    cpu_facts cpu = {0};
    char *text = host_read(root, "/proc/cpuinfo");
    if (text != NULL) cpu_parse(&cpu, text);
    mem_free(text);
    const char *name = cpu.name[0] != '\0' ? cpu.name : "unknown CPU";
    uint32_t count = usable_cpus(), quota = host_cpu_quota(root);
    bool slow = cpu.x86 && !cpu.avx2;
    finding_add(f, slow ? FINDING_WARN : FINDING_OK, "cpu", "%s, %u to use: %s kernels", name,
                count, cpu_kernels_name(&cpu));
    if (slow)
        finding_advise(f, "models on this CPU run many times slower than with AVX2; a virtual "
                          "machine may only hide it: give it the host's CPU type");
    if (quota == 0 || quota >= count * 100) return;
    finding_add(f, FINDING_WARN, "cpu quota", "the container may use %u.%02u of %u CPUs",
                quota / 100, quota % 100, count);
    finding_advise(f, "start workers with --threads %u, or raise the container's limit",
                   quota >= 100 ? quota / 100 : 1);
}

static void check_memory(findings *f, const char *root)
{
    memory_facts m;
    char available[BYTES_TEXT_SIZE], total[BYTES_TEXT_SIZE], limit[BYTES_TEXT_SIZE];
    if (!host_memory(&m, root)) {
        finding_add(f, FINDING_WARN, "memory", "/proc/meminfo cannot be read");
        finding_advise(f, "mount /proc, or look for yourself that models fit");
        return;
    }
    bool few = m.available < MEMORY_FEW_BYTES;
    finding_add(f, few ? FINDING_WARN : FINDING_OK, "memory", "%s of %s available%s%s",
                bytes_text(available, m.available), bytes_text(total, m.total),
                m.limit > 0 ? ", the container's limit is " : "",
                m.limit > 0 ? bytes_text(limit, m.limit) : "");
    if (few) finding_advise(f, "end what else runs here, or raise the container's limit");
}

void check_host(findings *f, const char *root)
{
    finding_add(f, FINDING_OK, "glibc", "%s", gnu_get_libc_version());
    check_cpu(f, root);
    check_memory(f, root);
}
