/* gaggle.h: libgaggle, the client side of gaggle.
 *
 *     gaggle_error err;
 *     gaggle_client *client;
 *     if (gaggle_client_create(&client, &(gaggle_options){.token = "..."}, &err) != GAGGLE_OK) ...
 *
 *     gaggle_stream *stream;
 *     gaggle_request request = {.text = "Geese fly in a V because", .max_tokens = 100};
 *     if (gaggle_submit(&stream, client, &request, &err) != GAGGLE_OK) ...
 *     gaggle_event event;
 *     while (gaggle_stream_next(stream, -1, &event) == GAGGLE_OK) {
 *         if (event.type == GAGGLE_TOKENS) fwrite(event.text, 1, event.text_size, stdout);
 *     }                                    // the last event is GAGGLE_FINISH
 *     gaggle_stream_close(stream);
 *     gaggle_client_destroy(client);
 *
 * The promise: every token of an answer reaches you exactly once and in order, and the end of the
 * answer exactly once, whatever happens to connections, the router or the worker. Links that break
 * are dialled again, answers under way are resumed, and where a router has forgotten one it is
 * submitted again behind the tokens you already have (its seed is fixed by the library at the first
 * submit, so that it is the same answer). Only after `offline_ms` without a router, or without a
 * worker that could go on, do streams end with an error.
 *
 * One client is one connection; all its streams share it. Everything is bounded: an unread stream
 * holds at most two windows of tokens, then its source waits.
 *
 * Threads. Every function may be called from any thread, at the same time, and does not block,
 * except gaggle_stream_next(), gaggle_query_wait() and gaggle_client_destroy(), which say so.
 *   - Without options.uv_loop the client runs a thread of its own, on which callbacks are called.
 *   - With options.uv_loop (a uv_loop_t *) there is no thread: everything happens, and callbacks
 *     are called, from uv_run() of that loop. gaggle_client_create() must be called on the loop's
 *     thread, the loop must run until gaggle_client_close()'s callback, and the blocking functions
 *     must not be called on its thread with a time to wait (GAGGLE_FAILED_PRECONDITION).
 * A callback may call every function that does not block.
 *
 * Strings are UTF-8. Zero in every option and request field means "the default". */
#ifndef GAGGLE_H
#define GAGGLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* gRPC's canonical numbers. */
typedef enum gaggle_code {
    GAGGLE_OK = 0,
    GAGGLE_CANCELLED = 1,
    GAGGLE_UNKNOWN = 2,
    GAGGLE_INVALID_ARGUMENT = 3,
    GAGGLE_DEADLINE_EXCEEDED = 4,
    GAGGLE_NOT_FOUND = 5,
    GAGGLE_ALREADY_EXISTS = 6,
    GAGGLE_PERMISSION_DENIED = 7,
    GAGGLE_RESOURCE_EXHAUSTED = 8,
    GAGGLE_FAILED_PRECONDITION = 9,
    GAGGLE_ABORTED = 10,
    GAGGLE_OUT_OF_RANGE = 11,
    GAGGLE_UNIMPLEMENTED = 12,
    GAGGLE_INTERNAL = 13,
    GAGGLE_UNAVAILABLE = 14,
    GAGGLE_DATA_LOSS = 15,
    GAGGLE_UNAUTHENTICATED = 16
} gaggle_code;

/* "OK", "CANCELLED", ...; never NULL. */
const char *gaggle_code_name(gaggle_code code);

/* "0.1.0" */
const char *gaggle_version(void);

#define GAGGLE_ERROR_TEXT_SIZE 512

/* A refusal for a program (code), for a person (text) and for a clock. */
typedef struct gaggle_error {
    gaggle_code code;
    uint32_t retry_after_ms; /* waiting so long may help; 0 = it does not */
    char text[GAGGLE_ERROR_TEXT_SIZE];
} gaggle_error;

/* -- client ------------------------------------------------------------------------- */

typedef struct gaggle_client gaggle_client;
typedef struct gaggle_stream gaggle_stream;

#define GAGGLE_DEFAULT_URL "tcp://127.0.0.1:7400"

typedef struct gaggle_options {
    const char *const *urls; /* routers, tried in turn: tcp, tls+tcp, ws, wss, ipc */
    size_t url_count;        /* 0 = GAGGLE_DEFAULT_URL alone */
    const char *token;       /* bearer token */
    const char *name;        /* what people call this client, at most 256 bytes */
    const char *ca_file;     /* PEM files for tls+tcp and wss */
    const char *cert_file;
    const char *key_file;
    const char *server_name; /* to check instead of the URL's host */
    bool insecure;           /* accept any certificate */
    uint32_t offline_ms; /* streams end with UNAVAILABLE after so long without a router; 30000 */
    void *uv_loop;       /* see above */

    /* The link came up (`why` is NULL) or went (`why` says how; trying goes on, unless the router
     * refused us for good, which ends every stream). May be NULL. */
    void (*on_link)(void *ctx, bool up, const gaggle_error *why);
    void *ctx;
} gaggle_options;

/* Start a client. All options are copied. It connects in the background: a router that is not
 * there yet is no error.
 *
 * GAGGLE_INVALID_ARGUMENT   a URL, name, token or PEM file is bad; `err` says which
 * GAGGLE_RESOURCE_EXHAUSTED no thread or file descriptors
 * `err` may be NULL everywhere in this header. */
gaggle_code gaggle_client_create(gaggle_client **out, const gaggle_options *options,
                                 gaggle_error *err);

/* End a client that has a thread of its own: running streams are cancelled and finished, streams
 * with a callback get their GAGGLE_FINISH, streams not closed are freed. Waits for the thread, at
 * most about a second. Not from a callback. NULL is fine. */
void gaggle_client_destroy(gaggle_client *client);

/* The same for a client on the caller's loop: begins it; `on_closed` (may be NULL) follows from the
 * loop, and the client is gone when it is called. */
void gaggle_client_close(gaggle_client *client, void (*on_closed)(void *ctx), void *ctx);

/* -- requests ----------------------------------------------------------------------- */

typedef struct gaggle_message {
    const char *role; /* "system", "user", "assistant", ... */
    const char *content;
} gaggle_message;

/* What is not set takes the model's own default, else the neutral value. */
typedef struct gaggle_sampling {
    bool has_temperature;        /* 0 = greedy; 0..100 */
    bool has_top_k;              /* 0 = off */
    bool has_top_p;              /* above 0, to 1 */
    bool has_min_p;              /* 0..1 */
    bool has_repetition_penalty; /* above 0, to 100; 1 = off */
    bool has_presence_penalty;   /* -2..2 */
    bool has_frequency_penalty;  /* -2..2 */
    bool has_seed;
    float temperature;
    uint32_t top_k;
    float top_p;
    float min_p;
    float repetition_penalty;
    float presence_penalty;
    float frequency_penalty;
    uint64_t seed;
    const uint32_t *bias_ids; /* [bias_count], at most 1024 */
    const float *bias;        /* -100..100 each */
    size_t bias_count;
} gaggle_sampling;

typedef enum gaggle_event_type {
    GAGGLE_TOKENS = 1, /* the next tokens of the answer */
    GAGGLE_FINISH = 2  /* the end, exactly once, as the last event */
} gaggle_event_type;

typedef enum gaggle_finish_reason {
    GAGGLE_FINISH_STOP = 1,   /* end token, stop id or stop text */
    GAGGLE_FINISH_LENGTH = 2, /* max_tokens or the context */
    GAGGLE_FINISH_CANCELLED = 3,
    GAGGLE_FINISH_DEADLINE = 4,
    GAGGLE_FINISH_SLOW_CONSUMER = 5, /* the router gave up waiting for us to read */
    GAGGLE_FINISH_FAILED = 6         /* refused or broken; `error` says why */
} gaggle_finish_reason;

/* "stop", "length", "cancelled", "deadline", "slow_consumer", "failed"; never NULL. */
const char *gaggle_finish_reason_name(gaggle_finish_reason reason);

typedef struct gaggle_event {
    gaggle_event_type type;

    /* GAGGLE_TOKENS */
    uint32_t first_index; /* of the first token here in the answer */
    uint32_t count;       /* at least 1 */
    const uint32_t *ids;  /* [count] */
    const char *text;     /* what they add to the answer; whole characters, no NUL at the end */
    size_t text_size;
    const uint32_t *text_len;  /* [count] bytes of `text` that belong to each token */
    const float *logprobs;     /* [count], or NULL when not asked for; NaN = not given */
    const uint32_t *top_count; /* [count] alternatives of each token, or NULL */
    const uint32_t *top_ids;   /* [sum of top_count] */
    const float *top_logprobs;

    /* GAGGLE_FINISH */
    gaggle_finish_reason reason;
    const gaggle_error *error; /* with FAILED, else NULL */
    uint32_t total_tokens;     /* of the answer */
    uint32_t prompt_tokens;
    uint32_t cached_tokens; /* of the prompt, found in the prefix cache */
    const char *stop_text;  /* the stop text that matched, else NULL */
    bool has_stop_id;
    uint32_t stop_id;  /* the id that ended it */
    uint32_t queue_us; /* times at the worker: waiting, prompt, answer */
    uint32_t prefill_us;
    uint32_t decode_us;
    uint32_t continuations; /* how often another worker went on with the answer */
    bool approximate;       /* and may not have computed the same bits */
} gaggle_event;

#define GAGGLE_LOGPROBS(n) ((n) + 1) /* for gaggle_request.logprobs */

typedef struct gaggle_request {
    const char *model; /* NULL = the only model there is */

    /* The prompt: exactly one of these. */
    const char *text;
    const gaggle_message *messages; /* rendered by the model's chat template; at most 4096 */
    size_t message_count;
    const uint32_t *ids;
    size_t id_count;

    bool raw; /* `text` is tokenized without adding special tokens */
    gaggle_sampling sampling;
    const char *const *stop; /* text that ends the answer; at most 16 of 1..256 bytes */
    size_t stop_count;
    const uint32_t *stop_ids; /* at most 64 */
    size_t stop_id_count;
    uint32_t max_tokens; /* 0 = what the context leaves */
    uint32_t min_tokens; /* no end before so many */
    bool ignore_eos;
    uint32_t
        logprobs;    /* 0 = none; GAGGLE_LOGPROBS(n) = of the token and the n likeliest, n <= 20 */
    uint32_t window; /* tokens the source may be ahead of the reader; 32..4096; 0 = 256 */
    uint32_t deadline_ms;   /* from now on, reconnects included; at most a day; 0 = none */
    int32_t priority;       /* higher first */
    const char *cache_salt; /* at most 256 bytes: its KV is reused only for requests of the same
                               tenant and salt; NULL = all of the tenant's that have none */

    /* NULL: read with gaggle_stream_next(). Else called for every event; the event is valid during
     * the call and counts as read when it returns. */
    void (*on_event)(void *ctx, gaggle_stream *stream, const gaggle_event *event);
    void *ctx;
} gaggle_request;

/* Ask. Everything the request points to is copied.
 *
 * out   may be written to by the call only; with on_event, events may arrive on the client's
 *       thread before it returns
 * GAGGLE_INVALID_ARGUMENT     a field breaks a limit above; `err` names it
 * GAGGLE_RESOURCE_EXHAUSTED   4096 streams are open, or the request is larger than a message (8
 * MiB) GAGGLE_FAILED_PRECONDITION  the client is closing On failure there is no stream. Refusals of
 * the router come as GAGGLE_FINISH with FAILED. */
gaggle_code gaggle_submit(gaggle_stream **out, gaggle_client *client, const gaggle_request *request,
                          gaggle_error *err);

/* Wait for the next event, at most `timeout_ms` (0 = look only, -1 = for ever).
 *
 * GAGGLE_OK                   *event is valid until the next call for this stream or its close
 * GAGGLE_DEADLINE_EXCEEDED    nothing came in time
 * GAGGLE_NOT_FOUND            GAGGLE_FINISH was handed out before: there is nothing left
 * GAGGLE_FAILED_PRECONDITION  the stream has a callback, or this would block the client's loop
 * Reading is what lets the source go on. One reader a stream. */
gaggle_code gaggle_stream_next(gaggle_stream *stream, int timeout_ms, gaggle_event *event);

/* Stop the answer. Tokens already made still arrive, then GAGGLE_FINISH with CANCELLED (or with
 * another reason, when it ended first). Without a link it ends at once. Idempotent. */
void gaggle_cancel(gaggle_stream *stream);

/* Give the stream back; cancels it when it still runs, without further events. The pointer is dead
 * after the call, and no callback for it begins any more; one that runs on the client's thread at
 * this moment may still be returning. NULL is fine. */
void gaggle_stream_close(gaggle_stream *stream);

/* The request's id as 32 hex digits and a NUL: what logs of router and worker call it. */
void gaggle_stream_id(const gaggle_stream *stream, char out[33]);

/* The seed in use, chosen by the library when the request had none. */
uint64_t gaggle_stream_seed(const gaggle_stream *stream);

/* -- the fleet ---------------------------------------------------------------------- */

typedef struct gaggle_model_report {
    const char *name;
    const char *revision;
    uint32_t context_max;
} gaggle_model_report;

typedef struct gaggle_worker_report {
    const char *worker_id;
    const char *device;
    const gaggle_model_report *models;
    size_t model_count;
    bool connected;
    bool draining;
    uint32_t slots; /* sequences it runs at once */
    uint32_t running;
    uint32_t waiting;
    uint32_t kv_blocks;
    uint32_t kv_blocks_free;
    uint32_t step_us; /* duration of a recent step */
    uint32_t streams; /* placed there by this router */
    uint64_t prompt_tokens;
    uint64_t cached_tokens;
    uint64_t output_tokens;
    uint64_t preemptions;
    uint32_t prefill_rate;  /* prompt tokens a second while it reads prompts; 0 = not known */
    uint32_t decode_rate;   /* tokens a second of all its answers together; 0 = not known */
    uint32_t lease_left_ms; /* until it will stop; 0 = no such end is known */
    uint32_t rtt_us;        /* router to worker and back; 0 = not known */
    uint32_t breaker;       /* after failures: 0 = gets requests, 1 = none, 2 = one, on trial */
    uint64_t outstanding_tokens; /* that it probably has to read and write for `streams` */
} gaggle_worker_report;

typedef struct gaggle_report {
    const char *router_build;
    uint64_t uptime_ms;
    bool draining;
    uint32_t clients;
    uint32_t queued;
    uint32_t running;
    uint64_t requests_total;
    uint64_t tokens_total;
    const gaggle_worker_report *workers;
    size_t worker_count;
    uint32_t queued_interactive; /* of `queued` */
    uint32_t queued_standard;
    uint32_t queued_batch;
    uint64_t first_tokens;   /* answers that began since the router started */
    uint64_t first_token_us; /* from asking to the first token, summed over them */
} gaggle_report;

/* Ask the router how it is. `on_report` is called once, with a report that is valid during the
 * call, or with NULL and an error (UNAVAILABLE: no link for `timeout_ms` or the link broke).
 * GAGGLE_RESOURCE_EXHAUSTED: 64 queries are under way; on_report will not be called. */
gaggle_code gaggle_query(gaggle_client *client, uint32_t timeout_ms,
                         void (*on_report)(void *ctx, const gaggle_report *report,
                                           const gaggle_error *err),
                         void *ctx, gaggle_error *err);

/* The same, waiting. gaggle_report_free() the result. */
gaggle_code gaggle_query_wait(gaggle_report **out, gaggle_client *client, uint32_t timeout_ms,
                              gaggle_error *err);
void gaggle_report_free(gaggle_report *report);

/* Let a worker end: it gets nothing new, and stops when what it runs has ended or, after `limit_ms`
 * (0 = never), goes on elsewhere. *out is the router's report afterwards. GAGGLE_NOT_FOUND: the
 * router knows no such worker; GAGGLE_PERMISSION_DENIED: only an admin's key may. */
gaggle_code gaggle_drain_wait(gaggle_report **out, gaggle_client *client, const char *worker_id,
                              uint32_t limit_ms, uint32_t timeout_ms, gaggle_error *err);

#ifdef __cplusplus
}
#endif

#endif
