/* Virtual time, and the functions of libuv, libc and common/ that the product would meet a real
 * loop, clock or terminal with. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/check.h"
#include "common/log.h"
#include "common/mem.h"
#include "proto/envelope.h"
#include "tests/sim/sim.h"

enum { RUN_OUT_EVENTS_MAX = 100000 };

/* Monotonic clocks do not begin at 0: a few places of the product use 0 for "never". */
static const uint64_t EPOCH_US = 1000000000;

sim_world world;

/* -- randomness ----------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t sim_random(void)
{
    uint64_t z = (*world.random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void sim_draw_for(uint64_t purpose)
{
    world.drawn = world.seed;
    world.random = &world.drawn;
    world.drawn = sim_random() + purpose;
}

void sim_draw_noise(void)
{
    world.random = &world.noise;
}

uint32_t sim_pick(uint32_t below)
{
    return (uint32_t)(((sim_random() >> 32) * below) >> 32);
}

uint32_t sim_between(uint32_t least, uint32_t most)
{
    return least + sim_pick(most - least + 1);
}

bool sim_chance(uint32_t percent)
{
    return sim_pick(100) < percent;
}

/* -- events: a binary heap --------------------------------------------------------------- */

static bool before(const sim_event *a, const sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void put(uint32_t place, sim_event *e)
{
    world.heap[place] = e;
    e->place = place;
}

static void sift_up(uint32_t place, sim_event *e)
{
    while (place > 0 && before(e, world.heap[(place - 1) / 2])) {
        put(place, world.heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(place, e);
}

static void sift_down(uint32_t place, sim_event *e)
{
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= world.event_count) break;
        if (child + 1 < world.event_count && before(world.heap[child + 1], world.heap[child]))
            child++;
        if (before(e, world.heap[child])) break;
        put(place, world.heap[child]);
        place = child;
    }
    put(place, e);
}

static void push(sim_event *e)
{
    if (world.event_count == world.event_capacity) {
        world.event_capacity = world.event_capacity == 0 ? 256 : 2 * world.event_capacity;
        world.heap = mem_realloc(world.heap, world.event_capacity * sizeof(sim_event *));
    }
    sift_up(world.event_count++, e);
}

static void take_out(sim_event *e)
{
    sim_event *last = world.heap[--world.event_count];
    if (last == e) return;
    uint32_t place = e->place;
    if (before(last, e))
        sift_up(place, last);
    else
        sift_down(place, last);
}

sim_event *sim_after(sim_process *owner, uint64_t delay_us, void (*run)(void *ctx), void *ctx)
{
    sim_event *e = mem_alloc(sizeof *e);
    *e = (sim_event){.at_us = world.now_us + delay_us,
                     .order = sim_random(),
                     .owner = owner,
                     .run = run,
                     .ctx = ctx};
    push(e);
    return e;
}

void sim_cancel(sim_event *e)
{
    if (e == NULL) return;
    take_out(e);
    mem_free(e);
}

static void happen(sim_event *e)
{
    take_out(e);
    sim_process *owner = e->owner;
    void (*run)(void *) = e->run;
    void *ctx = e->ctx;
    world.events++;
    world.digest = (world.digest ^ e->order ^ world.now_us) * 0x100000001b3u;
    mem_free(e);
    world.current = owner;
    sim_draw_noise();
    run(ctx);
    if (owner != NULL && owner->after != NULL) owner->after(owner->ctx);
    world.current = NULL;
}

bool sim_step(void)
{
    for (;;) {
        if (world.event_count == 0) return false;
        sim_event *e = world.heap[0];
        if (e->at_us > world.now_us) world.now_us = e->at_us;
        sim_process *owner = e->owner;
        if (owner == NULL || owner->frozen_until_us <= world.now_us) {
            happen(e);
            return true;
        }
        take_out(e);
        e->at_us = owner->frozen_until_us;
        push(e);
    }
}

void sim_begin(uint64_t seed, bool verbose)
{
    world = (sim_world){.seed = seed, .noise = ~seed, .now_us = EPOCH_US, .verbose = verbose};
    sim_draw_noise();
}

void sim_end(void)
{
    while (world.event_count > 0)
        mem_free(world.heap[--world.event_count]);
    mem_free(world.heap);
    world.heap = NULL;
    world.event_capacity = 0;
}

/* -- processes ------------------------------------------------------------------------------ */

void sim_process_init(sim_process *p, const char *name, void (*after)(void *ctx), void *ctx)
{
    *p = (sim_process){.after = after, .ctx = ctx};
    snprintf(p->name, sizeof p->name, "%s", name);
    p->loop.data = p;
}

sim_process *sim_enter(sim_process *p)
{
    sim_process *previous = world.current;
    world.current = p;
    return previous;
}

void sim_freeze(sim_process *p, uint64_t for_us)
{
    sim_trace("%s stands still for %llu ms", p->name, (unsigned long long)for_us / 1000);
    if (p->frozen_until_us < world.now_us + for_us) p->frozen_until_us = world.now_us + for_us;
}

void sim_leap(sim_process *p, uint64_t by_us)
{
    sim_trace("%s: its clock leaps by %llu ms", p->name, (unsigned long long)by_us / 1000);
    p->leap_us += by_us;
    for (uint32_t i = 0; i < world.event_count; i++) {
        sim_event *e = world.heap[i];
        if (e->owner != p || !e->timer) continue;
        e->at_us = e->at_us > world.now_us + by_us ? e->at_us - by_us : world.now_us;
    }
    for (uint32_t i = world.event_count / 2; i-- > 0;)
        sift_down(i, world.heap[i]);
}

/* Time stands still meanwhile, so timers, which may be started again and again, come last. */
void sim_run_out(sim_process *p)
{
    p->frozen_until_us = 0;
    for (uint32_t ran = 0;; ran++) {
        sim_event *first = NULL;
        for (uint32_t i = 0; i < world.event_count; i++) {
            sim_event *e = world.heap[i];
            if (e->owner != p) continue;
            if (first == NULL || (e->timer == first->timer ? before(e, first) : first->timer))
                first = e;
        }
        if (first == NULL) return;
        CHECK(ran < RUN_OUT_EVENTS_MAX);
        happen(first);
    }
}

static uint64_t clock_us(const sim_process *p)
{
    return world.now_us + (p != NULL ? p->leap_us : 0);
}

uint64_t sim_clock_ms(const sim_process *p)
{
    return clock_us(p) / 1000;
}

/* -- libuv ------------------------------------------------------------------------------------ */

static sim_event **event_of(const uv_handle_t *handle)
{
    return (sim_event **)&((uv_handle_t *)(uintptr_t)handle)->u.reserved[0];
}

uint64_t uv_now(const uv_loop_t *loop)
{
    return clock_us(loop->data) / 1000;
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    timer->loop = loop;
    *event_of((uv_handle_t *)timer) = NULL;
    return 0;
}

static void timer_fires(void *ctx)
{
    uv_timer_t *timer = ctx;
    *event_of((uv_handle_t *)timer) = NULL;
    if (timer->repeat > 0) uv_timer_start(timer, timer->timer_cb, timer->repeat, timer->repeat);
    timer->timer_cb(timer);
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    sim_event **event = event_of((uv_handle_t *)timer);
    sim_cancel(*event);
    timer->timer_cb = cb;
    timer->repeat = repeat;
    *event = sim_after(timer->loop->data, timeout * 1000 + sim_pick(1000), timer_fires, timer);
    (*event)->timer = true;
    return 0;
}

int uv_timer_stop(uv_timer_t *timer)
{
    sim_event **event = event_of((uv_handle_t *)timer);
    sim_cancel(*event);
    *event = NULL;
    return 0;
}

int uv_is_active(const uv_handle_t *handle)
{
    return *event_of(handle) != NULL;
}

int uv_async_init(uv_loop_t *loop, uv_async_t *async, uv_async_cb cb)
{
    async->loop = loop;
    async->async_cb = cb;
    *event_of((uv_handle_t *)async) = NULL;
    async->u.reserved[1] = NULL;
    return 0;
}

static void async_fires(void *ctx)
{
    uv_async_t *async = ctx;
    *event_of((uv_handle_t *)async) = NULL;
    async->async_cb(async);
}

int uv_async_send(uv_async_t *async)
{
    sim_event **event = event_of((uv_handle_t *)async);
    if (async->u.reserved[1] != NULL) return 0; /* closed: a late word of the engine thread */
    if (*event == NULL) *event = sim_after(async->loop->data, sim_pick(200), async_fires, async);
    return 0;
}

static void handle_closed(void *ctx)
{
    uv_handle_t *handle = ctx;
    handle->close_cb(handle);
}

void uv_close(uv_handle_t *handle, uv_close_cb cb)
{
    sim_event **event = event_of(handle);
    sim_cancel(*event);
    *event = NULL;
    handle->u.reserved[1] = handle;
    handle->close_cb = cb;
    if (cb != NULL) sim_after(handle->loop->data, sim_pick(100), handle_closed, handle);
}

static void work_done(void *ctx)
{
    uv_work_t *work = ctx;
    work->work_cb(work);
    work->after_work_cb(work, 0);
}

/* The pool's thread and the loop's callback, in one: the work sees nothing that could change. */
int uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb work_cb, uv_after_work_cb after)
{
    work->work_cb = work_cb;
    work->after_work_cb = after;
    sim_after(loop->data, sim_pick(sim_chance(10) ? 200000 : 3000), work_done, work);
    return 0;
}

/* -- libc and common/ ---------------------------------------------------------------------------
 */

int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    (void)clock;
    uint64_t us = clock_us(world.current);
    t->tv_sec = (time_t)(us / 1000000);
    t->tv_nsec = (long)(us % 1000000) * 1000;
    return 0;
}

id128 __wrap_id128_random(void);
id128 __wrap_id128_random(void)
{
    id128 id;
    uint64_t halves[2] = {sim_random(), sim_random()};
    memcpy(id.bytes, halves, sizeof id.bytes);
    return id;
}

/* The router gives freed prompts back to the system now and then, which costs more than a run. */
int __wrap_malloc_trim(size_t pad);
int __wrap_malloc_trim(size_t pad)
{
    (void)pad;
    return 0;
}

static void trace_line(const char *tag, const char *format, va_list args)
{
    printf("%11.6f %-9s %s", (double)(world.now_us - EPOCH_US) / 1e6,
           world.current != NULL ? world.current->name : "-", tag);
    vprintf(format, args);
    putchar('\n');
}

void sim_trace(const char *format, ...)
{
    if (!world.verbose) return;
    va_list args;
    va_start(args, format);
    trace_line("* ", format, args);
    va_end(args);
}

void log_init(const char *program, log_level level)
{
    (void)program;
    (void)level;
}

int log_level_parse(const char *name)
{
    (void)name;
    return LOG_INFO;
}

void log_line(log_level level, const char *format, ...)
{
    (void)level;
    if (!world.verbose) return;
    va_list args;
    va_start(args, format);
    trace_line("", format, args);
    va_end(args);
}

void sim_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int wrote = snprintf(world.failure, sizeof world.failure,
                         "at %.6f s: ", (double)(world.now_us - EPOCH_US) / 1e6);
    vsnprintf(world.failure + wrote, sizeof world.failure - (size_t)wrote, format, args);
    va_end(args);
    sim_trace("FAILED %s", world.failure);
    longjmp(world.escape, 1);
}

void check_failed(const char *condition, const char *file, int line)
{
    sim_fail("%s:%d: CHECK(%s)", file, line, condition);
}
