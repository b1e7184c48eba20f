#include "router/prefix_table.h"

#include "common/check.h"
#include "common/mem.h"

/* Invariants, checked by prefix_table_verify():
 *   1. entries[0..count) are in use; each is once in the list of use and once in its hash's bucket;
 *   2. the list goes from the entry used last to the one used longest ago;
 *   3. no two entries have the same hash, and none names a place twice.
 *
 * A prompt is recorded from its last chunk to its first. So the beginnings that many prompts share
 * are the last to go, and a lookup may stop at the first hash that it does not find. */

enum { NONE = UINT32_MAX };

/* A holder's number: its place in the low bits, above it how many held that place before. */
enum { PLACE_BITS = 10, PLACE_MASK = (1 << PLACE_BITS) - 1 };
_Static_assert(LIMIT_WORKERS == 1u << PLACE_BITS, "a holder's place fits its bits");

/* Times are kept in 32 bits: 8 years of these. */
enum { TICK_MS = 64 };

/* A worker may not have read yet what it was given so short ago. */
enum { BELIEF_AGE_MIN_MS = 5000 };

typedef struct entry {
    uint64_t hash;
    uint32_t newer, older;           /* in the list of use */
    uint32_t next;                   /* in the bucket */
    uint32_t holder[PREFIX_HOLDERS]; /* 0: none */
    uint32_t used[PREFIX_HOLDERS];   /* tick */
} entry;
_Static_assert(sizeof(entry) + sizeof(uint32_t) == PREFIX_ENTRY_BYTES, "with its bucket");

typedef struct place {
    uint32_t holder; /* 0: free */
    uint32_t generation;
    uint32_t horizon; /* tick */
} place;

struct prefix_table {
    entry *entries;
    uint32_t *buckets; /* [bucket_mask + 1], an entry or NONE */
    uint32_t bucket_mask;
    uint32_t count, entries_max;
    uint32_t newest, oldest;
    place places[LIMIT_WORKERS];
};

prefix_table *prefix_table_create(uint32_t entries_max)
{
    CHECK(entries_max >= 1 && entries_max <= LIMIT_PREFIX_ENTRIES);
    prefix_table *t = mem_calloc(1, sizeof *t);
    uint32_t buckets = 1;
    while (buckets < entries_max)
        buckets *= 2;
    t->entries = mem_calloc(entries_max, sizeof *t->entries);
    t->buckets = mem_alloc(buckets * sizeof *t->buckets);
    memset(t->buckets, 0xff, buckets * sizeof *t->buckets);
    t->bucket_mask = buckets - 1;
    t->entries_max = entries_max;
    t->newest = t->oldest = NONE;
    return t;
}

void prefix_table_destroy(prefix_table *t)
{
    if (t == NULL) return;
    mem_free(t->entries);
    mem_free(t->buckets);
    mem_free(t);
}

uint32_t prefix_table_count(const prefix_table *t)
{
    return t->count;
}

/* -- holders ------------------------------------------------------------------------------ */

static const place *find_place(const prefix_table *t, uint32_t holder)
{
    const place *p = &t->places[holder & PLACE_MASK];
    return holder != 0 && p->holder == holder ? p : NULL;
}

static place *place_of(prefix_table *t, uint32_t holder)
{
    place *p = &t->places[holder & PLACE_MASK];
    CHECK(holder != 0 && p->holder == holder);
    return p;
}

uint32_t prefix_table_join(prefix_table *t)
{
    uint32_t i = 0;
    while (i < LIMIT_WORKERS && t->places[i].holder != 0)
        i++;
    CHECK(i < LIMIT_WORKERS);
    place *p = &t->places[i];
    p->generation = (p->generation + 1) & (UINT32_MAX >> PLACE_BITS);
    if (p->generation == 0) p->generation = 1; /* so that no holder is numbered 0 */
    p->holder = p->generation << PLACE_BITS | i;
    p->horizon = 0;
    return p->holder;
}

void prefix_table_leave(prefix_table *t, uint32_t holder)
{
    place_of(t, holder)->holder = 0;
}

/* Rounded down, as the times of use are: what was used at the horizon is not void. */
void prefix_table_set_horizon(prefix_table *t, uint32_t holder, uint64_t oldest_ms)
{
    place_of(t, holder)->horizon = (uint32_t)(oldest_ms / TICK_MS);
}

/* Half of it may be missing because tokens were only guessed. */
void prefix_table_correct(prefix_table *t, uint32_t holder, const prefix_belief *belief,
                          uint32_t found)
{
    place *p = place_of(t, holder);
    if (found >= belief->tokens / 2 || belief->given_ms < belief->used_ms + BELIEF_AGE_MIN_MS)
        return;
    uint32_t horizon = (uint32_t)(belief->used_ms / TICK_MS) + 1;
    if (horizon > p->horizon) p->horizon = horizon;
}

/* -- entries ------------------------------------------------------------------------------ */

static uint32_t *bucket_of(const prefix_table *t, uint64_t hash)
{
    return &t->buckets[hash & t->bucket_mask];
}

static uint32_t find(const prefix_table *t, uint64_t hash)
{
    uint32_t i = *bucket_of(t, hash);
    while (i != NONE && t->entries[i].hash != hash)
        i = t->entries[i].next;
    return i;
}

static void unlink_use(prefix_table *t, uint32_t i)
{
    const entry *e = &t->entries[i];
    *(e->newer != NONE ? &t->entries[e->newer].older : &t->newest) = e->older;
    *(e->older != NONE ? &t->entries[e->older].newer : &t->oldest) = e->newer;
}

static void link_newest(prefix_table *t, uint32_t i)
{
    t->entries[i].newer = NONE;
    t->entries[i].older = t->newest;
    *(t->newest != NONE ? &t->entries[t->newest].newer : &t->oldest) = i;
    t->newest = i;
}

/* The place of the entry used longest ago, or one that was never used. Not linked anywhere. */
static uint32_t take_entry(prefix_table *t)
{
    if (t->count < t->entries_max) return t->count++;
    uint32_t i = t->oldest;
    unlink_use(t, i);
    uint32_t *at = bucket_of(t, t->entries[i].hash);
    while (*at != i)
        at = &t->entries[*at].next;
    *at = t->entries[i].next;
    return i;
}

static uint32_t find_or_add(prefix_table *t, uint64_t hash)
{
    uint32_t i = find(t, hash);
    if (i != NONE) {
        unlink_use(t, i);
    } else {
        i = take_entry(t);
        uint32_t *bucket = bucket_of(t, hash);
        t->entries[i] = (entry){.hash = hash, .next = *bucket};
        *bucket = i;
    }
    link_newest(t, i);
    return i;
}

static bool is_void(const prefix_table *t, const entry *e, uint32_t k)
{
    const place *p = find_place(t, e->holder[k]);
    return p == NULL || e->used[k] < p->horizon;
}

/* Its own, or a void one, or that of the holder which used it longest ago. */
static uint32_t choose_holder(const prefix_table *t, const entry *e, uint32_t holder)
{
    uint32_t best = 0;
    bool best_void = false;
    for (uint32_t k = 0; k < PREFIX_HOLDERS; k++) {
        if (e->holder[k] == holder) return k;
        bool gone = is_void(t, e, k);
        if (k > 0 && (best_void || (!gone && e->used[k] >= e->used[best]))) continue;
        best = k;
        best_void = gone;
    }
    return best;
}

void prefix_table_record(prefix_table *t, const uint64_t *chunk, uint32_t count, uint32_t holder,
                         uint64_t now_ms)
{
    place_of(t, holder);
    for (uint32_t i = count; i-- > 0;) {
        entry *e = &t->entries[find_or_add(t, chunk[i])];
        uint32_t k = choose_holder(t, e, holder);
        e->holder[k] = holder;
        e->used[k] = (uint32_t)(now_ms / TICK_MS);
    }
}

void prefix_table_forget(prefix_table *t, const uint64_t *chunk, uint32_t count, uint32_t holder,
                         uint32_t kept)
{
    for (uint32_t i = kept; i < count; i++) {
        uint32_t found = find(t, chunk[i]);
        if (found == NONE) return;
        entry *e = &t->entries[found];
        for (uint32_t k = 0; k < PREFIX_HOLDERS; k++)
            if (e->holder[k] == holder) e->holder[k] = 0;
    }
}

/* -- lookup ------------------------------------------------------------------------------- */

/* The hashes of a prompt are known in advance, and the table is larger than the caches. */
static void prefetch(const prefix_table *t, const uint64_t *chunk, uint32_t i, uint32_t count)
{
    enum { BUCKETS_AHEAD = 16, ENTRIES_AHEAD = 8 };
    if (i + BUCKETS_AHEAD < count) __builtin_prefetch(bucket_of(t, chunk[i + BUCKETS_AHEAD]));
    if (i + ENTRIES_AHEAD >= count) return;
    uint32_t ahead = *bucket_of(t, chunk[i + ENTRIES_AHEAD]);
    if (ahead != NONE) __builtin_prefetch(&t->entries[ahead]);
}

void prefix_table_match(const prefix_table *t, const uint64_t *chunk, uint32_t count,
                        prefix_match *out)
{
    memset(out->chunks, 0, sizeof out->chunks);
    for (uint32_t i = 0; i < count; i++) {
        prefetch(t, chunk, i, count);
        uint32_t found = find(t, chunk[i]);
        if (found == NONE) return;
        const entry *e = &t->entries[found];
        /* Whoever has this chunk has all before it: hash i stands for them, and caches drop the
         * end of a prompt first. */
        for (uint32_t k = 0; k < PREFIX_HOLDERS; k++)
            if (!is_void(t, e, k)) out->chunks[e->holder[k] & PLACE_MASK] = (uint16_t)(i + 1);
    }
}

uint32_t prefix_match_chunks(const prefix_match *m, uint32_t holder)
{
    return holder != 0 ? m->chunks[holder & PLACE_MASK] : 0;
}

uint64_t prefix_table_used_ms(const prefix_table *t, uint64_t chunk, uint32_t holder)
{
    uint32_t found = find(t, chunk);
    if (found == NONE) return 0;
    const entry *e = &t->entries[found];
    for (uint32_t k = 0; k < PREFIX_HOLDERS; k++)
        if (e->holder[k] == holder) return (uint64_t)e->used[k] * TICK_MS;
    return 0;
}

/* -- invariants --------------------------------------------------------------------------- */

void prefix_table_verify(const prefix_table *t)
{
    CHECK(t->count <= t->entries_max);
    uint32_t listed = 0;
    for (uint32_t i = t->newest, newer = NONE; i != NONE; newer = i, i = t->entries[i].older) {
        CHECK(i < t->count && t->entries[i].newer == newer);
        listed++;
    }
    CHECK(listed == t->count);
    uint32_t in_buckets = 0;
    for (uint32_t b = 0; b <= t->bucket_mask; b++) {
        for (uint32_t i = t->buckets[b]; i != NONE; i = t->entries[i].next) {
            const entry *e = &t->entries[i];
            CHECK(i < t->count && (e->hash & t->bucket_mask) == b && find(t, e->hash) == i);
            in_buckets++;
            for (uint32_t k = 0; k < PREFIX_HOLDERS; k++)
                for (uint32_t other = 0; other < k; other++)
                    CHECK(e->holder[k] == 0 || e->holder[k] != e->holder[other]);
        }
    }
    CHECK(in_buckets == t->count);
}
