/* envelope: the messages of gaggle.proto as plain, validated structs.
 *
 * The only door to generated protobuf code. gaggle.proto says what each message and field means;
 * this header says how it looks in memory and what has been checked once decode returns ST_OK:
 *
 *   - exactly one kind is set, and every field that its kind requires is present;
 *   - columns that belong together have equal length; text lengths sum to the text;
 *   - every count is within limits.h; ids have 16 bytes; enums are known values;
 *   - strings are valid UTF-8 without NUL and at most LIMIT_NAME_BYTES unless said otherwise;
 *   - floats are finite (a logprob may be NaN: none asked for).
 *
 * What needs knowledge of a model (vocabulary, context, sampling ranges that a person should read
 * about) is checked by its user: sampling.h, router/queue.h.
 *
 * Ownership: a decoded envelope points into the frame it came from and into the arena; it is valid
 * until either is gone. For encoding, all pointers belong to the caller and are only read.
 * Strings are `text_view`: not NUL-terminated. No state: any thread. */
#ifndef GAGGLE_PROTO_ENVELOPE_H
#define GAGGLE_PROTO_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"
#include "common/mem.h"
#include "common/status.h"

/* Bytes that belong to somebody else; never NUL-terminated by promise. {NULL, 0} is empty. */
typedef struct text_view {
    const char *data;
    size_t size;
} text_view;

text_view text_of(const char *nul_terminated); /* NULL gives the empty view */
bool text_equal(text_view a, text_view b);
char *text_dup(text_view text); /* NUL-terminated copy; mem_free() it */

/* How many bytes at the start of `text` are valid UTF-8 without NUL; text.size when all are. */
size_t text_valid_size(text_view text);

/* Bytes of the UTF-8 character at offset `at`; 0 where none is (invalid, NUL, cut off, end). */
size_t text_character_size(text_view text, size_t at);

/* A request, process or router: 16 random bytes. */
typedef struct id128 {
    uint8_t bytes[LIMIT_ID_BYTES];
} id128;

bool id128_equal(const id128 *a, const id128 *b);
bool id128_is_zero(const id128 *id);
/* 32 lower-case hex digits and a NUL. Returns `out`. */
char *id128_hex(const id128 *id, char out[33]);
/* Random bytes from the kernel. */
id128 id128_random(void);

typedef enum role { ROLE_CLIENT = 1, ROLE_WORKER = 2 } role;

typedef enum finish_reason {
    FINISH_STOP = 1,
    FINISH_LENGTH = 2,
    FINISH_CANCELLED = 3,
    FINISH_DEADLINE = 4,
    FINISH_SLOW_CONSUMER = 5,
    FINISH_FAILED = 6,
} finish_reason;

/* "stop", "length", "cancelled", "deadline", "slow_consumer", "failed". */
const char *finish_reason_name(finish_reason reason);

typedef enum envelope_kind {
    ENVELOPE_NONE = 0,
    ENVELOPE_HELLO = 10,
    ENVELOPE_WELCOME = 11,
    ENVELOPE_REGISTER = 12,
    ENVELOPE_ADOPT = 13,
    ENVELOPE_LOAD = 14,
    ENVELOPE_SUBMIT = 15,
    ENVELOPE_ACCEPTED = 16,
    ENVELOPE_TOKENS = 17,
    ENVELOPE_FINISH = 18,
    ENVELOPE_ACK = 19,
    ENVELOPE_CANCEL = 20,
    ENVELOPE_RESUME = 21,
    ENVELOPE_PING = 22,
    ENVELOPE_PONG = 23,
    ENVELOPE_DRAIN = 24,
    ENVELOPE_ERROR = 25,
    ENVELOPE_BYE = 26,
    ENVELOPE_QUERY = 27,
    ENVELOPE_REPORT = 28,
} envelope_kind;

const char *envelope_kind_name(envelope_kind kind); /* "Hello", ... */

typedef struct msg_hello {
    uint32_t version;
    role role;
    id128 instance;
    text_view token; /* at most LIMIT_TOKEN_BYTES */
    uint32_t ping_ms, dead_ms;
    uint32_t max_message_bytes; /* 0 = not said */
    text_view build, name;
} msg_hello;

typedef struct msg_welcome {
    uint32_t version;
    id128 router_instance;
    uint32_t ping_ms, dead_ms;
    uint32_t max_message_bytes;
    uint32_t window_default;
    uint32_t streams_max;
    text_view build;
} msg_welcome;

typedef struct msg_model {
    text_view name;
    text_view revision;
    uint32_t context_max;
} msg_model;

typedef struct msg_live {
    id128 request_id;
    uint32_t base, next; /* base: the wire's `oldest` */
    bool finished;
    text_view model;
    bool yours;
    uint32_t owner;
} msg_live;

typedef struct msg_register {
    text_view worker_id, device;
    const msg_model *models;
    size_t model_count; /* 1..LIMIT_MODELS_PER_WORKER */
    uint32_t slots, kv_blocks, kv_block_tokens;
    const msg_live *live;
    size_t live_count; /* at most LIMIT_STREAMS_PER_LINK */
    uint32_t lease_ms; /* 0 = no end is known */
    text_view numerics;
} msg_register;

#define NEXT_WANTED_HOLD UINT32_MAX

typedef struct msg_adopt {
    const id128 *request_id; /* [count] */
    const uint32_t *stream;
    const uint32_t *next_wanted;
    size_t count;
    const id128 *drop; /* [drop_count] */
    size_t drop_count;
} msg_adopt;

typedef struct msg_load {
    uint32_t running, waiting, kv_blocks_free, step_us;
    uint64_t prompt_tokens, cached_tokens, output_tokens, preemptions;
    uint32_t prefill_rate, decode_rate, cache_age_ms; /* 0 = not known */
} msg_load;

typedef struct msg_chat_message {
    text_view role;
    text_view content; /* up to the message limit */
} msg_chat_message;

/* Which sampling values were given; the others take the model's or the neutral default. */
typedef struct msg_sampling {
    bool has_temperature, has_top_k, has_top_p, has_min_p;
    bool has_repetition_penalty, has_presence_penalty, has_frequency_penalty, has_seed;
    float temperature;
    uint32_t top_k;
    float top_p, min_p;
    float repetition_penalty, presence_penalty, frequency_penalty;
    uint64_t seed;
    const uint32_t *bias_ids; /* [bias_count], at most LIMIT_LOGIT_BIASES */
    const float *bias;
    size_t bias_count;
} msg_sampling;

#define LOGPROBS_NONE UINT32_MAX

typedef struct msg_submit {
    uint32_t stream; /* not 0 */
    id128 request_id;
    text_view model;
    bool has_text; /* exactly one of text, messages, ids */
    text_view text;
    bool raw;
    const msg_chat_message *messages;
    size_t message_count;
    const uint32_t *ids;
    size_t id_count;
    msg_sampling sampling;
    const text_view *stop; /* each 1..LIMIT_STOP_STRING_BYTES */
    size_t stop_count;
    const uint32_t *stop_ids;
    size_t stop_id_count;
    uint32_t max_tokens; /* 0 = what the context leaves; an explicit 0 on the wire is refused */
    uint32_t min_tokens;
    bool ignore_eos;
    uint32_t logprobs;    /* LOGPROBS_NONE, or 0..LIMIT_LOGPROBS_TOP */
    uint32_t window;      /* 0 = the default */
    uint32_t deadline_ms; /* 0 = none */
    int32_t priority;
    const uint32_t *prior_ids;
    size_t prior_count;
    uint32_t prior_unacked; /* at most prior_count */
    uint32_t continuations;
    bool approximate;
    uint32_t owner;
    text_view cache_salt;  /* any bytes, at most LIMIT_CACHE_SALT_BYTES; empty = none */
    text_view traceparent; /* at most LIMIT_NAME_BYTES */
} msg_submit;

typedef struct msg_accepted {
    uint32_t stream;
    bool resumed;
} msg_accepted;

typedef struct msg_tokens {
    const uint32_t *stream; /* [groups] */
    const uint32_t *first_index;
    const uint32_t *count; /* each at least 1; sums to tokens */
    size_t groups;
    const uint32_t *token;    /* [tokens] */
    const uint32_t *text_len; /* [tokens], <= LIMIT_TOKENS_TEXT_LEN; sums to text_size */
    size_t tokens;
    const uint8_t *text; /* any bytes: the worker's promise of whole characters is not checked */
    size_t text_size;
    const float *logprob;      /* [tokens] or NULL */
    const uint32_t *top_count; /* [tokens] or NULL; each at most LIMIT_LOGPROBS_TOP */
    const uint32_t *top_id;    /* [top_total] */
    const float *top_logprob;
    size_t top_total; /* sum of top_count */
    uint64_t emitted_us;
} msg_tokens;

typedef struct msg_error {
    uint32_t stream; /* 0 = the link */
    status code;     /* never ST_OK; an unknown number decodes as ST_UNKNOWN */
    text_view text;  /* up to ERROR_TEXT_SIZE - 1 */
    uint32_t retry_after_ms;
    bool fatal;
} msg_error;

typedef struct msg_finish {
    uint32_t stream;
    uint32_t total;
    finish_reason reason;
    uint32_t crc;
    uint32_t prompt_tokens, cached_tokens;
    text_view stop_text;
    bool has_stop_id;
    uint32_t stop_id;
    uint32_t queue_us, prefill_us, decode_us;
    msg_error error; /* with FINISH_FAILED; code ST_OK otherwise */
    uint32_t continuations;
    bool approximate;
} msg_finish;

typedef struct msg_ack {
    const uint32_t *stream; /* [count] */
    const uint32_t *next_wanted;
    size_t count;
} msg_ack;

typedef struct msg_cancel {
    const uint32_t *stream;
    size_t count;
    text_view reason;
    finish_reason finish; /* FINISH_CANCELLED (0 encodes as it), _DEADLINE or _SLOW_CONSUMER */
    bool forget;
    uint64_t t; /* 0 = no answer is wanted */
} msg_cancel;

typedef struct msg_resume {
    const id128 *request_id; /* [count] */
    const uint32_t *stream;
    const uint32_t *next_wanted;
    size_t count;
} msg_resume;

typedef struct msg_ping {
    uint64_t t;
    bool measure;
} msg_ping;

typedef struct msg_pong {
    uint64_t t;
} msg_pong;

typedef struct msg_drain {
    uint32_t deadline_ms;
    text_view reason;
    text_view worker_id;
} msg_drain;

typedef struct msg_bye {
    text_view reason;
} msg_bye;

typedef struct msg_query {
    uint32_t id;
} msg_query;

typedef struct msg_worker_report {
    text_view worker_id, device;
    const msg_model *models;
    size_t model_count;
    uint32_t slots, kv_blocks;
    msg_load load;
    bool connected, draining;
    uint32_t streams;
    uint64_t outstanding_tokens;
    uint32_t lease_left_ms, rtt_us; /* 0 = not known */
    uint32_t breaker;               /* 0..2 */
} msg_worker_report;

typedef struct msg_report {
    uint32_t id;
    text_view build;
    uint64_t uptime_ms;
    const msg_worker_report *workers;
    size_t worker_count;
    uint32_t clients, queued, running;
    uint64_t requests_total, tokens_total;
    bool draining;
    uint32_t queued_interactive, queued_standard, queued_batch;
    uint64_t first_tokens, first_token_us;
} msg_report;

typedef struct envelope {
    uint32_t link;
    uint32_t n;
    envelope_kind kind;
    union {
        msg_hello hello;
        msg_welcome welcome;
        msg_register reg;
        msg_adopt adopt;
        msg_load load;
        msg_submit submit;
        msg_accepted accepted;
        msg_tokens tokens;
        msg_finish finish;
        msg_ack ack;
        msg_cancel cancel;
        msg_resume resume;
        msg_ping ping;
        msg_pong pong;
        msg_drain drain;
        msg_error error;
        msg_bye bye;
        msg_query query;
        msg_report report;
    };
} envelope;

/* Decode one frame.
 *
 * bytes     the frame; must outlive `out`
 * scratch   holds what is not in the frame; reset by the caller, once per frame
 * out       written only on ST_OK
 * ST_INVALID_ARGUMENT   malformed; `err` names message, field, limit and value. The link it came
 *                       from cannot be trusted any more, except for a Submit: see below.
 *
 * A Submit whose stream and request id are sound but whose other fields break a limit is the
 * user's mistake, not the link's: it gives ST_OUT_OF_RANGE with out->submit.stream, .request_id,
 * out->link, out->n and out->kind set and nothing else, so that the stream alone can be refused.
 *
 * Cost: about 10 ns a token for Tokens; allocates only from `scratch`. */
MUST_USE status envelope_decode(const uint8_t *bytes, size_t size, arena *scratch, envelope *out,
                                error *err);

/* Does `e` obey the rules above? For whoever fills an envelope from what a person typed.
 * ST_INVALID_ARGUMENT: `err` names message, field, limit and value. `link` and `n` are not read. */
MUST_USE status envelope_check(const envelope *e, error *err);

/* Append the encoded frame body to `out` (no length prefix). The envelope obeys the rules above;
 * breaking one is a bug (CHECK), except for a body over LIMIT_MESSAGE_BYTES, which gives
 * ST_RESOURCE_EXHAUSTED with nothing appended. An error's sentence is repaired instead: it is cut
 * to ERROR_TEXT_SIZE - 1 bytes and what is not UTF-8 in it becomes '?'.
 * `scratch` is used and left for the caller to reset. */
MUST_USE status envelope_encode(const envelope *e, arena *scratch, buffer *out);

/* CRC-32C (Castagnoli) over ids as little-endian 32-bit numbers, continued from `crc`
 * (0 at the start). */
uint32_t ids_crc32c(uint32_t crc, const uint32_t *ids, size_t count);

/* The same without the processor's instruction: the fallback, and the test's reference. */
uint32_t ids_crc32c_table(uint32_t crc, const uint32_t *ids, size_t count);

#endif
