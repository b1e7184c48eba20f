/* Markup's own methods: tags and entities taken out of text. */
#include <string.h>

#include "worker/text/jinja/members.h"

/* The named entities that occur in prose; others stay as they are. */
static const struct {
    const char *name;
    uint32_t character;
} entities[] = {
    {"amp", '&'},       {"lt", '<'},       {"gt", '>'},       {"quot", '"'},     {"apos", '\''},
    {"nbsp", 0xA0},     {"copy", 0xA9},    {"reg", 0xAE},     {"laquo", 0xAB},   {"raquo", 0xBB},
    {"deg", 0xB0},      {"middot", 0xB7},  {"times", 0xD7},   {"ndash", 0x2013}, {"mdash", 0x2014},
    {"lsquo", 0x2018},  {"rsquo", 0x2019}, {"ldquo", 0x201C}, {"rdquo", 0x201D}, {"bull", 0x2022},
    {"hellip", 0x2026}, {"trade", 0x2122}, {"euro", 0x20AC},
};

static bool named_entity(const text *t, size_t *at, uint32_t *out)
{
    for (size_t i = 0; i < sizeof entities / sizeof entities[0]; i++) {
        size_t size = strlen(entities[i].name);
        if (t->size - *at <= size || memcmp(t->bytes + *at, entities[i].name, size) != 0 ||
            t->bytes[*at + size] != ';')
            continue;
        *at += size + 1;
        *out = entities[i].character;
        return true;
    }
    return false;
}

/* "#65;" or "#x41;"; the semicolon may be left out. */
static bool numbered_entity(const text *t, size_t *at, uint32_t *out)
{
    size_t i = *at;
    if (i >= t->size || t->bytes[i++] != '#') return false;
    bool hex = i < t->size && (t->bytes[i] | 0x20) == 'x';
    uint32_t c = 0;
    size_t digits = i += hex;
    for (; i < t->size; i++) {
        char d = t->bytes[i];
        uint32_t digit = d >= '0' && d <= '9' ? (uint32_t)(d - '0')
                         : hex && (d | 0x20) >= 'a' && (d | 0x20) <= 'f'
                             ? (uint32_t)((d | 0x20) - 'a' + 10)
                             : 99;
        if (digit == 99) break;
        if (c <= 0x10FFFF) c = c * (hex ? 16 : 10) + digit;
    }
    if (i == digits) return false;
    if (i < t->size && t->bytes[i] == ';') i++;
    bool invalid = c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF);
    *at = i;
    *out = invalid ? 0xFFFD : c;
    return true;
}

text *markup_unescape(interp *in, text *t)
{
    builder out = {0};
    for (size_t at = 0; at < t->size;) {
        const char *mark = memchr(t->bytes + at, '&', t->size - at);
        size_t end = mark != NULL ? (size_t)(mark - t->bytes) : t->size;
        builder_add(in, &out, t->bytes + at, end - at);
        at = end;
        if (mark == NULL) break;
        at++;
        interp_spend(in, 1);
        uint32_t c;
        if (named_entity(t, &at, &c) || numbered_entity(t, &at, &c))
            builder_add_character(in, &out, c);
        else
            builder_add_literal(in, &out, "&");
    }
    return builder_text(in, &out);
}

/* Where the tag or comment that begins at `at` ends, or TEXT_NOT_FOUND. */
static size_t tag_end(interp *in, const text *t, size_t at)
{
    const text comment = {"<!--", 4, 4}, comment_end = {"-->", 3, 3}, end = {">", 1, 1};
    bool is_comment = t->size - at >= 4 && memcmp(t->bytes + at, comment.bytes, 4) == 0;
    size_t found = is_comment ? text_find(in, t, &comment_end, at + 4, t->size)
                              : text_find(in, t, &end, at, t->size);
    if (found == TEXT_NOT_FOUND) return found;
    return found + (is_comment ? 3 : 1);
}

text *markup_strip_tags(interp *in, text *t)
{
    builder out = {0};
    size_t at = 0;
    while (at < t->size) {
        const char *mark = memchr(t->bytes + at, '<', t->size - at);
        size_t end = mark != NULL ? tag_end(in, t, (size_t)(mark - t->bytes)) : TEXT_NOT_FOUND;
        if (end == TEXT_NOT_FOUND) break;
        builder_add(in, &out, t->bytes + at, (size_t)(mark - t->bytes) - at);
        at = end;
    }
    builder_add(in, &out, t->bytes + at, t->size - at);
    value words =
        value_sequence(VALUE_LIST, text_split(in, value_text(builder_text(in, &out)), NULL, -1));
    return markup_unescape(in, text_join(in, value_literal(in, " "), words).as.text);
}
