/* block: runs a grid's blocks one after the other, each CUDA thread as a fiber.
 *
 * A thread runs until it has to wait: at a barrier, or at a warp operation whose other lanes have
 * not come yet. The last lane to come does the operation for all of them. From block to block and
 * from launch to launch the order changes: low threads first or high ones, warps side by side or
 * each as far as it can, so that a missing barrier shows in one of them.
 * When every thread waits, or all that run only poll, the state of the block is printed with the
 * source lines and the process aborts; so it does when lanes of a warp meet at different
 * operations, or an operation names a lane that has ended. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_BLOCK_H
#define GAGGLE_TESTS_CUDA_EMULATION_BLOCK_H

#include "fiber.h"
#include "vector_types.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace emulation
{

/* A place in a kernel, for reports. */
struct place {
    const char *file;
    int line;
};

#define EMULATION_PLACE                                                                            \
    emulation::place where = emulation::place                                                      \
    {                                                                                              \
        __builtin_FILE(), __builtin_LINE()                                                         \
    }

/* A copy that cp.async has begun and no wait has covered yet. */
struct pending_copy {
    void *shared;
    const void *global; /* NULL: zeros */
};

/* A CUDA thread. */
struct thread {
    fiber stack;
    uint3 index;
    uint32_t linear, warp, lane;
    const char *waits_for; /* for reports; NULL while it may run */
    place waits_at;
    uint32_t warp_mask;
    void *argument;
    int barrier; /* -1: at none */
    std::vector<std::vector<pending_copy>> copy_groups;
    std::vector<pending_copy> copies; /* of the group not yet committed */
};

struct launch_shape {
    dim3 grid, block;
    size_t shared_bytes;
    bool overlapped; /* programmatic dependent launch */
};

extern thread *current;
extern uint3 block_index;
extern dim3 block_shape, grid_shape;

/* Run `kernel` once a thread. One grid at a time in a process. */
void run_grid(const launch_shape &shape, const std::function<void()> &kernel);

/* -- called by CUDA threads ------------------------------------------------------------- */

unsigned char *dynamic_shared();
size_t dynamic_shared_bytes();
bool is_dynamic_shared(const void *p);

/* The lanes of the caller's warp that have not ended. */
uint32_t lanes_alive();

/* Wait for the lanes in `mask`, then `perform` runs once over all their arguments (NULL where a
 * lane does not take part). */
using exchange = void (*)(void *const arguments[32], uint32_t mask);
void warp_exchange(uint32_t mask, const char *name, void *argument, exchange perform, place where);

/* Barrier `id` of 0..15, for `count` threads; 0: all that have not ended. */
void barrier_wait(int id, uint32_t count, const char *name, place where);
void barrier_arrive(int id, uint32_t count, const char *name, place where);

/* Let others run before looking again; `name` in reports. */
void poll(const char *name, place where);
/* Something happened that a polling thread may be waiting for. */
void progress();

void grid_dependency_waited();

[[noreturn]] void fail(place where, const char *format, ...) __attribute__((format(printf, 2, 3)));

} // namespace emulation

#endif
