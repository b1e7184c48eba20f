#include "router/page.h"

void page_text(buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

void page_number(buffer *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buffer_append(out, digits + at, sizeof digits - at);
}

void page_fraction(buffer *out, uint64_t value, uint64_t unit)
{
    page_number(out, value / unit);
    uint64_t rest = value % unit;
    if (rest == 0) return;
    page_text(out, ".");
    while (rest > 0) {
        unit /= 10;
        char digit = (char)('0' + rest / unit);
        buffer_append(out, &digit, 1);
        rest %= unit;
    }
}

void page_json(buffer *out, const char *text, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            buffer_append(out, "\\", 1);
        } else if (c < 0x20) {
            page_text(out, "\\u00");
            buffer_append(out, &hex[c >> 4], 1);
            buffer_append(out, &hex[c & 15], 1);
            continue;
        }
        buffer_append(out, &text[i], 1);
    }
}

void page_label(buffer *out, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') {
            page_text(out, "\\n");
            continue;
        }
        if (text[i] == '"' || text[i] == '\\') buffer_append(out, "\\", 1);
        buffer_append(out, &text[i], 1);
    }
}
