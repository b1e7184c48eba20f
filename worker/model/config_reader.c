#include "worker/model/config_reader.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

const char *reader_describe(char out[FOUND_SIZE], const json_t *value)
{
    char text[PRINTABLE_SIZE];
    if (value == NULL) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        snprintf(out, FOUND_SIZE, "an array of %zu", json_array_size(value));
        return out;
    case JSON_STRING:
        snprintf(out, FOUND_SIZE, "\"%s\"", printable(text, json_string_value(value)));
        return out;
    case JSON_INTEGER:
        snprintf(out, FOUND_SIZE, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return out;
    case JSON_REAL:
        snprintf(out, FOUND_SIZE, "%.9g", json_real_value(value));
        return out;
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

void refuse(reader *r, status code, const char *key, const json_t *found, const char *expected, ...)
{
    if (r->st != ST_OK) return;
    char sentence[ERROR_TEXT_SIZE];
    char text[FOUND_SIZE];
    va_list args;
    va_start(args, expected);
    vsnprintf(sentence, sizeof sentence, expected, args);
    va_end(args);
    r->st = error_set(r->err, code, "%s: %s: expected %s, found %s", r->what, key, sentence,
                      reader_describe(text, found));
}

const json_t *field(const reader *r, const char *key)
{
    return json_object_get(r->object, key);
}

bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

uint32_t take_u32(reader *r, const char *key, uint32_t min, uint32_t max, uint32_t absent)
{
    const json_t *value = field(r, key);
    if (is_absent(value) && absent != REQUIRED) return absent;
    if (json_is_integer(value) && json_integer_value(value) >= min &&
        json_integer_value(value) <= max)
        return (uint32_t)json_integer_value(value);
    refuse(r, ST_INVALID_ARGUMENT, key, value, "an integer from %u to %u", min, max);
    return min;
}

double take_number(reader *r, const char *key, double min, double max, double absent)
{
    const json_t *value = field(r, key);
    if (is_absent(value) && !isnan(absent)) return absent;
    if (json_is_number(value) && json_number_value(value) >= min && json_number_value(value) <= max)
        return json_number_value(value);
    refuse(r, ST_INVALID_ARGUMENT, key, value, "a number from %g to %g", min, max);
    return min;
}

bool take_bool(reader *r, const char *key, bool absent)
{
    const json_t *value = field(r, key);
    if (is_absent(value)) return absent;
    if (!json_is_boolean(value)) refuse(r, ST_INVALID_ARGUMENT, key, value, "true or false");
    return json_is_true(value);
}

uint32_t take_id(reader *r, const char *key, const json_t *value, uint32_t vocab_size)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0 &&
        json_integer_value(value) < vocab_size)
        return (uint32_t)json_integer_value(value);
    refuse(r, ST_INVALID_ARGUMENT, key, value, "a token id below vocab_size (%u)", vocab_size);
    return 0;
}
