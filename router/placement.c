#include "router/placement.h"

#include "common/check.h"

/* Bytes of text a token stands for, about, in the languages people prompt in; and the answer
 * length when the client names none. */
enum { BYTES_PER_TOKEN = 4, ANSWER_TOKENS = 256 };

uint32_t placement_stream_limit(const worker *w)
{
    if (w->slots == 0) return 0;
    uint64_t limit = (uint64_t)w->slots + 1 + w->slots / 8;
    return limit < LIMIT_STREAMS_PER_LINK ? (uint32_t)limit : LIMIT_STREAMS_PER_LINK;
}

static size_t prompt_tokens(const msg_submit *submit)
{
    size_t bytes = submit->text.size;
    for (size_t i = 0; i < submit->message_count; i++)
        bytes += submit->messages[i].content.size;
    return bytes / BYTES_PER_TOKEN + submit->id_count + submit->prior_count;
}

static size_t answer_tokens(const msg_submit *submit)
{
    return submit->max_tokens > 0 ? submit->max_tokens : ANSWER_TOKENS;
}

uint32_t placement_cost(const msg_submit *submit)
{
    size_t cost = prompt_tokens(submit) + answer_tokens(submit);
    return cost < LIMIT_CONTEXT_TOKENS ? (uint32_t)cost : LIMIT_CONTEXT_TOKENS;
}

text_view placement_only_model(const worker_table *workers)
{
    text_view only = {0};
    for (size_t i = 0; i < workers->count; i++) {
        const worker *w = workers->all[i];
        for (size_t m = 0; m < w->model_count; m++) {
            text_view name = text_of(w->models[m].name);
            if (only.size > 0 && !text_equal(only, name)) return (text_view){0};
            only = name;
        }
    }
    return only;
}

bool placement_is_offered(const worker_table *workers, text_view model)
{
    for (size_t i = 0; i < workers->count; i++)
        if (worker_find_model(workers->all[i], model) != NULL) return true;
    return false;
}

/* -- what is learned of requests ---------------------------------------------------------- */

/* An average moves by one request in so many. */
enum { HISTORY_REQUESTS = 64 };

/* What a tokenizer can make of text; more or less is a mistake or a lie. */
#define BYTES_PER_TOKEN_MIN 0.5
#define BYTES_PER_TOKEN_MAX 64.0

placement_history placement_history_default(void)
{
    return (placement_history){.bytes_per_token = BYTES_PER_TOKEN, .answer_tokens = ANSWER_TOKENS};
}

void placement_learn(placement_history *h, const prefix_chain *prompt, const msg_finish *finish)
{
    if (prompt->text_bytes > 0 && finish->prompt_tokens > 0) {
        double bytes = (double)prompt->text_bytes / finish->prompt_tokens;
        if (bytes < BYTES_PER_TOKEN_MIN) bytes = BYTES_PER_TOKEN_MIN;
        if (bytes > BYTES_PER_TOKEN_MAX) bytes = BYTES_PER_TOKEN_MAX;
        h->bytes_per_token += (bytes - h->bytes_per_token) / HISTORY_REQUESTS;
    }
    if (finish->reason != FINISH_STOP && finish->reason != FINISH_LENGTH) return;
    double answer = finish->total < LIMIT_CONTEXT_TOKENS ? finish->total : LIMIT_CONTEXT_TOKENS;
    h->answer_tokens += (answer - h->answer_tokens) / HISTORY_REQUESTS;
}

/* -- the estimate ------------------------------------------------------------------------- */

/* Where nobody has measured anything, what matters is that all slots are equal. */
#define SLOT_DECODE_RATE 20.0
/* Devices read about so many tokens in the time of writing one. */
#define PREFILL_PER_DECODE 20.0

/* Streams that another router placed there: half of an answer is left, on average. */
enum { FOREIGN_STREAM_TOKENS = ANSWER_TOKENS / 2 };

/* However short memory is, some request must be next. */
#define KV_FREE_SHARE_MIN 0.02

/* Estimates are not better than this, nor worth more. */
#define TIE_SHARE   0.02
#define TIE_SECONDS 0.002

/* Estimates are not exact, and to go on elsewhere costs reading everything again. */
enum { LEASE_MARGIN_MS = 2000 };

/* In tokens. */
typedef struct request_size {
    double prompt; /* with the answer so far */
    double answer; /* still to be written */
    double chunk;
} request_size;

typedef struct candidate {
    worker *w;
    double prefill_rate, decode_rate; /* tokens a second */
    double cached, seconds;
    bool is_exact;
    uint32_t rank; /* the highest come first, however long it takes */
} candidate;

/* What the workers of a model know of their speeds together. */
typedef struct peer_speeds {
    double prefill_rate, prefill_slots;
    double decode_rate, decode_slots;
} peer_speeds;

static request_size size_of(const placement_request *r, const placement_history *history)
{
    CHECK(history->bytes_per_token > 0 && history->answer_tokens >= 0);
    const prefix_chain *p = r->prompt;
    double bytes_per_token = p->ids > 0 ? sizeof(uint32_t) : history->bytes_per_token;
    double prompt = p->ids + p->text_bytes / history->bytes_per_token + r->prior_tokens;
    request_size size = {.prompt = prompt < LIMIT_CONTEXT_TOKENS ? prompt : LIMIT_CONTEXT_TOKENS,
                         .answer = history->answer_tokens,
                         .chunk = PREFIX_CHUNK_BYTES / bytes_per_token};
    double left = r->max_tokens > r->prior_tokens ? r->max_tokens - r->prior_tokens : 1;
    if (r->max_tokens > 0 && left < size.answer) size.answer = left;
    return size;
}

/* In a step, every running stream gets a token. */
static double measured_decode_rate(const worker *w)
{
    if (w->load.decode_rate > 0) return w->load.decode_rate;
    return w->load.running > 0 && w->load.step_us > 0 ? w->slots * 1e6 / w->load.step_us : 0;
}

static void note_speeds(peer_speeds *peers, const worker *w)
{
    double decode_rate = measured_decode_rate(w);
    if (decode_rate > 0) {
        peers->decode_rate += decode_rate;
        peers->decode_slots += w->slots;
    }
    if (w->load.prefill_rate > 0) {
        peers->prefill_rate += w->load.prefill_rate;
        peers->prefill_slots += w->slots;
    }
}

static void set_speeds(candidate *c, const peer_speeds *peers)
{
    const worker *w = c->w;
    c->decode_rate = measured_decode_rate(w);
    if (c->decode_rate == 0)
        c->decode_rate =
            w->slots *
            (peers->decode_slots > 0 ? peers->decode_rate / peers->decode_slots : SLOT_DECODE_RATE);
    c->prefill_rate = w->load.prefill_rate;
    if (c->prefill_rate == 0)
        c->prefill_rate = peers->prefill_slots > 0
                              ? w->slots * peers->prefill_rate / peers->prefill_slots
                              : c->decode_rate * PREFILL_PER_DECODE;
}

uint32_t placement_rate(const worker_table *workers, const msg_submit *submit)
{
    double prompt = (double)prompt_tokens(submit), answer = (double)answer_tokens(submit);
    peer_speeds peers = {0};
    for (size_t i = 0; i < workers->count; i++)
        if (worker_find_model(workers->all[i], submit->model) != NULL)
            note_speeds(&peers, workers->all[i]);
    if (peers.decode_slots == 0) return 0;
    double rate = 0;
    for (size_t i = 0; i < workers->count; i++) {
        candidate c = {.w = workers->all[i]};
        if (c.w->link == NULL || c.w->draining || c.w->slots == 0 ||
            worker_find_model(c.w, submit->model) == NULL)
            continue;
        set_speeds(&c, &peers);
        rate += (prompt + answer) / (prompt / c.prefill_rate + answer / c.decode_rate);
    }
    return rate < UINT32_MAX ? (uint32_t)rate : UINT32_MAX;
}

/* With `tokens` more. */
static double kv_free_share(const worker *w, double tokens)
{
    if (w->kv_blocks == 0) return 1;
    uint32_t free_blocks = w->work.was_reported ? w->load.kv_blocks_free : w->kv_blocks;
    double left =
        (double)free_blocks * LIMIT_KV_BLOCK_TOKENS - (double)w->work.kv_tokens_since_load - tokens;
    double share = left / ((double)w->kv_blocks * LIMIT_KV_BLOCK_TOKENS);
    if (share > 1) return 1;
    return share > KV_FREE_SHARE_MIN ? share : KV_FREE_SHARE_MIN;
}

static void estimate(candidate *c, const request_size *size)
{
    const worker *w = c->w;
    double uncached = size->prompt - c->cached;
    double foreign = (double)w->work.foreign_streams * FOREIGN_STREAM_TOKENS;
    double ahead = (double)w->work.prefill_tokens / c->prefill_rate +
                   ((double)w->work.decode_tokens + foreign) / c->decode_rate;
    double own = uncached / c->prefill_rate + size->answer / c->decode_rate;
    c->seconds = ahead + own / kv_free_share(w, uncached + size->answer);
}

/* A stream writes no faster than a full batch lets it, however little else there is to do. */
static bool lease_ends_before(const candidate *c, const request_size *size, bool ending_too,
                              uint64_t now_ms)
{
    uint64_t end_ms = c->w->lease_end_ms, leave_ms = c->w->leave_ms;
    if (leave_ms != 0 && (end_ms == 0 || leave_ms < end_ms)) end_ms = leave_ms;
    if (end_ms == 0) return false;
    if (end_ms <= now_ms) return true;
    double write = size->answer * c->w->slots / c->decode_rate;
    double seconds = c->seconds + write;
    return !ending_too && seconds * 1000 + LEASE_MARGIN_MS > (double)(end_ms - now_ms);
}

bool placement_is_lasting(const worker_table *workers, text_view model)
{
    for (size_t i = 0; i < workers->count; i++) {
        const worker *w = workers->all[i];
        bool ends = w->draining || w->lease_end_ms != 0 || w->leave_ms != 0;
        if (!ends && worker_find_model(w, model) != NULL) return true;
    }
    return false;
}

/* -- the choice --------------------------------------------------------------------------- */

static bool has_room(const worker *w, uint64_t now_ms)
{
    return breaker_allows(&w->breaker, now_ms) && w->link != NULL && !w->draining &&
           w->streams < placement_stream_limit(w);
}

/* splitmix64's finish (Steele, Lea, Flood 2014), of the request and a candidate. */
static uint64_t lot(uint64_t number, uint32_t index)
{
    uint64_t z = number + (index + UINT64_C(1)) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* `count` is at least 1. */
static const candidate *best_of(const candidate *all, uint32_t count, uint64_t number)
{
    const candidate *best = &all[0];
    for (uint32_t i = 1; i < count; i++)
        if (all[i].rank > best->rank ||
            (all[i].rank == best->rank && all[i].seconds < best->seconds))
            best = &all[i];
    const uint32_t rank = best->rank;
    const double near_seconds = best->seconds * (1 + TIE_SHARE) + TIE_SECONDS;
    uint64_t highest = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (all[i].rank != rank || all[i].seconds > near_seconds) continue;
        uint64_t drawn = lot(number, i);
        if (drawn < highest) continue;
        highest = drawn;
        best = &all[i];
    }
    return best;
}

placement_outcome placement_decide(const worker_table *workers, const prefix_table *prefixes,
                                   const placement_history *history, const placement_request *r,
                                   uint64_t now_ms, placement_choice *out)
{
    const request_size size = size_of(r, history);
    candidate candidates[LIMIT_WORKERS];
    uint32_t with_room = 0, count = 0;
    peer_speeds peers = {0};
    placement_outcome outcome = PLACEMENT_NO_MODEL;
    for (size_t i = 0; i < workers->count; i++) {
        worker *w = workers->all[i];
        const worker_model *model = worker_find_model(w, r->model);
        if (model == NULL) continue;
        outcome = PLACEMENT_FULL;
        note_speeds(&peers, w);
        if (!has_room(w, now_ms)) continue;
        bool fits = model->context_max == 0 || size.prompt <= model->context_max;
        bool exact = r->numerics == 0 || r->numerics == model->numerics;
        candidates[with_room++] =
            (candidate){.w = w, .is_exact = exact, .rank = (fits ? 2u : 0u) + (exact ? 1u : 0u)};
    }
    if (with_room == 0) return outcome;

    prefix_match match;
    prefix_table_match(prefixes, r->prompt->chunk, r->prompt->count, &match);
    for (uint32_t i = 0; i < with_room; i++) {
        candidate c = candidates[i];
        set_speeds(&c, &peers);
        c.cached = prefix_match_chunks(&match, c.w->prefix_holder) * size.chunk;
        /* At least one token is always read: its logits are needed. */
        if (c.cached > size.prompt - 1) c.cached = size.prompt > 1 ? size.prompt - 1 : 0;
        estimate(&c, &size);
        if (!lease_ends_before(&c, &size, r->ending_too, now_ms)) candidates[count++] = c;
    }
    if (count == 0) return PLACEMENT_LEASE_END;
    const candidate *best = best_of(candidates, count, r->number);
    uint32_t holder = best->w->prefix_holder, chunks = prefix_match_chunks(&match, holder);
    *out = (placement_choice){.worker = best->w,
                              .seconds = best->seconds,
                              .is_exact = best->is_exact,
                              .cached = {.given_ms = now_ms, .tokens = (uint32_t)best->cached},
                              .prefill_tokens = (uint32_t)(size.prompt - best->cached),
                              .decode_tokens = (uint32_t)size.answer};
    if (chunks > 0)
        out->cached.used_ms = prefix_table_used_ms(prefixes, r->prompt->chunk[chunks - 1], holder);
    return PLACEMENT_OK;
}
