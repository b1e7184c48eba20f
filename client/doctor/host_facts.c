#include "client/doctor/host_facts.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/mem.h"

enum { PATH_BYTES = 4096 };

/* -- texts -------------------------------------------------------------------------------- */

/* "535.104.05": digits and dots, with a dot between digits. */
static bool is_version(const char *word, size_t size)
{
    if (size == 0 || !isdigit((unsigned char)word[0])) return false;
    for (size_t i = 0; i < size; i++)
        if (!isdigit((unsigned char)word[i]) && word[i] != '.') return false;
    return memchr(word, '.', size) != NULL && word[size - 1] != '.';
}

bool driver_version_parse(char out[32], const char *text)
{
    const char *at = strstr(text, "NVRM version:");
    if (at == NULL) return false;
    const char *end = at + strcspn(at, "\n");
    while (at < end) {
        size_t size = strcspn(at, " \t\n");
        if (size < 32 && is_version(at, size)) {
            snprintf(out, 32, "%.*s", (int)size, at);
            return true;
        }
        at += size + (at + size < end);
    }
    return false;
}

/* The number behind "NAME:" at the beginning of a line. */
static bool kib_of(uint64_t *bytes, const char *text, const char *name)
{
    size_t size = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, size) != 0 || line[size] != ':') continue;
        char *end;
        const char *number = line + size + 1;
        while (*number == ' ')
            number++;
        if (!isdigit((unsigned char)*number)) return false;
        unsigned long long kib = strtoull(number, &end, 10);
        if (kib > UINT64_MAX / LIMIT_KIB) return false;
        *bytes = kib * LIMIT_KIB;
        return true;
    }
    return false;
}

bool memory_parse(memory_facts *out, const char *text)
{
    *out = (memory_facts){0};
    return kib_of(&out->total, text, "MemTotal") && kib_of(&out->available, text, "MemAvailable");
}

/* What stands behind "NAME<blanks>:" in the first such line; NULL: none. */
static const char *cpuinfo_value(const char *text, const char *name, size_t *size)
{
    size_t name_size = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, name_size) != 0) continue;
        const char *value = line + name_size + strspn(line + name_size, " \t");
        if (*value != ':') continue;
        value++;
        value += strspn(value, " \t");
        *size = strcspn(value, "\n");
        return value;
    }
    return NULL;
}

static bool has_word(const char *words, size_t size, const char *word)
{
    size_t word_size = strlen(word);
    for (size_t at = 0; at < size;) {
        size_t length = 0;
        while (at + length < size && words[at + length] != ' ')
            length++;
        if (length == word_size && memcmp(words + at, word, length) == 0) return true;
        at += length + 1;
    }
    return false;
}

static bool has_words(const char *words, size_t size, const char *const *wanted)
{
    for (; *wanted != NULL; wanted++)
        if (!has_word(words, size, *wanted)) return false;
    return true;
}

void cpu_parse(cpu_facts *out, const char *text)
{
    static const char *const avx2[] = {"avx2", "fma", "f16c", NULL};
    static const char *const avx512[] = {"avx512f", "avx512vl", "avx512bw", "avx512dq", NULL};
    *out = (cpu_facts){0};
    size_t size;
    const char *value = cpuinfo_value(text, "model name", &size);
    if (value != NULL)
        snprintf(out->name, sizeof out->name, "%.*s", (int)(size < 63 ? size : 63), value);
    value = cpuinfo_value(text, "flags", &size);
    out->x86 = value != NULL;
    out->avx2 = value != NULL && has_words(value, size, avx2);
    out->avx512 = out->avx2 && has_words(value, size, avx512);
}

const char *cpu_kernels_name(const cpu_facts *cpu)
{
    return cpu->avx512 ? "AVX-512" : cpu->avx2 ? "AVX2" : "portable";
}

uint32_t cpu_quota_parse(const char *text)
{
    unsigned long long quota, period;
    if (sscanf(text, "%19llu %19llu", &quota, &period) != 2 || period == 0) return 0;
    if (quota > UINT32_MAX || period > UINT32_MAX) return 0;
    return (uint32_t)((quota * 100 + period / 2) / period);
}

/*   sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid timeout inode
 */
bool listener_inode(uint64_t *inode, const char *text, uint16_t port)
{
    enum { LISTEN = 0x0A };
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        unsigned local_port, state;
        unsigned long long found;
        if (sscanf(line,
                   " %*15[0-9]: %*32[0-9A-Fa-f]:%4x %*32[0-9A-Fa-f]:%*4x %2x %*8x:%*8x %*2x:%*8x "
                   "%*8x %*10u %*10u %19llu",
                   &local_port, &state, &found) != 3)
            continue;
        if (local_port != port || state != LISTEN) continue;
        *inode = found;
        return true;
    }
    return false;
}

/* -- this machine -------------------------------------------------------------------------- */

char *host_read(const char *root, const char *path)
{
    char whole[PATH_BYTES];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    int fd = open(whole, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    enum { PIECE = 4096 };
    buffer text = {0};
    ssize_t got = 1;
    while (got > 0 && text.size < LIMIT_MIB) {
        buffer_reserve(&text, PIECE);
        got = read(fd, text.data + text.size, PIECE);
        if (got > 0) text.size += (size_t)got;
    }
    close(fd);
    buffer_append(&text, "", 1);
    if (got >= 0) return (char *)text.data;
    buffer_free(&text);
    return NULL;
}

bool host_has(const char *root, const char *path)
{
    char whole[PATH_BYTES];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    return access(whole, F_OK) == 0;
}

/* Of version 2 of control groups, and of 1. */
static uint64_t memory_limit(const char *root)
{
    static const char *const paths[] = {"/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    uint64_t limit = 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths && limit == 0; i++) {
        char *text = host_read(root, paths[i]);
        if (text != NULL && isdigit((unsigned char)text[0])) limit = strtoull(text, NULL, 10);
        mem_free(text);
    }
    return limit;
}

bool host_memory(memory_facts *out, const char *root)
{
    char *text = host_read(root, "/proc/meminfo");
    if (text == NULL) return false;
    bool read = memory_parse(out, text);
    mem_free(text);
    if (!read) return false;
    uint64_t limit = memory_limit(root);
    if (limit > 0 && limit < out->total) out->limit = limit;
    if (out->limit > 0 && out->limit < out->available) out->available = out->limit;
    return true;
}

uint32_t host_cpu_quota(const char *root)
{
    char *text = host_read(root, "/sys/fs/cgroup/cpu.max");
    uint32_t quota = text != NULL ? cpu_quota_parse(text) : 0;
    mem_free(text);
    return quota;
}

static bool file_begins(const char *root, const char *folder, const char *name, const char *file,
                        const char *beginning)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s/%s", folder, name, file);
    char *text = host_read(root, path);
    bool begins = text != NULL && strncmp(text, beginning, strlen(beginning)) == 0;
    mem_free(text);
    return begins;
}

uint32_t host_nvidia_cards(const char *root)
{
    static const char folder[] = "/sys/bus/pci/devices";
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s%s", root, folder);
    DIR *devices = opendir(path);
    if (devices == NULL) return 0;
    uint32_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(devices)) != NULL)
        count += entry->d_name[0] != '.' &&
                 file_begins(root, folder, entry->d_name, "vendor", "0x10de") &&
                 file_begins(root, folder, entry->d_name, "class", "0x03");
    closedir(devices);
    return count;
}

static bool holds_socket(const char *root, const char *pid, uint64_t inode)
{
    char path[PATH_BYTES], target[64], wanted[64];
    snprintf(wanted, sizeof wanted, "socket:[%" PRIu64 "]", inode);
    snprintf(path, sizeof path, "%s/proc/%s/fd", root, pid);
    DIR *files = opendir(path);
    if (files == NULL) return false;
    bool holds = false;
    const struct dirent *entry;
    while (!holds && (entry = readdir(files)) != NULL) {
        ssize_t size = readlinkat(dirfd(files), entry->d_name, target, sizeof target - 1);
        if (size <= 0) continue;
        target[size] = '\0';
        holds = strcmp(target, wanted) == 0;
    }
    closedir(files);
    return holds;
}

static void find_process(port_holder *out, const char *root, uint64_t inode)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc", root);
    DIR *processes = opendir(path);
    if (processes == NULL) return;
    const struct dirent *entry;
    while (out->pid == 0 && (entry = readdir(processes)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        if (!holds_socket(root, entry->d_name, inode)) continue;
        out->pid = strtoull(entry->d_name, NULL, 10);
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        char *name = host_read(root, path);
        if (name != NULL)
            snprintf(out->name, sizeof out->name, "%.*s", (int)strcspn(name, "\n"), name);
        mem_free(name);
    }
    closedir(processes);
}

bool host_port_holder(port_holder *out, const char *root, uint16_t port)
{
    static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    *out = (port_holder){0};
    uint64_t inode = 0;
    bool found = false;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && !found; i++) {
        char *text = host_read(root, tables[i]);
        found = text != NULL && listener_inode(&inode, text, port);
        mem_free(text);
    }
    if (found) find_process(out, root, inode);
    return found;
}
