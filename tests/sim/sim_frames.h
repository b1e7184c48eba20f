/* sim_frames: messages in a queue: at an end, or on their way. */
#ifndef GAGGLE_TESTS_SIM_FRAMES_H
#define GAGGLE_TESTS_SIM_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sim_frame {
    struct sim_frame *next;
    uint64_t at_us;
    bool end; /* the other side closed: no bytes */
    uint32_t size;
    uint8_t bytes[];
} sim_frame;

typedef struct sim_frames {
    sim_frame *head, **tail;
    size_t bytes;
} sim_frames;

sim_frame *sim_frame_create(const void *bytes, size_t size);

void sim_frames_add(sim_frames *list, sim_frame *f);
sim_frame *sim_frames_take(sim_frames *list); /* the first, or NULL; the caller's to mem_free() */
void sim_frames_clear(sim_frames *list);
void sim_frames_truncate(sim_frames *list, uint32_t count); /* keep so many of the first */
uint32_t sim_frames_count(const sim_frames *list);

#endif
