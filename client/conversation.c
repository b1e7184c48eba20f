/* conversation: one client's streams over one session, on the loop thread.
 *
 * Messages and mail turn into calls of stream_core, and the actions that come back into envelopes.
 * Acks, Resumes and Cancels are gathered in columns during a turn and leave as one message each:
 * Resumes and Cancels when the turn ends, Acks when nothing else waits to be sent. */
#include <string.h>

#include "client/client_internal.h"
#include "common/check.h"
#include "common/clock.h"

/* -- acknowledging ------------------------------------------------------------------------ */

static void ack_gather(conversation *c, gaggle_stream *s, bool lazily)
{
    uint32_t next_wanted;
    if (stream_core_ack(&s->core, lazily, &next_wanted))
        outbox_ack(&c->outbox, c->session, s->number, next_wanted);
}

/* It may owe an Ack: looked at when the link is idle. */
static void ack_list(conversation *c, gaggle_stream *s)
{
    if (s->ack_listed) return;
    s->ack_listed = true;
    buffer_append(&c->ack_due, &s->number, sizeof s->number);
}

static void acks_flush(conversation *c)
{
    const uint32_t *due = (const uint32_t *)(const void *)c->ack_due.data;
    size_t count = c->ack_due.size / sizeof *due;
    for (size_t i = 0; i < count; i++) {
        gaggle_stream *s = stream_table_find(&c->streams, due[i]);
        if (s == NULL) continue;
        s->ack_listed = false;
        ack_gather(c, s, true);
    }
    buffer_clear(&c->ack_due);
    outbox_send_acks(&c->outbox, c->session);
}

void conversation_flush(gaggle_client *client)
{
    conversation *c = &client->talk;
    if (!c->up) return;
    outbox_send_resumes_and_cancels(&c->outbox, c->session);
    if (session_is_idle(c->session)) acks_flush(c);
}

/* -- ending ------------------------------------------------------------------------------- */

static void stream_end(gaggle_stream *s, const gaggle_event *finish)
{
    conversation *c = &s->client->talk;
    stream_core_end(&s->core);
    stream_table_remove(&c->streams, s);
    if (!s->silent) client_deliver(s, finish);
    client_stream_ended(s);
}

/* An end that no Finish told of. */
static void stream_end_here(gaggle_stream *s, gaggle_finish_reason reason, const error *why)
{
    gaggle_error text;
    gaggle_event e = {.type = GAGGLE_FINISH, .reason = reason, .total_tokens = s->core.next};
    if (why != NULL) {
        client_error(&text, why);
        e.error = &text;
    }
    stream_end(s, &e);
}

static void stream_fail(gaggle_stream *s, const error *why)
{
    stream_end_here(s, GAGGLE_FINISH_FAILED, why);
}

/* -- what stream_core asks for ------------------------------------------------------------- */

static void submit_send(gaggle_stream *s)
{
    conversation *c = &s->client->talk;
    msg_submit m = s->submit;
    m.stream = s->number;
    if (m.deadline_ms > 0) {
        uint64_t spent_ms = clock_now_ms() - s->started_ms;
        if (spent_ms >= m.deadline_ms) {
            stream_end_here(s, GAGGLE_FINISH_DEADLINE, NULL);
            return;
        }
        m.deadline_ms -= (uint32_t)spent_ms;
    }
    m.prior_ids = (const uint32_t *)s->core.ids.data;
    m.prior_count = s->core.next;

    /* link and n are not known here; at their longest they add what the comparison leaves. */
    enum { NUMBERS_BYTES = 16 };
    envelope e = {.kind = ENVELOPE_SUBMIT, .submit = m};
    arena_reset(&c->scratch);
    buffer_clear(&c->frame);
    status st = envelope_encode(&e, &c->scratch, &c->frame);
    if (st != ST_OK || c->frame.size + NUMBERS_BYTES > c->message_bytes) {
        error why;
        error_set(
            &why, ST_RESOURCE_EXHAUSTED,
            "the request with its answer so far is larger than the router's limit of %u bytes",
            c->message_bytes);
        stream_fail(s, &why);
        return;
    }
    session_send(c->session, &e);
}

/* `why`: for STREAM_FAIL. The stream may be gone afterwards. */
static void act(gaggle_stream *s, stream_action action, const error *why)
{
    conversation *c = &s->client->talk;
    switch (action) {
    case STREAM_SUBMIT:
        submit_send(s);
        break;
    case STREAM_RESUME:
        outbox_resume(&c->outbox, c->session, &s->submit.request_id, s->number, s->core.next);
        break;
    case STREAM_FAIL:
        stream_fail(s, why);
        break;
    case STREAM_FINISH: /* only Finish itself gives it, and handles it */
    case STREAM_NOTHING:
        break;
    }
}

static void consume(gaggle_stream *s, uint32_t count)
{
    if (count == 0) return;
    stream_action action = stream_core_consumed(&s->core, count);
    ack_list(&s->client->talk, s);
    act(s, action, NULL);
}

/* -- messages ------------------------------------------------------------------------------- */

static uint32_t sum(const uint32_t *values, size_t from, size_t count)
{
    uint32_t total = 0;
    for (size_t i = from; i < from + count; i++)
        total += values[i];
    return total;
}

static void tokens_deliver(gaggle_stream *s, const msg_tokens *m, uint32_t first_index,
                           size_t token, uint32_t count, size_t text, size_t top)
{
    bool wants_logprobs = s->submit.logprobs != LOGPROBS_NONE; /* others in the message may */
    gaggle_event e = {
        .type = GAGGLE_TOKENS,
        .first_index = first_index,
        .count = count,
        .ids = m->token + token,
        .text = m->text_size > 0 ? (const char *)m->text + text : "",
        .text_size = sum(m->text_len, token, count),
        .text_len = m->text_len + token,
        .logprobs = wants_logprobs && m->logprob != NULL ? m->logprob + token : NULL,
    };
    if (wants_logprobs && m->top_count != NULL) {
        e.top_count = m->top_count + token;
        e.top_ids = m->top_total > 0 ? m->top_id + top : NULL;
        e.top_logprobs = m->top_total > 0 ? m->top_logprob + top : NULL;
    }
    consume(s, s->silent ? count : client_deliver(s, &e));
}

static void on_tokens(conversation *c, const msg_tokens *m)
{
    size_t token = 0, text = 0, top = 0;
    for (size_t g = 0; g < m->groups; g++) {
        size_t count = m->count[g];
        gaggle_stream *s = stream_table_find(&c->streams, m->stream[g]);
        if (s != NULL) {
            stream_taken taken =
                stream_core_tokens(&s->core, m->first_index[g], m->count[g], m->token + token);
            if (taken.action != STREAM_NOTHING) act(s, taken.action, NULL);
            if (taken.take > 0) {
                size_t skipped_tops = m->top_count ? sum(m->top_count, token, taken.skip) : 0;
                tokens_deliver(s, m, m->first_index[g] + taken.skip, token + taken.skip, taken.take,
                               text + sum(m->text_len, token, taken.skip), top + skipped_tops);
            }
        }
        text += sum(m->text_len, token, count);
        if (m->top_count != NULL) top += sum(m->top_count, token, count);
        token += count;
    }
}

static void finish_deliver(gaggle_stream *s, const msg_finish *m)
{
    char stop_text[LIMIT_STOP_STRING_BYTES + 1];
    gaggle_error why;
    gaggle_event e = {
        .type = GAGGLE_FINISH,
        .reason = (gaggle_finish_reason)m->reason,
        .total_tokens = m->total,
        .prompt_tokens = m->prompt_tokens,
        .cached_tokens = m->cached_tokens,
        .has_stop_id = m->has_stop_id,
        .stop_id = m->stop_id,
        .queue_us = m->queue_us,
        .prefill_us = m->prefill_us,
        .decode_us = m->decode_us,
        .continuations = m->continuations + s->core.continuations,
        .approximate = m->approximate || s->core.continuations > 0,
    };
    if (m->stop_text.size > 0) {
        memcpy(stop_text, m->stop_text.data, m->stop_text.size);
        stop_text[m->stop_text.size] = '\0';
        e.stop_text = stop_text;
    }
    if (m->reason == FINISH_FAILED) {
        error failed;
        error_set(&failed, m->error.code, "%.*s", (int)m->error.text.size, m->error.text.data);
        failed.retry_after_ms = m->error.retry_after_ms;
        client_error(&why, &failed);
        e.error = &why;
    }
    stream_end(s, &e);
}

static void on_finish(conversation *c, const msg_finish *m)
{
    gaggle_stream *s = stream_table_find(&c->streams, m->stream);
    if (s == NULL) return;
    stream_action action = stream_core_finish(&s->core, m->total, m->crc);
    if (action == STREAM_FINISH) {
        outbox_ack(&c->outbox, c->session, s->number,
                   m->total); /* all of it is here: the source may forget */
        finish_deliver(s, m);
        return;
    }
    error why;
    error_set(
        &why, ST_DATA_LOSS,
        "the answer does not match its end: %u tokens with CRC %08x arrived, but %u with %08x "
        "were sent",
        s->core.next, s->core.crc, m->total, m->crc);
    act(s, action, &why);
}

static void on_error(gaggle_client *client, const msg_error *m)
{
    conversation *c = &client->talk;
    error why;
    error_set(&why, m->code, "%.*s", (int)m->text.size, m->text.data);
    why.retry_after_ms = m->retry_after_ms;
    if (m->stream == 0 && !m->fatal) c->drain_refused = why;
    gaggle_stream *s = stream_table_find(&c->streams, m->stream);
    if (s == NULL) return; /* a fatal one of the link: the session tells by on_down */
    stream_action action = stream_core_error(&s->core, m->code, m->retry_after_ms, clock_now_ms());
    /* Before a worker has it, a request ends by an Error. */
    if (s->stopping)
        stream_end_here(s, GAGGLE_FINISH_CANCELLED, NULL);
    else if (action == STREAM_FAIL && m->code == ST_DEADLINE_EXCEEDED)
        stream_end_here(s, GAGGLE_FINISH_DEADLINE, NULL);
    else
        act(s, action, &why);
}

static void on_report(gaggle_client *client, const msg_report *m)
{
    conversation *c = &client->talk;
    const error refused = c->drain_refused;
    c->drain_refused.code = ST_OK;
    for (query **at = &c->queries; *at != NULL; at = &(*at)->next) {
        query *q = *at;
        if (q->id != m->id) continue;
        *at = q->next;
        arena_reset(&c->scratch);
        if (refused.code != ST_OK)
            client_query_done(client, q, NULL, &refused);
        else
            client_query_done(client, q, report_from_message(m, &c->scratch), NULL);
        return;
    }
}

static void on_envelope(void *ctx, session *link, const envelope *e, const error *refused)
{
    (void)link;
    (void)refused; /* nobody submits to a client */
    gaggle_client *client = ctx;
    conversation *c = &client->talk;
    gaggle_stream *s;
    switch (e->kind) {
    case ENVELOPE_ACCEPTED:
        if ((s = stream_table_find(&c->streams, e->accepted.stream)) != NULL)
            stream_core_accepted(&s->core, e->accepted.resumed);
        break;
    case ENVELOPE_TOKENS:
        on_tokens(c, &e->tokens);
        break;
    case ENVELOPE_FINISH:
        on_finish(c, &e->finish);
        break;
    case ENVELOPE_ERROR:
        on_error(client, &e->error);
        break;
    case ENVELOPE_REPORT:
        on_report(client, &e->report);
        break;
    default: /* Drain: new Submits will be refused, with a sentence; the rest is not for clients */
        break;
    }
    conversation_flush(client);
}

/* -- the link -------------------------------------------------------------------------------- */

static void query_send(conversation *c, const query *q)
{
    if (q->drain != NULL) {
        envelope e = {.kind = ENVELOPE_DRAIN};
        e.drain = (msg_drain){.deadline_ms = q->drain_ms, .worker_id = text_of(q->drain)};
        session_send(c->session, &e);
    }
    envelope e = {.kind = ENVELOPE_QUERY, .query.id = q->id};
    session_send(c->session, &e);
}

static void on_up(void *ctx, session *link, const msg_welcome *welcome)
{
    (void)link;
    gaggle_client *client = ctx;
    conversation *c = &client->talk;
    c->up = true;
    c->message_bytes = welcome->max_message_bytes;
    if (c->message_bytes == 0 || c->message_bytes > LIMIT_MESSAGE_BYTES)
        c->message_bytes = LIMIT_MESSAGE_BYTES;

    gaggle_stream *s;
    STREAM_TABLE_EACH(&c->streams, s) act(s, stream_core_up(&s->core), NULL);
    for (const query *q = c->queries; q != NULL; q = q->next)
        query_send(c, q);
    conversation_flush(client);
    if (client->on_link != NULL) client->on_link(client->ctx, true, NULL);
}

static void on_idle(void *ctx, session *link)
{
    (void)link;
    gaggle_client *client = ctx;
    if (client->talk.up) acks_flush(&client->talk);
}

static void on_down(void *ctx, session *link, const error *why)
{
    gaggle_client *client = ctx;
    conversation *c = &client->talk;
    c->last_trouble = *why;
    error_prefix(&c->last_trouble, why->code, "%s", session_peer_name(link));
    if (c->up) c->offline_since_ms = clock_now_ms();
    c->up = false;
    c->drain_refused.code = ST_OK;
    outbox_clear(&c->outbox);
    gaggle_stream *s;
    STREAM_TABLE_EACH(&c->streams, s)
    {
        stream_core_down(&s->core);
        if (s->stopping) stream_end_here(s, GAGGLE_FINISH_CANCELLED, NULL);
    }
    if (client->on_link != NULL && !c->stopping) {
        gaggle_error text;
        client_error(&text, &c->last_trouble);
        client->on_link(client->ctx, false, &text);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    gaggle_client *client = handle->data;
    if (--client->handles_open == 0) client_conversation_ended(client);
}

static void on_hub_closed(void *ctx)
{
    gaggle_client *client = ctx;
    client_mail_closed(client);
    conversation *c = &client->talk;
    arena_free(&c->scratch);
    buffer_free(&c->frame);
    buffer_free(&c->ack_due);
    outbox_free(&c->outbox);
    uv_close((uv_handle_t *)&c->tick, on_handle_closed);
    uv_close((uv_handle_t *)&client->wake, on_handle_closed);
}

static void queries_fail(gaggle_client *client, const error *why)
{
    while (client->talk.queries != NULL) {
        query *q = client->talk.queries;
        client->talk.queries = q->next;
        client_query_done(client, q, NULL, why);
    }
}

/* The session is gone for good: because we are stopping, or because the router refused us. */
static void on_closed(void *ctx, session *link, const error *why)
{
    (void)link;
    gaggle_client *client = ctx;
    conversation *c = &client->talk;
    c->session = NULL;
    if (c->stopping) {
        session_hub_close(c->hub, on_hub_closed, client);
        return;
    }
    c->refused = *why;
    if (c->refused.code == ST_OK) error_set(&c->refused, ST_UNAVAILABLE, "the session was closed");
    queries_fail(client, &c->refused);
    gaggle_stream *s;
    STREAM_TABLE_EACH(&c->streams, s) stream_fail(s, &c->refused);
}

static void stream_tick(conversation *c, gaggle_stream *s, uint64_t now_ms, uint32_t offline_ms)
{
    if (c->up) {
        /* While tokens flow the deadline is the worker's to keep. */
        if (s->core.state == STREAM_WAITING && s->submit.deadline_ms > 0 &&
            now_ms - s->started_ms >= s->submit.deadline_ms) {
            stream_end_here(s, GAGGLE_FINISH_DEADLINE, NULL);
            return;
        }
        if (s->on_event == NULL && !s->silent) conversation_read(s, client_taken(s));
        ack_gather(c, s, false);
        act(s, stream_core_tick(&s->core, now_ms), NULL);
        return;
    }
    uint64_t since_ms = s->started_ms > c->offline_since_ms ? s->started_ms : c->offline_since_ms;
    if (s->submit.deadline_ms > 0 && now_ms - s->started_ms >= s->submit.deadline_ms) {
        stream_end_here(s, GAGGLE_FINISH_DEADLINE, NULL);
    } else if (now_ms - since_ms >= offline_ms) {
        error why;
        error_set(&why, ST_UNAVAILABLE, "no router could be reached for %u ms: %.400s", offline_ms,
                  c->last_trouble.text);
        stream_fail(s, &why);
    }
}

static void on_tick(uv_timer_t *timer)
{
    gaggle_client *client = timer->data;
    conversation *c = &client->talk;
    uint64_t now_ms = clock_now_ms();
    gaggle_stream *s;
    STREAM_TABLE_EACH(&c->streams, s) stream_tick(c, s, now_ms, client->offline_ms);

    for (query **at = &c->queries; *at != NULL;) {
        query *q = *at;
        if (now_ms < q->until_ms) {
            at = &q->next;
            continue;
        }
        *at = q->next;
        error why;
        error_set(&why, ST_UNAVAILABLE, "the router did not answer in time");
        client_query_done(client, q, NULL, &why);
        at = &c->queries; /* the callback may have asked again */
    }
    if (c->up) outbox_send_acks(&c->outbox, c->session);
    conversation_flush(client);
    if (c->streams.count == 0 && c->queries == NULL) uv_timer_stop(&c->tick);
}

static void tick_start(conversation *c)
{
    if (!uv_is_active((uv_handle_t *)&c->tick))
        uv_timer_start(&c->tick, on_tick, CLIENT_TICK_MS, CLIENT_TICK_MS);
}

/* -- what the caller wants -------------------------------------------------------------------- */

void conversation_submit(gaggle_stream *s)
{
    conversation *c = &s->client->talk;
    stream_core_init(&s->core, s->submit.window, s->client->offline_ms);
    s->started_ms = clock_now_ms();
    stream_table_add(&c->streams, s);
    tick_start(c);
    if (c->refused.code != ST_OK) {
        stream_fail(s, &c->refused);
    } else if (c->up) {
        act(s, stream_core_up(&s->core), NULL);
    }
}

void conversation_cancel(gaggle_stream *s)
{
    conversation *c = &s->client->talk;
    if (s->number == 0 || s->stopping) return;
    s->stopping = true;
    if (!c->up || s->core.state == STREAM_WAITING) {
        stream_end_here(s, GAGGLE_FINISH_CANCELLED, NULL);
        return;
    }
    outbox_cancel(&c->outbox, c->session, s->number);
}

void conversation_close(gaggle_stream *s)
{
    if (s->number == 0) return;
    s->silent = true;
    consume(s, s->core.next - s->core.consumed);
    conversation_cancel(s);
}

void conversation_read(gaggle_stream *s, uint32_t taken)
{
    if (s->number == 0 || taken == s->counted) return;
    uint32_t count = taken - s->counted;
    s->counted = taken;
    consume(s, count);
}

void conversation_query(gaggle_client *client, query *q)
{
    conversation *c = &client->talk;
    if (c->refused.code != ST_OK) {
        client_query_done(client, q, NULL, &c->refused);
        return;
    }
    q->id = ++c->query_id;
    q->next = c->queries;
    c->queries = q;
    tick_start(c);
    if (c->up) query_send(c, q);
}

status conversation_start(gaggle_client *client, const gaggle_options *o, error *err)
{
    conversation *c = &client->talk;
    c->offline_since_ms = clock_now_ms();
    uv_timer_init(client->loop, &c->tick);
    c->tick.data = client;
    status st = session_hub_create(&c->hub, client->loop, err);
    if (st != ST_OK) return st;
    static const session_handlers handlers = {
        .on_up = on_up,
        .on_envelope = on_envelope,
        .on_idle = on_idle,
        .on_down = on_down,
        .on_closed = on_closed,
    };
    static const char *const default_urls[] = {GAGGLE_DEFAULT_URL};
    link_tls tls = {
        .ca_file = o->ca_file,
        .cert_file = o->cert_file,
        .key_file = o->key_file,
        .server_name = o->server_name,
        .insecure = o->insecure,
    };
    bool with_tls = o->ca_file != NULL || o->cert_file != NULL || o->insecure;
    session_dial_options dial = {
        .urls = o->url_count > 0 ? o->urls : default_urls,
        .url_count = o->url_count > 0 ? o->url_count : 1,
        .tls = with_tls ? &tls : NULL,
        .role = ROLE_CLIENT,
        .instance = id128_random(),
        .token = o->token,
        .name = o->name,
    };
    return session_dial(&c->session, c->hub, &dial, &handlers, client, err);
}

void conversation_stop(gaggle_client *client)
{
    conversation *c = &client->talk;
    if (c->stopping) return;
    c->stopping = true;
    gaggle_stream *s;
    STREAM_TABLE_EACH(&c->streams, s)
    {
        if (c->up && s->core.state != STREAM_WAITING && !s->stopping)
            outbox_cancel(&c->outbox, c->session, s->number);
        stream_end_here(s, GAGGLE_FINISH_CANCELLED, NULL);
    }
    error why;
    error_set(&why, ST_CANCELLED, "the client was closed");
    queries_fail(client, &why);
    if (c->hub == NULL) {
        on_hub_closed(client);
        return;
    }
    if (c->session == NULL) {
        session_hub_close(c->hub, on_hub_closed, client);
        return;
    }
    if (c->up) outbox_send_resumes_and_cancels(&c->outbox, c->session);
    session_close(c->session, "the client was closed");
}
