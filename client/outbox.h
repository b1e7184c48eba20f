/* outbox: Acks, Resumes and Cancels on their way to the router, gathered in columns so that a turn
 * of the loop sends one message of each kind. Loop thread. */
#ifndef GAGGLE_CLIENT_OUTBOX_H
#define GAGGLE_CLIENT_OUTBOX_H

#include "proto/session.h"

typedef struct outbox {
    buffer ack_stream, ack_next; /* uint32_t each */
    buffer resume_id;            /* id128 */
    buffer resume_stream, resume_next;
    buffer cancel_stream;
} outbox; /* {0} is empty */

/* Each also sends what waits when a message is full. The link is up. */
void outbox_ack(outbox *o, session *link, uint32_t stream, uint32_t next_wanted);
void outbox_resume(outbox *o, session *link, const id128 *request_id, uint32_t stream,
                   uint32_t next_wanted);
void outbox_cancel(outbox *o, session *link, uint32_t stream);

void outbox_send_acks(outbox *o, session *link);
/* Resumes first: a Cancel may be for a stream that is resumed in the same turn. */
void outbox_send_resumes_and_cancels(outbox *o, session *link);

void outbox_clear(outbox *o); /* the link is gone */
void outbox_free(outbox *o);

#endif
