/* An ELF file's section .nv_fatbin holds containers, each with a header and then its entries: one
 * kernel file's code for one architecture. Their layout is not documented; what is read here was
 * seen in what nvcc 12 and 13 write:
 *
 *   container   u32 magic 0xba55ed50, u16 version, u16 header's bytes, u64 bytes behind the header
 *   entry       u16 kind (1 PTX, 2 machine code), u16, u32 header's bytes, u64 bytes behind it,
 *               ... u32 architecture at 28 ... u64 flags at 40 (bit 20: for this one alone, "a")
 *
 * Which cuBLAS it is linked to stands among the names of .dynstr. */
#include "client/doctor/backend_file.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FATBIN_MAGIC     0xba55ed50u
#define FLAG_ONLY_THIS   (1ull << 20)
#define CUBLAS_LIBRARY   "libcublasLt.so."
#define CUDA_MAJOR_LIMIT 1000

enum { CONTAINER_BYTES = 16, ENTRY_BYTES = 48, KIND_PTX = 1, KIND_CODE = 2 };

typedef struct range {
    const uint8_t *data;
    size_t size;
} range;

/* A part of `whole`; false: it leads out of it. */
static bool part(range *out, range whole, uint64_t offset, uint64_t size)
{
    if (offset > whole.size || size > whole.size - offset) return false;
    *out = (range){whole.data + offset, (size_t)size};
    return true;
}

static bool copy(void *out, size_t size, range from, uint64_t offset)
{
    range piece;
    if (!part(&piece, from, offset, size)) return false;
    memcpy(out, piece.data, size);
    return true;
}

static void add_arch(backend_file *b, backend_arch arch)
{
    for (size_t i = 0; i < b->arch_count; i++)
        if (b->archs[i].number == arch.number && b->archs[i].ptx == arch.ptx &&
            b->archs[i].only_this == arch.only_this)
            return;
    if (b->arch_count < BACKEND_ARCHS_MAX) b->archs[b->arch_count++] = arch;
}

static bool read_entries(backend_file *b, range entries)
{
    while (entries.size >= ENTRY_BYTES) {
        uint16_t kind = 0;
        uint32_t header = 0, arch = 0;
        uint64_t size = 0, flags = 0;
        memcpy(&kind, entries.data, sizeof kind);
        memcpy(&header, entries.data + 4, sizeof header);
        memcpy(&size, entries.data + 8, sizeof size);
        memcpy(&arch, entries.data + 28, sizeof arch);
        memcpy(&flags, entries.data + 40, sizeof flags);
        if (header < ENTRY_BYTES || header > entries.size || size > entries.size - header)
            return false;
        if ((kind == KIND_PTX || kind == KIND_CODE) && arch <= UINT16_MAX)
            add_arch(b, (backend_arch){.number = (uint16_t)arch,
                                       .ptx = kind == KIND_PTX,
                                       .only_this = (flags & FLAG_ONLY_THIS) != 0});
        if (!part(&entries, entries, header + size, entries.size - header - size)) return false;
    }
    return true;
}

/* Containers stand at multiples of 8, with zeros in between. */
static bool read_containers(backend_file *b, range section)
{
    while (section.size >= CONTAINER_BYTES) {
        uint32_t magic;
        uint16_t header;
        uint64_t size;
        memcpy(&magic, section.data, sizeof magic);
        memcpy(&header, section.data + 6, sizeof header);
        memcpy(&size, section.data + 8, sizeof size);
        uint64_t step = 8;
        if (magic == FATBIN_MAGIC) {
            range entries;
            if (header < CONTAINER_BYTES || !part(&entries, section, header, size) ||
                !read_entries(b, entries))
                return false;
            step = header + size;
        }
        if (!part(&section, section, step, section.size - step)) return false;
    }
    return true;
}

/* Names, each ended by a NUL. */
static void read_libraries(backend_file *b, range names)
{
    const size_t prefix = strlen(CUBLAS_LIBRARY);
    for (size_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        size_t size = strnlen(name, names.size - at);
        if (at + size < names.size && size > prefix && memcmp(name, CUBLAS_LIBRARY, prefix) == 0) {
            long major = strtol(name + prefix, NULL, 10);
            if (major > 0 && major < CUDA_MAJOR_LIMIT) b->cuda_major = (uint32_t)major;
        }
        at += size + 1;
    }
}

static bool name_is(range names, uint32_t offset, const char *name)
{
    size_t size = strlen(name) + 1;
    range found;
    return part(&found, names, offset, size) && memcmp(found.data, name, size) == 0;
}

static status broken(error *err, const char *what)
{
    return error_set(err, ST_INVALID_ARGUMENT, "%s", what);
}

status backend_file_parse(backend_file *out, const uint8_t *bytes, size_t size, error *err)
{
    *out = (backend_file){0};
    const range file = {bytes, size};
    Elf64_Ehdr head;
    Elf64_Shdr section;
    range names, content;
    if (!copy(&head, sizeof head, file, 0) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64)
        return broken(err, "it is no ELF file of 64 bits");
    if (head.e_shentsize != sizeof section || head.e_shstrndx >= head.e_shnum ||
        !copy(&section, sizeof section, file,
              head.e_shoff + (uint64_t)head.e_shstrndx * sizeof section) ||
        !part(&names, file, section.sh_offset, section.sh_size))
        return broken(err, "its list of sections leads out of the file");
    for (uint32_t i = 0; i < head.e_shnum; i++) {
        if (!copy(&section, sizeof section, file, head.e_shoff + (uint64_t)i * sizeof section))
            return broken(err, "its list of sections leads out of the file");
        bool code = name_is(names, section.sh_name, ".nv_fatbin");
        if (!code && !name_is(names, section.sh_name, ".dynstr")) continue;
        if (section.sh_type == SHT_NOBITS ||
            !part(&content, file, section.sh_offset, section.sh_size))
            return broken(err, "a section leads out of the file");
        if (!code)
            read_libraries(out, content);
        else if (!read_containers(out, content))
            return broken(err, "its GPU code cannot be read");
    }
    return ST_OK;
}

bool backend_file_covers(const backend_file *b, uint32_t arch)
{
    for (size_t i = 0; i < b->arch_count; i++) {
        const backend_arch *a = &b->archs[i];
        if (a->only_this ? a->number == arch
            : a->ptx     ? a->number <= arch
                         : a->number <= arch && a->number / 10 == arch / 10)
            return true;
    }
    return false;
}

void backend_file_text(const backend_file *b, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < b->arch_count && used < size; i++) {
        const backend_arch *a = &b->archs[i];
        used += (size_t)snprintf(out + used, size - used, "%s%s%u%s", i > 0 ? " " : "",
                                 a->ptx ? "PTX-" : "sm_", a->number, a->only_this ? "a" : "");
    }
}
