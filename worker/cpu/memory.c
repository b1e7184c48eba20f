#include "worker/cpu/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The number behind `key` ("" = the file's first) in a small file of the kernel's; UINT64_MAX when
 * the file, the key or the number is not there ("max" is no number). */
static uint64_t kernel_number(const char *path, const char *key)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) return UINT64_MAX;
    char line[256];
    uint64_t value = UINT64_MAX;
    size_t length = strlen(key);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, length) != 0) continue;
        char *end;
        unsigned long long number = strtoull(line + length, &end, 10);
        if (end != line + length) value = number;
        break;
    }
    fclose(file);
    return value;
}

static uint64_t less_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What a container's limit leaves: a limit beyond the machine's memory leaves more than
 * MemAvailable and so does not matter. Page cache counts as used here although it would be given
 * back, which errs to the safe side. */
static uint64_t cgroup_leaves(const char *limit_path, const char *used_path)
{
    uint64_t limit = kernel_number(limit_path, "");
    uint64_t used = kernel_number(used_path, "");
    if (limit == UINT64_MAX || used == UINT64_MAX) return UINT64_MAX;
    return limit > used ? limit - used : 0;
}

uint64_t memory_available(void)
{
    uint64_t kib = kernel_number("/proc/meminfo", "MemAvailable:");
    if (kib == UINT64_MAX) return 0;
    uint64_t bytes = kib * 1024u;
    bytes =
        less_of(bytes, cgroup_leaves("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"));
    return less_of(bytes, cgroup_leaves("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                        "/sys/fs/cgroup/memory/memory.usage_in_bytes"));
}

void *memory_reserve(uint64_t size)
{
    void *pointer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pointer == MAP_FAILED) return NULL;
    madvise(pointer, size, MADV_HUGEPAGE); /* a wish: without it, small pages */
    return pointer;
}

void memory_release(void *pointer, uint64_t size)
{
    if (pointer != NULL) munmap(pointer, size);
}
