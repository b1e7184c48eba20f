/* From an envelope to a frame: the generated structs are filled in, pointing at the caller's
 * memory, and packed straight into the buffer. Fields at their default are left out. */
#include <string.h>

#include "common/check.h"
#include "gaggle.pb-c.h"
#include "proto/envelope.h"

/* Set an optional field; SET_USED leaves it out at zero. */
#define SET(m, field, value)      ((m)->has_##field = 1, (m)->field = (value))
#define SET_USED(m, field, value) ((m)->has_##field = (value) != 0, (m)->field = (value))

/* protobuf-c's structs are written and read through the same types; packing only reads. */
static ProtobufCBinaryData text_to(text_view text)
{
    return (ProtobufCBinaryData){text.size, (uint8_t *)text.data};
}

#define SET_TEXT(m, field, text) ((m)->has_##field = (text).size > 0, (m)->field = text_to(text))

static ProtobufCBinaryData id_to(const id128 *id)
{
    return (ProtobufCBinaryData){sizeof id->bytes, (uint8_t *)id->bytes};
}

static ProtobufCBinaryData *ids_to(const id128 *ids, size_t count, arena *scratch)
{
    ProtobufCBinaryData *out = arena_alloc(scratch, count * sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = id_to(&ids[i]);
    return out;
}

#define SET_COLUMN(m, field, values, count)                                                        \
    ((m)->n_##field = (count), (m)->field = (void *)(values))

static void hello_to(const msg_hello *e, Gaggle__Pb__Hello *m)
{
    SET(m, version, e->version);
    SET(m, role, (Gaggle__Pb__Role)e->role);
    SET(m, instance, id_to(&e->instance));
    SET_TEXT(m, token, e->token);
    SET_USED(m, ping_ms, e->ping_ms);
    SET_USED(m, dead_ms, e->dead_ms);
    SET_USED(m, max_message_bytes, e->max_message_bytes);
    SET_TEXT(m, build, e->build);
    SET_TEXT(m, name, e->name);
}

static void welcome_to(const msg_welcome *e, Gaggle__Pb__Welcome *m)
{
    SET(m, version, e->version);
    SET(m, router_instance, id_to(&e->router_instance));
    SET(m, ping_ms, e->ping_ms);
    SET(m, dead_ms, e->dead_ms);
    SET_USED(m, max_message_bytes, e->max_message_bytes);
    SET_USED(m, window_default, e->window_default);
    SET_USED(m, streams_max, e->streams_max);
    SET_TEXT(m, build, e->build);
}

static Gaggle__Pb__Model **models_to(const msg_model *models, size_t count, arena *scratch)
{
    Gaggle__Pb__Model **out = arena_alloc(scratch, count * sizeof(Gaggle__Pb__Model *));
    for (size_t i = 0; i < count; i++) {
        Gaggle__Pb__Model *m = arena_alloc(scratch, sizeof *m);
        gaggle__pb__model__init(m);
        SET_TEXT(m, name, models[i].name);
        SET_TEXT(m, revision, models[i].revision);
        SET_USED(m, context_max, models[i].context_max);
        out[i] = m;
    }
    return out;
}

static void register_to(const msg_register *e, Gaggle__Pb__Register *m, arena *scratch)
{
    SET_TEXT(m, worker_id, e->worker_id);
    SET_TEXT(m, device, e->device);
    SET_COLUMN(m, models, models_to(e->models, e->model_count, scratch), e->model_count);
    SET_USED(m, slots, e->slots);
    SET_USED(m, kv_blocks, e->kv_blocks);
    SET_USED(m, kv_block_tokens, e->kv_block_tokens);
    SET_USED(m, lease_ms, e->lease_ms);
    SET_TEXT(m, numerics, e->numerics);
    SET_COLUMN(m, live, arena_alloc(scratch, e->live_count * sizeof(Gaggle__Pb__Live *)),
               e->live_count);
    for (size_t i = 0; i < e->live_count; i++) {
        const msg_live *from = &e->live[i];
        Gaggle__Pb__Live *live = arena_alloc(scratch, sizeof *live);
        gaggle__pb__live__init(live);
        SET(live, request_id, id_to(&from->request_id));
        SET(live, oldest, from->base);
        SET(live, next, from->next);
        SET_USED(live, finished, from->finished);
        SET_USED(live, yours, from->yours);
        SET_USED(live, owner, from->owner);
        SET_TEXT(live, model, from->model);
        m->live[i] = live;
    }
}

static void adopt_to(const msg_adopt *e, Gaggle__Pb__Adopt *m, arena *scratch)
{
    SET_COLUMN(m, request_id, ids_to(e->request_id, e->count, scratch), e->count);
    SET_COLUMN(m, stream, e->stream, e->count);
    SET_COLUMN(m, next_wanted, e->next_wanted, e->count);
    SET_COLUMN(m, drop, ids_to(e->drop, e->drop_count, scratch), e->drop_count);
}

static void load_to(const msg_load *e, Gaggle__Pb__Load *m)
{
    SET_USED(m, running, e->running);
    SET_USED(m, waiting, e->waiting);
    SET_USED(m, kv_blocks_free, e->kv_blocks_free);
    SET_USED(m, step_us, e->step_us);
    SET_USED(m, prompt_tokens, e->prompt_tokens);
    SET_USED(m, cached_tokens, e->cached_tokens);
    SET_USED(m, output_tokens, e->output_tokens);
    SET_USED(m, preemptions, e->preemptions);
    SET_USED(m, prefill_rate, e->prefill_rate);
    SET_USED(m, decode_rate, e->decode_rate);
    SET_USED(m, cache_age_ms, e->cache_age_ms);
}

static Gaggle__Pb__Sampling *sampling_to(const msg_sampling *e, arena *scratch)
{
    Gaggle__Pb__Sampling *m = arena_alloc(scratch, sizeof *m);
    gaggle__pb__sampling__init(m);
    m->has_temperature = e->has_temperature;
    m->temperature = e->temperature;
    m->has_top_k = e->has_top_k;
    m->top_k = e->top_k;
    m->has_top_p = e->has_top_p;
    m->top_p = e->top_p;
    m->has_min_p = e->has_min_p;
    m->min_p = e->min_p;
    m->has_repetition_penalty = e->has_repetition_penalty;
    m->repetition_penalty = e->repetition_penalty;
    m->has_presence_penalty = e->has_presence_penalty;
    m->presence_penalty = e->presence_penalty;
    m->has_frequency_penalty = e->has_frequency_penalty;
    m->frequency_penalty = e->frequency_penalty;
    m->has_seed = e->has_seed;
    m->seed = e->seed;
    SET_COLUMN(m, bias_ids, e->bias_ids, e->bias_count);
    SET_COLUMN(m, bias, e->bias, e->bias_count);
    return m;
}

static void submit_to(const msg_submit *e, Gaggle__Pb__Submit *m, arena *scratch)
{
    SET(m, stream, e->stream);
    SET(m, request_id, id_to(&e->request_id));
    SET_TEXT(m, model, e->model);
    SET(m, text, text_to(e->text));
    m->has_text = e->has_text;
    SET_USED(m, raw, e->raw);
    SET_COLUMN(m, messages, arena_alloc(scratch, e->message_count * sizeof(Gaggle__Pb__Message *)),
               e->message_count);
    for (size_t i = 0; i < e->message_count; i++) {
        Gaggle__Pb__Message *message = arena_alloc(scratch, sizeof *message);
        gaggle__pb__message__init(message);
        SET(message, role, text_to(e->messages[i].role));
        SET(message, content, text_to(e->messages[i].content));
        m->messages[i] = message;
    }
    SET_COLUMN(m, ids, e->ids, e->id_count);
    m->sampling = sampling_to(&e->sampling, scratch);
    SET_COLUMN(m, stop, arena_alloc(scratch, e->stop_count * sizeof(ProtobufCBinaryData)),
               e->stop_count);
    for (size_t i = 0; i < e->stop_count; i++)
        m->stop[i] = text_to(e->stop[i]);
    SET_COLUMN(m, stop_ids, e->stop_ids, e->stop_id_count);
    SET_USED(m, max_tokens, e->max_tokens);
    SET_USED(m, min_tokens, e->min_tokens);
    SET_USED(m, ignore_eos, e->ignore_eos);
    SET(m, logprobs, e->logprobs);
    m->has_logprobs = e->logprobs != LOGPROBS_NONE;
    SET_USED(m, window, e->window);
    SET_USED(m, deadline_ms, e->deadline_ms);
    SET_USED(m, priority, e->priority);
    SET_COLUMN(m, prior_ids, e->prior_ids, e->prior_count);
    SET_USED(m, prior_unacked, e->prior_unacked);
    SET_USED(m, continuations, e->continuations);
    SET_USED(m, approximate, e->approximate);
    SET_USED(m, owner, e->owner);
    SET_TEXT(m, cache_salt, e->cache_salt);
    SET_TEXT(m, traceparent, e->traceparent);
}

static void tokens_to(const msg_tokens *e, Gaggle__Pb__Tokens *m)
{
    SET_COLUMN(m, stream, e->stream, e->groups);
    SET_COLUMN(m, first_index, e->first_index, e->groups);
    SET_COLUMN(m, count, e->count, e->groups);
    SET_COLUMN(m, token, e->token, e->tokens);
    SET_COLUMN(m, text_len, e->text_len, e->tokens);
    SET_TEXT(m, text, ((text_view){(const char *)e->text, e->text_size}));
    SET_COLUMN(m, logprob, e->logprob, e->logprob != NULL ? e->tokens : 0);
    SET_COLUMN(m, top_count, e->top_count, e->top_count != NULL ? e->tokens : 0);
    SET_COLUMN(m, top_id, e->top_id, e->top_total);
    SET_COLUMN(m, top_logprob, e->top_logprob, e->top_total);
    SET_USED(m, emitted_us, e->emitted_us);
}

/* An error's sentence may quote what somebody typed and may have been cut inside a character:
 * what is no UTF-8 becomes '?', what is too long goes. */
static text_view sentence_repaired(text_view text, arena *scratch)
{
    text_view cut = {text.data, text.size < ERROR_TEXT_SIZE ? text.size : ERROR_TEXT_SIZE - 1};
    if (cut.size == text.size && text_valid_size(cut) == cut.size) return text;
    char *copy = arena_strndup(scratch, cut.data, cut.size);
    for (size_t at = 0; at < cut.size;) {
        size_t size = text_character_size((text_view){copy, cut.size}, at);
        if (size == 0) copy[at] = '?';
        at += size > 0 ? size : 1;
    }
    return (text_view){copy, cut.size};
}

static void error_to(const msg_error *e, Gaggle__Pb__Error *m)
{
    SET_USED(m, stream, e->stream);
    SET(m, code, (uint32_t)e->code);
    SET_TEXT(m, text, e->text);
    SET_USED(m, retry_after_ms, e->retry_after_ms);
    SET_USED(m, fatal, e->fatal);
}

static void finish_to(const msg_finish *e, Gaggle__Pb__Finish *m, arena *scratch)
{
    SET(m, stream, e->stream);
    SET(m, total, e->total);
    SET(m, reason, (Gaggle__Pb__FinishReason)e->reason);
    SET(m, crc, e->crc);
    SET_USED(m, prompt_tokens, e->prompt_tokens);
    SET_USED(m, cached_tokens, e->cached_tokens);
    SET_TEXT(m, stop_text, e->stop_text);
    SET(m, stop_id, e->stop_id);
    m->has_stop_id = e->has_stop_id;
    SET_USED(m, queue_us, e->queue_us);
    SET_USED(m, prefill_us, e->prefill_us);
    SET_USED(m, decode_us, e->decode_us);
    SET_USED(m, continuations, e->continuations);
    SET_USED(m, approximate, e->approximate);
    if (e->error.code != ST_OK) {
        m->error = arena_alloc(scratch, sizeof *m->error);
        gaggle__pb__error__init(m->error);
        error_to(&e->error, m->error);
    }
}

static void report_to(const msg_report *e, Gaggle__Pb__Report *m, arena *scratch)
{
    SET_USED(m, id, e->id);
    SET_TEXT(m, build, e->build);
    SET_USED(m, uptime_ms, e->uptime_ms);
    SET_COLUMN(m, workers,
               arena_alloc(scratch, e->worker_count * sizeof(Gaggle__Pb__WorkerReport *)),
               e->worker_count);
    for (size_t i = 0; i < e->worker_count; i++) {
        const msg_worker_report *from = &e->workers[i];
        Gaggle__Pb__WorkerReport *w = arena_alloc(scratch, sizeof *w);
        gaggle__pb__worker_report__init(w);
        SET_TEXT(w, worker_id, from->worker_id);
        SET_TEXT(w, device, from->device);
        SET_COLUMN(w, models, models_to(from->models, from->model_count, scratch),
                   from->model_count);
        SET_USED(w, slots, from->slots);
        SET_USED(w, kv_blocks, from->kv_blocks);
        w->load = arena_alloc(scratch, sizeof *w->load);
        gaggle__pb__load__init(w->load);
        load_to(&from->load, w->load);
        SET_USED(w, connected, from->connected);
        SET_USED(w, draining, from->draining);
        SET_USED(w, streams, from->streams);
        SET_USED(w, outstanding_tokens, from->outstanding_tokens);
        SET_USED(w, lease_left_ms, from->lease_left_ms);
        SET_USED(w, rtt_us, from->rtt_us);
        SET_USED(w, breaker, from->breaker);
        m->workers[i] = w;
    }
    SET_USED(m, clients, e->clients);
    SET_USED(m, queued, e->queued);
    SET_USED(m, running, e->running);
    SET_USED(m, requests_total, e->requests_total);
    SET_USED(m, tokens_total, e->tokens_total);
    SET_USED(m, draining, e->draining);
    SET_USED(m, queued_interactive, e->queued_interactive);
    SET_USED(m, queued_standard, e->queued_standard);
    SET_USED(m, queued_batch, e->queued_batch);
    SET_USED(m, first_tokens, e->first_tokens);
    SET_USED(m, first_token_us, e->first_token_us);
}

/* One of everything, so that a message needs no allocation of its own. */
typedef union any_message {
    Gaggle__Pb__Hello hello;
    Gaggle__Pb__Welcome welcome;
    Gaggle__Pb__Register reg;
    Gaggle__Pb__Adopt adopt;
    Gaggle__Pb__Load load;
    Gaggle__Pb__Submit submit;
    Gaggle__Pb__Accepted accepted;
    Gaggle__Pb__Tokens tokens;
    Gaggle__Pb__Finish finish;
    Gaggle__Pb__Ack ack;
    Gaggle__Pb__Cancel cancel;
    Gaggle__Pb__Resume resume;
    Gaggle__Pb__Ping ping;
    Gaggle__Pb__Pong pong;
    Gaggle__Pb__Drain drain;
    Gaggle__Pb__Error error;
    Gaggle__Pb__Bye bye;
    Gaggle__Pb__Query query;
    Gaggle__Pb__Report report;
} any_message;

static void kind_to(const envelope *e, any_message *any, Gaggle__Pb__Envelope *m, arena *scratch)
{
    m->kind_case = (Gaggle__Pb__Envelope__KindCase)e->kind;
    m->hello = (void *)any; /* whichever it is: the union's members share one address */
    switch (e->kind) {
    case ENVELOPE_HELLO:
        gaggle__pb__hello__init(&any->hello);
        hello_to(&e->hello, &any->hello);
        break;
    case ENVELOPE_WELCOME:
        gaggle__pb__welcome__init(&any->welcome);
        welcome_to(&e->welcome, &any->welcome);
        break;
    case ENVELOPE_REGISTER:
        gaggle__pb__register__init(&any->reg);
        register_to(&e->reg, &any->reg, scratch);
        break;
    case ENVELOPE_ADOPT:
        gaggle__pb__adopt__init(&any->adopt);
        adopt_to(&e->adopt, &any->adopt, scratch);
        break;
    case ENVELOPE_LOAD:
        gaggle__pb__load__init(&any->load);
        load_to(&e->load, &any->load);
        break;
    case ENVELOPE_SUBMIT:
        gaggle__pb__submit__init(&any->submit);
        submit_to(&e->submit, &any->submit, scratch);
        break;
    case ENVELOPE_ACCEPTED:
        gaggle__pb__accepted__init(&any->accepted);
        SET(&any->accepted, stream, e->accepted.stream);
        SET_USED(&any->accepted, resumed, e->accepted.resumed);
        break;
    case ENVELOPE_TOKENS:
        gaggle__pb__tokens__init(&any->tokens);
        tokens_to(&e->tokens, &any->tokens);
        break;
    case ENVELOPE_FINISH:
        gaggle__pb__finish__init(&any->finish);
        finish_to(&e->finish, &any->finish, scratch);
        break;
    case ENVELOPE_ACK:
        gaggle__pb__ack__init(&any->ack);
        SET_COLUMN(&any->ack, stream, e->ack.stream, e->ack.count);
        SET_COLUMN(&any->ack, next_wanted, e->ack.next_wanted, e->ack.count);
        break;
    case ENVELOPE_CANCEL:
        gaggle__pb__cancel__init(&any->cancel);
        SET_COLUMN(&any->cancel, stream, e->cancel.stream, e->cancel.count);
        SET_TEXT(&any->cancel, reason, e->cancel.reason);
        any->cancel.has_finish = e->cancel.finish > FINISH_CANCELLED;
        any->cancel.finish = (Gaggle__Pb__FinishReason)e->cancel.finish;
        SET_USED(&any->cancel, forget, e->cancel.forget);
        SET_USED(&any->cancel, t, e->cancel.t);
        break;
    case ENVELOPE_RESUME:
        gaggle__pb__resume__init(&any->resume);
        SET_COLUMN(&any->resume, request_id, ids_to(e->resume.request_id, e->resume.count, scratch),
                   e->resume.count);
        SET_COLUMN(&any->resume, stream, e->resume.stream, e->resume.count);
        SET_COLUMN(&any->resume, next_wanted, e->resume.next_wanted, e->resume.count);
        break;
    case ENVELOPE_PING:
        gaggle__pb__ping__init(&any->ping);
        SET(&any->ping, t, e->ping.t);
        SET_USED(&any->ping, measure, e->ping.measure);
        break;
    case ENVELOPE_PONG:
        gaggle__pb__pong__init(&any->pong);
        SET(&any->pong, t, e->pong.t);
        break;
    case ENVELOPE_DRAIN:
        gaggle__pb__drain__init(&any->drain);
        SET_USED(&any->drain, deadline_ms, e->drain.deadline_ms);
        SET_TEXT(&any->drain, reason, e->drain.reason);
        SET_TEXT(&any->drain, worker_id, e->drain.worker_id);
        break;
    case ENVELOPE_ERROR:
        gaggle__pb__error__init(&any->error);
        error_to(&e->error, &any->error);
        break;
    case ENVELOPE_BYE:
        gaggle__pb__bye__init(&any->bye);
        SET_TEXT(&any->bye, reason, e->bye.reason);
        break;
    case ENVELOPE_QUERY:
        gaggle__pb__query__init(&any->query);
        SET_USED(&any->query, id, e->query.id);
        break;
    case ENVELOPE_REPORT:
        gaggle__pb__report__init(&any->report);
        report_to(&e->report, &any->report, scratch);
        break;
    case ENVELOPE_NONE:
        break; /* envelope_check() has refused it */
    }
}

status envelope_encode(const envelope *given, arena *scratch, buffer *out)
{
    envelope e = *given;
    if (e.kind == ENVELOPE_ERROR) e.error.text = sentence_repaired(e.error.text, scratch);
    if (e.kind == ENVELOPE_FINISH && e.finish.error.code != ST_OK)
        e.finish.error.text = sentence_repaired(e.finish.error.text, scratch);
    error why;
    if (envelope_check(&e, &why) != ST_OK) check_failed(why.text, __FILE__, __LINE__);

    any_message any;
    Gaggle__Pb__Envelope m = GAGGLE__PB__ENVELOPE__INIT;
    SET(&m, link, e.link);
    SET(&m, n, e.n);
    kind_to(&e, &any, &m, scratch);

    size_t size = gaggle__pb__envelope__get_packed_size(&m);
    if (size > LIMIT_MESSAGE_BYTES) return ST_RESOURCE_EXHAUSTED;
    buffer_reserve(out, size);
    size_t packed = gaggle__pb__envelope__pack(&m, out->data + out->size);
    CHECK(packed == size);
    out->size += size;
    return ST_OK;
}
