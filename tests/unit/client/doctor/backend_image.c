#include "backend_image.h"

#include <elf.h>
#include <string.h>

enum { HEADER = 16, ENTRY = 72, BODY = 24, SECTIONS = 4 };

static void add_container(buffer *out, const backend_arch *arch)
{
    const uint32_t magic = 0xba55ed50u, entry_header = ENTRY, number = arch->number;
    const uint16_t version = 1, header = HEADER, kind = arch->ptx ? 1 : 2;
    const uint64_t behind = ENTRY + BODY, body = BODY, flags = arch->only_this ? 0x100011 : 0x11;
    uint8_t bytes[HEADER + ENTRY + BODY] = {0};
    memcpy(bytes, &magic, 4);
    memcpy(bytes + 4, &version, 2);
    memcpy(bytes + 6, &header, 2);
    memcpy(bytes + 8, &behind, 8);
    uint8_t *entry = bytes + HEADER;
    memcpy(entry, &kind, 2);
    memcpy(entry + 4, &entry_header, 4);
    memcpy(entry + 8, &body, 8);
    memcpy(entry + 28, &number, 4);
    memcpy(entry + 40, &flags, 8);
    buffer_append(out, bytes, sizeof bytes);
    buffer_append(out, "\0\0\0\0\0\0\0", 8); /* what lies between two */
}

void backend_image(buffer *out, const backend_arch *code, size_t count, const char *libraries,
                   size_t libraries_size)
{
    static const char names[] = "\0.nv_fatbin\0.dynstr\0.shstrtab";
    *out = (buffer){0};
    Elf64_Ehdr head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64},
                       .e_shentsize = sizeof(Elf64_Shdr),
                       .e_shnum = SECTIONS,
                       .e_shstrndx = SECTIONS - 1};
    Elf64_Shdr sections[SECTIONS] = {
        {0},
        {.sh_name = 1, .sh_type = SHT_PROGBITS, .sh_offset = sizeof head},
        {.sh_name = 12, .sh_type = SHT_STRTAB, .sh_size = libraries_size},
        {.sh_name = 20, .sh_type = SHT_STRTAB, .sh_size = sizeof names},
    };
    buffer_append(out, &head, sizeof head);
    for (size_t i = 0; i < count; i++)
        add_container(out, &code[i]);
    sections[1].sh_size = out->size - sizeof head;
    sections[2].sh_offset = out->size;
    buffer_append(out, libraries, libraries_size);
    sections[3].sh_offset = out->size;
    buffer_append(out, names, sizeof names);
    head.e_shoff = out->size;
    memcpy(out->data, &head, sizeof head);
    buffer_append(out, sections, sizeof sections);
}
