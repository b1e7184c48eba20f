/* sim: a whole cluster in one thread under a seeded clock.
 *
 * What runs is the product: the router's core, the worker's protocol side (router_link*.c,
 * held_stream.c), the client library, and under them sessions, envelopes and columns, with their
 * real timers. What is played is what lies below and around them, by functions of the same names
 * that this program defines instead of linking them:
 *
 *   sim_loop.c     uv_*, clock_gettime(), id128_random(), log_line(), check_failed()
 *   sim_network.c  link.h: connections with latency, that stall, break and fall silent
 *   sim_engine.c   engine_thread.h and request_prepare(): a model whose answers are known
 *   sim_memory.c   malloc() and friends, counted
 *
 * sim_router.c, sim_worker.c, sim_client.c and sim_stranger.c are the processes: they start, hang,
 * crash, drain and come back. sim_draw.c draws a cluster from a seed, sim_trouble.c what befalls
 * it; sim_run.c runs and judges it. sim_watch.c checks what a router says while it says it,
 * sim_parts.c knows which workers had a part in which answer.
 *
 * Everything random comes from the seed, so a seed is a replay. Events at the same microsecond come
 * in random order, except that the messages of one direction of one connection stay in order. */
#ifndef GAGGLE_TESTS_SIM_H
#define GAGGLE_TESTS_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "proto/envelope.h"
#include "router/tenant_limits.h"

typedef struct sim_process sim_process;

/* Something that will happen. Freed when it does. */
typedef struct sim_event {
    uint64_t at_us;
    uint64_t order; /* between events of the same microsecond */
    sim_process *owner;
    void (*run)(void *ctx);
    void *ctx;
    uint32_t place; /* in the heap */
    bool timer;     /* waits for the owner's clock, which may leap */
} sim_event;

/* An operating system process: a loop, a clock, and what can befall it. */
struct sim_process {
    char name[16];
    uv_loop_t loop;
    uint64_t leap_us;         /* its clock is so far ahead of the others' */
    uint64_t frozen_until_us; /* SIGSTOP, swap, a debugger */
    uint64_t apart_until_us;  /* no network */
    bool dead;                /* killed: it is being cleaned up, nobody hears it any more */
    void (*after)(void *ctx); /* at the end of each turn of its loop; NULL: nothing */
    void *ctx;
};

typedef struct sim_world {
    uint64_t seed, now_us;
    uint64_t noise, drawn; /* the two sources of randomness */
    uint64_t *random;      /* the one in use */
    sim_event **heap;
    uint32_t event_count, event_capacity;
    sim_process *current; /* whose code runs */
    bool verbose;
    uint64_t digest; /* of everything that happened: equal seeds give equal digests */
    uint64_t events;
    jmp_buf escape; /* check_failed() comes back here */
    char failure[512];
} sim_world;

extern sim_world world;

/* -- sim_loop.c --------------------------------------------------------------------- */

void sim_begin(uint64_t seed, bool verbose);
void sim_end(void); /* drop all events */

/* Two sources, so that a seed's cluster, wishes and troubles stay what they are when the product
 * behaves differently: what is drawn for a purpose depends on seed and purpose alone; everything
 * else, latencies and the like, is noise. A callback begins with noise. */
void sim_draw_for(uint64_t purpose);
void sim_draw_noise(void);
uint64_t sim_random(void);
uint32_t sim_pick(uint32_t below);                   /* [0, below) */
uint32_t sim_between(uint32_t least, uint32_t most); /* [least, most] */
bool sim_chance(uint32_t percent);

void sim_process_init(sim_process *p, const char *name, void (*after)(void *ctx), void *ctx);

/* Happens once, after `delay_us`; `owner` may be NULL: nobody, so that freezing does not hold it.
 */
sim_event *sim_after(sim_process *owner, uint64_t delay_us, void (*run)(void *ctx), void *ctx);
void sim_cancel(sim_event *e); /* NULL is fine */

/* The next event happens. False: there is none. */
bool sim_step(void);

void sim_freeze(sim_process *p, uint64_t for_us);
void sim_leap(sim_process *p, uint64_t by_us);

/* Its code runs from here on / until here, outside of its events. Gives back who ran before. */
sim_process *sim_enter(sim_process *p);

/* A dead process: run what it still has to run, at once, until nothing is left. */
void sim_run_out(sim_process *p);

uint64_t sim_clock_ms(const sim_process *p);

/* A line of the trace, with --verbose. */
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The run failed: says why and ends it. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* -- sim_trace.c -------------------------------------------------------------------- */

/* A message arrives. */
void sim_trace_message(const char *from, const uint8_t *bytes, size_t size);

/* -- sim_network.c ------------------------------------------------------------------ */

typedef enum sim_cut {
    SIM_CUT_RESET,  /* both ends are told, soon */
    SIM_CUT_SILENT, /* nobody is told, nothing arrives any more */
    SIM_CUT_DEAF,   /* one direction is dead, the other is not */
} sim_cut;

void sim_network_begin(uint32_t latency_us, uint32_t jitter_us, uint32_t window_bytes);
void sim_network_end(void);
/* Cut one connection of this process; false: it has none. */
bool sim_network_cut(const sim_process *p, sim_cut how);
/* What one end of one of its connections sends from now on arrives so much later. */
bool sim_network_stall(const sim_process *p, uint64_t for_us);
/* All of them, and nobody reaches anybody over this process's network until then. */
void sim_network_part(sim_process *p, uint64_t for_us);
/* The process is gone. `silently`: with its machine, so that nobody is told. */
void sim_network_kill(const sim_process *p, bool silently);
uint64_t sim_network_cuts(void);

/* -- sim_engine.c ------------------------------------------------------------------- */

/* Who asks what: the answer is a function of it. */
typedef struct sim_question {
    uint64_t hash;
    uint32_t length;     /* tokens until the model ends by itself */
    uint32_t max_tokens; /* 0 = no limit of the caller's */
    uint32_t logprobs;   /* LOGPROBS_NONE, or how many alternatives */
} sim_question;

enum {
    SIM_CONTEXT_TOKENS = 4096,
    SIM_TEXT_MAX = 8,
    SIM_BAD_ID = 999999, /* a prompt that begins so is refused by the worker */
};

sim_question sim_question_of(const uint32_t *prompt, size_t count, uint64_t seed,
                             uint32_t max_tokens, uint32_t logprobs);
uint32_t sim_answer_total(const sim_question *q); /* tokens of the whole answer */
uint32_t sim_answer_token(const sim_question *q, uint32_t index);
uint32_t sim_answer_text(const sim_question *q, uint32_t index, char out[SIM_TEXT_MAX]);
float sim_answer_logprob(const sim_question *q, uint32_t index);
uint32_t sim_answer_top_id(const sim_question *q, uint32_t index, uint32_t rank);
float sim_answer_top_logprob(const sim_question *q, uint32_t index, uint32_t rank);

/* What a worker runs on. */
typedef struct sim_device {
    uint32_t slots, step_us;
    uint32_t prefill_us; /* a prompt token */
    uint32_t maker;      /* a bit: sim_parts.c */
} sim_device;

struct engine_thread;
/* Of the engine that is started next. */
void sim_engine_next_device(const sim_device *device);
uint32_t sim_engine_requests(const struct engine_thread *t);
void sim_engine_hang(struct engine_thread *t, uint64_t for_us); /* no step in this time */
void sim_engine_break(struct engine_thread *t);                 /* the device fails */
void sim_engine_fail(struct engine_thread *t, uint64_t for_us); /* so do requests, by INTERNAL */
extern uint32_t sim_engine_failed;                              /* requests, in this run */

/* -- sim_parts.c -------------------------------------------------------------------- */

/* Which workers had a part in an answer. A worker is a bit, its maker: those that say equal
 * numerics have the same, of SIM_NUMERICS; one that says none has its own. (All of them give equal
 * ids all the same, so that these stay checkable.) */
enum { SIM_NUMERICS = 2 };

uint32_t sim_parts_maker(uint32_t worker, uint32_t numerics); /* numerics SIM_NUMERICS: none */
/* What it registers, and back: 0 for none. */
const char *sim_parts_numerics(uint32_t maker);
uint32_t sim_parts_maker_of(text_view numerics);

void sim_parts_begin(void);
/* A router sends the question to a worker. */
void sim_parts_placed(const sim_question *q, uint32_t maker);
/* The worker makes this token. */
void sim_parts_made(const sim_question *q, uint32_t index, uint32_t maker);
/* No worker, nor several of equal numerics, can have made all of the first `total` tokens. */
bool sim_parts_are_mixed(const sim_question *q, uint32_t total);
/* It was never placed but on workers of one known numerics. */
bool sim_parts_are_equal(const sim_question *q);

/* -- sim_router.c -------------------------------------------------------------------- */

typedef struct sim_router sim_router;
struct core;
struct core_options;

/* Clients of tenant 0 have no token; of tenant i they have SIM_TENANT_TOKEN. The stranger is by
 * itself. */
enum { SIM_TENANTS = 3, SIM_TENANT_STRANGER = SIM_TENANTS + 1 };
#define SIM_TENANT_TOKEN   "tenant%u"
#define SIM_STRANGER_TOKEN "stranger"

/* `limits` of tenants 1 to SIM_TENANTS, NULL: none have any. Both outlive it. */
sim_router *sim_router_create(uint32_t number, const struct core_options *options,
                              const tenant_limits *limits);
void sim_router_destroy(sim_router *r); /* kills it when it runs */
void sim_router_start(sim_router *r);
void sim_router_kill(sim_router *r, bool silently);
void sim_router_drain(sim_router *r, uint32_t limit_ms); /* stops by itself */
bool sim_router_is_up(const sim_router *r);
sim_process *sim_router_process(sim_router *r);
struct core *sim_router_core(const sim_router *r); /* NULL while it is down */
void sim_router_verify(const sim_router *r);       /* it is up */
/* It has told this worker process to drain, for an admin, and the process must end some time. */
bool sim_router_drained(const sim_router *r, const id128 *worker_instance);

/* Where clients and workers find router `number`. */
#define SIM_CLIENT_URL "sim://router%u/clients"
#define SIM_WORKER_URL "sim://router%u/workers"

/* -- sim_worker.c -------------------------------------------------------------------- */

typedef struct sim_worker sim_worker;

typedef struct sim_worker_options {
    sim_device device;
    uint32_t lease_ms; /* each start until calm_us ends so much later, at the latest; 0 = never */
    uint32_t drain_ms;
    uint64_t calm_us;
} sim_worker_options;

#define SIM_WORKER_ID "w%u"

sim_worker *sim_worker_create(uint32_t number, uint32_t routers, const sim_worker_options *options);
void sim_worker_destroy(sim_worker *w);
void sim_worker_start(sim_worker *w);
void sim_worker_kill(sim_worker *w, bool silently);
void sim_worker_drain(sim_worker *w, uint32_t limit_ms);
bool sim_worker_is_up(const sim_worker *w);
/* Nothing is held any more: no stream, no request in the engine. */
bool sim_worker_is_empty(const sim_worker *w);
sim_process *sim_worker_process(sim_worker *w);
struct engine_thread *sim_worker_engine(const sim_worker *w); /* NULL while it is down */
const id128 *sim_worker_instance(const sim_worker *w);        /* NULL while it is down */

/* -- sim_client.c -------------------------------------------------------------------- */

/* One thing that somebody wants to know, and how they behave meanwhile. */
typedef struct sim_wish {
    uint64_t at_us; /* when it is asked, from the client's start */
    uint32_t prompt_count;
    uint32_t prompt[40];
    uint64_t seed;
    uint32_t max_tokens, logprobs, window, deadline_ms;
    int32_t priority;
    uint32_t read_us;   /* between two reads; 0: by callback, at once */
    uint32_t read_max;  /* stops reading for good after so many tokens */
    uint32_t cancel_at; /* cancels at this index; UINT32_MAX: never */
    bool close;         /* closes the handle instead of cancelling */
    bool leaves;        /* does not ask again when there is too much to do */
} sim_wish;

/* How the wishes of all clients ended. */
typedef struct sim_ends {
    uint32_t complete, cancelled, deadline, slow, bad, lost, closed, gone;
    uint32_t turned_away; /* RESOURCE_EXHAUSTED, and not asked again */
    uint32_t failed;      /* by the worker */
    uint32_t retries;     /* refused before it was accepted, and asked again */
    uint32_t approximate; /* of those that are complete */
    uint64_t tokens;
    uint64_t continuations;
} sim_ends;

typedef struct sim_client sim_client;

sim_client *sim_client_create(uint32_t number, uint32_t tenant, uint32_t routers,
                              const sim_wish *wishes, uint32_t wish_count, sim_ends *ends);
void sim_client_destroy(sim_client *c);
void sim_client_start(sim_client *c);
void sim_client_kill(sim_client *c, bool silently); /* for good */
void sim_client_leave(sim_client *c);               /* the same, but it closes its library */
bool sim_client_is_up(const sim_client *c);
bool sim_client_is_done(const sim_client *c);  /* every wish has ended */
bool sim_client_is_empty(const sim_client *c); /* and the library knows of none any more */
sim_process *sim_client_process(sim_client *c);
/* `gaggle drain`. SIM_NOBODY is no worker. */
void sim_client_drain(sim_client *c, uint32_t worker, uint32_t limit_ms);
enum { SIM_NOBODY = 99 };
/* Whoever asked this has granted tokens below this index; UINT32_MAX: nobody asks it now. */
uint32_t sim_client_credit_end(const sim_client *c, const sim_question *q);
void sim_client_dump(const sim_client *c);

/* The request asked for last, by any client. */
extern id128 sim_last_request;

/* -- sim_stranger.c ------------------------------------------------------------------ */

typedef struct sim_stranger sim_stranger;

sim_stranger *sim_stranger_create(uint32_t router);
void sim_stranger_leave(sim_stranger *s);
void sim_stranger_destroy(sim_stranger *s);

/* -- sim_run.c ----------------------------------------------------------------------- */

/* What may happen in this run. */
typedef struct sim_rules {
    bool lost;           /* an answer ends with UNAVAILABLE: its workers were lost too often */
    bool continued;      /* another worker goes on with an answer */
    bool early_deadline; /* clocks disagree */
    bool adopted;        /* by a router that has not its ids, and ends a slow reader by an Error */
    bool handed_over;    /* workers end, and only so that nothing they run is lost */
    bool punctual;       /* nothing is in the way of ending an answer at its deadline */
} sim_rules;

extern sim_rules sim_allowed;

typedef struct sim_totals {
    uint64_t runs, cuts, kills, drains, freezes, leaps, faults, events, virtual_us;
    sim_ends ends;
    size_t peak_bytes;
} sim_totals;

/* sim_client_credit_end() of whichever client it is. */
uint32_t sim_credit_end(const sim_question *q);

/* Run one cluster. False: it failed, and `world.failure` says how. */
bool sim_run(uint64_t seed, bool verbose, sim_totals *totals);

/* -- sim_memory.c ------------------------------------------------------------------- */

size_t sim_memory_live(void);
size_t sim_memory_peak(void);
void sim_memory_reset_peak(void);

#endif
