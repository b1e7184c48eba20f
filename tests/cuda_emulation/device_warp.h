/* device_warp: barriers, shuffles and votes. Part of cuda_runtime.h's twin. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_DEVICE_WARP_H
#define GAGGLE_TESTS_CUDA_EMULATION_DEVICE_WARP_H

#include "block.h"

#include <cstdint>
#include <cstring>
#include <type_traits>

/* -- barriers -------------------------------------------------------------------------------- */

static inline void __syncthreads(EMULATION_PLACE)
{
    emulation::barrier_wait(0, 0, "__syncthreads", where);
}

namespace emulation
{

/* Every thread's predicate is counted before any thread reads the count; the second barrier keeps
 * the next vote from beginning meanwhile. */
inline int vote_count;

static inline int block_count(int predicate, const char *name, place where)
{
    barrier_wait(0, 0, name, where);
    vote_count = 0;
    barrier_wait(0, 0, name, where);
    vote_count += predicate != 0;
    barrier_wait(0, 0, name, where);
    return vote_count;
}

} // namespace emulation

static inline int __syncthreads_count(int predicate, EMULATION_PLACE)
{
    return emulation::block_count(predicate, "__syncthreads_count", where);
}
static inline int __syncthreads_or(int predicate, EMULATION_PLACE)
{
    return emulation::block_count(predicate, "__syncthreads_or", where) != 0;
}
static inline int __syncthreads_and(int predicate, EMULATION_PLACE)
{
    return emulation::block_count(!predicate, "__syncthreads_and", where) == 0;
}
static inline void __syncwarp(unsigned int mask = 0xffffffffu, EMULATION_PLACE)
{
    emulation::warp_exchange(
        mask, "__syncwarp", nullptr, [](void *const *, uint32_t) {}, where);
}

/* -- shuffles ---------------------------------------------------------------------------------- */

namespace emulation
{

struct shuffled {
    uint64_t value, result;
    uint32_t source; /* lane */
    place where;
};

template <typename T>
static inline T shuffle(uint32_t mask, T value, uint32_t source, const char *name, place where)
{
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "");
    shuffled mine = {0, 0, source, where};
    memcpy(&mine.value, &value, sizeof value);
    warp_exchange(
        mask, name, &mine,
        [](void *const *arguments, uint32_t) {
            for (uint32_t lane = 0; lane < 32; lane++) {
                shuffled *own = static_cast<shuffled *>(arguments[lane]);
                if (own == nullptr) continue;
                shuffled *other = static_cast<shuffled *>(arguments[own->source]);
                if (other == nullptr)
                    fail(own->where, "shuffle: lane %u reads lane %u, which takes no part", lane,
                         own->source);
                own->result = other->value;
            }
        },
        where);
    memcpy(&value, &mine.result, sizeof value);
    return value;
}

} // namespace emulation

template <typename T>
static inline T __shfl_sync(unsigned int mask, T value, int source, int width = 32, EMULATION_PLACE)
{
    uint32_t lane = emulation::current->lane, first = lane & ~(uint32_t)(width - 1);
    return emulation::shuffle(mask, value, first + ((uint32_t)source & (uint32_t)(width - 1)),
                              "__shfl_sync", where);
}
template <typename T>
static inline T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = 32,
                               EMULATION_PLACE)
{
    uint32_t lane = emulation::current->lane, first = lane & ~(uint32_t)(width - 1);
    return emulation::shuffle(mask, value, lane >= first + delta ? lane - delta : lane,
                              "__shfl_up_sync", where);
}
template <typename T>
static inline T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = 32,
                                 EMULATION_PLACE)
{
    uint32_t lane = emulation::current->lane, last = lane | (uint32_t)(width - 1);
    return emulation::shuffle(mask, value, lane + delta <= last ? lane + delta : lane,
                              "__shfl_down_sync", where);
}
template <typename T>
static inline T __shfl_xor_sync(unsigned int mask, T value, int lanes, int width = 32,
                                EMULATION_PLACE)
{
    uint32_t lane = emulation::current->lane, last = lane | (uint32_t)(width - 1);
    uint32_t source = lane ^ (uint32_t)lanes;
    return emulation::shuffle(mask, value, source <= last ? source : lane, "__shfl_xor_sync",
                              where);
}

/* -- votes and reductions ------------------------------------------------------------------------
 */

namespace emulation
{

/* perform(lanes' values, mask, results) over lanes' 32-bit words. */
struct voted {
    uint64_t value;
    uint32_t result;
};

static inline uint32_t vote(uint32_t mask, uint64_t value, const char *name, exchange perform,
                            place where)
{
    voted mine = {value, 0};
    warp_exchange(mask, name, &mine, perform, where);
    return mine.result;
}

static inline void perform_ballot(void *const *arguments, uint32_t)
{
    uint32_t set = 0;
    for (uint32_t lane = 0; lane < 32; lane++)
        if (arguments[lane] != nullptr && static_cast<voted *>(arguments[lane])->value != 0)
            set |= 1u << lane;
    for (uint32_t lane = 0; lane < 32; lane++)
        if (arguments[lane] != nullptr) static_cast<voted *>(arguments[lane])->result = set;
}

static inline void perform_match(void *const *arguments, uint32_t)
{
    for (uint32_t lane = 0; lane < 32; lane++) {
        voted *own = static_cast<voted *>(arguments[lane]);
        for (uint32_t other = 0; own != nullptr && other < 32; other++)
            if (arguments[other] != nullptr &&
                static_cast<voted *>(arguments[other])->value == own->value)
                own->result |= 1u << other;
    }
}

template <typename Combine> static inline void reduce_words(void *const *arguments, Combine combine)
{
    bool first = true;
    uint32_t total = 0;
    for (uint32_t lane = 0; lane < 32; lane++)
        if (arguments[lane] != nullptr) {
            uint32_t value = (uint32_t) static_cast<voted *>(arguments[lane])->value;
            total = first ? value : combine(total, value);
            first = false;
        }
    for (uint32_t lane = 0; lane < 32; lane++)
        if (arguments[lane] != nullptr) static_cast<voted *>(arguments[lane])->result = total;
}

} // namespace emulation

static inline unsigned int __ballot_sync(unsigned int mask, int predicate, EMULATION_PLACE)
{
    return emulation::vote(mask, predicate != 0, "__ballot_sync", emulation::perform_ballot, where);
}
static inline int __any_sync(unsigned int mask, int predicate, EMULATION_PLACE)
{
    return emulation::vote(mask, predicate != 0, "__any_sync", emulation::perform_ballot, where) !=
           0;
}
static inline int __all_sync(unsigned int mask, int predicate, EMULATION_PLACE)
{
    return emulation::vote(mask, predicate != 0, "__all_sync", emulation::perform_ballot, where) ==
           mask;
}
template <typename T>
static inline unsigned int __match_any_sync(unsigned int mask, T value, EMULATION_PLACE)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return emulation::vote(mask, bits, "__match_any_sync", emulation::perform_match, where);
}
static inline unsigned int __activemask()
{
    return emulation::lanes_alive();
}

#if __CUDA_ARCH__ >= 800
#define EMULATION_REDUCE(name, type, expression)                                                   \
    static inline type name(unsigned int mask, type value, EMULATION_PLACE)                        \
    {                                                                                              \
        return (type)emulation::vote(                                                              \
            mask, (uint32_t)value, #name,                                                          \
            [](void *const *arguments, uint32_t) {                                                 \
                emulation::reduce_words(arguments, [](uint32_t x, uint32_t y) {                    \
                    type a = (type)x, b = (type)y;                                                 \
                    return (uint32_t)(expression);                                                 \
                });                                                                                \
            },                                                                                     \
            where);                                                                                \
    }
EMULATION_REDUCE(__reduce_add_sync, unsigned int, a + b)
EMULATION_REDUCE(__reduce_max_sync, unsigned int, a > b ? a : b)
EMULATION_REDUCE(__reduce_min_sync, unsigned int, a < b ? a : b)
EMULATION_REDUCE(__reduce_or_sync, unsigned int, a | b)
EMULATION_REDUCE(__reduce_and_sync, unsigned int, a &b)
#endif

#endif
