#include "client/outbox.h"

static void append_number(buffer *b, uint32_t value)
{
    buffer_append(b, &value, sizeof value);
}

static size_t count_of(const buffer *column)
{
    return column->size / sizeof(uint32_t);
}

static const uint32_t *numbers(const buffer *column)
{
    return (const uint32_t *)(const void *)column->data;
}

void outbox_send_acks(outbox *o, session *link)
{
    if (o->ack_stream.size == 0) return;
    envelope e = {.kind = ENVELOPE_ACK,
                  .ack = {.stream = numbers(&o->ack_stream),
                          .next_wanted = numbers(&o->ack_next),
                          .count = count_of(&o->ack_stream)}};
    session_send(link, &e);
    buffer_clear(&o->ack_stream);
    buffer_clear(&o->ack_next);
}

static void send_resumes(outbox *o, session *link)
{
    if (o->resume_stream.size == 0) return;
    envelope e = {.kind = ENVELOPE_RESUME,
                  .resume = {.request_id = (const id128 *)o->resume_id.data,
                             .stream = numbers(&o->resume_stream),
                             .next_wanted = numbers(&o->resume_next),
                             .count = count_of(&o->resume_stream)}};
    session_send(link, &e);
    buffer_clear(&o->resume_id);
    buffer_clear(&o->resume_stream);
    buffer_clear(&o->resume_next);
}

void outbox_send_resumes_and_cancels(outbox *o, session *link)
{
    send_resumes(o, link);
    if (o->cancel_stream.size == 0) return;
    envelope e = {.kind = ENVELOPE_CANCEL,
                  .cancel = {.stream = numbers(&o->cancel_stream),
                             .count = count_of(&o->cancel_stream),
                             .reason = text_of("the client asked")}};
    session_send(link, &e);
    buffer_clear(&o->cancel_stream);
}

void outbox_ack(outbox *o, session *link, uint32_t stream, uint32_t next_wanted)
{
    if (count_of(&o->ack_stream) == LIMIT_STREAMS_PER_LINK) outbox_send_acks(o, link);
    append_number(&o->ack_stream, stream);
    append_number(&o->ack_next, next_wanted);
}

void outbox_resume(outbox *o, session *link, const id128 *request_id, uint32_t stream,
                   uint32_t next_wanted)
{
    if (count_of(&o->resume_stream) == LIMIT_STREAMS_PER_LINK) send_resumes(o, link);
    buffer_append(&o->resume_id, request_id, sizeof *request_id);
    append_number(&o->resume_stream, stream);
    append_number(&o->resume_next, next_wanted);
}

void outbox_cancel(outbox *o, session *link, uint32_t stream)
{
    if (count_of(&o->cancel_stream) == LIMIT_STREAMS_PER_LINK)
        outbox_send_resumes_and_cancels(o, link);
    append_number(&o->cancel_stream, stream);
}

void outbox_clear(outbox *o)
{
    buffer_clear(&o->ack_stream);
    buffer_clear(&o->ack_next);
    buffer_clear(&o->resume_id);
    buffer_clear(&o->resume_stream);
    buffer_clear(&o->resume_next);
    buffer_clear(&o->cancel_stream);
}

void outbox_free(outbox *o)
{
    buffer_free(&o->ack_stream);
    buffer_free(&o->ack_next);
    buffer_free(&o->resume_id);
    buffer_free(&o->resume_stream);
    buffer_free(&o->resume_next);
    buffer_free(&o->cancel_stream);
}
