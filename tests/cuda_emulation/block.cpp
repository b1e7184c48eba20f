#include "block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

namespace emulation
{

thread *current;
uint3 block_index;
dim3 block_shape, grid_shape;

namespace
{

const uint32_t threads_max = 1024;
const uint32_t warps_max = threads_max / 32;
const uint64_t polls_max = 4 * 1000 * 1000;

struct warp_state {
    uint32_t ready;   /* lanes that may run */
    uint32_t arrived; /* lanes at a warp operation */
    uint32_t ended;
};

struct barrier_state {
    uint32_t arrived;
    uint32_t threads; /* as its first arrival said */
};

std::mutex grid_lock;
fiber host;
std::vector<std::unique_ptr<thread>> threads;
warp_state warps[warps_max];
barrier_state barriers[16];
uint32_t thread_count, warp_count, alive;
bool high_first, one_warp_first;
uint32_t grids;
bool waited_for_dependency;
uint64_t polls;
unsigned char *shared_memory;
size_t shared_size;
const std::function<void()> *body;

void report_block()
{
    fprintf(stderr, "cuda emulation: block (%u, %u, %u) of %u threads:\n", block_index.x,
            block_index.y, block_index.z, thread_count);
    uint32_t first = 0;
    for (uint32_t i = 1; i <= thread_count; i++) {
        const thread &a = *threads[first];
        auto ended = [](const thread &t) { return (warps[t.warp].ended >> t.lane & 1) != 0; };
        if (i < thread_count) {
            const thread &b = *threads[i];
            if (a.waits_for == b.waits_for && a.waits_at.line == b.waits_at.line &&
                ended(a) == ended(b))
                continue;
        }
        fprintf(stderr, "  threads %u to %u: ", first, i - 1);
        if (ended(a))
            fprintf(stderr, "ended\n");
        else if (a.waits_for == nullptr)
            fprintf(stderr, "may run\n");
        else
            fprintf(stderr, "at %s (%s:%d)\n", a.waits_for, a.waits_at.file, a.waits_at.line);
        first = i;
    }
}

/* The next thread that may run, the caller last; NULL if there is none. */
thread *next_ready(const thread &from)
{
    for (uint32_t step = 0; step <= warp_count; step++) {
        uint32_t w = (high_first ? from.warp + warp_count - step % warp_count : from.warp + step) %
                     warp_count;
        uint32_t ready = warps[w].ready;
        /* First the lanes behind the caller; those before it and itself come after the other warps,
         * unless its warp goes as far as it can before others. */
        uint32_t behind = high_first ? (1u << from.lane) - 1 : ~(uint32_t)((2ull << from.lane) - 1);
        if (step == 0 && (!one_warp_first || (ready & behind) != 0)) ready &= behind;
        if (ready == 0) continue;
        uint32_t lane =
            high_first ? 31u - (uint32_t)__builtin_clz(ready) : (uint32_t)__builtin_ctz(ready);
        return threads[w * 32 + lane].get();
    }
    return nullptr;
}

void switch_to(thread *from, thread *to)
{
    if (from == to) return;
    current = to;
    fiber_switch(&from->stack, &to->stack);
}

void give_up_turn()
{
    thread *from = current;
    thread *to = next_ready(*from);
    if (to == nullptr) fail(from->waits_at, "deadlock: every thread of the block waits");
    switch_to(from, to);
}

/* Everybody at barrier `id` may go on. */
void barrier_open(int id)
{
    barriers[id] = {0, 0};
    for (uint32_t i = 0; i < thread_count; i++) {
        thread &t = *threads[i];
        if (t.barrier != id) continue;
        t.barrier = -1;
        t.waits_for = nullptr;
        warps[t.warp].ready |= 1u << t.lane;
    }
    polls = 0;
}

bool barrier_full(int id)
{
    const barrier_state &b = barriers[id];
    return b.arrived > 0 && b.arrived >= (b.threads == 0 ? alive : b.threads);
}

void barrier_count(int id, uint32_t count, const char *name, place where)
{
    if (id < 0 || id >= 16) fail(where, "%s: there is no barrier %d", name, id);
    if (count % 32 != 0 || count > thread_count)
        fail(where, "%s: %u threads at barrier %d of a block of %u", name, count, id, thread_count);
    barrier_state &b = barriers[id];
    if (b.arrived > 0 && b.threads != count)
        fail(where, "%s: barrier %d was of %u threads, now %u", name, id, b.threads, count);
    b.threads = count;
    b.arrived++;
}

void thread_main()
{
    fiber_entered();
    for (;;) {
        (*body)();

        thread *t = current;
        t->copies.clear();
        t->copy_groups.clear();
        warps[t->warp].ready &= ~(1u << t->lane);
        warps[t->warp].ended |= 1u << t->lane;
        alive--;
        polls = 0;
        if (alive == 0) {
            fiber_switch(&t->stack, &host);
            continue;
        }
        for (int id = 0; id < 16; id++)
            if (barriers[id].threads == 0 && barrier_full(id)) barrier_open(id);
        t->waits_at = {"its end", 0};
        give_up_turn();
    }
}

void prepare_threads(dim3 block)
{
    thread_count = block.x * block.y * block.z;
    warp_count = (thread_count + 31) / 32;
    while (threads.size() < thread_count) {
        threads.push_back(std::make_unique<thread>());
        fiber_create(&threads.back()->stack, thread_main);
    }
    for (uint32_t i = 0; i < thread_count; i++) {
        thread &t = *threads[i];
        t.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        t.linear = i;
        t.warp = i / 32;
        t.lane = i % 32;
    }
}

void run_block()
{
    for (uint32_t i = 0; i < thread_count; i++) {
        threads[i]->waits_for = nullptr;
        threads[i]->barrier = -1;
    }
    for (uint32_t w = 0; w < warp_count; w++) {
        uint32_t lanes = std::min(thread_count - w * 32, 32u);
        warps[w] = {lanes == 32 ? ~0u : (1u << lanes) - 1, 0, 0};
    }
    memset(barriers, 0, sizeof barriers);
    memset(shared_memory, 0xff, shared_size);
    alive = thread_count;
    polls = 0;
    uint32_t order = block_index.x + block_index.y + block_index.z + grids;
    high_first = order % 2 != 0;
    one_warp_first = order / 2 % 2 != 0;
    current = threads[high_first ? thread_count - 1 : 0].get();
    fiber_switch(&host, &current->stack);
}

} // namespace

void run_grid(const launch_shape &shape, const std::function<void()> &kernel)
{
    std::lock_guard<std::mutex> guard(grid_lock);
    fiber_adopt_thread(&host);
    body = &kernel;
    grid_shape = shape.grid;
    block_shape = shape.block;
    /* Its own allocation, to the byte: AddressSanitizer watches both ends. */
    shared_size = shape.shared_bytes;
    void *memory;
    if (posix_memalign(&memory, 1024, shared_size) != 0) abort();
    shared_memory = static_cast<unsigned char *>(memory);
    waited_for_dependency = false;
    grids++;
    prepare_threads(shape.block);
    for (uint32_t z = 0; z < shape.grid.z; z++)
        for (uint32_t y = 0; y < shape.grid.y; y++)
            for (uint32_t x = 0; x < shape.grid.x; x++) {
                block_index = {x, y, z};
                run_block();
            }
#if __CUDA_ARCH__ >= 900
    if (shape.overlapped && !waited_for_dependency)
        fail({"launch", 0}, "a kernel launched LAUNCH_OVERLAPPED never called "
                            "grid_dependency_wait(): the kernel after it would not wait for the "
                            "kernel before it");
#endif
    free(memory);
    shared_memory = nullptr;
}

unsigned char *dynamic_shared()
{
    return shared_memory;
}

size_t dynamic_shared_bytes()
{
    return shared_size;
}

bool is_dynamic_shared(const void *p)
{
    return p >= shared_memory && p < shared_memory + shared_size;
}

uint32_t lanes_alive()
{
    uint32_t lanes = std::min(thread_count - current->warp * 32, 32u);
    return (lanes == 32 ? ~0u : (1u << lanes) - 1) & ~warps[current->warp].ended;
}

void warp_exchange(uint32_t mask, const char *name, void *argument, exchange perform, place where)
{
    thread *t = current;
    warp_state &w = warps[t->warp];
    uint32_t own = 1u << t->lane;
    if ((mask & own) == 0)
        fail(where, "%s: lane %u is not in its own mask 0x%08x", name, t->lane, mask);
    if ((mask & w.ended) != 0)
        fail(where, "%s: lanes 0x%08x of mask 0x%08x have ended", name, mask & w.ended, mask);
    t->waits_for = name;
    t->waits_at = where;
    t->warp_mask = mask;
    t->argument = argument;
    w.arrived |= own;
    w.ready &= ~own;
    if ((w.arrived & mask) != mask) {
        give_up_turn();
        return;
    }
    void *arguments[32] = {};
    for (uint32_t lane = 0; lane < 32; lane++) {
        if ((mask >> lane & 1) == 0) continue;
        thread &other = *threads[t->warp * 32 + lane];
        if (other.warp_mask != mask || strcmp(other.waits_for, name) != 0)
            fail(where, "lanes of a warp meet at different operations: %s and %s", name,
                 other.waits_for);
        arguments[lane] = other.argument;
        other.waits_for = nullptr;
    }
    w.arrived &= ~mask;
    w.ready |= mask;
    polls = 0;
    perform(arguments, mask);
}

void barrier_wait(int id, uint32_t count, const char *name, place where)
{
    thread *t = current;
    barrier_count(id, count, name, where);
    t->waits_for = name;
    t->waits_at = where;
    t->barrier = id;
    warps[t->warp].ready &= ~(1u << t->lane);
    if (barrier_full(id))
        barrier_open(id);
    else
        give_up_turn();
}

void barrier_arrive(int id, uint32_t count, const char *name, place where)
{
    barrier_count(id, count, name, where);
    if (barrier_full(id)) barrier_open(id);
}

void poll(const char *name, place where)
{
    thread *t = current;
    if (++polls > polls_max) {
        t->waits_for = name;
        t->waits_at = where;
        fail(where, "deadlock: %s for ever", name);
    }
    t->waits_for = name;
    t->waits_at = where;
    bool one_warp = one_warp_first;
    one_warp_first = false; /* what it waits for may come from another warp */
    thread *to = next_ready(*t);
    one_warp_first = one_warp;
    switch_to(t, to);
    t->waits_for = nullptr;
}

void progress()
{
    polls = 0;
}

void grid_dependency_waited()
{
    waited_for_dependency = true;
}

void fail(place where, const char *format, ...)
{
    fflush(stdout);
    fprintf(stderr, "cuda emulation: %s:%d: ", where.file, where.line);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    report_block();
    abort();
}

} // namespace emulation
