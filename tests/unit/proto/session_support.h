/* session_support: what the tests of session share, on top of link_support. A `house` accepts
 * sessions and makes a `talker` of each; a dialled session is a talker, too. A `script` is a link
 * that says exactly what a test tells it, right or wrong. */
#ifndef GAGGLE_TESTS_SESSION_SUPPORT_H
#define GAGGLE_TESTS_SESSION_SUPPORT_H

#include "../common/link_support.h"
#include "proto/session.h"

session_hub *open_sessions(uv_loop_t *loop); /* initialises the loop, too */
void close_sessions(uv_loop_t *loop, session_hub *hub);

typedef struct house house;

typedef struct talker talker;
struct talker {
    session *s;   /* NULL once it is freed */
    house *house; /* NULL: dialled */
    unsigned ups, downs, closeds, envelopes, idles, refusals;
    error why; /* the last on_down's */
    error closed_why;
    msg_welcome welcome;
    envelope_kind last_kind;
    void (*on_up)(talker *t);
    void (*on_envelope)(talker *t, const envelope *e);
    void (*on_idle)(talker *t);
    void (*on_down)(talker *t);
    void *arg;
    talker *next;
};

struct house {
    session_listener *listener;
    talker *talkers; /* newest first */
    unsigned hellos, ups, downs;
    status answer; /* of on_hello; with `err` */
    error err;
    bool close_in_hello;
    id128 instance;
    void (*on_up)(talker *t);
    void (*on_envelope)(talker *t, const envelope *e);
    void (*on_idle)(talker *t);
    void (*on_down)(talker *t);
    void *arg;
};

extern const session_handlers house_handlers;  /* ctx: house, then talker */
extern const session_handlers talker_handlers; /* ctx: talker */

void house_open(house *h, session_hub *hub, scheme s, const char *tag);
void house_free(house *h);
session_dial_options dial_options(scheme s, const char *const *url);
/* Dial the house and wait until both sides are up. */
void connect_talker(uv_loop_t *loop, session_hub *hub, talker *t, house *h, scheme s,
                    const char *tag);

/* -- scripts ---------------------------------------------------------------------- */

typedef struct script {
    end end;
    uint32_t link, n;
    arena arena;
    unsigned errors, welcomes, byes, pings;
    error error; /* the last Error envelope */
    bool fatal;
    bool answer_pings;
} script;

/* Connect the script's link to the port; it says nothing yet. */
void script_dial(script *p, uv_loop_t *loop, link_hub *hub, scheme s, const char *tag,
                 uint16_t port);
void script_free(script *p);
void script_send(script *p, envelope e); /* numbers it */
envelope hello_envelope(void);           /* a good one, of a client */
/* Say Hello and wait for Welcome. */
void script_hello(script *p, uv_loop_t *loop);
/* Encode into `out` (appended), as a raw socket would send it on tcp: with the length. */
void frame_envelope(buffer *out, const envelope *e);

extern const uint8_t sp_hello_bytes[8];

#endif
