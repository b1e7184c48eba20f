#include <string.h>

#include "client/client_internal.h"

static text_view text_copy(arena *a, const char *text)
{
    text_view view = text_of(text);
    return (text_view){arena_strndup(a, view.data, view.size), view.size};
}

static msg_sampling sampling_copy(arena *a, const gaggle_sampling *s)
{
    msg_sampling m = {
        .has_temperature = s->has_temperature,
        .has_top_k = s->has_top_k,
        .has_top_p = s->has_top_p,
        .has_min_p = s->has_min_p,
        .has_repetition_penalty = s->has_repetition_penalty,
        .has_presence_penalty = s->has_presence_penalty,
        .has_frequency_penalty = s->has_frequency_penalty,
        .has_seed = true,
        .temperature = s->temperature,
        .top_k = s->top_k,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .repetition_penalty = s->repetition_penalty,
        .presence_penalty = s->presence_penalty,
        .frequency_penalty = s->frequency_penalty,
        .seed = s->seed,
        .bias_ids = arena_copy(a, s->bias_ids, s->bias_count * sizeof *s->bias_ids),
        .bias = arena_copy(a, s->bias, s->bias_count * sizeof *s->bias),
        .bias_count = s->bias_count,
    };
    if (!s->has_seed) {
        id128 random = id128_random();
        memcpy(&m.seed, random.bytes, sizeof m.seed);
    }
    return m;
}

/* Counts of what is about to be copied; the rest is checked on the copy. */
static status counts_check(const gaggle_request *r, error *err)
{
    const struct {
        const char *field;
        size_t count, limit;
        const void *array;
    } rules[] = {
        {"messages", r->message_count, LIMIT_MESSAGES, r->messages},
        {"ids", r->id_count, LIMIT_CONTEXT_TOKENS, r->ids},
        {"stop", r->stop_count, LIMIT_STOP_STRINGS, r->stop},
        {"stop_ids", r->stop_id_count, LIMIT_STOP_IDS, r->stop_ids},
        {"bias_ids", r->sampling.bias_count, LIMIT_LOGIT_BIASES, r->sampling.bias_ids},
        {"bias", r->sampling.bias_count, LIMIT_LOGIT_BIASES, r->sampling.bias},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].count > rules[i].limit)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "%s has %zu entries; at most %zu are allowed", rules[i].field,
                             rules[i].count, rules[i].limit);
        if (rules[i].count > 0 && rules[i].array == NULL)
            return error_set(err, ST_INVALID_ARGUMENT, "%s is NULL but %zu entries are announced",
                             rules[i].field, rules[i].count);
    }
    return ST_OK;
}

status request_copy(gaggle_stream *stream, const gaggle_request *r, error *err)
{
    status st = counts_check(r, err);
    if (st != ST_OK) return st;

    arena *a = &stream->memory;
    msg_chat_message *messages = arena_alloc(a, r->message_count * sizeof *messages);
    for (size_t i = 0; i < r->message_count; i++)
        messages[i] = (msg_chat_message){text_copy(a, r->messages[i].role),
                                         text_copy(a, r->messages[i].content)};
    text_view *stop = arena_alloc(a, r->stop_count * sizeof *stop);
    for (size_t i = 0; i < r->stop_count; i++)
        stop[i] = text_copy(a, r->stop[i]);

    stream->submit = (msg_submit){
        .stream = 1, /* its number comes with its slot */
        .request_id = id128_random(),
        .model = text_copy(a, r->model),
        .has_text = r->text != NULL,
        .text = text_copy(a, r->text),
        .raw = r->raw,
        .messages = messages,
        .message_count = r->message_count,
        .ids = arena_copy(a, r->ids, r->id_count * sizeof *r->ids),
        .id_count = r->id_count,
        .sampling = sampling_copy(a, &r->sampling),
        .stop = stop,
        .stop_count = r->stop_count,
        .stop_ids = arena_copy(a, r->stop_ids, r->stop_id_count * sizeof *r->stop_ids),
        .stop_id_count = r->stop_id_count,
        .max_tokens = r->max_tokens,
        .min_tokens = r->min_tokens,
        .ignore_eos = r->ignore_eos,
        .logprobs = r->logprobs == 0 ? LOGPROBS_NONE : r->logprobs - 1,
        .window = r->window != 0 ? r->window : LIMIT_WINDOW_TOKENS_DEFAULT,
        .deadline_ms = r->deadline_ms,
        .priority = r->priority,
        .cache_salt = text_copy(a, r->cache_salt),
    };
    envelope e = {.kind = ENVELOPE_SUBMIT, .submit = stream->submit};
    if ((st = envelope_check(&e, err)) != ST_OK) return st;

    buffer frame = {0};
    arena scratch = {0};
    st = envelope_encode(&e, &scratch, &frame);
    buffer_free(&frame);
    arena_free(&scratch);
    if (st != ST_OK)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "the request is larger than a message, %u bytes", LIMIT_MESSAGE_BYTES);
    return ST_OK;
}
