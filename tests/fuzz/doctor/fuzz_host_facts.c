/* Any text as what a file of /proc or /sys says: each parser takes it, and what it found is within
 * its bounds. */
#include <stdint.h>
#include <string.h>

#include "client/doctor/host_facts.h"
#include "common/check.h"
#include "common/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_strndup((const char *)data, size), version[32];
    memory_facts memory;
    cpu_facts cpu;
    uint64_t inode;
    if (driver_version_parse(version, text)) CHECK(strstr(text, version) != NULL);
    if (memory_parse(&memory, text)) CHECK(memory.limit == 0);
    cpu_parse(&cpu, text);
    CHECK(strlen(cpu.name) < sizeof cpu.name && (cpu.avx2 || !cpu.avx512));
    CHECK(cpu_kernels_name(&cpu) != NULL);
    cpu_quota_parse(text);
    listener_inode(&inode, text, 7400);
    mem_free(text);
    return 0;
}
