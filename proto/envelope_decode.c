/* From a frame to an envelope: protobuf-c unpacks into the arena, then the generated structs are
 * turned into plain ones. Here: that required fields are there, ids have their size, and columns
 * that belong together have equal length, for a plain struct cannot say so any more. The other
 * rules are envelope_check()'s. */
#include <string.h>

#include "common/check.h"
#include "gaggle.pb-c.h"
#include "proto/envelope.h"

_Static_assert((int)GAGGLE__PB__ROLE__WORKER == (int)ROLE_WORKER, "roles have the wire's numbers");
_Static_assert((int)GAGGLE__PB__FINISH_REASON__FAILED == (int)FINISH_FAILED,
               "reasons have the wire's numbers");
_Static_assert((int)GAGGLE__PB__ENVELOPE__KIND_REPORT == (int)ENVELOPE_REPORT,
               "kinds have the wire's numbers");

/* -- memory ------------------------------------------------------------------------ */

/* What protobuf-c may take for one frame. A column of one-byte numbers grows fourfold; only a
 * frame made of many tiny fields, of which every honest message has few, needs more than this. */
enum { DECODE_BYTES_MIN = 1 << 20, DECODE_BYTES_PER_BYTE = 16 };

typedef struct decode_memory {
    arena *arena;
    size_t left;
} decode_memory;

static void *decode_alloc(void *data, size_t size)
{
    decode_memory *memory = data;
    if (size > memory->left) return NULL;
    memory->left -= size;
    return arena_alloc(memory->arena, size);
}

static void decode_free(void *data, void *pointer)
{
    (void)data; /* the arena's owner frees everything at once */
    (void)pointer;
}

/* -- fields ------------------------------------------------------------------------ */

static status missing(error *err, const char *field)
{
    return error_set(err, ST_INVALID_ARGUMENT, "%s is required and was not given", field);
}

/* The two bytes of indirection that every message pays for: is the field there? */
#define REQUIRE(m, message, field)                                                                 \
    do {                                                                                           \
        if (!(m)->has_##field) return missing(err, message "." #field);                            \
    } while (0)

static text_view text_from(ProtobufCBinaryData bytes)
{
    return (text_view){(const char *)bytes.data, bytes.len};
}

static status id_from(id128 *out, ProtobufCBinaryData bytes, const char *field, error *err)
{
    if (bytes.len != LIMIT_ID_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT, "%s has %zu bytes; an id has %u", field,
                         bytes.len, LIMIT_ID_BYTES);
    memcpy(out->bytes, bytes.data, sizeof out->bytes);
    return ST_OK;
}

static status ids_from(const id128 **out, const ProtobufCBinaryData *bytes, size_t count,
                       arena *scratch, const char *field, error *err)
{
    id128 *ids = arena_alloc(scratch, count * sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        status st = id_from(&ids[i], bytes[i], field, err);
        if (st != ST_OK) return st;
    }
    *out = ids;
    return ST_OK;
}

static status same_length(const char *field, size_t count, const char *of, size_t expected,
                          error *err)
{
    if (count == expected) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "%s has %zu entries, but %s has %zu", field, count,
                     of, expected);
}

/* -- messages ---------------------------------------------------------------------- */

static status hello_from(const Gaggle__Pb__Hello *m, msg_hello *out, error *err)
{
    REQUIRE(m, "Hello", version);
    REQUIRE(m, "Hello", role);
    REQUIRE(m, "Hello", instance);
    *out = (msg_hello){
        .version = m->version,
        .role = (role)m->role,
        .token = text_from(m->token),
        .ping_ms = m->ping_ms,
        .dead_ms = m->dead_ms,
        .max_message_bytes = m->max_message_bytes,
        .build = text_from(m->build),
        .name = text_from(m->name),
    };
    return id_from(&out->instance, m->instance, "Hello.instance", err);
}

static status welcome_from(const Gaggle__Pb__Welcome *m, msg_welcome *out, error *err)
{
    REQUIRE(m, "Welcome", version);
    REQUIRE(m, "Welcome", router_instance);
    REQUIRE(m, "Welcome", ping_ms);
    REQUIRE(m, "Welcome", dead_ms);
    *out = (msg_welcome){
        .version = m->version,
        .ping_ms = m->ping_ms,
        .dead_ms = m->dead_ms,
        .max_message_bytes = m->max_message_bytes,
        .window_default = m->window_default,
        .streams_max = m->streams_max,
        .build = text_from(m->build),
    };
    return id_from(&out->router_instance, m->router_instance, "Welcome.router_instance", err);
}

static const msg_model *models_from(Gaggle__Pb__Model *const *models, size_t count, arena *scratch)
{
    msg_model *out = arena_alloc(scratch, count * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        out[i].name = text_from(models[i]->name);
        out[i].revision = text_from(models[i]->revision);
        out[i].context_max = models[i]->context_max;
    }
    return out;
}

static status live_from(const Gaggle__Pb__Live *m, msg_live *out, error *err)
{
    REQUIRE(m, "Live", request_id);
    REQUIRE(m, "Live", oldest);
    REQUIRE(m, "Live", next);
    *out = (msg_live){
        .base = m->oldest,
        .next = m->next,
        .finished = m->finished,
        .yours = m->yours,
        .owner = m->owner,
        .model = text_from(m->model),
    };
    return id_from(&out->request_id, m->request_id, "Live.request_id", err);
}

static status register_from(const Gaggle__Pb__Register *m, msg_register *out, arena *scratch,
                            error *err)
{
    REQUIRE(m, "Register", worker_id);
    msg_live *live = arena_alloc(scratch, m->n_live * sizeof *live);
    for (size_t i = 0; i < m->n_live; i++) {
        status st = live_from(m->live[i], &live[i], err);
        if (st != ST_OK) return st;
    }
    *out = (msg_register){
        .worker_id = text_from(m->worker_id),
        .device = text_from(m->device),
        .models = models_from(m->models, m->n_models, scratch),
        .model_count = m->n_models,
        .slots = m->slots,
        .kv_blocks = m->kv_blocks,
        .kv_block_tokens = m->kv_block_tokens,
        .live = live,
        .live_count = m->n_live,
        .lease_ms = m->lease_ms,
        .numerics = text_from(m->numerics),
    };
    return ST_OK;
}

static status adopt_from(const Gaggle__Pb__Adopt *m, msg_adopt *out, arena *scratch, error *err)
{
    status st;
    if ((st = same_length("Adopt.stream", m->n_stream, "Adopt.request_id", m->n_request_id, err)) ||
        (st = same_length("Adopt.next_wanted", m->n_next_wanted, "Adopt.request_id",
                          m->n_request_id, err)))
        return st;
    *out = (msg_adopt){
        .stream = m->stream,
        .next_wanted = m->next_wanted,
        .count = m->n_stream,
        .drop_count = m->n_drop,
    };
    st = ids_from(&out->request_id, m->request_id, m->n_request_id, scratch, "Adopt.request_id",
                  err);
    if (st == ST_OK) st = ids_from(&out->drop, m->drop, m->n_drop, scratch, "Adopt.drop", err);
    return st;
}

static void load_from(const Gaggle__Pb__Load *m, msg_load *out)
{
    *out = (msg_load){
        .running = m->running,
        .waiting = m->waiting,
        .kv_blocks_free = m->kv_blocks_free,
        .step_us = m->step_us,
        .prompt_tokens = m->prompt_tokens,
        .cached_tokens = m->cached_tokens,
        .output_tokens = m->output_tokens,
        .preemptions = m->preemptions,
        .prefill_rate = m->prefill_rate,
        .decode_rate = m->decode_rate,
        .cache_age_ms = m->cache_age_ms,
    };
}

static status sampling_from(const Gaggle__Pb__Sampling *m, msg_sampling *out, error *err)
{
    *out = (msg_sampling){
        .has_temperature = m->has_temperature,
        .has_top_k = m->has_top_k,
        .has_top_p = m->has_top_p,
        .has_min_p = m->has_min_p,
        .has_repetition_penalty = m->has_repetition_penalty,
        .has_presence_penalty = m->has_presence_penalty,
        .has_frequency_penalty = m->has_frequency_penalty,
        .has_seed = m->has_seed,
        .temperature = m->temperature,
        .top_k = m->top_k,
        .top_p = m->top_p,
        .min_p = m->min_p,
        .repetition_penalty = m->repetition_penalty,
        .presence_penalty = m->presence_penalty,
        .frequency_penalty = m->frequency_penalty,
        .seed = m->seed,
        .bias_ids = m->bias_ids,
        .bias = m->bias,
        .bias_count = m->n_bias,
    };
    return same_length("Sampling.bias_ids", m->n_bias_ids, "Sampling.bias", m->n_bias, err);
}

/* The part of a Submit that must be sound for the stream alone to be refused. */
static status submit_head_from(const Gaggle__Pb__Submit *m, msg_submit *out, error *err)
{
    REQUIRE(m, "Submit", stream);
    REQUIRE(m, "Submit", request_id);
    if (m->stream == 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "Submit.stream is 0; a stream has a number from 1 on");
    *out = (msg_submit){.stream = m->stream};
    return id_from(&out->request_id, m->request_id, "Submit.request_id", err);
}

static status submit_body_from(const Gaggle__Pb__Submit *m, msg_submit *out, arena *scratch,
                               error *err)
{
    if (m->has_max_tokens && m->max_tokens == 0)
        return error_set(err, ST_INVALID_ARGUMENT, "Submit.max_tokens is 0; it must be at least 1");
    if (m->sampling != NULL) {
        status st = sampling_from(m->sampling, &out->sampling, err);
        if (st != ST_OK) return st;
    }

    msg_chat_message *messages = arena_alloc(scratch, m->n_messages * sizeof *messages);
    for (size_t i = 0; i < m->n_messages; i++) {
        REQUIRE(m->messages[i], "Message", role);
        messages[i].role = text_from(m->messages[i]->role);
        messages[i].content = text_from(m->messages[i]->content);
    }
    text_view *stop = arena_alloc(scratch, m->n_stop * sizeof *stop);
    for (size_t i = 0; i < m->n_stop; i++)
        stop[i] = text_from(m->stop[i]);

    out->model = text_from(m->model);
    out->has_text = m->has_text;
    out->text = text_from(m->text);
    out->raw = m->raw;
    out->messages = messages;
    out->message_count = m->n_messages;
    out->ids = m->ids;
    out->id_count = m->n_ids;
    out->stop = stop;
    out->stop_count = m->n_stop;
    out->stop_ids = m->stop_ids;
    out->stop_id_count = m->n_stop_ids;
    out->max_tokens = m->max_tokens;
    out->min_tokens = m->min_tokens;
    out->ignore_eos = m->ignore_eos;
    out->logprobs = m->has_logprobs ? m->logprobs : LOGPROBS_NONE;
    if (m->has_logprobs && m->logprobs == LOGPROBS_NONE)
        return error_set(err, ST_INVALID_ARGUMENT, "Submit.logprobs is %u; at most %u is allowed",
                         m->logprobs, LIMIT_LOGPROBS_TOP);
    out->window = m->window;
    out->deadline_ms = m->deadline_ms;
    out->priority = m->priority;
    out->prior_ids = m->prior_ids;
    out->prior_count = m->n_prior_ids;
    out->prior_unacked = m->prior_unacked;
    out->continuations = m->continuations;
    out->approximate = m->approximate != 0;
    out->owner = m->owner;
    out->cache_salt = text_from(m->cache_salt);
    out->traceparent = text_from(m->traceparent);
    return ST_OK;
}

static status tokens_from(const Gaggle__Pb__Tokens *m, msg_tokens *out, error *err)
{
    status st;
    if ((st = same_length("Tokens.first_index", m->n_first_index, "Tokens.stream", m->n_stream,
                          err)) ||
        (st = same_length("Tokens.count", m->n_count, "Tokens.stream", m->n_stream, err)) ||
        (st = same_length("Tokens.text_len", m->n_text_len, "Tokens.token", m->n_token, err)) ||
        (m->n_logprob > 0 &&
         (st = same_length("Tokens.logprob", m->n_logprob, "Tokens.token", m->n_token, err))) ||
        (m->n_top_count > 0 &&
         (st = same_length("Tokens.top_count", m->n_top_count, "Tokens.token", m->n_token, err))) ||
        (st = same_length("Tokens.top_logprob", m->n_top_logprob, "Tokens.top_id", m->n_top_id,
                          err)))
        return st;
    *out = (msg_tokens){
        .stream = m->stream,
        .first_index = m->first_index,
        .count = m->count,
        .groups = m->n_stream,
        .token = m->token,
        .text_len = m->text_len,
        .tokens = m->n_token,
        .text = m->text.data,
        .text_size = m->text.len,
        .logprob = m->n_logprob > 0 ? m->logprob : NULL,
        .top_count = m->n_top_count > 0 ? m->top_count : NULL,
        .top_id = m->top_id,
        .top_logprob = m->top_logprob,
        .top_total = m->n_top_id,
        .emitted_us = m->emitted_us,
    };
    return ST_OK;
}

static status error_from(const Gaggle__Pb__Error *m, msg_error *out, error *err)
{
    REQUIRE(m, "Error", code);
    *out = (msg_error){
        .stream = m->stream,
        .code = m->code < STATUS_COUNT ? (status)m->code : ST_UNKNOWN,
        .text = text_from(m->text),
        .retry_after_ms = m->retry_after_ms,
        .fatal = m->fatal,
    };
    return ST_OK;
}

static status finish_from(const Gaggle__Pb__Finish *m, msg_finish *out, error *err)
{
    REQUIRE(m, "Finish", stream);
    REQUIRE(m, "Finish", total);
    REQUIRE(m, "Finish", reason);
    REQUIRE(m, "Finish", crc);
    *out = (msg_finish){
        .stream = m->stream,
        .total = m->total,
        .reason = (finish_reason)m->reason,
        .crc = m->crc,
        .prompt_tokens = m->prompt_tokens,
        .cached_tokens = m->cached_tokens,
        .stop_text = text_from(m->stop_text),
        .has_stop_id = m->has_stop_id,
        .stop_id = m->stop_id,
        .queue_us = m->queue_us,
        .prefill_us = m->prefill_us,
        .decode_us = m->decode_us,
        .continuations = m->continuations,
        .approximate = m->approximate,
    };
    return m->error != NULL ? error_from(m->error, &out->error, err) : ST_OK;
}

static status ack_from(const Gaggle__Pb__Ack *m, msg_ack *out, error *err)
{
    *out = (msg_ack){.stream = m->stream, .next_wanted = m->next_wanted, .count = m->n_stream};
    return same_length("Ack.next_wanted", m->n_next_wanted, "Ack.stream", m->n_stream, err);
}

static status resume_from(const Gaggle__Pb__Resume *m, msg_resume *out, arena *scratch, error *err)
{
    status st;
    if ((st = same_length("Resume.stream", m->n_stream, "Resume.request_id", m->n_request_id,
                          err)) ||
        (st = same_length("Resume.next_wanted", m->n_next_wanted, "Resume.request_id",
                          m->n_request_id, err)))
        return st;
    *out = (msg_resume){.stream = m->stream, .next_wanted = m->next_wanted, .count = m->n_stream};
    return ids_from(&out->request_id, m->request_id, m->n_request_id, scratch, "Resume.request_id",
                    err);
}

static void report_from(const Gaggle__Pb__Report *m, msg_report *out, arena *scratch)
{
    msg_worker_report *workers = arena_alloc(scratch, m->n_workers * sizeof *workers);
    for (size_t i = 0; i < m->n_workers; i++) {
        const Gaggle__Pb__WorkerReport *w = m->workers[i];
        workers[i] = (msg_worker_report){
            .worker_id = text_from(w->worker_id),
            .device = text_from(w->device),
            .models = models_from(w->models, w->n_models, scratch),
            .model_count = w->n_models,
            .slots = w->slots,
            .kv_blocks = w->kv_blocks,
            .connected = w->connected,
            .draining = w->draining,
            .streams = w->streams,
            .outstanding_tokens = w->outstanding_tokens,
            .lease_left_ms = w->lease_left_ms,
            .rtt_us = w->rtt_us,
            .breaker = w->breaker,
        };
        if (w->load != NULL) load_from(w->load, &workers[i].load);
    }
    *out = (msg_report){
        .id = m->id,
        .build = text_from(m->build),
        .uptime_ms = m->uptime_ms,
        .workers = workers,
        .worker_count = m->n_workers,
        .clients = m->clients,
        .queued = m->queued,
        .running = m->running,
        .requests_total = m->requests_total,
        .tokens_total = m->tokens_total,
        .draining = m->draining,
        .queued_interactive = m->queued_interactive,
        .queued_standard = m->queued_standard,
        .queued_batch = m->queued_batch,
        .first_tokens = m->first_tokens,
        .first_token_us = m->first_token_us,
    };
}

static status kind_from(const Gaggle__Pb__Envelope *m, envelope *out, arena *scratch, error *err)
{
    switch (m->kind_case) {
    case GAGGLE__PB__ENVELOPE__KIND_HELLO:
        return hello_from(m->hello, &out->hello, err);
    case GAGGLE__PB__ENVELOPE__KIND_WELCOME:
        return welcome_from(m->welcome, &out->welcome, err);
    case GAGGLE__PB__ENVELOPE__KIND_REGISTER:
        return register_from(m->register_, &out->reg, scratch, err);
    case GAGGLE__PB__ENVELOPE__KIND_ADOPT:
        return adopt_from(m->adopt, &out->adopt, scratch, err);
    case GAGGLE__PB__ENVELOPE__KIND_LOAD:
        load_from(m->load, &out->load);
        return ST_OK;
    case GAGGLE__PB__ENVELOPE__KIND_SUBMIT:
        return submit_body_from(m->submit, &out->submit, scratch, err);
    case GAGGLE__PB__ENVELOPE__KIND_ACCEPTED:
        out->accepted = (msg_accepted){m->accepted->stream, m->accepted->resumed};
        return ST_OK;
    case GAGGLE__PB__ENVELOPE__KIND_TOKENS:
        return tokens_from(m->tokens, &out->tokens, err);
    case GAGGLE__PB__ENVELOPE__KIND_FINISH:
        return finish_from(m->finish, &out->finish, err);
    case GAGGLE__PB__ENVELOPE__KIND_ACK:
        return ack_from(m->ack, &out->ack, err);
    case GAGGLE__PB__ENVELOPE__KIND_CANCEL:
        out->cancel = (msg_cancel){m->cancel->stream,
                                   m->cancel->n_stream,
                                   text_from(m->cancel->reason),
                                   m->cancel->has_finish ? (finish_reason)m->cancel->finish
                                                         : FINISH_CANCELLED,
                                   m->cancel->forget != 0,
                                   m->cancel->t};
        return ST_OK;
    case GAGGLE__PB__ENVELOPE__KIND_RESUME:
        return resume_from(m->resume, &out->resume, scratch, err);
    case GAGGLE__PB__ENVELOPE__KIND_PING:
        out->ping = (msg_ping){m->ping->t, m->ping->measure};
        return ST_OK;
    case GAGGLE__PB__ENVELOPE__KIND_PONG:
        out->pong.t = m->pong->t;
        return ST_OK;
    case GAGGLE__PB__ENVELOPE__KIND_DRAIN:
        out->drain = (msg_drain){m->drain->deadline_ms, text_from(m->drain->reason),
                                 text_from(m->drain->worker_id)};
        return ST_OK;
    case GAGGLE__PB__ENVELOPE__KIND_ERROR:
        return error_from(m->error, &out->error, err);
    case GAGGLE__PB__ENVELOPE__KIND_BYE:
        out->bye.reason = text_from(m->bye->reason);
        return ST_OK;
    case GAGGLE__PB__ENVELOPE__KIND_QUERY:
        out->query.id = m->query->id;
        return ST_OK;
    case GAGGLE__PB__ENVELOPE__KIND_REPORT:
        report_from(m->report, &out->report, scratch);
        return ST_OK;
    default: /* envelope_check() says what is missing */
        return ST_OK;
    }
}

status envelope_decode(const uint8_t *bytes, size_t size, arena *scratch, envelope *out, error *err)
{
    if (size > LIMIT_MESSAGE_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the message has %zu bytes; at most %u are allowed", size,
                         LIMIT_MESSAGE_BYTES);
    decode_memory memory = {scratch, DECODE_BYTES_MIN + size * DECODE_BYTES_PER_BYTE};
    ProtobufCAllocator allocator = {decode_alloc, decode_free, &memory};
    const Gaggle__Pb__Envelope *m = gaggle__pb__envelope__unpack(&allocator, size, bytes);
    if (m == NULL)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the message of %zu bytes is not a protobuf Envelope, or is made of too "
                         "many small fields",
                         size);
    REQUIRE(m, "Envelope", link);
    REQUIRE(m, "Envelope", n);

    envelope e = {.link = m->link, .n = m->n, .kind = (envelope_kind)m->kind_case};
    status st;
    if (e.kind != ENVELOPE_SUBMIT) {
        if ((st = kind_from(m, &e, scratch, err)) || (st = envelope_check(&e, err))) return st;
        *out = e;
        return ST_OK;
    }

    if ((st = submit_head_from(m->submit, &e.submit, err))) return st;
    envelope refused = e;
    if (kind_from(m, &e, scratch, err) || envelope_check(&e, err)) {
        *out = refused;
        if (err != NULL) err->code = ST_OUT_OF_RANGE;
        return ST_OUT_OF_RANGE;
    }
    *out = e;
    return ST_OK;
}
