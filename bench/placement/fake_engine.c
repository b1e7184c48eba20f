#include "bench/placement/fake_engine.h"

#include <math.h>

#include "common/check.h"

#define CHUNK_S 0.05

enum { NONE = UINT32_MAX };

/* Of one cached block; by the block's number. */
typedef struct cached_block {
    bool present;
    uint32_t users;
    uint32_t newer, older; /* of those without users, in the order of use */
    double used_s;
} cached_block;

typedef struct stream {
    uint32_t request;
    uint32_t hits;    /* blocks that it found */
    uint32_t held;    /* blocks of its prompt that are the cache's, its hits among them */
    uint32_t own;     /* blocks that are its own */
    uint32_t read;    /* prompt tokens */
    uint32_t written; /* answer tokens */
} stream;

struct fake_engine {
    fake_engine_speed speed;
    const load *load;
    cached_block *blocks; /* [load->block_numbers] */
    uint32_t newest, oldest;
    uint32_t block_count, free_count, idle_count;
    stream *running; /* [slots], in the order of their start */
    uint32_t running_count;
    uint32_t *waiting; /* [load->count], a queue */
    uint32_t waiting_begin, waiting_end;
    double step_end_s, step_s;
    uint32_t chunk_tokens; /* of the present step */
    bool has_read, has_written;
    fake_engine_done done;
};

fake_engine *fake_engine_create(const fake_engine_speed *speed, const load *l)
{
    fake_engine *e = mem_calloc(1, sizeof *e);
    e->speed = *speed;
    e->load = l;
    e->blocks = mem_calloc(l->block_numbers, sizeof *e->blocks);
    e->newest = e->oldest = NONE;
    e->block_count = e->free_count = speed->kv_tokens / l->block_tokens;
    e->running = mem_calloc(speed->slots, sizeof *e->running);
    e->waiting = mem_calloc(l->count, sizeof *e->waiting);
    e->step_end_s = INFINITY;
    return e;
}

void fake_engine_destroy(fake_engine *e)
{
    if (e == NULL) return;
    mem_free(e->blocks);
    mem_free(e->running);
    mem_free(e->waiting);
    mem_free(e);
}

/* -- memory ------------------------------------------------------------------------------- */

static void unlink_idle(fake_engine *e, uint32_t block)
{
    const cached_block *b = &e->blocks[block];
    *(b->newer != NONE ? &e->blocks[b->newer].older : &e->newest) = b->older;
    *(b->older != NONE ? &e->blocks[b->older].newer : &e->oldest) = b->newer;
    e->idle_count--;
}

static void use_block(fake_engine *e, uint32_t block)
{
    if (e->blocks[block].users++ == 0) unlink_idle(e, block);
}

static void release_block(fake_engine *e, uint32_t block, double now_s)
{
    cached_block *b = &e->blocks[block];
    if (--b->users > 0) return;
    b->used_s = now_s;
    b->newer = NONE;
    b->older = e->newest;
    *(e->newest != NONE ? &e->blocks[e->newest].newer : &e->oldest) = block;
    e->newest = block;
    e->idle_count++;
}

static void take_free(fake_engine *e, uint32_t count)
{
    while (e->free_count < count) {
        uint32_t oldest = e->oldest;
        unlink_idle(e, oldest);
        e->blocks[oldest].present = false;
        e->free_count++;
    }
    e->free_count -= count;
}

/* -- steps -------------------------------------------------------------------------------- */

static const load_request *request_of(const fake_engine *e, const stream *s)
{
    return &e->load->requests[s->request];
}

/* At least one token of a prompt is always read: its logits are needed. */
static uint32_t full_blocks(const fake_engine *e, const load_request *r)
{
    return (r->prompt_tokens - 1) / e->load->block_tokens;
}

static bool start_stream(fake_engine *e, uint32_t request)
{
    const load_request *r = &e->load->requests[request];
    uint32_t block_tokens = e->load->block_tokens;
    uint32_t all = (r->prompt_tokens + r->answer_tokens + block_tokens - 1) / block_tokens;
    CHECK(all <= e->block_count);
    uint32_t hits = 0, idle_hits = 0;
    while (hits < full_blocks(e, r) && e->blocks[r->block[hits]].present) {
        idle_hits += e->blocks[r->block[hits]].users == 0;
        hits++;
    }
    if (e->running_count == e->speed.slots ||
        all - hits > e->free_count + e->idle_count - idle_hits)
        return false;
    for (uint32_t i = 0; i < hits; i++)
        use_block(e, r->block[i]);
    take_free(e, all - hits);
    uint32_t cached = hits * block_tokens;
    e->running[e->running_count++] =
        (stream){.request = request, .hits = hits, .held = hits, .own = all - hits, .read = cached};
    e->done.cached_tokens += cached;
    e->done.prefill_tokens += r->prompt_tokens - cached;
    return true;
}

static void begin_step(fake_engine *e, double now_s)
{
    while (e->waiting_begin < e->waiting_end && start_stream(e, e->waiting[e->waiting_begin]))
        e->waiting_begin++;
    if (e->running_count == 0) {
        e->step_end_s = INFINITY;
        return;
    }
    uint32_t writing = 0, unread = 0;
    for (uint32_t i = 0; i < e->running_count; i++) {
        uint32_t left = request_of(e, &e->running[i])->prompt_tokens - e->running[i].read;
        writing += left == 0;
        unread += left;
    }
    uint32_t chunk = (uint32_t)(e->speed.prefill * CHUNK_S);
    e->chunk_tokens = chunk < unread ? chunk : unread;
    double full_s = e->speed.slots / e->speed.decode;
    e->step_s =
        full_s / 2 + full_s / 2 * writing / e->speed.slots + e->chunk_tokens / e->speed.prefill;
    e->step_end_s = now_s + e->step_s;
    e->has_read |= e->chunk_tokens > 0;
    e->has_written |= writing > 0;
}

void fake_engine_submit(fake_engine *e, uint32_t request, double now_s)
{
    e->waiting[e->waiting_end++] = request;
    if (e->running_count == 0) begin_step(e, now_s);
}

double fake_engine_next_s(const fake_engine *e)
{
    return e->step_end_s;
}

/* Blocks that are read in full become the cache's; one that it has already is given back. */
static void publish(fake_engine *e, stream *s)
{
    const load_request *r = request_of(e, s);
    while (s->held < full_blocks(e, r) && (s->held + 1) * e->load->block_tokens <= s->read) {
        cached_block *b = &e->blocks[r->block[s->held]];
        if (b->present) {
            use_block(e, r->block[s->held]);
            e->free_count++;
        } else {
            *b = (cached_block){.present = true, .users = 1};
        }
        s->held++;
        s->own--;
    }
}

static void end_stream(fake_engine *e, const stream *s, double now_s)
{
    const load_request *r = request_of(e, s);
    for (uint32_t i = s->held; i-- > 0;)
        release_block(e, r->block[i], now_s);
    e->free_count += s->own;
}

uint32_t fake_engine_step(fake_engine *e, fake_event *out)
{
    double now_s = e->step_end_s;
    uint32_t events = 0, kept = 0, chunk = e->chunk_tokens;
    for (uint32_t i = 0; i < e->running_count; i++) {
        stream s = e->running[i];
        const load_request *r = request_of(e, &s);
        uint32_t left = r->prompt_tokens - s.read;
        uint32_t taken = left < chunk ? left : chunk;
        chunk -= taken;
        s.read += taken;
        publish(e, &s);
        if (s.read == r->prompt_tokens) {
            s.written++;
            e->done.decode_tokens++;
            out[events++] = (fake_event){.request = s.request,
                                         .first = s.written == 1,
                                         .finished = s.written == r->answer_tokens,
                                         .cached_tokens = s.hits * e->load->block_tokens};
        }
        if (s.written == r->answer_tokens)
            end_stream(e, &s, now_s);
        else
            e->running[kept++] = s;
    }
    e->running_count = kept;
    begin_step(e, now_s);
    return events;
}

void fake_engine_load(const fake_engine *e, msg_load *out, double now_s)
{
    uint64_t free_tokens = (uint64_t)(e->free_count + e->idle_count) * e->load->block_tokens;
    *out = (msg_load){
        .running = e->running_count,
        .waiting = e->waiting_end - e->waiting_begin,
        .kv_blocks_free = (uint32_t)(free_tokens / LIMIT_KV_BLOCK_TOKENS),
        .step_us = (uint32_t)(e->step_s * 1e6),
        .prefill_rate = e->has_read ? (uint32_t)e->speed.prefill : 0,
        .decode_rate = e->has_written ? (uint32_t)e->speed.decode : 0,
        .cache_age_ms =
            e->oldest != NONE ? (uint32_t)((now_s - e->blocks[e->oldest].used_s) * 1000) : 0,
    };
}

fake_engine_done fake_engine_work(const fake_engine *e)
{
    return e->done;
}
