#include "envelope_samples.h"

#include <math.h>
#include <string.h>

const envelope_kind sample_kinds[] = {
    ENVELOPE_HELLO,  ENVELOPE_WELCOME,  ENVELOPE_REGISTER, ENVELOPE_ADOPT,  ENVELOPE_LOAD,
    ENVELOPE_SUBMIT, ENVELOPE_ACCEPTED, ENVELOPE_TOKENS,   ENVELOPE_FINISH, ENVELOPE_ACK,
    ENVELOPE_CANCEL, ENVELOPE_RESUME,   ENVELOPE_PING,     ENVELOPE_PONG,   ENVELOPE_DRAIN,
    ENVELOPE_ERROR,  ENVELOPE_BYE,      ENVELOPE_QUERY,    ENVELOPE_REPORT, ENVELOPE_NONE,
};

uint64_t sample_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

/* -- drawing ------------------------------------------------------------------------ */

/* 0..below-1 */
static uint32_t draw(uint64_t *r, uint32_t below)
{
    return (uint32_t)((sample_random(r) >> 33) % below);
}

/* Numbers of every length: 0, small, and up to `max`. */
static uint32_t number(uint64_t *r, uint32_t max)
{
    uint32_t value = (uint32_t)(sample_random(r) >> 32) >> draw(r, 32);
    return value <= max ? value : value % (max + 1);
}

static uint64_t number64(uint64_t *r)
{
    return sample_random(r) >> draw(r, 64);
}

static bool coin(uint64_t *r)
{
    return draw(r, 2) == 1;
}

static float fraction(uint64_t *r)
{
    return (float)draw(r, 2000001) / 1000.0f - 1000.0f;
}

static text_view text(uint64_t *r, arena *a, size_t size_min, size_t size_max)
{
    static const char *const characters[] = {
        "a", "Z", " ", "\n", "\xc3\xa9", "\xe6\xbc\xa2", "\xf0\x9f\xa6\xa2"};
    size_t size = size_min + draw(r, (uint32_t)(size_max - size_min) + 1);
    char *out = arena_alloc(a, size + 1);
    size_t used = 0;
    while (used < size) {
        const char *c = characters[draw(r, 7)];
        if (strlen(c) > size - used) c = "x";
        memcpy(out + used, c, strlen(c));
        used += strlen(c);
    }
    return (text_view){out, size};
}

static text_view name(uint64_t *r, arena *a)
{
    return text(r, a, 1, coin(r) ? 12 : LIMIT_NAME_BYTES);
}

static id128 id(uint64_t *r)
{
    id128 out;
    for (size_t i = 0; i < sizeof out.bytes; i++)
        out.bytes[i] = (uint8_t)draw(r, 256);
    return out;
}

static const id128 *ids128(uint64_t *r, arena *a, size_t count)
{
    id128 *out = arena_alloc(a, count * sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = id(r);
    return out;
}

static uint32_t *column(uint64_t *r, arena *a, size_t count, uint32_t min, uint32_t max)
{
    uint32_t *out = arena_alloc(a, count * sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = min + number(r, max - min);
    return out;
}

static float *floats(uint64_t *r, arena *a, size_t count, bool with_nan)
{
    float *out = arena_alloc(a, count * sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = with_nan && draw(r, 4) == 0 ? NAN : fraction(r);
    return out;
}

static const msg_model *models(uint64_t *r, arena *a, size_t count)
{
    msg_model *out = arena_alloc(a, count * sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = (msg_model){name(r, a), name(r, a), number(r, LIMIT_CONTEXT_TOKENS)};
    return out;
}

static msg_load load(uint64_t *r)
{
    return (msg_load){number(r, UINT32_MAX - 1),
                      number(r, 99),
                      number(r, 99),
                      number(r, 99),
                      number64(r),
                      number64(r),
                      number64(r),
                      number64(r),
                      number(r, 999),
                      number(r, 999),
                      number(r, 999)};
}

static msg_register reg(uint64_t *r, arena *a)
{
    msg_register m = {.worker_id = name(r, a),
                      .device = name(r, a),
                      .model_count = 1 + draw(r, LIMIT_MODELS_PER_WORKER),
                      .slots = number(r, 1000),
                      .lease_ms = number(r, 1000),
                      .numerics = name(r, a),
                      .kv_blocks = number(r, 1000000),
                      .kv_block_tokens = number(r, 64),
                      .live_count = draw(r, 5)};
    m.models = models(r, a, m.model_count);
    msg_live *live = arena_alloc(a, m.live_count * sizeof *live);
    for (size_t i = 0; i < m.live_count; i++) {
        uint32_t next = number(r, LIMIT_CONTEXT_TOKENS);
        live[i] =
            (msg_live){id(r), number(r, next), next, coin(r), name(r, a), coin(r), number(r, 99)};
    }
    m.live = live;
    return m;
}

static msg_sampling sampling(uint64_t *r, arena *a)
{
    msg_sampling m = {.bias_count = draw(r, 6)};
    if ((m.has_temperature = coin(r))) m.temperature = fraction(r);
    if ((m.has_top_k = coin(r))) m.top_k = number(r, 1000);
    if ((m.has_top_p = coin(r))) m.top_p = fraction(r);
    if ((m.has_min_p = coin(r))) m.min_p = fraction(r);
    if ((m.has_repetition_penalty = coin(r))) m.repetition_penalty = fraction(r);
    if ((m.has_presence_penalty = coin(r))) m.presence_penalty = fraction(r);
    if ((m.has_frequency_penalty = coin(r))) m.frequency_penalty = fraction(r);
    if ((m.has_seed = coin(r))) m.seed = number64(r);
    m.bias_ids = column(r, a, m.bias_count, 0, LIMIT_VOCAB);
    m.bias = floats(r, a, m.bias_count, false);
    return m;
}

static msg_submit submit(uint64_t *r, arena *a)
{
    msg_submit m = {
        .stream = 1 + number(r, 1000),
        .request_id = id(r),
        .model = name(r, a),
        .raw = coin(r),
        .sampling = sampling(r, a),
        .stop_count = draw(r, LIMIT_STOP_STRINGS + 1),
        .stop_id_count = draw(r, LIMIT_STOP_IDS + 1),
        .max_tokens = number(r, 5000),
        .min_tokens = number(r, 100),
        .ignore_eos = coin(r),
        .logprobs = coin(r) ? LOGPROBS_NONE : draw(r, LIMIT_LOGPROBS_TOP + 1),
        .window = coin(r) ? 0 : LIMIT_WINDOW_TOKENS_MIN + draw(r, 100),
        .deadline_ms = number(r, LIMIT_DEADLINE_MS),
        .priority = (int32_t)number(r, 200) - 100,
        .prior_count = draw(r, 40),
    };
    switch (draw(r, 3)) {
    case 0:
        m.has_text = true;
        m.text = text(r, a, 0, 3000);
        break;
    case 1:
        m.message_count = 1 + draw(r, 4);
        break;
    default:
        m.id_count = 1 + draw(r, 300);
    }
    msg_chat_message *messages = arena_alloc(a, m.message_count * sizeof *messages);
    for (size_t i = 0; i < m.message_count; i++)
        messages[i] = (msg_chat_message){name(r, a), text(r, a, 0, 1000)};
    text_view *stop = arena_alloc(a, m.stop_count * sizeof *stop);
    for (size_t i = 0; i < m.stop_count; i++)
        stop[i] = text(r, a, 1, LIMIT_STOP_STRING_BYTES);
    m.messages = messages;
    m.stop = stop;
    m.ids = column(r, a, m.id_count, 0, UINT32_MAX - 1);
    m.stop_ids = column(r, a, m.stop_id_count, 0, LIMIT_VOCAB);
    m.prior_ids = column(r, a, m.prior_count, 0, LIMIT_VOCAB);
    m.prior_unacked = number(r, (uint32_t)m.prior_count);
    m.continuations = number(r, UINT32_MAX - 1);
    m.approximate = coin(r);
    m.owner = number(r, UINT32_MAX - 1);
    m.cache_salt.size = coin(r) ? 0 : 1 + draw(r, LIMIT_CACHE_SALT_BYTES);
    m.cache_salt.data = (const char *)column(r, a, m.cache_salt.size / 4 + 1, 0, UINT32_MAX - 1);
    return m;
}

static msg_tokens tokens(uint64_t *r, arena *a)
{
    msg_tokens m = {.groups = draw(r, 40), .emitted_us = number64(r)};
    m.stream = column(r, a, m.groups, 1, 5000);
    m.first_index = column(r, a, m.groups, 0, LIMIT_CONTEXT_TOKENS - 64);
    m.count = column(r, a, m.groups, 1, 8);
    for (size_t g = 0; g < m.groups; g++)
        m.tokens += m.count[g];
    m.token = column(r, a, m.tokens, 0, LIMIT_VOCAB);
    m.text_len = column(r, a, m.tokens, 0, 20);
    for (size_t i = 0; i < m.tokens; i++)
        m.text_size += m.text_len[i];
    m.text = (const uint8_t *)text(r, a, m.text_size, m.text_size).data;
    if (m.tokens > 0 && coin(r)) m.logprob = floats(r, a, m.tokens, true);
    if (m.tokens > 0 && coin(r)) {
        m.top_count = column(r, a, m.tokens, 0, LIMIT_LOGPROBS_TOP);
        for (size_t i = 0; i < m.tokens; i++)
            m.top_total += m.top_count[i];
    }
    m.top_id = column(r, a, m.top_total, 0, LIMIT_VOCAB);
    m.top_logprob = floats(r, a, m.top_total, false);
    return m;
}

static msg_error error_message(uint64_t *r, arena *a)
{
    return (msg_error){number(r, 100), (status)(1 + draw(r, STATUS_COUNT - 1)),
                       text(r, a, 0, ERROR_TEXT_SIZE - 1), number(r, 10000), coin(r)};
}

static msg_finish finish(uint64_t *r, arena *a)
{
    msg_finish m = {
        .stream = 1 + number(r, 1000),
        .total = number(r, LIMIT_CONTEXT_TOKENS),
        .reason = (finish_reason)(FINISH_STOP + draw(r, FINISH_FAILED)),
        .crc = number(r, UINT32_MAX - 1),
        .prompt_tokens = number(r, 1000),
        .cached_tokens = number(r, 1000),
        .stop_text = text(r, a, 0, LIMIT_STOP_STRING_BYTES),
        .has_stop_id = coin(r),
        .queue_us = number(r, 1000000),
        .prefill_us = number(r, 1000000),
        .decode_us = number(r, 1000000),
        .continuations = number(r, 9),
        .approximate = coin(r),
    };
    if (m.has_stop_id) m.stop_id = number(r, LIMIT_VOCAB);
    if (m.reason == FINISH_FAILED) m.error = error_message(r, a);
    return m;
}

static msg_report report(uint64_t *r, arena *a)
{
    msg_report m = {number(r, 100), name(r, a),     number64(r),    NULL,
                    draw(r, 4),     number(r, 100), number(r, 100), number(r, 9),
                    number64(r),    number64(r),    coin(r),        number(r, 100),
                    number(r, 100), number(r, 100), number64(r),    number64(r)};
    msg_worker_report *workers = arena_alloc(a, m.worker_count * sizeof *workers);
    for (size_t i = 0; i < m.worker_count; i++) {
        size_t count = draw(r, 3);
        workers[i] = (msg_worker_report){name(r, a),     name(r, a),     models(r, a, count),
                                         count,          number(r, 100), number(r, 100),
                                         load(r),        coin(r),        coin(r),
                                         number(r, 100), number64(r),    number(r, UINT32_MAX),
                                         number(r, 99),  draw(r, 3)};
    }
    m.workers = workers;
    return m;
}

envelope sample_envelope(envelope_kind kind, uint64_t *r, arena *a)
{
    envelope e = {.link = number(r, UINT32_MAX - 1), .n = number(r, UINT32_MAX - 1), .kind = kind};
    size_t count = draw(r, 50);
    switch (kind) {
    case ENVELOPE_HELLO:
        e.hello = (msg_hello){number(r, 9),
                              coin(r) ? ROLE_CLIENT : ROLE_WORKER,
                              id(r),
                              text(r, a, 0, LIMIT_TOKEN_BYTES),
                              number(r, 999),
                              number(r, 999),
                              number(r, LIMIT_MESSAGE_BYTES),
                              name(r, a),
                              name(r, a)};
        break;
    case ENVELOPE_WELCOME:
        e.welcome = (msg_welcome){number(r, 9),    id(r),          number(r, 999), number(r, 9999),
                                  number(r, 9999), number(r, 999), number(r, 999), name(r, a)};
        break;
    case ENVELOPE_REGISTER:
        e.reg = reg(r, a);
        break;
    case ENVELOPE_ADOPT: {
        uint32_t *next = column(r, a, count, 0, LIMIT_CONTEXT_TOKENS);
        if (count > 0) next[0] = NEXT_WANTED_HOLD;
        size_t drops = draw(r, 9);
        e.adopt = (msg_adopt){ids128(r, a, count),
                              column(r, a, count, 1, 9999),
                              next,
                              count,
                              ids128(r, a, drops),
                              drops};
        break;
    }
    case ENVELOPE_LOAD:
        e.load = load(r);
        break;
    case ENVELOPE_SUBMIT:
        e.submit = submit(r, a);
        break;
    case ENVELOPE_ACCEPTED:
        e.accepted = (msg_accepted){1 + number(r, 999), coin(r)};
        break;
    case ENVELOPE_TOKENS:
        e.tokens = tokens(r, a);
        break;
    case ENVELOPE_FINISH:
        e.finish = finish(r, a);
        break;
    case ENVELOPE_ACK:
        e.ack = (msg_ack){column(r, a, count, 1, 9999),
                          column(r, a, count, 0, LIMIT_CONTEXT_TOKENS), count};
        break;
    case ENVELOPE_CANCEL:
        e.cancel = (msg_cancel){column(r, a, count, 1, 9999),
                                count,
                                name(r, a),
                                (finish_reason)(FINISH_CANCELLED + count % 3),
                                count % 2 == 1,
                                coin(r) ? 0 : number64(r)};
        break;
    case ENVELOPE_RESUME:
        e.resume = (msg_resume){ids128(r, a, count), column(r, a, count, 1, 9999),
                                column(r, a, count, 0, LIMIT_CONTEXT_TOKENS), count};
        break;
    case ENVELOPE_PING:
        e.ping = (msg_ping){number64(r), coin(r)};
        break;
    case ENVELOPE_PONG:
        e.pong.t = number64(r);
        break;
    case ENVELOPE_DRAIN:
        e.drain = (msg_drain){number(r, 99999), name(r, a), name(r, a)};
        break;
    case ENVELOPE_ERROR:
        e.error = error_message(r, a);
        break;
    case ENVELOPE_BYE:
        e.bye.reason = name(r, a);
        break;
    case ENVELOPE_QUERY:
        e.query.id = number(r, 999);
        break;
    case ENVELOPE_REPORT:
        e.report = report(r, a);
        break;
    case ENVELOPE_NONE:
        break;
    }
    return e;
}

/* -- comparing ---------------------------------------------------------------------- */

static bool bytes_equal(const void *x, const void *y, size_t size)
{
    return size == 0 || memcmp(x, y, size) == 0;
}

#define SAME(field)                                                                                \
    do {                                                                                           \
        if (x->field != y->field) return #field;                                                   \
    } while (0)
#define SAME_TEXT(field)                                                                           \
    do {                                                                                           \
        if (!text_equal(x->field, y->field)) return #field;                                        \
    } while (0)
#define SAME_ID(field)                                                                             \
    do {                                                                                           \
        if (!id128_equal(&x->field, &y->field)) return #field;                                     \
    } while (0)
/* Columns; floats too, by their bits, so that NaN equals NaN. */
#define SAME_COLUMN(field, count)                                                                  \
    do {                                                                                           \
        if (!bytes_equal(x->field, y->field, (count) * sizeof *x->field)) return #field;           \
    } while (0)
#define SAME_PART(function, field)                                                                 \
    do {                                                                                           \
        const char *part = function(&x->field, &y->field);                                         \
        if (part != NULL) return part;                                                             \
    } while (0)

static const char *hello_difference(const msg_hello *x, const msg_hello *y)
{
    SAME(version);
    SAME(role);
    SAME_ID(instance);
    SAME_TEXT(token);
    SAME(ping_ms);
    SAME(dead_ms);
    SAME(max_message_bytes);
    SAME_TEXT(build);
    SAME_TEXT(name);
    return NULL;
}

static const char *welcome_difference(const msg_welcome *x, const msg_welcome *y)
{
    SAME(version);
    SAME_ID(router_instance);
    SAME(ping_ms);
    SAME(dead_ms);
    SAME(max_message_bytes);
    SAME(window_default);
    SAME(streams_max);
    SAME_TEXT(build);
    return NULL;
}

static const char *model_difference(const msg_model *x, const msg_model *y)
{
    SAME_TEXT(name);
    SAME_TEXT(revision);
    SAME(context_max);
    return NULL;
}

static const char *live_difference(const msg_live *x, const msg_live *y)
{
    SAME_ID(request_id);
    SAME(base);
    SAME(next);
    SAME(finished);
    SAME(yours);
    SAME(owner);
    SAME_TEXT(model);
    return NULL;
}

static const char *register_difference(const msg_register *x, const msg_register *y)
{
    SAME_TEXT(worker_id);
    SAME_TEXT(device);
    SAME(model_count);
    for (size_t i = 0; i < x->model_count; i++)
        SAME_PART(model_difference, models[i]);
    SAME(slots);
    SAME(kv_blocks);
    SAME(kv_block_tokens);
    SAME(lease_ms);
    SAME_TEXT(numerics);
    SAME(live_count);
    for (size_t i = 0; i < x->live_count; i++)
        SAME_PART(live_difference, live[i]);
    return NULL;
}

static const char *adopt_difference(const msg_adopt *x, const msg_adopt *y)
{
    SAME(count);
    SAME_COLUMN(request_id, x->count);
    SAME_COLUMN(stream, x->count);
    SAME_COLUMN(next_wanted, x->count);
    SAME(drop_count);
    SAME_COLUMN(drop, x->drop_count);
    return NULL;
}

static const char *load_difference(const msg_load *x, const msg_load *y)
{
    SAME(running);
    SAME(waiting);
    SAME(kv_blocks_free);
    SAME(step_us);
    SAME(prompt_tokens);
    SAME(cached_tokens);
    SAME(output_tokens);
    SAME(preemptions);
    SAME(prefill_rate);
    SAME(decode_rate);
    SAME(cache_age_ms);
    return NULL;
}

static const char *sampling_difference(const msg_sampling *x, const msg_sampling *y)
{
    SAME(has_temperature);
    SAME(has_top_k);
    SAME(has_top_p);
    SAME(has_min_p);
    SAME(has_repetition_penalty);
    SAME(has_presence_penalty);
    SAME(has_frequency_penalty);
    SAME(has_seed);
    SAME(temperature);
    SAME(top_k);
    SAME(top_p);
    SAME(min_p);
    SAME(repetition_penalty);
    SAME(presence_penalty);
    SAME(frequency_penalty);
    SAME(seed);
    SAME(bias_count);
    SAME_COLUMN(bias_ids, x->bias_count);
    SAME_COLUMN(bias, x->bias_count);
    return NULL;
}

static const char *submit_difference(const msg_submit *x, const msg_submit *y)
{
    SAME(stream);
    SAME_ID(request_id);
    SAME_TEXT(model);
    SAME(has_text);
    SAME_TEXT(text);
    SAME(raw);
    SAME(message_count);
    for (size_t i = 0; i < x->message_count; i++) {
        SAME_TEXT(messages[i].role);
        SAME_TEXT(messages[i].content);
    }
    SAME(id_count);
    SAME_COLUMN(ids, x->id_count);
    SAME_PART(sampling_difference, sampling);
    SAME(stop_count);
    for (size_t i = 0; i < x->stop_count; i++)
        SAME_TEXT(stop[i]);
    SAME(stop_id_count);
    SAME_COLUMN(stop_ids, x->stop_id_count);
    SAME(max_tokens);
    SAME(min_tokens);
    SAME(ignore_eos);
    SAME(logprobs);
    SAME(window);
    SAME(deadline_ms);
    SAME(priority);
    SAME(prior_count);
    SAME_COLUMN(prior_ids, x->prior_count);
    SAME(prior_unacked);
    SAME(continuations);
    SAME(approximate);
    SAME(owner);
    SAME_TEXT(cache_salt);
    return NULL;
}

static const char *tokens_difference(const msg_tokens *x, const msg_tokens *y)
{
    SAME(groups);
    SAME_COLUMN(stream, x->groups);
    SAME_COLUMN(first_index, x->groups);
    SAME_COLUMN(count, x->groups);
    SAME(tokens);
    SAME_COLUMN(token, x->tokens);
    SAME_COLUMN(text_len, x->tokens);
    SAME(text_size);
    SAME_COLUMN(text, x->text_size);
    if ((x->logprob == NULL) != (y->logprob == NULL)) return "logprob";
    if (x->logprob != NULL) SAME_COLUMN(logprob, x->tokens);
    if ((x->top_count == NULL) != (y->top_count == NULL)) return "top_count";
    if (x->top_count != NULL) SAME_COLUMN(top_count, x->tokens);
    SAME(top_total);
    SAME_COLUMN(top_id, x->top_total);
    SAME_COLUMN(top_logprob, x->top_total);
    SAME(emitted_us);
    return NULL;
}

static const char *error_difference(const msg_error *x, const msg_error *y)
{
    SAME(stream);
    SAME(code);
    SAME_TEXT(text);
    SAME(retry_after_ms);
    SAME(fatal);
    return NULL;
}

static const char *finish_difference(const msg_finish *x, const msg_finish *y)
{
    SAME(stream);
    SAME(total);
    SAME(reason);
    SAME(crc);
    SAME(prompt_tokens);
    SAME(cached_tokens);
    SAME_TEXT(stop_text);
    SAME(has_stop_id);
    SAME(stop_id);
    SAME(queue_us);
    SAME(prefill_us);
    SAME(decode_us);
    SAME(continuations);
    SAME(approximate);
    SAME_PART(error_difference, error);
    return NULL;
}

static const char *ack_difference(const msg_ack *x, const msg_ack *y)
{
    SAME(count);
    SAME_COLUMN(stream, x->count);
    SAME_COLUMN(next_wanted, x->count);
    return NULL;
}

static const char *cancel_difference(const msg_cancel *x, const msg_cancel *y)
{
    SAME(count);
    SAME_COLUMN(stream, x->count);
    SAME_TEXT(reason);
    SAME(finish);
    SAME(forget);
    SAME(t);
    return NULL;
}

static const char *resume_difference(const msg_resume *x, const msg_resume *y)
{
    SAME(count);
    SAME_COLUMN(request_id, x->count);
    SAME_COLUMN(stream, x->count);
    SAME_COLUMN(next_wanted, x->count);
    return NULL;
}

static const char *worker_report_difference(const msg_worker_report *x, const msg_worker_report *y)
{
    SAME_TEXT(worker_id);
    SAME_TEXT(device);
    SAME(model_count);
    for (size_t i = 0; i < x->model_count; i++)
        SAME_PART(model_difference, models[i]);
    SAME(slots);
    SAME(kv_blocks);
    SAME_PART(load_difference, load);
    SAME(connected);
    SAME(draining);
    SAME(streams);
    SAME(outstanding_tokens);
    SAME(lease_left_ms);
    SAME(rtt_us);
    SAME(breaker);
    return NULL;
}

static const char *report_difference(const msg_report *x, const msg_report *y)
{
    SAME(id);
    SAME_TEXT(build);
    SAME(uptime_ms);
    SAME(worker_count);
    for (size_t i = 0; i < x->worker_count; i++)
        SAME_PART(worker_report_difference, workers[i]);
    SAME(clients);
    SAME(queued);
    SAME(running);
    SAME(requests_total);
    SAME(tokens_total);
    SAME(draining);
    SAME(queued_interactive);
    SAME(queued_standard);
    SAME(queued_batch);
    SAME(first_tokens);
    SAME(first_token_us);
    return NULL;
}

const char *sample_difference(const envelope *x, const envelope *y)
{
    SAME(link);
    SAME(n);
    SAME(kind);
    switch (x->kind) {
    case ENVELOPE_HELLO:
        return hello_difference(&x->hello, &y->hello);
    case ENVELOPE_WELCOME:
        return welcome_difference(&x->welcome, &y->welcome);
    case ENVELOPE_REGISTER:
        return register_difference(&x->reg, &y->reg);
    case ENVELOPE_ADOPT:
        return adopt_difference(&x->adopt, &y->adopt);
    case ENVELOPE_LOAD:
        return load_difference(&x->load, &y->load);
    case ENVELOPE_SUBMIT:
        return submit_difference(&x->submit, &y->submit);
    case ENVELOPE_ACCEPTED:
        SAME(accepted.stream);
        SAME(accepted.resumed);
        return NULL;
    case ENVELOPE_TOKENS:
        return tokens_difference(&x->tokens, &y->tokens);
    case ENVELOPE_FINISH:
        return finish_difference(&x->finish, &y->finish);
    case ENVELOPE_ACK:
        return ack_difference(&x->ack, &y->ack);
    case ENVELOPE_CANCEL:
        return cancel_difference(&x->cancel, &y->cancel);
    case ENVELOPE_RESUME:
        return resume_difference(&x->resume, &y->resume);
    case ENVELOPE_PING:
        SAME(ping.t);
        SAME(ping.measure);
        return NULL;
    case ENVELOPE_PONG:
        SAME(pong.t);
        return NULL;
    case ENVELOPE_DRAIN:
        SAME(drain.deadline_ms);
        SAME_TEXT(drain.reason);
        SAME_TEXT(drain.worker_id);
        return NULL;
    case ENVELOPE_ERROR:
        return error_difference(&x->error, &y->error);
    case ENVELOPE_BYE:
        SAME_TEXT(bye.reason);
        return NULL;
    case ENVELOPE_QUERY:
        SAME(query.id);
        return NULL;
    case ENVELOPE_REPORT:
        return report_difference(&x->report, &y->report);
    case ENVELOPE_NONE:
        break;
    }
    return "kind";
}
