#include <string.h>

#include "client/client_internal.h"

gaggle_code client_error(gaggle_error *out, const error *err)
{
    if (out != NULL) {
        out->code = (gaggle_code)err->code;
        out->retry_after_ms = err->retry_after_ms;
        memcpy(out->text, err->text, sizeof out->text);
    }
    return (gaggle_code)err->code;
}

/* Where the next piece of a block goes; pieces are 4-byte aligned, the text comes last. */
static const void *place(uint8_t **at, const void *bytes, size_t size)
{
    if (bytes == NULL) return NULL;
    void *here = *at;
    memcpy(here, bytes, size);
    *at += size;
    return here;
}

queued_event *event_copy(const gaggle_event *e)
{
    size_t tops = 0;
    for (size_t i = 0; e->top_count != NULL && i < e->count; i++)
        tops += e->top_count[i];
    size_t column = e->count * sizeof(uint32_t);
    size_t stop_size = e->stop_text != NULL ? strlen(e->stop_text) + 1 : 0;
    size_t size = 4 * column + 2 * tops * sizeof(uint32_t) + e->text_size + stop_size;

    queued_event *q = mem_alloc(sizeof *q + size);
    q->next = NULL;
    q->event = *e;
    uint8_t *at = (uint8_t *)(q + 1);
    q->event.ids = place(&at, e->ids, column);
    q->event.text_len = place(&at, e->text_len, column);
    q->event.logprobs = place(&at, e->logprobs, column);
    q->event.top_count = place(&at, e->top_count, column);
    q->event.top_ids = place(&at, e->top_ids, tops * sizeof(uint32_t));
    q->event.top_logprobs = place(&at, e->top_logprobs, tops * sizeof(float));
    q->event.text = place(&at, e->text, e->text_size);
    q->event.stop_text = place(&at, e->stop_text, stop_size);
    if (e->error != NULL) {
        q->error = *e->error;
        q->event.error = &q->error;
    }
    return q;
}

static const char *text_from(text_view text, arena *a)
{
    return arena_strndup(a, text.data, text.size);
}

static gaggle_worker_report worker_from(const msg_worker_report *m, arena *a)
{
    gaggle_model_report *models = arena_alloc(a, m->model_count * sizeof *models);
    for (size_t i = 0; i < m->model_count; i++)
        models[i] =
            (gaggle_model_report){text_from(m->models[i].name, a),
                                  text_from(m->models[i].revision, a), m->models[i].context_max};
    return (gaggle_worker_report){
        .worker_id = text_from(m->worker_id, a),
        .device = text_from(m->device, a),
        .models = models,
        .model_count = m->model_count,
        .connected = m->connected,
        .draining = m->draining,
        .slots = m->slots,
        .running = m->load.running,
        .waiting = m->load.waiting,
        .kv_blocks = m->kv_blocks,
        .kv_blocks_free = m->load.kv_blocks_free,
        .step_us = m->load.step_us,
        .streams = m->streams,
        .prompt_tokens = m->load.prompt_tokens,
        .cached_tokens = m->load.cached_tokens,
        .output_tokens = m->load.output_tokens,
        .preemptions = m->load.preemptions,
        .prefill_rate = m->load.prefill_rate,
        .decode_rate = m->load.decode_rate,
        .lease_left_ms = m->lease_left_ms,
        .rtt_us = m->rtt_us,
        .breaker = m->breaker,
        .outstanding_tokens = m->outstanding_tokens,
    };
}

gaggle_report *report_from_message(const msg_report *m, arena *a)
{
    gaggle_worker_report *workers = arena_alloc(a, m->worker_count * sizeof *workers);
    for (size_t i = 0; i < m->worker_count; i++)
        workers[i] = worker_from(&m->workers[i], a);
    gaggle_report *report = arena_alloc(a, sizeof *report);
    *report = (gaggle_report){
        .router_build = text_from(m->build, a),
        .uptime_ms = m->uptime_ms,
        .draining = m->draining,
        .clients = m->clients,
        .queued = m->queued,
        .running = m->running,
        .requests_total = m->requests_total,
        .tokens_total = m->tokens_total,
        .workers = workers,
        .worker_count = m->worker_count,
        .queued_interactive = m->queued_interactive,
        .queued_standard = m->queued_standard,
        .queued_batch = m->queued_batch,
        .first_tokens = m->first_tokens,
        .first_token_us = m->first_token_us,
    };
    return report;
}
