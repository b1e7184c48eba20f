/* link_support: what the tests of link and session share. A loop with a hub, `ends` that record
 * what happens to a link, the five schemes, certificates made on the spot, and raw sockets that
 * behave badly. Nothing sleeps: everything waits for an event, and for BUDGET_MS at most. */
#ifndef GAGGLE_TESTS_LINK_SUPPORT_H
#define GAGGLE_TESTS_LINK_SUPPORT_H

#include "common/link.h"
#include "common/mem.h"

/* How many times slower than usual everything is, as under valgrind: GAGGLE_TEST_SLOWNESS, or 1.
 * Waits are longer by it; what must be done within one of the link's own deadlines is less by it.
 */
unsigned slowness(void);

#define BUDGET_MS (20000 * slowness())

/* The usual limits of a link, with time to connect by it. */
const link_limits *patient_limits(void);

/* A failed assertion says so and ends the program where it stands. Going on would not do: what the
 * hubs still hold has its context on the stack of the test that failed, and calls back into it. Not
 * for tests with skip(). First in main(). */
void fail_at_once(void);

/* -- the loop ------------------------------------------------------------------ */

typedef bool (*condition)(void *arg);

/* Run the loop until `holds(arg)`, or for `ms`. True if it came to hold. */
bool run_until(uv_loop_t *loop, condition holds, void *arg, uint64_t ms);
void run_for(uv_loop_t *loop, uint64_t ms);
/* run_until() a plain flag or counter, within the budget. */
bool run_until_at_least(uv_loop_t *loop, const unsigned *counter, unsigned value);

link_hub *open_hub(uv_loop_t *loop);            /* initialises the loop, too */
void close_hub(uv_loop_t *loop, link_hub *hub); /* asserts that nothing is left in the loop */

/* -- schemes --------------------------------------------------------------------- */

typedef enum scheme { TCP, TLS, WS, IPC, WSS, SCHEME_COUNT } scheme;
extern const char *const scheme_names[SCHEME_COUNT];
/* How many of them can be had here: where everything is slow all but wss, for nng gives the HTTP
 * handshake two seconds, and the one of TLS is part of it. */
scheme scheme_count(void);

static inline bool scheme_has_tls(scheme s)
{
    return s == TLS || s == WSS;
}

typedef struct test_url {
    char text[256];
} test_url;

/* Any free port on 127.0.0.1, or a socket file in the scratch folder named after `tag`. */
test_url listen_url(scheme s, const char *tag);
/* Where a listener on listen_url(s, tag) that got `port` is reached. */
test_url dial_url(scheme s, const char *tag, uint16_t port);

/* -- certificates ------------------------------------------------------------------ */

/* Made once per program with the openssl command: a CA, a server "gaggle.test", a client; and a
 * client of another CA. Call before the first hub, while there are no threads. */
void make_certificates(void);
void use_certificates(void); /* those that the parent process has made */

const link_tls *server_tls(scheme s); /* demands a client certificate; NULL for plain schemes */
const link_tls *client_tls(scheme s);
const link_tls *foreign_client_tls(void); /* trusts our CA but is signed by another */
const link_tls *no_certificate_tls(void);
const link_tls *wrong_name_tls(void);
const link_tls *wrong_ca_tls(void);

/* -- ends ------------------------------------------------------------------------------ */

/* What happened to one link. `server` and `client` hooks may be NULL. */
typedef struct end end;
struct end {
    link_peer *link; /* NULL once it is down */
    unsigned ups, downs, messages, idles, refusals;
    uint64_t bytes;
    status why;
    char text[256];
    buffer last; /* the last message */
    void (*hook)(end *e, const uint8_t *bytes, size_t size);
    void (*idle_hook)(end *e);
    void *hook_arg;
    unsigned *downs_total;
    end *next; /* of a server's ends */
};

/* Accepts links and makes an end of each, newest first. */
typedef struct server {
    link_listener *listener;
    end *ends;
    unsigned ups, downs;
    void (*hook)(end *e, const uint8_t *bytes, size_t size);
    void (*idle_hook)(end *e);
    void *hook_arg;
} server;

extern const link_handlers end_handlers;    /* ctx: end */
extern const link_handlers server_handlers; /* ctx: server */

void server_open(server *srv, link_hub *hub, scheme s, const char *tag, const link_limits *limits);
void server_free(server *srv); /* the ends; after close_hub() */
void end_free(end *e);

/* Dial the server and wait until both sides are up. */
void connect_end(uv_loop_t *loop, link_hub *hub, end *e, server *srv, scheme s, const char *tag);

void echo(end *e, const uint8_t *bytes, size_t size); /* a hook */

/* -- sockets that no library looks after ----------------------------------------------- */

int raw_connect(scheme s, const char *tag, uint16_t port); /* blocking; asserts success */
void raw_close_with_reset(int fd);                         /* SO_LINGER 0 */
void raw_write(int fd, const void *bytes, size_t size);    /* ignores a peer that is gone */
unsigned open_descriptors(void);

#endif
