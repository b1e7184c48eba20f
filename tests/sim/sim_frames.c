#include "tests/sim/sim_frames.h"

#include "common/mem.h"

void sim_frames_add(sim_frames *list, sim_frame *f)
{
    f->next = NULL;
    if (list->head == NULL) list->tail = &list->head;
    *list->tail = f;
    list->tail = &f->next;
    list->bytes += f->size;
}

sim_frame *sim_frames_take(sim_frames *list)
{
    sim_frame *f = list->head;
    if (f == NULL) return NULL;
    list->head = f->next;
    list->bytes -= f->size;
    return f;
}

void sim_frames_clear(sim_frames *list)
{
    for (sim_frame *f; (f = sim_frames_take(list)) != NULL;)
        mem_free(f);
}

/* Keep the first `count` frames. */
void sim_frames_truncate(sim_frames *list, uint32_t count)
{
    sim_frames kept = {0};
    for (sim_frame *f; count > 0 && (f = sim_frames_take(list)) != NULL; count--)
        sim_frames_add(&kept, f);
    sim_frames_clear(list);
    *list = kept;
}

uint32_t sim_frames_count(const sim_frames *list)
{
    uint32_t count = 0;
    for (const sim_frame *f = list->head; f != NULL; f = f->next)
        count++;
    return count;
}

sim_frame *sim_frame_create(const void *bytes, size_t size)
{
    sim_frame *f = mem_alloc(sizeof *f + size);
    f->size = (uint32_t)size;
    f->end = false;
    if (size > 0) memcpy(f->bytes, bytes, size);
    return f;
}
