/* The part of text.h that needs Unicode's tables: character classes and changes of case. */
#include <utf8proc.h>

#include "worker/text/jinja/text.h"
#include "worker/text/jinja/unicode_tables.h"

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c);
}

static bool in_ranges(uint32_t c, const character_range *ranges, size_t count)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && c >= ranges[low].first;
}
#define IN_RANGES(c, ranges) in_ranges(c, ranges, sizeof(ranges) / sizeof(ranges)[0])

bool character_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool character_is_line_end(uint32_t c)
{
    return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

static bool is_ascii_lower(uint32_t c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_ascii_upper(uint32_t c)
{
    return c >= 'A' && c <= 'Z';
}

bool character_is_alpha(uint32_t c)
{
    if (c < 0x80) return is_ascii_lower(c) || is_ascii_upper(c);
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool character_is_decimal(uint32_t c)
{
    if (c < 0x80) return c >= '0' && c <= '9';
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool character_is_digit(uint32_t c)
{
    if (c < 0x80) return character_is_decimal(c);
    return character_is_decimal(c) || IN_RANGES(c, digit_ranges);
}

bool character_is_numeric(uint32_t c)
{
    if (c < 0x80) return character_is_decimal(c);
    utf8proc_category_t k = category(c);
    return (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO) || IN_RANGES(c, numeric_ranges);
}

bool character_is_lower(uint32_t c)
{
    if (c < 0x80) return is_ascii_lower(c);
    return category(c) == UTF8PROC_CATEGORY_LL || IN_RANGES(c, other_lowercase_ranges);
}

bool character_is_upper(uint32_t c)
{
    if (c < 0x80) return is_ascii_upper(c);
    return category(c) == UTF8PROC_CATEGORY_LU || IN_RANGES(c, other_uppercase_ranges);
}

bool character_is_title(uint32_t c)
{
    return c >= 0x80 && category(c) == UTF8PROC_CATEGORY_LT;
}

bool character_is_printable(uint32_t c)
{
    if (c < 0x7F) return c >= 0x20;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

bool character_starts_name(uint32_t c)
{
    if (c < 0x80) return character_is_alpha(c) || c == '_';
    return character_is_alpha(c) || category(c) == UTF8PROC_CATEGORY_NL;
}

bool character_continues_name(uint32_t c)
{
    if (c < 0x80) return character_starts_name(c) || (c >= '0' && c <= '9');
    switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return character_starts_name(c);
    }
}

int character_decimal_value(uint32_t c)
{
    if (c >= '0' && c <= '9') return (int)(c - '0');
    if (c < 0x80 || !character_is_decimal(c)) return -1;
    /* Unicode keeps ten decimal digits together, zero first. A run may join several tens
     * (the mathematical digits do), each of them aligned to its start. */
    uint32_t zero = c;
    while (character_is_decimal(zero - 1))
        zero--;
    return (int)((c - zero) % 10);
}

/* -- case -------------------------------------------------------------------------------------- */

static const special_case *special(uint32_t c)
{
    size_t low = 0, high = sizeof special_cases / sizeof special_cases[0];
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (special_cases[middle].character == c) return &special_cases[middle];
        if (special_cases[middle].character < c)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void add_upper(interp *in, builder *b, uint32_t c, bool title)
{
    const special_case *several = c >= 0x80 ? special(c) : NULL;
    if (several == NULL) {
        utf8proc_int32_t one = (utf8proc_int32_t)c;
        builder_add_character(in, b,
                              (uint32_t)(title ? utf8proc_totitle(one) : utf8proc_toupper(one)));
        return;
    }
    const uint32_t *to = title ? several->title : several->upper;
    for (int i = 0; i < 3 && to[i] != 0; i++)
        builder_add_character(in, b, to[i]);
}

static bool is_cased(uint32_t c)
{
    return character_is_lower(c) || character_is_upper(c) || character_is_title(c);
}

/* Unicode's Case_Ignorable, which decides what a final sigma looks past. */
static bool is_case_ignorable(uint32_t c)
{
    switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x387 || c == 0x2018 ||
               c == 0x2019 || c == 0x2024 || c == 0x2027;
    }
}

/* Is the capital sigma in bytes start..stop the last letter of its word? */
static bool sigma_is_final(const text *t, size_t start, size_t stop)
{
    bool before = false, after = false;
    while (start > 0) {
        uint32_t c = text_previous(t, &start);
        if (is_case_ignorable(c)) continue;
        before = is_cased(c);
        break;
    }
    while (stop < t->size) {
        uint32_t c = text_next(t, &stop);
        if (is_case_ignorable(c)) continue;
        after = is_cased(c);
        break;
    }
    return before && !after;
}

static void add_lower(interp *in, builder *b, const text *t, size_t start, size_t stop, uint32_t c)
{
    if (c == 0x130) {
        builder_add_literal(in, b, "i\u0307");
    } else if (c == 0x3A3) {
        builder_add_character(in, b, sigma_is_final(t, start, stop) ? 0x3C2 : 0x3C3);
    } else {
        builder_add_character(in, b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
    }
}

typedef enum case_change { TO_UPPER, TO_LOWER, TO_CAPITALIZED, TO_TITLE, TO_SWAPPED } case_change;

static text *change_case(interp *in, text *t, case_change change)
{
    builder out = {0};
    bool inside_word = false;
    for (size_t at = 0; at < t->size;) {
        size_t start = at;
        uint32_t c = text_next(t, &at);
        switch (change) {
        case TO_UPPER:
            add_upper(in, &out, c, false);
            break;
        case TO_LOWER:
            add_lower(in, &out, t, start, at, c);
            break;
        case TO_CAPITALIZED:
            if (start == 0)
                add_upper(in, &out, c, true);
            else
                add_lower(in, &out, t, start, at, c);
            break;
        case TO_TITLE:
            if (inside_word)
                add_lower(in, &out, t, start, at, c);
            else
                add_upper(in, &out, c, true);
            inside_word = is_cased(c);
            break;
        case TO_SWAPPED:
            if (character_is_upper(c))
                add_lower(in, &out, t, start, at, c);
            else if (character_is_lower(c))
                add_upper(in, &out, c, false);
            else
                builder_add_character(in, &out, c);
            break;
        }
    }
    interp_spend_characters(in, t->size);
    return builder_text(in, &out);
}

text *text_upper(interp *in, text *t)
{
    return change_case(in, t, TO_UPPER);
}

text *text_lower(interp *in, text *t)
{
    return change_case(in, t, TO_LOWER);
}

text *text_capitalize(interp *in, text *t)
{
    return change_case(in, t, TO_CAPITALIZED);
}

text *text_title(interp *in, text *t)
{
    return change_case(in, t, TO_TITLE);
}

text *text_swapcase(interp *in, text *t)
{
    return change_case(in, t, TO_SWAPPED);
}

text *text_casefold(interp *in, text *t)
{
    builder out = {0};
    for (size_t at = 0; at < t->size;) {
        uint32_t c = text_next(t, &at);
        utf8proc_int32_t folded[8];
        int last_class = 0;
        utf8proc_ssize_t count =
            utf8proc_decompose_char((utf8proc_int32_t)c, folded, 8, UTF8PROC_CASEFOLD, &last_class);
        if (count <= 0 || count > 8) {
            builder_add_character(in, &out, c);
            continue;
        }
        for (utf8proc_ssize_t i = 0; i < count; i++)
            builder_add_character(in, &out, (uint32_t)folded[i]);
    }
    interp_spend_characters(in, t->size);
    return builder_text(in, &out);
}

bool text_is_cased(interp *in, const text *t, bool upper)
{
    bool found = false;
    interp_spend_characters(in, t->size);
    for (size_t at = 0; at < t->size;) {
        uint32_t c = text_next(t, &at);
        bool is_upper = character_is_upper(c), is_lower = character_is_lower(c);
        if (character_is_title(c) || (upper ? is_lower : is_upper)) return false;
        found = found || (upper ? is_upper : is_lower);
    }
    return found;
}
