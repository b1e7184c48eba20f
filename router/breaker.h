/* breaker: is a worker worth another request?
 *
 *   CLOSED ---- faults add up -----> OPEN ---- open_ms later, a request goes ----> PROBING
 *     ^                               ^                                             |  |
 *     |                               +------------ the probe: worker's fault ------+  |
 *     +-------------------------------------------- the probe: ok ---------------------+
 *
 * It hears how every request ended that was sent to the worker, when it has ended: a stream that
 * breaks after its first token is a fault like any other, and a success is one only at its Finish.
 * Only the worker's own faults count. A busy worker is well, and a bad request says nothing of who
 * refused it; both say nothing of a probe either, so that the next request is the probe then.
 *
 * A fault weighs as much as BREAKER_FAULT good ends, and BREAKER_TRIP opens it: three faults in a
 * row, or more than one in five for long. A dying worker's streams all end by its fault, so it is
 * tried with one request when it is back. Each opening lasts twice as long as the one before, up to
 * BREAKER_OPEN_MS_MAX, until the worker was well for that long.
 *
 * While it is open or probed, the ends of requests from before say nothing: only the probe decides.
 * Pure; loop thread. */
#ifndef GAGGLE_ROUTER_BREAKER_H
#define GAGGLE_ROUTER_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_FAULT         4u
#define BREAKER_TRIP          12u
#define BREAKER_OPEN_MS_FIRST 1000u
#define BREAKER_OPEN_MS_MAX   60000u

typedef enum breaker_outcome {
    BREAKER_OK,           /* it ended as it should, with its last token relayed */
    BREAKER_BUSY,         /* no room now; draining */
    BREAKER_CLIENT_FAULT, /* a bad request; cancelled, too slow a client, its deadline passed */
    BREAKER_WORKER_FAULT, /* an internal error, lost with the worker, never answered */
} breaker_outcome;

typedef enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_PROBING } breaker_state;

typedef struct breaker {
    uint64_t changed_ms; /* opened at, or closed at */
    uint32_t open_ms;    /* how long the last opening was to last; 0: never opened */
    uint32_t probe;      /* PROBING: the number of the request that decides */
    uint8_t state;       /* breaker_state */
    uint8_t faults;      /* CLOSED: their weight */
} breaker;               /* {0} is closed */

/* May a request be sent? */
bool breaker_allows(const breaker *b, uint64_t now_ms);
/* breaker_allows() said yes, and request `number` is sent. The number is the request's alone until
 * its end is heard. */
void breaker_sent(breaker *b, uint32_t number, uint64_t now_ms);
/* It ended, or left the worker: to be called once for each breaker_sent(). For the probe also
 * before, when it is clear that all is well. */
void breaker_heard(breaker *b, uint32_t number, breaker_outcome outcome, uint64_t now_ms);

const char *breaker_state_name(breaker_state state);

/* Breakers of workers that were forgotten: who is away for longer than his grace after each death
 * must not come back with a clean slate. The last BREAKER_BOOK_SIZE of them; {0} is empty. `worker`
 * is a hash of its id, not 0. */
#define BREAKER_BOOK_SIZE 256u

typedef struct breaker_book {
    uint64_t workers[BREAKER_BOOK_SIZE];
    breaker breakers[BREAKER_BOOK_SIZE];
    uint32_t next;
} breaker_book;

/* The worker is forgotten, and its requests' ends were heard. */
void breaker_book_keep(breaker_book *book, uint64_t worker, const breaker *b);
/* A worker came that was not known: its breaker, or a closed one. */
breaker breaker_book_take(breaker_book *book, uint64_t worker);

#endif
