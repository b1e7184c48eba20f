/* client_internal: what the parts of libgaggle share.
 *
 *   gaggle.c         the public functions: any thread. They write into the stream or client under
 *                    the client's mutex, leave mail and wake the loop: the only place where
 *                    threads meet.
 *   conversation.c   the loop's side: session, streams, acks, resumes. Loop thread only.
 *   stream_core.c    what one stream owes and is owed: pure.
 *   stream_table.c   streams by number;  outbox.c   columns on their way out.
 *   request_copy.c   gaggle_request -> Submit.
 *   event_copy.c     events and reports that outlive the message they came in.
 *
 * A stream has two owners: the caller's handle, until gaggle_stream_close(), and the conversation,
 * until the answer has ended. The last one frees it. */
#ifndef GAGGLE_CLIENT_INTERNAL_H
#define GAGGLE_CLIENT_INTERNAL_H

#include <pthread.h>
#include <uv.h>

#include "client/gaggle.h"
#include "client/outbox.h"
#include "client/stream_core.h"
#include "client/stream_table.h"
#include "proto/session.h"

_Static_assert(GAGGLE_ERROR_TEXT_SIZE == ERROR_TEXT_SIZE, "errors are copied as they are");
_Static_assert((int)GAGGLE_UNAUTHENTICATED == (int)ST_UNAUTHENTICATED, "codes are one numbering");
_Static_assert((int)GAGGLE_FINISH_FAILED == (int)FINISH_FAILED, "reasons are one numbering");

enum {
    CLIENT_TICK_MS = LIMIT_ACK_INTERVAL_MS,
    CLIENT_QUERIES_MAX = 64,
    CLIENT_URLS_MAX = 16,
};

gaggle_code client_error(gaggle_error *out, const error *err);

/* -- events --------------------------------------------------------------------------- */

/* An event with everything it points to, in one block of memory. */
typedef struct queued_event {
    struct queued_event *next;
    gaggle_event event;
    gaggle_error error;
} queued_event;

queued_event *event_copy(const gaggle_event *event); /* mem_free() */

/* The report as public structs; memory from `a`. */
gaggle_report *report_from_message(const msg_report *m, arena *a);

/* -- streams --------------------------------------------------------------------------- */

enum {
    MAIL_SUBMIT = 1,
    MAIL_CANCEL = 2,
    MAIL_CLOSE = 4,
    MAIL_READ = 8, /* the reader has taken a quarter of the window */
};

struct gaggle_stream {
    /* Fixed before the stream is seen by the loop. */
    gaggle_client *client;
    arena memory; /* what `submit` points to */
    msg_submit submit;
    void (*on_event)(void *ctx, gaggle_stream *stream, const gaggle_event *event);
    void *ctx;

    /* Loop thread. */
    stream_core core;
    uint64_t started_ms;
    uint32_t number;  /* on the link; 0 = not in the table */
    bool stopping;    /* Cancel was sent */
    bool silent;      /* the handle is closed: tokens are counted and dropped */
    bool ack_listed;  /* stands in the conversation's list of due acks */
    uint32_t counted; /* of `taken`, told to the core */

    /* client->mutex. */
    gaggle_stream *previous, *next; /* in client->streams */
    bool closed;                    /* the handle is given back: no more events */
    unsigned mail;
    gaggle_stream *mail_next;
    bool mail_listed;
    int owners;
    queued_event *head, **tail; /* waiting for the reader */
    queued_event *held;         /* what the reader was given last */
    pthread_cond_t changed;
    uint32_t taken; /* tokens the reader has been given */
    uint32_t taken_told;
    bool finish_taken;
};

/* -- client ---------------------------------------------------------------------------- */

typedef struct query {
    struct query *next;
    uint32_t id;
    char *drain; /* the worker to drain first, in so long; NULL = none */
    uint32_t drain_ms;
    uint64_t until_ms;
    void (*on_report)(void *ctx, const gaggle_report *report, const gaggle_error *err);
    void *ctx;
} query;

typedef struct conversation {
    session_hub *hub;
    session *session; /* NULL once it is closed for good */
    uv_timer_t tick;
    bool up;
    bool stopping;
    uint64_t offline_since_ms; /* when not up */
    uint32_t message_bytes;    /* what the router takes */
    error last_trouble;        /* of the link, with its URL */
    error refused;             /* code not OK: the router will not have us */
    arena scratch;
    buffer frame;

    stream_table streams;
    outbox outbox;
    buffer ack_due;      /* uint32_t: numbers of streams that may owe an Ack */
    query *queries;      /* sent or waiting for a link */
    error drain_refused; /* said since the last Report: of the query that the next one answers */
    uint32_t query_id;
} conversation;

struct gaggle_client {
    uv_loop_t *loop;
    uv_loop_t own_loop;
    bool own_thread;
    pthread_t thread;
    pthread_t loop_thread; /* with the caller's loop: the thread that must not wait for itself */
    uv_async_t wake;
    uint32_t offline_ms;
    void (*on_link)(void *ctx, bool up, const gaggle_error *why);
    void *ctx;
    conversation talk;
    int handles_open; /* of this struct: wake, talk.tick */

    pthread_mutex_t mutex;
    gaggle_stream *streams; /* all that are not freed */
    gaggle_stream *mail;    /* those with mail, youngest first */
    bool mail_closed;       /* nobody will read it any more */
    query *new_queries;
    size_t query_count;
    size_t stream_count; /* submitted and not ended */
    bool close_wanted;
    bool closing; /* refuses new work */
    void (*on_closed)(void *ctx);
    void *on_closed_ctx;
};

/* -- request_copy.c ---------------------------------------------------------------------- */

/* Fill stream->memory and stream->submit; a missing seed is drawn. ST_INVALID_ARGUMENT. */
MUST_USE status request_copy(gaggle_stream *stream, const gaggle_request *request, error *err);

/* -- conversation.c ----------------------------------------------------------------------- */

MUST_USE status conversation_start(gaggle_client *client, const gaggle_options *options,
                                   error *err);
/* End the conversation, or undo a start that failed: streams are cancelled and finished, then
 * client_conversation_ended() follows from the loop. Both handles of the client are initialised. */
void conversation_stop(gaggle_client *client);

void conversation_submit(gaggle_stream *stream);
void conversation_cancel(gaggle_stream *stream);
void conversation_close(gaggle_stream *stream);
void conversation_read(gaggle_stream *stream, uint32_t taken);
void conversation_query(gaggle_client *client, query *q);
/* Send what the calls above have gathered. */
void conversation_flush(gaggle_client *client);

/* -- gaggle.c, called by the conversation --------------------------------------------------- */

/* Hand one event to the caller. Returns how many of its tokens count as consumed at once. */
uint32_t client_deliver(gaggle_stream *stream, const gaggle_event *event);
/* Tokens the reader has taken so far. */
uint32_t client_taken(gaggle_stream *stream);
/* The conversation has no more use for the stream. */
void client_stream_ended(gaggle_stream *stream);
void client_query_done(gaggle_client *client, query *q, const gaggle_report *report,
                       const error *err);
/* No more mail will be read: `wake` is about to be closed. */
void client_mail_closed(gaggle_client *client);
void client_conversation_ended(gaggle_client *client);

#endif
