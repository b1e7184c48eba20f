/* limits: every bound in the system, and how they relate.
 *
 * A number that more than one file must agree on stands here with its unit in its name. Full is
 * an ordinary answer: whoever hits a limit says which one, its value and what was found. */
#ifndef GAGGLE_COMMON_LIMITS_H
#define GAGGLE_COMMON_LIMITS_H

#include <stdint.h>

#define LIMIT_KIB (1024u)
#define LIMIT_MIB (1024u * 1024u)

/* -- wire ---------------------------------------------------------------------- */

#define LIMIT_PROTOCOL_VERSION       1u
#define LIMIT_MESSAGE_BYTES          (8u * LIMIT_MIB)  /* one frame, both directions */
#define LIMIT_HELLO_BYTES            (16u * LIMIT_KIB) /* one frame before Welcome */
#define LIMIT_TOKENS_MESSAGE_BYTES   (256u * LIMIT_KIB)
#define LIMIT_TOKENS_MESSAGE_ENTRIES 8192u /* (stream, first index, count) groups and tokens */
#define LIMIT_TOKENS_TEXT_LEN        (16u * LIMIT_KIB) /* one's own and what was held back */
#define LIMIT_LINK_READ_BYTES        (64u * LIMIT_KIB)
#define LIMIT_UNAUTHENTICATED_LINKS  256u
#define LIMIT_ACCEPTS_POSTED         64u
#define LIMIT_CLIENT_BACKLOG_BYTES   (4u * LIMIT_MESSAGE_BYTES) /* a client that reads nothing */
#define LIMIT_NAME_BYTES             256u  /* names, ids and labels that people choose */
#define LIMIT_TOKEN_BYTES            4096u /* a bearer token */
#define LIMIT_ID_BYTES               16u   /* request, instance and session ids */

/* -- time ---------------------------------------------------------------------- */

/* Links, sessions and the router look at their deadlines so often, all of them in one wakeup of the
 * loop: it costs more (about 40 us) than what they do in it. */
#define LIMIT_TICK_MS         125u
#define LIMIT_PING_MS_DEFAULT 250u
#define LIMIT_DEAD_MS_DEFAULT 1000u
#define LIMIT_MEASURE_MS      5000u /* between two Pings that ask for the round trip */
/* On ws nothing of a message shows before all of it is there: the largest at 13 Mbit/s. */
#define LIMIT_DEAD_MS_WS_DEFAULT      5000u
#define LIMIT_PING_MS_MIN             50u
#define LIMIT_DEAD_MS_MAX             60000u
#define LIMIT_HELLO_TIMEOUT_MS        10000u
#define LIMIT_TX_STALL_MS             30000u
#define LIMIT_LINGER_MS               500u /* for a last word (Error, Bye) to reach the peer */
#define LIMIT_REDIAL_MS_FIRST         50u
#define LIMIT_REDIAL_MS_MAX           2000u
#define LIMIT_REDIAL_MS_ASKED         60000u /* of a peer's retry_after_ms */
#define LIMIT_CLIENT_GRACE_MS_DEFAULT 30000u
#define LIMIT_WORKER_GRACE_MS_DEFAULT 5000u
#define LIMIT_STALL_MS_DEFAULT        30000u
#define LIMIT_RESUME_UNKNOWN_MS       2000u
#define LIMIT_STANDSTILL_MS           1000u /* longer between two ticks: the router itself stood still */
#define LIMIT_HANDOVER_MS             3000u /* before a worker's end, what it runs goes elsewhere */
#define LIMIT_ACK_INTERVAL_MS         100u
#define LIMIT_LOAD_INTERVAL_MS        250u
#define LIMIT_ORPHAN_MS               60000u /* a worker keeps streams so long without a router */
#define LIMIT_MOVED_RETRY_MS          250u /* for a client whose answer another router has taken */
#define LIMIT_RESOLVE_INTERVAL_MS     30000u /* a worker asks what its routers' names stand for */

/* -- one request ---------------------------------------------------------------- */

#define LIMIT_WINDOW_TOKENS_MIN     32u
#define LIMIT_WINDOW_TOKENS_DEFAULT 256u
#define LIMIT_WINDOW_TOKENS_MAX     4096u
#define LIMIT_CONTEXT_TOKENS        (1u << 20)
#define LIMIT_STOP_STRINGS          16u
#define LIMIT_STOP_STRING_BYTES     256u
#define LIMIT_STOP_IDS              64u
#define LIMIT_LOGIT_BIASES          1024u
#define LIMIT_LOGPROBS_TOP          20u
#define LIMIT_MESSAGES              4096u /* of one chat */
#define LIMIT_CACHE_SALT_BYTES      256u
#define LIMIT_DEADLINE_MS           (24u * 3600u * 1000u)

/* -- router --------------------------------------------------------------------- */

#define LIMIT_LINKS              8192u
#define LIMIT_WORKERS            1024u
#define LIMIT_ROUTERS_PER_WORKER 16u /* addresses that one worker dials */
#define LIMIT_MODELS_PER_WORKER  16u
#define LIMIT_STREAMS_PER_LINK   4096u
#define LIMIT_PREFIX_ENTRIES     262144u /* chunk hashes that placement remembers */
#define LIMIT_PREFIX_CHUNKS      1024u   /* of one prompt */
#define LIMIT_REQUESTS           65536u  /* known to one router: queued, running or in grace */
#define LIMIT_CONTINUATIONS      8u      /* default of --max-continuations */
#define LIMIT_QUEUE_REQUESTS     4096u   /* default of --max-queue */
#define LIMIT_QUEUE_TOKENS       (LIMIT_QUEUE_REQUESTS * 32768u) /* default of --max-queue-tokens */
#define LIMIT_QUEUE_DISPLACED    16u   /* that one more urgent arrival may drive out */
#define LIMIT_QUEUE_IDLE_FLOWS   4096u /* tenants with nothing here whose share is remembered */
#define LIMIT_SUBMIT_BYTES_QUEUE (256u * LIMIT_MIB)
#define LIMIT_KEPT_BYTES         (1024u * LIMIT_MIB) /* default of --max-kept-bytes */
#define LIMIT_HTTP_CONNECTIONS   64u
#define LIMIT_HTTP_HEAD_BYTES    (8u * LIMIT_KIB) /* of one request */
#define LIMIT_HTTP_MS            10000u           /* for a request to come, for an answer to go */
#define LIMIT_HEALTH_NAME_BYTES  100u             /* what fits a Unix socket's address */
#define LIMIT_HEALTH_LINE_BYTES  256u

/* -- keys ------------------------------------------------------------------------ */

#define LIMIT_KEYS_FILE_BYTES       (8u * LIMIT_MIB)
#define LIMIT_KEYS                  16384u
#define LIMIT_TENANTS               4096u                 /* that one router ever heard of */
#define LIMIT_KEY_NAME_BYTES        64u                   /* a key's id, a tenant's name */
#define LIMIT_TENANT_NUMBERS        (LIMIT_TENANTS + 64u) /* and those of plain tokens */
#define LIMIT_TENANT_WEIGHT         10000u
#define LIMIT_TENANT_WEIGHT_DEFAULT 100u

/* -- worker --------------------------------------------------------------------- */

#define LIMIT_KV_BLOCK_TOKENS  16u
#define LIMIT_STEP_TOKENS      8192u /* tokens one step may run */
#define LIMIT_STEP_SEQUENCES   1024u
#define LIMIT_ENGINE_INBOX     8192u   /* commands between the loop and the engine thread */
#define LIMIT_ENGINE_OUTBOX    256u    /* step outputs between the engine and the loop thread */
#define LIMIT_ENGINE_STEP_MS   120000u /* one step that takes longer counts as hung */
#define LIMIT_VOCAB            (1u << 20)
#define LIMIT_HIDDEN           65536u
#define LIMIT_INTERMEDIATE     (4u * LIMIT_HIDDEN)
#define LIMIT_LAYERS           512u
#define LIMIT_HEADS            1024u
#define LIMIT_HEAD_DIM         1024u
#define LIMIT_GEMM_SHAPES      32u   /* distinct shapes of one model's weight matrices */
#define LIMIT_TOKEN_TEXT_BYTES 1024u /* one token's own bytes */

/* -- files ---------------------------------------------------------------------- */

#define LIMIT_CONFIG_FILE_BYTES        (1u * LIMIT_MIB)
#define LIMIT_OPTIONS_FILE_BYTES       (256u * LIMIT_KIB) /* --config */
#define LIMIT_TOKENIZER_FILE_BYTES     (64u * LIMIT_MIB)
#define LIMIT_PATTERN_BYTES            (16u * LIMIT_KIB) /* one regular expression of a tokenizer */
#define LIMIT_TOKENIZER_STEPS          32u               /* components of one kind in a tokenizer */
#define LIMIT_SAFETENSORS_HEADER_BYTES (100u * 1000u * 1000u) /* the format's own limit */
#define LIMIT_SAFETENSORS_TENSORS      100000u
#define LIMIT_SAFETENSORS_SHARDS       1024u
#define LIMIT_SAFETENSORS_INDEX_BYTES  (16u * LIMIT_MIB)
#define LIMIT_TENSOR_NAME_BYTES        1024u
#define LIMIT_CHAT_TEMPLATE_BYTES      (1u * LIMIT_MIB)
#define LIMIT_JSON_DEPTH               128u

/* -- models from a hub -------------------------------------------------------------- */

#define LIMIT_HUB_NAME_BYTES     96u  /* ORG/NAME, as the hub has it */
#define LIMIT_HUB_REVISION_BYTES 200u /* a branch, a tag or a commit */
#define LIMIT_HUB_PATH_BYTES     1024u
#define LIMIT_HUB_FILES          20000u            /* of one model */
#define LIMIT_HUB_LISTING_BYTES  (16u * LIMIT_MIB) /* the hub's answer that lists them */
#define LIMIT_HUB_FILE_BYTES     (4ull << 40)      /* one of them */
#define LIMIT_HUB_PIECES         65536u            /* of one file */
#define LIMIT_HUB_CONNECTIONS    64u

/* -- chat template --------------------------------------------------------------- */

#define LIMIT_CHAT_TEMPLATE_STEPS        20000000u /* evaluations of one render */
#define LIMIT_CHAT_TEMPLATE_DEPTH        1000u /* nested evaluations; below 512 KiB of C stack */
#define LIMIT_CHAT_TEMPLATE_HEIGHT       200u  /* nested tags and expressions of the source */
#define LIMIT_CHAT_TEMPLATE_MEMORY_BYTES (256u * LIMIT_MIB) /* of one parse or one render */
#define LIMIT_CHAT_TEMPLATE_OUTPUT_BYTES (32u * LIMIT_MIB)
#define LIMIT_CHAT_TEMPLATE_RANGE        100000u /* items of one range(), as the sandbox has it */

_Static_assert(LIMIT_HELLO_BYTES < LIMIT_MESSAGE_BYTES, "Hello fits a message");
_Static_assert(LIMIT_TOKENS_MESSAGE_BYTES < LIMIT_MESSAGE_BYTES, "Tokens fits a message");
_Static_assert(LIMIT_TOKEN_BYTES + 4 * LIMIT_NAME_BYTES < LIMIT_HELLO_BYTES,
               "Hello fits its limit");
_Static_assert(LIMIT_DEAD_MS_DEFAULT >= 3 * LIMIT_PING_MS_DEFAULT, "two pings may be late");
_Static_assert(LIMIT_WINDOW_TOKENS_MAX <= LIMIT_TOKENS_MESSAGE_ENTRIES,
               "one stream's window fits one Tokens message");
_Static_assert(LIMIT_STEP_SEQUENCES <= LIMIT_TOKENS_MESSAGE_ENTRIES,
               "one step's tokens fit one Tokens message");
_Static_assert(LIMIT_TOKEN_TEXT_BYTES + LIMIT_STOP_STRING_BYTES < LIMIT_TOKENS_TEXT_LEN,
               "text that might become a stop string goes with a later token");
/* Prior ids and prompt ids of the longest context travel in one Submit (4 bytes each). */
_Static_assert(4u * LIMIT_CONTEXT_TOKENS < LIMIT_MESSAGE_BYTES, "a whole context fits one Submit");

#endif
