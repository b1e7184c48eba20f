#include "worker/text/fields.h"

#include <stdio.h>
#include <string.h>

#include "worker/text/utf8.h"

field_path field_path_of(const char *parent, const char *key)
{
    field_path path;
    snprintf(path.text, sizeof path.text, "%.100s.%.40s", parent, key);
    return path;
}

field_path field_path_item(const char *parent, const char *key, size_t index)
{
    field_path path;
    snprintf(path.text, sizeof path.text, "%.90s.%.40s[%zu]", parent, key, index);
    return path;
}

static const char *kind_name(const json_t *value)
{
    if (value == NULL) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

status field_wrong(const char *where, const char *key, const char *expected, const json_t *value,
                   error *err)
{
    return error_set(err, ST_INVALID_ARGUMENT, "%s.%s: expected %s, found %s", where, key, expected,
                     kind_name(value));
}

status field_bool(const json_t *object, const char *where, const char *key, bool *out, error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value)) return field_wrong(where, key, "a boolean", value, err);
    *out = json_is_true(value);
    return ST_OK;
}

status field_optional_bool(const json_t *object, const char *where, const char *key, bool *out,
                           error *err)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_null(value)) return ST_OK;
    return field_bool(object, where, key, out, err);
}

status field_string(const json_t *object, const char *where, const char *key, const char **out,
                    size_t *size, error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) return field_wrong(where, key, "a string", value, err);
    *out = json_string_value(value);
    *size = json_string_length(value);
    return ST_OK;
}

status field_optional_string(const json_t *object, const char *where, const char *key,
                             const char **out, size_t *size, error *err)
{
    const json_t *value = json_object_get(object, key);
    *out = NULL;
    *size = 0;
    if (value == NULL || json_is_null(value)) return ST_OK;
    return field_string(object, where, key, out, size, err);
}

status field_array(const json_t *object, const char *where, const char *key, json_t **out,
                   error *err)
{
    json_t *value = json_object_get(object, key);
    if (!json_is_array(value)) return field_wrong(where, key, "an array", value, err);
    *out = value;
    return ST_OK;
}

status field_uint(const json_t *object, const char *where, const char *key, uint32_t max,
                  uint32_t *out, error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) return field_wrong(where, key, "an integer", value, err);
    json_int_t number = json_integer_value(value);
    if (number < 0 || number > (json_int_t)max)
        return error_set(err, ST_INVALID_ARGUMENT, "%s.%s: expected 0..%u, found %lld", where, key,
                         max, (long long)number);
    *out = (uint32_t)number;
    return ST_OK;
}

status field_character(const json_t *object, const char *where, const char *key, const char **out,
                       size_t *size, error *err)
{
    status st = field_string(object, where, key, out, size, err);
    if (st != ST_OK) return st;
    size_t length = 0;
    if (*size > 0) utf8_decode(*out, &length);
    if (length != *size || *size == 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "%s.%s: expected one character, found a string of %zu bytes", where, key,
                         *size);
    return ST_OK;
}

status field_type(const json_t *component, const char *where, const char **type, error *err)
{
    size_t size;
    if (!json_is_object(component))
        return error_set(err, ST_INVALID_ARGUMENT, "%s: expected an object, found %s", where,
                         kind_name(component));
    return field_string(component, where, "type", type, &size, err);
}

status field_unknown_type(const char *where, const char *type, error *err)
{
    return error_set(err, ST_UNIMPLEMENTED, "%s: component type \"%.60s\" is not supported", where,
                     type);
}
