#include "worker/engine/scheduler.h"

#include <string.h>

#include "common/check.h"
#include "common/mem.h"

/* Sequences of one state, best first. */
typedef struct ranking {
    sequence **items;
    uint32_t count;
} ranking;

struct scheduler {
    prefix_cache *cache;
    uint32_t step_tokens, sequences_max, sequence_limit;
    uint32_t sequence_count;
    ranking waiting, running, parked;
    uint32_t *fresh_blocks; /* scratch of admit() */
    uint32_t fresh_capacity;
    uint64_t preemptions;
};

scheduler *scheduler_create(prefix_cache *cache, uint32_t step_tokens, uint32_t sequences_max,
                            uint32_t sequence_limit)
{
    CHECK(sequences_max > 0 && sequences_max <= step_tokens);
    scheduler *s = mem_calloc(1, sizeof *s);
    s->cache = cache;
    s->step_tokens = step_tokens;
    s->sequences_max = sequences_max;
    s->sequence_limit = sequence_limit;
    s->waiting.items = mem_calloc(sequence_limit, sizeof(sequence *));
    s->running.items = mem_calloc(sequence_limit, sizeof(sequence *));
    s->parked.items = mem_calloc(sequence_limit, sizeof(sequence *));
    return s;
}

void scheduler_destroy(scheduler *s)
{
    if (s == NULL) return;
    CHECK(s->sequence_count == 0);
    mem_free(s->waiting.items);
    mem_free(s->running.items);
    mem_free(s->parked.items);
    mem_free(s->fresh_blocks);
    mem_free(s);
}

uint32_t scheduler_running(const scheduler *s)
{
    return s->running.count + s->parked.count;
}

uint32_t scheduler_waiting(const scheduler *s)
{
    return s->waiting.count;
}

uint64_t scheduler_preemptions(const scheduler *s)
{
    return s->preemptions;
}

/* -- rankings ----------------------------------------------------------------------- */

/* The index of `q`, or where it would go. */
static uint32_t ranking_place(const ranking *r, const sequence *q)
{
    uint32_t low = 0, high = r->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sequence_before(r->items[middle], q))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void ranking_insert(ranking *r, sequence *q)
{
    uint32_t at = ranking_place(r, q);
    memmove(&r->items[at + 1], &r->items[at], (r->count - at) * sizeof(sequence *));
    r->items[at] = q;
    r->count++;
}

static void ranking_remove(ranking *r, const sequence *q)
{
    uint32_t at = ranking_place(r, q);
    CHECK(at < r->count && r->items[at] == q);
    r->count--;
    memmove(&r->items[at], &r->items[at + 1], (r->count - at) * sizeof(sequence *));
}

static ranking *ranking_of(scheduler *s, sequence_state state)
{
    switch (state) {
    case SEQUENCE_WAITING:
        return &s->waiting;
    case SEQUENCE_RUNNING:
        return &s->running;
    case SEQUENCE_PARKED:
        return &s->parked;
    case SEQUENCE_FINISHED:
        break;
    }
    return NULL;
}

static void move(scheduler *s, sequence *q, sequence_state next)
{
    ranking_remove(ranking_of(s, q->state), q);
    sequence_set_state(q, next);
    ranking *to = ranking_of(s, next);
    if (to != NULL) ranking_insert(to, q);
}

/* -- blocks -------------------------------------------------------------------------- */

/* Last to first: prefix_cache.h says why. */
static void release_blocks(scheduler *s, sequence *q)
{
    while (q->block_count > 0)
        prefix_cache_release(s->cache, q->blocks[--q->block_count]);
    q->computed = 0;
    q->published = 0;
}

static void preempt(scheduler *s, sequence *q)
{
    release_blocks(s, q);
    q->cached_known = true; /* what it finds from now on may be its own */
    q->admission_blocks = 0;
    move(s, q, SEQUENCE_WAITING);
    s->preemptions++;
}

/* Take over published blocks for the positions that come next. The last position is always left
 * to be run: its logits are wanted, and they are not in the cache. */
static void adopt_cached(scheduler *s, sequence *q)
{
    while (q->computed % LIMIT_KV_BLOCK_TOKENS == 0 &&
           q->computed + LIMIT_KV_BLOCK_TOKENS < q->id_count) {
        uint32_t index = q->computed / LIMIT_KV_BLOCK_TOKENS;
        uint32_t parent = index > 0 ? q->blocks[index - 1] : KV_BLOCK_NONE;
        uint32_t found = prefix_cache_find(s->cache, &q->cache_salt, parent, &q->ids[q->computed]);
        if (found == KV_BLOCK_NONE) return;
        if (index < q->block_count) {
            prefix_cache_release(s->cache, q->blocks[index]);
            q->blocks[index] = found;
        } else {
            sequence_append_block(q, found);
        }
        q->computed += LIMIT_KV_BLOCK_TOKENS;
        q->published++;
        if (!q->cached_known) q->cached += LIMIT_KV_BLOCK_TOKENS;
    }
}

/* Make sure that `q`, one token from its next sample, has a block to write to. */
static bool grow(scheduler *s, sequence *q)
{
    while (q->block_count < sequence_blocks_needed(q)) {
        uint32_t block;
        if (prefix_cache_take(s->cache, 1, &block) == ST_OK) {
            sequence_append_block(q, block);
            continue;
        }
        if (s->parked.count > 0) {
            preempt(s, s->parked.items[s->parked.count - 1]);
            continue;
        }
        sequence *worst = s->running.items[s->running.count - 1];
        if (worst == q) return false;
        preempt(s, worst);
    }
    return true;
}

/* Take all blocks that a WAITING sequence needs. Beyond its own need it leaves one block to each
 * running sequence, so that it is not thrown out again by their next tokens. */
static bool admit(scheduler *s, sequence *q)
{
    if (q->admission_blocks > prefix_cache_available(s->cache) && s->running.count > 0 &&
        s->parked.count == 0)
        return false; /* nothing has changed; do not hash a long prompt again */

    adopt_cached(s, q);
    uint32_t fresh = sequence_blocks_needed(q) - q->block_count;
    uint32_t wanted = fresh + s->running.count;
    while (prefix_cache_available(s->cache) < wanted && s->parked.count > 0)
        preempt(s, s->parked.items[s->parked.count - 1]);
    if (prefix_cache_available(s->cache) < wanted) {
        CHECK(s->running.count > 0);
        release_blocks(s, q);
        if (!q->cached_known) q->cached = 0;
        q->admission_blocks = wanted;
        return false;
    }
    if (fresh > s->fresh_capacity) {
        s->fresh_capacity = fresh;
        s->fresh_blocks = mem_realloc(s->fresh_blocks, fresh * sizeof *s->fresh_blocks);
    }
    CHECK(prefix_cache_take(s->cache, fresh, s->fresh_blocks) == ST_OK);
    for (uint32_t i = 0; i < fresh; i++)
        sequence_append_block(q, s->fresh_blocks[i]);
    move(s, q, SEQUENCE_RUNNING);
    return true;
}

/* -- planning ------------------------------------------------------------------------ */

typedef struct step {
    scheduled *out;
    uint32_t count;
    uint32_t tokens_left;
} step;

static void step_add(step *p, sequence *q)
{
    uint32_t tokens = sequence_remaining(q);
    if (tokens > p->tokens_left) tokens = p->tokens_left;
    p->out[p->count++] = (scheduled){.sequence = q, .token_count = tokens};
    p->tokens_left -= tokens;
}

/* Preemption takes sequences that rank behind the one at hand, so neither planned ones nor those
 * before index i. */
static void plan_decodes(scheduler *s, step *p)
{
    for (uint32_t i = 0; i < s->running.count && i < s->sequences_max; i++) {
        sequence *q = s->running.items[i];
        if (sequence_remaining(q) == 1 && grow(s, q)) step_add(p, q);
    }
}

/* Each slot without a decode has a token left at first, so the best prefill always runs. */
static void plan_prefills(scheduler *s, step *p)
{
    for (uint32_t i = 0; i < s->running.count && i < s->sequences_max; i++) {
        sequence *q = s->running.items[i];
        if (p->tokens_left == 0) return;
        if (sequence_remaining(q) == 1) continue;
        adopt_cached(s, q);
        step_add(p, q);
    }
}

static void plan_admissions(scheduler *s, step *p)
{
    uint32_t i = 0;
    while (i < s->waiting.count && p->tokens_left > 0 && s->running.count < s->sequences_max) {
        sequence *q = s->waiting.items[i];
        if (!sequence_has_credit(q)) {
            i++;
            continue;
        }
        if (!admit(s, q)) return;
        step_add(p, q);
        i = 0; /* admit() may have put parked sequences, without credit, in front */
    }
}

uint32_t scheduler_plan(scheduler *s, scheduled *out)
{
    step p = {.out = out, .tokens_left = s->step_tokens};
    plan_decodes(s, &p);
    plan_prefills(s, &p);
    plan_admissions(s, &p);
    CHECK(p.count > 0 || s->running.count == 0);
    return p.count;
}

/* -- events -------------------------------------------------------------------------- */

void scheduler_add(scheduler *s, sequence *q)
{
    CHECK(q->state == SEQUENCE_WAITING && s->sequence_count < s->sequence_limit);
    s->sequence_count++;
    ranking_insert(&s->waiting, q);
}

void scheduler_remove(scheduler *s, sequence *q)
{
    release_blocks(s, q);
    move(s, q, SEQUENCE_FINISHED);
    s->sequence_count--;
}

void scheduler_credit(scheduler *s, sequence *q, uint32_t id_limit)
{
    if (id_limit <= q->id_limit) return;
    q->id_limit = id_limit;
    if (q->state == SEQUENCE_PARKED && sequence_has_credit(q)) move(s, q, SEQUENCE_RUNNING);
}

static void publish_full_blocks(scheduler *s, sequence *q)
{
    uint32_t known = q->computed < q->known_count ? q->computed : q->known_count;
    while ((q->published + 1) * LIMIT_KV_BLOCK_TOKENS <= known) {
        uint32_t index = q->published;
        uint32_t parent = index > 0 ? q->blocks[index - 1] : KV_BLOCK_NONE;
        q->blocks[index] =
            prefix_cache_publish(s->cache, &q->cache_salt, parent,
                                 &q->ids[(size_t)index * LIMIT_KV_BLOCK_TOKENS], q->blocks[index]);
        q->published++;
    }
}

void scheduler_submitted(scheduler *s, sequence *q, uint32_t token_count)
{
    CHECK(q->state == SEQUENCE_RUNNING && token_count <= sequence_remaining(q));
    q->computed += token_count;
    publish_full_blocks(s, q);
    if (q->computed < q->id_count) return;
    q->cached_known = true;
    sequence_append_pending(q);
    if (!sequence_has_credit(q)) move(s, q, SEQUENCE_PARKED);
}

void scheduler_resolve(scheduler *s, sequence *q, uint32_t id)
{
    sequence_resolve(q, id);
    publish_full_blocks(s, q);
}

static void ranking_verify(const ranking *r, sequence_state state)
{
    for (uint32_t i = 0; i < r->count; i++) {
        CHECK(r->items[i]->state == state);
        CHECK(i == 0 || sequence_before(r->items[i - 1], r->items[i]));
        sequence_verify(r->items[i]);
    }
}

void scheduler_verify(const scheduler *s)
{
    ranking_verify(&s->waiting, SEQUENCE_WAITING);
    ranking_verify(&s->running, SEQUENCE_RUNNING);
    ranking_verify(&s->parked, SEQUENCE_PARKED);
    CHECK(s->waiting.count + s->running.count + s->parked.count == s->sequence_count);
    prefix_cache_verify(s->cache);

    /* A block is held by exactly the sequences that list it, and by the cache if published. */
    uint32_t total = prefix_cache_block_count(s->cache);
    uint32_t *held = mem_calloc(total, sizeof *held);
    const ranking *with_blocks[] = {&s->running, &s->parked};
    for (size_t r = 0; r < 2; r++)
        for (uint32_t i = 0; i < with_blocks[r]->count; i++) {
            const sequence *q = with_blocks[r]->items[i];
            for (uint32_t b = 0; b < q->block_count; b++)
                held[q->blocks[b]]++;
            for (uint32_t b = q->published; b < q->block_count; b++)
                CHECK(held[q->blocks[b]] == 1);
        }
    for (uint32_t id = 0; id < total; id++)
        CHECK(prefix_cache_holders(s->cache, id) == held[id]);
    mem_free(held);
}
