#include "worker/text/jinja/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/limits.h"

/* -- builder ----------------------------------------------------------------------------------- */

static void reserve(interp *in, builder *b, size_t extra)
{
    if (extra <= b->capacity - b->size) return;
    if (extra > LIMIT_CHAT_TEMPLATE_OUTPUT_BYTES - b->size)
        interp_exhausted(in, "bytes of output", LIMIT_CHAT_TEMPLATE_OUTPUT_BYTES);
    size_t capacity = b->capacity < 64 ? 64 : b->capacity * 2;
    if (capacity < b->size + extra) capacity = b->size + extra;
    char *bytes = interp_alloc(in, capacity);
    if (b->size > 0) memcpy(bytes, b->bytes, b->size);
    b->bytes = bytes;
    b->capacity = capacity;
}

void builder_add(interp *in, builder *b, const char *bytes, size_t size)
{
    if (size == 0) return;
    interp_spend_bytes(in, size);
    reserve(in, b, size);
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

void builder_add_literal(interp *in, builder *b, const char *literal)
{
    builder_add(in, b, literal, strlen(literal));
}

void builder_add_text(interp *in, builder *b, const text *t)
{
    builder_add(in, b, t->bytes, t->size);
}

void builder_add_character(interp *in, builder *b, uint32_t character)
{
    char bytes[4];
    builder_add(in, b, bytes, text_encode(character, bytes));
}

void builder_fill(interp *in, builder *b, char byte, size_t count)
{
    if (count == 0) return;
    interp_spend_bytes(in, count);
    reserve(in, b, count);
    memset(b->bytes + b->size, byte, count);
    b->size += count;
}

void builder_format(interp *in, builder *b, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    builder_add(in, b, line, size < (int)sizeof line ? (size_t)size : sizeof line - 1);
}

text *builder_text(interp *in, const builder *b)
{
    return text_new(in, b->bytes != NULL ? b->bytes : "", b->size);
}

/* -- making and comparing ---------------------------------------------------------------------- */

text *text_new(interp *in, const char *bytes, size_t size)
{
    text *t = interp_alloc(in, sizeof *t);
    t->bytes = bytes;
    t->size = size;
    t->length = size <= 1 ? size : TEXT_UNCOUNTED;
    return t;
}

text *text_literal(interp *in, const char *literal)
{
    return text_new(in, literal, strlen(literal));
}

bool text_same(const text *a, const text *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->bytes, b->bytes, a->size) == 0);
}

bool text_is(const text *t, const char *literal)
{
    return t->size == strlen(literal) && memcmp(t->bytes, literal, t->size) == 0;
}

int text_compare(const text *a, const text *b)
{
    /* The bytes of UTF-8 sort as the code points do. */
    size_t common = a->size < b->size ? a->size : b->size;
    int order = common > 0 ? memcmp(a->bytes, b->bytes, common) : 0;
    if (order != 0) return order;
    return a->size < b->size ? -1 : a->size > b->size;
}

/* -- code points ------------------------------------------------------------------------------- */

static bool begins_character(char byte)
{
    return ((unsigned char)byte & 0xC0) != 0x80;
}

size_t text_length(interp *in, text *t)
{
    if (t->length == TEXT_UNCOUNTED) {
        interp_spend_bytes(in, t->size);
        size_t length = 0;
        for (size_t i = 0; i < t->size; i++)
            length += begins_character(t->bytes[i]);
        t->length = length;
    }
    return t->length;
}

bool text_ascii(interp *in, text *t)
{
    return text_length(in, t) == t->size;
}

size_t text_offset(interp *in, text *t, size_t index)
{
    if (text_ascii(in, t)) return index;
    interp_spend_bytes(in, t->size);
    size_t offset = 0;
    for (; offset < t->size; offset++) {
        if (!begins_character(t->bytes[offset])) continue;
        if (index == 0) break;
        index--;
    }
    return offset;
}

size_t text_index(interp *in, text *t, size_t offset)
{
    if (text_ascii(in, t)) return offset;
    interp_spend_bytes(in, offset);
    size_t index = 0;
    for (size_t i = 0; i < offset; i++)
        index += begins_character(t->bytes[i]);
    return index;
}

text *text_part(interp *in, text *t, size_t start, size_t stop)
{
    size_t length = text_length(in, t);
    if (start == 0 && stop == length) return t;
    size_t first = text_offset(in, t, start);
    size_t last = stop == length ? t->size : text_offset(in, t, stop);
    text *part = text_bytes(in, t, first, last);
    part->length = stop - start;
    return part;
}

text *text_bytes(interp *in, const text *t, size_t start, size_t stop)
{
    return text_new(in, t->bytes + start, stop - start);
}

size_t text_find(interp *in, const text *t, const text *needle, size_t from, size_t to)
{
    if (from > to || needle->size > to - from) return TEXT_NOT_FOUND;
    interp_spend_bytes(in, to - from);
    if (needle->size == 0) return from;
    const char *found = memmem(t->bytes + from, to - from, needle->bytes, needle->size);
    return found != NULL ? (size_t)(found - t->bytes) : TEXT_NOT_FOUND;
}

size_t text_find_last(interp *in, const text *t, const text *needle, size_t from, size_t to)
{
    if (from > to || needle->size > to - from) return TEXT_NOT_FOUND;
    if (needle->size == 0) return to;
    interp_spend_characters(in, to - from);
    for (size_t at = to - needle->size + 1; at-- > from;) {
        if (t->bytes[at] != needle->bytes[0]) continue;
        interp_spend_bytes(in, needle->size + 16);
        if (memcmp(t->bytes + at, needle->bytes, needle->size) == 0) return at;
    }
    return TEXT_NOT_FOUND;
}

uint32_t text_next(const text *t, size_t *offset)
{
    const unsigned char *p = (const unsigned char *)t->bytes + *offset;
    if (p[0] < 0x80) {
        *offset += 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *offset += 2;
        return (uint32_t)(p[0] & 0x1F) << 6 | (uint32_t)(p[1] & 0x3F);
    }
    if (p[0] < 0xF0) {
        *offset += 3;
        return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 |
               (uint32_t)(p[2] & 0x3F);
    }
    *offset += 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 |
           (uint32_t)(p[2] & 0x3F) << 6 | (uint32_t)(p[3] & 0x3F);
}

uint32_t text_previous(const text *t, size_t *offset)
{
    size_t at = *offset - 1;
    while (!begins_character(t->bytes[at]))
        at--;
    *offset = at;
    return text_next(t, &at);
}

size_t text_encode(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t text_well_formed(const char *bytes, size_t size)
{
    const unsigned char *p = (const unsigned char *)bytes;
    for (size_t i = 0; i < size;) {
        size_t more = p[i] < 0x80 ? 0 : p[i] < 0xC2 ? 4 : p[i] < 0xE0 ? 1 : p[i] < 0xF0 ? 2 : 3;
        if (more == 4 || p[i] > 0xF4 || more >= size - i) return i;
        for (size_t k = 1; k <= more; k++)
            if ((p[i + k] & 0xC0) != 0x80) return i;
        /* Overlong forms, surrogates and what lies above U+10FFFF show in the second byte. */
        if ((p[i] == 0xE0 && p[i + 1] < 0xA0) || (p[i] == 0xED && p[i + 1] > 0x9F) ||
            (p[i] == 0xF0 && p[i + 1] < 0x90) || (p[i] == 0xF4 && p[i + 1] > 0x8F))
            return i;
        i += more + 1;
    }
    return size;
}

/* -- whole-text operations --------------------------------------------------------------------- */

static bool stripped(interp *in, const text *characters, uint32_t c)
{
    if (characters == NULL) return character_is_space(c);
    interp_spend_characters(in, characters->size);
    for (size_t at = 0; at < characters->size;)
        if (text_next(characters, &at) == c) return true;
    return false;
}

text *text_strip(interp *in, text *t, const text *characters, bool left, bool right)
{
    interp_spend_bytes(in, t->size);
    size_t start = 0, stop = t->size;
    while (left && start < stop) {
        size_t next = start;
        if (!stripped(in, characters, text_next(t, &next))) break;
        start = next;
    }
    while (right && stop > start) {
        size_t previous = stop;
        if (!stripped(in, characters, text_previous(t, &previous))) break;
        stop = previous;
    }
    return start == 0 && stop == t->size ? t : text_bytes(in, t, start, stop);
}

text *text_replace(interp *in, text *t, const text *old, const text *fresh, int64_t count)
{
    uint64_t left = count < 0 ? UINT64_MAX : (uint64_t)count;
    builder out = {0};
    size_t at = 0;
    if (old->size == 0) {
        /* An empty needle is found before every code point and at the end. */
        while (left > 0) {
            builder_add_text(in, &out, fresh);
            left--;
            if (at >= t->size) break;
            size_t start = at;
            text_next(t, &at);
            builder_add(in, &out, t->bytes + start, at - start);
            interp_spend(in, 1);
        }
    } else {
        for (; left > 0; left--) {
            const char *found = t->size - at < old->size
                                    ? NULL
                                    : memmem(t->bytes + at, t->size - at, old->bytes, old->size);
            if (found == NULL) break;
            size_t where = (size_t)(found - t->bytes);
            builder_add(in, &out, t->bytes + at, where - at);
            builder_add_text(in, &out, fresh);
            at = where + old->size;
            interp_spend(in, 1);
        }
        interp_spend_bytes(in, t->size);
    }
    if (at == 0 && out.size == 0) return t;
    builder_add(in, &out, t->bytes + at, t->size - at);
    return builder_text(in, &out);
}

static void repeat(interp *in, builder *b, const text *fill, size_t count)
{
    if (fill->size == 1) {
        builder_fill(in, b, fill->bytes[0], count);
        return;
    }
    for (; count > 0; count--)
        builder_add_text(in, b, fill);
}

text *text_pad(interp *in, text *t, int64_t width, const text *fill, alignment where)
{
    size_t length = text_length(in, t);
    if (width <= 0 || (uint64_t)width <= length) return t;
    size_t room = (size_t)width - length;
    size_t before = where == ALIGN_LEFT ? 0 : where == ALIGN_RIGHT ? room : room / 2;
    if (where == ALIGN_CENTER) before += room & (size_t)width & 1;
    builder out = {0};
    repeat(in, &out, fill, before);
    builder_add_text(in, &out, t);
    repeat(in, &out, fill, room - before);
    return builder_text(in, &out);
}

text *text_escape(interp *in, text *t)
{
    builder out = {0};
    size_t plain = 0;
    for (size_t i = 0; i < t->size; i++) {
        const char *entity = NULL;
        switch (t->bytes[i]) {
        case '&':
            entity = "&amp;";
            break;
        case '<':
            entity = "&lt;";
            break;
        case '>':
            entity = "&gt;";
            break;
        case '\'':
            entity = "&#39;";
            break;
        case '"':
            entity = "&#34;";
            break;
        default:
            continue;
        }
        builder_add(in, &out, t->bytes + plain, i - plain);
        builder_add_literal(in, &out, entity);
        plain = i + 1;
    }
    interp_spend_bytes(in, t->size);
    if (plain == 0) return t;
    builder_add(in, &out, t->bytes + plain, t->size - plain);
    return builder_text(in, &out);
}
