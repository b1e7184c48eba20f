#include "worker/text/byte_level.h"

#include "worker/text/utf8.h"

/* Bytes without a printable form, in order: 0x00-0x20, 0x7F-0xA0, 0xAD. */
#define LETTERS_FIRST  0x100u
#define LETTERS_DELETE (LETTERS_FIRST + 0x21)         /* of byte 0x7F */
#define LETTERS_HYPHEN (LETTERS_DELETE + 0xA1 - 0x7F) /* of byte 0xAD */

static uint32_t letter_of(uint8_t byte)
{
    if (byte <= 0x20) return LETTERS_FIRST + byte;
    if (byte >= 0x7F && byte <= 0xA0) return LETTERS_DELETE + byte - 0x7F;
    if (byte == 0xAD) return LETTERS_HYPHEN;
    return byte;
}

static bool byte_of(uint32_t letter, uint8_t *byte)
{
    if (letter < LETTERS_FIRST)
        *byte = (uint8_t)letter;
    else if (letter < LETTERS_DELETE)
        *byte = (uint8_t)(letter - LETTERS_FIRST);
    else if (letter < LETTERS_HYPHEN)
        *byte = (uint8_t)(letter - LETTERS_DELETE + 0x7F);
    else
        *byte = 0xAD;
    return letter_of(*byte) == letter;
}

void byte_level_append_letters(buffer *out, const char *bytes, size_t size)
{
    if (size == 0) return;
    buffer_reserve(out, 2 * size);
    char *to = (char *)out->data + out->size;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)bytes[i];
        if (byte > 0x20 && byte < 0x7F)
            *to++ = (char)byte;
        else
            to += utf8_encode(letter_of(byte), to);
    }
    out->size = (size_t)(to - (char *)out->data);
}

void byte_level_append_bytes(buffer *out, const char *token, size_t size)
{
    size_t before = out->size;
    buffer_reserve(out, size);
    for (size_t at = 0, length; at < size; at += length) {
        uint8_t byte;
        if (!byte_of(utf8_decode(token + at, &length), &byte)) {
            out->size = before;
            buffer_append(out, token, size);
            return;
        }
        buffer_append(out, &byte, 1);
    }
}
