#include "worker/prompt_line.h"

#include <math.h>
#include <string.h>

#include "common/json.h"
#include "common/options.h"

/* What is being filled. */
typedef struct line {
    msg_submit *submit;
    arena *arena;
    uint32_t prompts; /* of "prompt", "ids", "messages": how many were there */
} line;

static const char *kind_of(const json_t *value)
{
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
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static status expected(const char *name, const char *what, const json_t *value, error *err)
{
    return error_set(err, ST_INVALID_ARGUMENT, "%s must be %s; it is %s", name, what,
                     kind_of(value));
}

/* -- values ------------------------------------------------------------------------------ */

static status take_u32(uint32_t *out, const char *name, const json_t *value, error *err)
{
    if (!json_is_integer(value)) return expected(name, "an integer", value, err);
    json_int_t number = json_integer_value(value);
    if (number < 0 || number > UINT32_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "%s is %lld; it must be between 0 and %u", name,
                         (long long)number, UINT32_MAX);
    *out = (uint32_t)number;
    return ST_OK;
}

static status take_float(float *out, const char *name, const json_t *value, error *err)
{
    if (!json_is_number(value)) return expected(name, "a number", value, err);
    double number = json_number_value(value);
    if (!(fabs(number) <= 1e30))
        return error_set(err, ST_INVALID_ARGUMENT, "%s is %g, which is out of any range", name,
                         number);
    *out = (float)number;
    return ST_OK;
}

static status take_bool(bool *out, const char *name, const json_t *value, error *err)
{
    if (!json_is_boolean(value)) return expected(name, "true or false", value, err);
    *out = json_is_true(value);
    return ST_OK;
}

static status take_text(text_view *out, const char *name, const json_t *value, arena *a, error *err)
{
    if (!json_is_string(value)) return expected(name, "a string", value, err);
    out->size = json_string_length(value);
    out->data = arena_strndup(a, json_string_value(value), out->size);
    return ST_OK;
}

static status take_u32s(const uint32_t **out, size_t *count, const char *name, const json_t *value,
                        arena *a, error *err)
{
    if (!json_is_array(value)) return expected(name, "an array of integers", value, err);
    uint32_t *items = arena_alloc(a, json_array_size(value) * sizeof *items);
    for (size_t i = 0; i < json_array_size(value); i++) {
        status st = take_u32(&items[i], name, json_array_get(value, i), err);
        if (st != ST_OK) return st;
    }
    *out = items;
    *count = json_array_size(value);
    return ST_OK;
}

/* -- fields ------------------------------------------------------------------------------ */

static status take_prompt(line *l, const json_t *value, error *err)
{
    l->prompts++;
    l->submit->has_text = true;
    return take_text(&l->submit->text, "prompt", value, l->arena, err);
}

static status take_ids(line *l, const json_t *value, error *err)
{
    l->prompts++;
    return take_u32s(&l->submit->ids, &l->submit->id_count, "ids", value, l->arena, err);
}

static status take_messages(line *l, const json_t *value, error *err)
{
    l->prompts++;
    if (!json_is_array(value) || json_array_size(value) == 0)
        return expected("messages", "an array of at least 1 message", value, err);
    size_t count = json_array_size(value);
    msg_chat_message *messages = arena_alloc(l->arena, count * sizeof *messages);
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(value, i);
        const json_t *author = json_object_get(message, "role");
        const json_t *content = json_object_get(message, "content");
        if (author == NULL || content == NULL || json_object_size(message) != 2)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "messages[%zu] must have a role and a content, and nothing else", i);
        status st = take_text(&messages[i].role, "role", author, l->arena, err);
        if (st == ST_OK) st = take_text(&messages[i].content, "content", content, l->arena, err);
        if (st != ST_OK) return error_prefix(err, st, "messages[%zu]", i);
    }
    l->submit->messages = messages;
    l->submit->message_count = count;
    return ST_OK;
}

/* One string, or an array of them. */
static status take_stop(line *l, const json_t *value, error *err)
{
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    text_view *stop = arena_alloc(l->arena, count * sizeof *stop);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        status st = take_text(&stop[i], "stop", item, l->arena, err);
        if (st != ST_OK) return st;
    }
    l->submit->stop = stop;
    l->submit->stop_count = count;
    return ST_OK;
}

static status take_stop_ids(line *l, const json_t *value, error *err)
{
    return take_u32s(&l->submit->stop_ids, &l->submit->stop_id_count, "stop_ids", value, l->arena,
                     err);
}

static status take_prior_ids(line *l, const json_t *value, error *err)
{
    return take_u32s(&l->submit->prior_ids, &l->submit->prior_count, "prior_ids", value, l->arena,
                     err);
}

static status take_bias_ids(line *l, const json_t *value, error *err)
{
    return take_u32s(&l->submit->sampling.bias_ids, &l->submit->sampling.bias_count, "bias_ids",
                     value, l->arena, err);
}

static status take_bias(line *l, const json_t *value, error *err)
{
    if (!json_is_array(value)) return expected("bias", "an array of numbers", value, err);
    float *bias = arena_alloc(l->arena, json_array_size(value) * sizeof *bias);
    for (size_t i = 0; i < json_array_size(value); i++) {
        status st = take_float(&bias[i], "bias", json_array_get(value, i), err);
        if (st != ST_OK) return st;
    }
    l->submit->sampling.bias = bias;
    return ST_OK;
}

static status take_seed(line *l, const json_t *value, error *err)
{
    if (!json_is_integer(value)) return expected("seed", "an integer", value, err);
    l->submit->sampling.seed = (uint64_t)json_integer_value(value);
    l->submit->sampling.has_seed = true;
    return ST_OK;
}

static status take_max_tokens(line *l, const json_t *value, error *err)
{
    status st = take_u32(&l->submit->max_tokens, "max_tokens", value, err);
    if (st == ST_OK && l->submit->max_tokens == 0)
        return error_set(err, ST_INVALID_ARGUMENT, "max_tokens is 0; it must be at least 1");
    return st;
}

static status take_priority(line *l, const json_t *value, error *err)
{
    if (!json_is_integer(value)) return expected("priority", "an integer", value, err);
    json_int_t number = json_integer_value(value);
    if (number < INT32_MIN || number > INT32_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "priority is %lld; it must fit 32 bits",
                         (long long)number);
    l->submit->priority = (int32_t)number;
    return ST_OK;
}

#define NUMBER_FIELD(field)                                                                        \
    static status take_##field(line *l, const json_t *value, error *err)                           \
    {                                                                                              \
        l->submit->sampling.has_##field = true;                                                    \
        return take_float(&l->submit->sampling.field, #field, value, err);                         \
    }
NUMBER_FIELD(temperature)
NUMBER_FIELD(top_p)
NUMBER_FIELD(min_p)
NUMBER_FIELD(repetition_penalty)
NUMBER_FIELD(presence_penalty)
NUMBER_FIELD(frequency_penalty)

static status take_top_k(line *l, const json_t *value, error *err)
{
    l->submit->sampling.has_top_k = true;
    return take_u32(&l->submit->sampling.top_k, "top_k", value, err);
}

static status take_min_tokens(line *l, const json_t *value, error *err)
{
    return take_u32(&l->submit->min_tokens, "min_tokens", value, err);
}

static status take_logprobs(line *l, const json_t *value, error *err)
{
    return take_u32(&l->submit->logprobs, "logprobs", value, err);
}

static status take_ignore_eos(line *l, const json_t *value, error *err)
{
    return take_bool(&l->submit->ignore_eos, "ignore_eos", value, err);
}

static status take_raw(line *l, const json_t *value, error *err)
{
    return take_bool(&l->submit->raw, "raw", value, err);
}

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, take_##name                                                                         \
    }
static const struct {
    const char *name;
    status (*take)(line *l, const json_t *value, error *err);
} fields[] = {
    FIELD(prompt),
    FIELD(raw),
    FIELD(ids),
    FIELD(messages),
    FIELD(temperature),
    FIELD(top_k),
    FIELD(top_p),
    FIELD(min_p),
    FIELD(repetition_penalty),
    FIELD(presence_penalty),
    FIELD(frequency_penalty),
    FIELD(seed),
    FIELD(bias_ids),
    FIELD(bias),
    FIELD(stop),
    FIELD(stop_ids),
    FIELD(max_tokens),
    FIELD(min_tokens),
    FIELD(ignore_eos),
    FIELD(logprobs),
    FIELD(priority),
    FIELD(prior_ids),
};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

static status unknown_field(const char *name, error *err)
{
    const char *names[FIELD_COUNT];
    for (size_t i = 0; i < FIELD_COUNT; i++)
        names[i] = fields[i].name;
    const char *nearest = options_nearest(name, names, FIELD_COUNT);
    return error_set(err, ST_INVALID_ARGUMENT, "unknown field '%.64s'%s%s%s", name,
                     nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                     nearest != NULL ? "'?" : "");
}

static status take_fields(line *l, json_t *root, error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        size_t i = 0;
        while (i < FIELD_COUNT && strcmp(fields[i].name, name) != 0)
            i++;
        status st = i < FIELD_COUNT ? fields[i].take(l, value, err) : unknown_field(name, err);
        if (st != ST_OK) return st;
    }
    if (l->prompts != 1)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "exactly one of prompt, ids and messages is needed; there are %u",
                         l->prompts);
    size_t bias_count = json_array_size(json_object_get(root, "bias"));
    if (bias_count != l->submit->sampling.bias_count)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "bias has %zu entries and bias_ids %zu; they must have equally many",
                         bias_count, l->submit->sampling.bias_count);
    return ST_OK;
}

status prompt_line_parse(msg_submit *submit, const char *text, size_t size, arena *a, error *err)
{
    json_t *root;
    status st = json_parse(&root, text, size, "the line", err);
    if (st != ST_OK) return st;
    *submit = (msg_submit){.logprobs = LOGPROBS_NONE};
    line l = {.submit = submit, .arena = a};
    if (json_is_object(root))
        st = take_fields(&l, root, err);
    else
        st = expected("a request", "an object", root, err);
    json_decref(root);
    return st;
}
