#include "worker/text/utf8.h"

#include <string.h>

#include <utf8proc.h>

utf8_state utf8_step(const void *bytes, size_t size, size_t *length)
{
    const uint8_t *p = bytes;
    uint8_t first = p[0];
    size_t need;
    /* The second byte's range is narrower after some leads: no overlong forms, no surrogates,
     * nothing above U+10FFFF. */
    uint8_t low = 0x80, high = 0xBF;
    *length = 1;
    if (first < 0x80) return UTF8_CHARACTER;
    if (first >= 0xC2 && first <= 0xDF) {
        need = 2;
    } else if (first >= 0xE0 && first <= 0xEF) {
        need = 3;
        if (first == 0xE0) low = 0xA0;
        if (first == 0xED) high = 0x9F;
    } else if (first >= 0xF0 && first <= 0xF4) {
        need = 4;
        if (first == 0xF0) low = 0x90;
        if (first == 0xF4) high = 0x8F;
    } else {
        return UTF8_INVALID;
    }
    for (size_t i = 1; i < need; i++) {
        *length = i;
        if (i == size) return UTF8_INCOMPLETE;
        if (p[i] < low || p[i] > high) return UTF8_INVALID;
        low = 0x80;
        high = 0xBF;
    }
    *length = need;
    return UTF8_CHARACTER;
}

bool utf8_valid(const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    size_t at = 0;
    while (at < size) {
        uint64_t eight;
        if (size - at >= sizeof eight) {
            memcpy(&eight, p + at, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        size_t length;
        if (utf8_step(p + at, size - at, &length) != UTF8_CHARACTER) return false;
        at += length;
    }
    return true;
}

void utf8_append_lossy(buffer *out, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    size_t done = 0; /* appended so far */
    size_t at = 0;
    while (at < size) {
        size_t length;
        if (utf8_step(p + at, size - at, &length) != UTF8_CHARACTER) {
            buffer_append(out, p + done, at - done);
            buffer_append(out, UTF8_REPLACEMENT, 3);
            done = at + length;
        }
        at += length;
    }
    if (done < size) buffer_append(out, p + done, size - done);
}

uint32_t utf8_decode(const char *at, size_t *length)
{
    const uint8_t *p = (const uint8_t *)at;
    if (p[0] < 0x80) {
        *length = 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *length = 2;
        return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    }
    if (p[0] < 0xF0) {
        *length = 3;
        return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    }
    *length = 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 |
           (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

size_t utf8_encode(uint32_t code_point, char out[4])
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xC0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point < 0x10000) {
        out[0] = (char)(0xE0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code_point & 0x3F));
    return 4;
}

void utf8_append(buffer *out, uint32_t code_point)
{
    char bytes[4];
    buffer_append(out, bytes, utf8_encode(code_point, bytes));
}

bool unicode_is_white_space(uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool unicode_is_numeric(uint32_t c)
{
    if (c < 0x80) return c >= '0' && c <= '9';
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool unicode_is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
               (c >= '{' && c <= '~');
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool unicode_is_combining_mark(uint32_t c)
{
    if (c < 0x80) return false;
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

/* Alphabetic, M, Nd, Pc and Join_Control. Alphabetic is L, Nl, some marks, and circled letters
 * that count as symbols otherwise. */
bool unicode_is_word(uint32_t c)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_';
    if (c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
        (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
        (c >= 0x1F170 && c <= 0x1F189))
        return true;
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
           category == UTF8PROC_CATEGORY_PC;
}
