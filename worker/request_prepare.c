#include "worker/request_prepare.h"

#include <inttypes.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/mem.h"

static uint32_t vocab_of(const request_context *c)
{
    uint32_t known = tokenizer_vocab_size(c->tokenizer), rows = c->model->config.vocab_size;
    return known < rows ? known : rows;
}

/* -- the prompt ----------------------------------------------------------------------- */

/* An empty text may have no memory. */
static const char *bytes_of(text_view text)
{
    return text.size > 0 ? text.data : "";
}

static json_t *text_value(text_view text)
{
    return json_stringn(bytes_of(text), text.size);
}

/* What transformers' apply_chat_template() passes. NULL: a text is not UTF-8. */
static json_t *template_context(const msg_submit *submit)
{
    json_t *messages = json_array();
    for (size_t i = 0; i < submit->message_count; i++) {
        json_t *message = json_pack("{s:o, s:o}", "role", text_value(submit->messages[i].role),
                                    "content", text_value(submit->messages[i].content));
        if (json_array_append_new(messages, message) != 0) {
            json_decref(messages);
            return NULL;
        }
    }
    return json_pack("{s:o, s:b, s:n, s:n}", "messages", messages, "add_generation_prompt", 1,
                     "tools", "documents");
}

static status render_messages(token_list *ids, const request_context *c, const msg_submit *submit,
                              int64_t now_seconds, error *err)
{
    if (c->chat_template == NULL)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the model has no chat template, so it takes no messages; send text");
    if (submit->message_count > LIMIT_MESSAGES)
        return error_set(err, ST_INVALID_ARGUMENT, "messages has %zu entries; the limit is %u",
                         submit->message_count, LIMIT_MESSAGES);
    json_t *context = template_context(submit);
    if (context == NULL) return error_set(err, ST_INVALID_ARGUMENT, "messages are not valid UTF-8");
    buffer text = {0};
    status st = chat_template_render(c->chat_template, context, now_seconds, &text, err);
    /* The template has written the special tokens itself, BOS among them. */
    if (st == ST_OK)
        tokenizer_encode(c->tokenizer, bytes_of((text_view){(const char *)text.data, text.size}),
                         text.size, TOKENIZE_PARSE_SPECIAL, ids);
    buffer_free(&text);
    json_decref(context);
    return st;
}

static status check_ids(const char *name, const uint32_t *ids, size_t count, uint32_t vocab,
                        error *err)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] >= vocab)
            return error_set(err, ST_INVALID_ARGUMENT, "%s[%zu] is %u; the model has ids below %u",
                             name, i, ids[i], vocab);
    return ST_OK;
}

static status take_prompt(token_list *ids, const request_context *c, const msg_submit *submit,
                          int64_t now_seconds, error *err)
{
    status st = ST_OK;
    if (submit->has_text) {
        unsigned flags = TOKENIZE_PARSE_SPECIAL | (submit->raw ? 0u : TOKENIZE_ADD_SPECIAL);
        tokenizer_encode(c->tokenizer, bytes_of(submit->text), submit->text.size, flags, ids);
    } else if (submit->message_count > 0) {
        st = render_messages(ids, c, submit, now_seconds, err);
    } else {
        st = check_ids("ids", submit->ids, submit->id_count, vocab_of(c), err);
        for (size_t i = 0; st == ST_OK && i < submit->id_count; i++)
            token_list_push(ids, submit->ids[i]);
    }
    if (st != ST_OK) return st;
    if (ids->count == 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the prompt is empty; at least 1 token is needed");
    if (ids->count >= c->context_max)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the prompt has %zu tokens; it must leave room for an answer in a context "
                         "of %u",
                         ids->count, c->context_max);
    /* A tokenizer may know more ids than the model has rows. */
    return check_ids("prompt", ids->ids, ids->count, vocab_of(c), err);
}

/* -- sampling -------------------------------------------------------------------------- */

static uint64_t random_seed(void)
{
    id128 random = id128_random();
    uint64_t seed;
    memcpy(&seed, random.bytes, sizeof seed);
    return seed;
}

/* The request's value, else the model's, else the neutral one. */
static status take_sampling(sampling_params *p, const request_context *c, const msg_submit *submit,
                            error *err)
{
    const msg_sampling *s = &submit->sampling;
    const generation_defaults *d = &c->model->defaults;
    *p = sampling_params_default();
    if (d->has_temperature) p->temperature = d->temperature;
    if (d->greedy) p->temperature = 0.0f;
    if (d->has_top_k) p->top_k = d->top_k;
    if (d->has_top_p) p->top_p = d->top_p;
    if (d->has_min_p) p->min_p = d->min_p;
    if (d->has_repetition_penalty) p->repetition_penalty = d->repetition_penalty;

    if (s->has_temperature) p->temperature = s->temperature;
    if (s->has_top_k) p->top_k = s->top_k;
    if (s->has_top_p) p->top_p = s->top_p;
    if (s->has_min_p) p->min_p = s->min_p;
    if (s->has_repetition_penalty) p->repetition_penalty = s->repetition_penalty;
    if (s->has_presence_penalty) p->presence_penalty = s->presence_penalty;
    if (s->has_frequency_penalty) p->frequency_penalty = s->frequency_penalty;
    p->seed = s->has_seed ? s->seed : random_seed();
    p->logprobs = submit->logprobs == LOGPROBS_NONE ? LOGPROBS_OFF : submit->logprobs;
    if (s->bias_count > LIMIT_LOGIT_BIASES)
        return error_set(err, ST_INVALID_ARGUMENT, "bias has %zu entries; the limit is %u",
                         s->bias_count, LIMIT_LOGIT_BIASES);
    p->bias_count = (uint32_t)s->bias_count;
    p->bias_ids = mem_copy(s->bias_ids, s->bias_count * sizeof *s->bias_ids);
    p->bias = mem_copy(s->bias, s->bias_count * sizeof *s->bias);
    return sampling_params_check(p, vocab_of(c), err);
}

/* -- where it ends ---------------------------------------------------------------------- */

static status take_stops(engine_request *r, const request_context *c, const msg_submit *submit,
                         error *err)
{
    if (submit->stop_count > LIMIT_STOP_STRINGS)
        return error_set(err, ST_INVALID_ARGUMENT, "stop has %zu strings; the limit is %u",
                         submit->stop_count, LIMIT_STOP_STRINGS);
    for (size_t i = 0; i < submit->stop_count; i++)
        if (submit->stop[i].size == 0 || submit->stop[i].size > LIMIT_STOP_STRING_BYTES)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "stop[%zu] has %zu bytes; it must have between 1 and %u", i,
                             submit->stop[i].size, LIMIT_STOP_STRING_BYTES);
    if (submit->stop_id_count > LIMIT_STOP_IDS)
        return error_set(err, ST_INVALID_ARGUMENT, "stop_ids has %zu entries; the limit is %u",
                         submit->stop_id_count, LIMIT_STOP_IDS);
    status st = check_ids("stop_ids", submit->stop_ids, submit->stop_id_count, vocab_of(c), err);
    if (st != ST_OK) return st;

    r->stop = mem_calloc(submit->stop_count, sizeof *r->stop);
    r->stop_sizes = mem_calloc(submit->stop_count, sizeof *r->stop_sizes);
    for (; r->stop_count < submit->stop_count; r->stop_count++) {
        const text_view *stop = &submit->stop[r->stop_count];
        r->stop[r->stop_count] = mem_strndup(stop->data, stop->size);
        r->stop_sizes[r->stop_count] = stop->size;
    }
    r->stop_ids = mem_copy(submit->stop_ids, submit->stop_id_count * sizeof *submit->stop_ids);
    r->stop_id_count = (uint32_t)submit->stop_id_count;
    r->ignore_eos = submit->ignore_eos;
    return ST_OK;
}

static status take_lengths(engine_request *r, const request_context *c, const msg_submit *submit,
                           error *err)
{
    uint32_t room = c->context_max - r->prompt_count;
    if (submit->max_tokens > room)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "max_tokens is %u; the prompt has %u tokens, which leaves %u of a context "
                         "of %u",
                         submit->max_tokens, r->prompt_count, room, c->context_max);
    r->max_tokens = submit->max_tokens > 0 ? submit->max_tokens : room;
    if (submit->min_tokens > r->max_tokens)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "min_tokens is %u; it must be at most max_tokens, which is %u",
                         submit->min_tokens, r->max_tokens);
    r->min_tokens = submit->min_tokens;
    if (submit->prior_count > r->max_tokens)
        return error_set(err, ST_INVALID_ARGUMENT, "prior_ids has %zu tokens; max_tokens is %u",
                         submit->prior_count, r->max_tokens);
    status st = check_ids("prior_ids", submit->prior_ids, submit->prior_count, vocab_of(c), err);
    if (st != ST_OK) return st;
    r->prior = mem_copy(submit->prior_ids, submit->prior_count * sizeof *submit->prior_ids);
    r->prior_count = (uint32_t)submit->prior_count;
    return ST_OK;
}

/* Nothing but a router makes them. */
static status take_cache_salt(engine_request *r, const msg_submit *submit, error *err)
{
    size_t size = submit->cache_salt.size;
    if (size != 0 && size != sizeof r->cache_salt)
        return error_set(err, ST_INVALID_ARGUMENT, "cache_salt has %zu bytes; it must have %zu",
                         size, sizeof r->cache_salt);
    if (size != 0) memcpy(r->cache_salt.bytes, submit->cache_salt.data, size);
    return ST_OK;
}

status request_prepare(engine_request **out, const request_context *context,
                       const msg_submit *submit, int64_t now_seconds, error *err)
{
    engine_request *r = mem_calloc(1, sizeof *r);
    token_list ids = {0};
    status st = take_sampling(&r->sampling, context, submit, err);
    if (st == ST_OK) st = take_stops(r, context, submit, err);
    if (st == ST_OK) st = take_cache_salt(r, submit, err);
    if (st == ST_OK) st = take_prompt(&ids, context, submit, now_seconds, err);
    if (st == ST_OK) {
        r->prompt = mem_copy(ids.ids, ids.count * sizeof *ids.ids);
        r->prompt_count = (uint32_t)ids.count;
        st = take_lengths(r, context, submit, err);
    }
    token_list_free(&ids);
    if (st != ST_OK) {
        engine_request_destroy(r);
        return st;
    }
    *out = r;
    return ST_OK;
}
