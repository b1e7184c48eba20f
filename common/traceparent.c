#include "common/traceparent.h"

#include <string.h>

/* Where the fields begin. */
enum { TRACE_AT = 3, PARENT_AT = 36, FLAGS_AT = 53 };

/* Small letters only, as the standard asks. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_hex(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (hex_digit(text[i]) < 0) return false;
    return true;
}

/* All zeros name nothing. */
static bool is_id(const char *text, size_t size)
{
    static const char zeros[] = "00000000000000000000000000000000";
    return is_hex(text, size) && memcmp(text, zeros, size) != 0;
}

bool traceparent_parse(traceparent *out, const char *text, size_t size)
{
    if (size < TRACEPARENT_SIZE) return false;
    if (text[TRACE_AT - 1] != '-' || text[PARENT_AT - 1] != '-' || text[FLAGS_AT - 1] != '-')
        return false;
    if (!is_hex(text, 2) || memcmp(text, "ff", 2) == 0 || !is_hex(text + FLAGS_AT, 2)) return false;
    bool later = memcmp(text, "00", 2) != 0;
    if (size > TRACEPARENT_SIZE && (!later || text[TRACEPARENT_SIZE] != '-')) return false;
    if (!is_id(text + TRACE_AT, 32) || !is_id(text + PARENT_AT, 16)) return false;
    *out = (traceparent){.sampled = (hex_digit(text[FLAGS_AT + 1]) & 1) != 0};
    memcpy(out->trace_id, text + TRACE_AT, 32);
    memcpy(out->parent_id, text + PARENT_AT, 16);
    return true;
}
