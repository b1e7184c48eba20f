#include "router/worker_table.h"

#include <string.h>
#include <xxhash.h>

#include "common/check.h"

enum { SLOT_BITS = 12, SLOT_MASK = (1 << SLOT_BITS) - 1 };
_Static_assert(LIMIT_STREAMS_PER_LINK == 1u << SLOT_BITS, "a slot number fits its bits");

worker *worker_table_find(const worker_table *t, text_view id)
{
    for (size_t i = 0; i < t->count; i++)
        if (text_equal(text_of(t->all[i]->id), id)) return t->all[i];
    return NULL;
}

static void forget_description(worker *w)
{
    for (size_t i = 0; i < w->model_count; i++) {
        mem_free(w->models[i].name);
        mem_free(w->models[i].revision);
    }
    mem_free(w->models);
    mem_free(w->device);
    w->models = NULL;
    w->device = NULL;
    w->model_count = 0;
}

/* What decides an answer's bits, as one number: how the worker computes, and with which weights. */
static uint32_t numerics_of(const msg_register *said, const msg_model *model)
{
    if (said->numerics.size == 0 || model->revision.size == 0) return 0;
    uint32_t hash = XXH32(said->numerics.data, said->numerics.size, 0);
    hash = XXH32(model->revision.data, model->revision.size, hash);
    return hash > 0 ? hash : 1;
}

worker *worker_table_register(worker_table *t, const msg_register *said)
{
    worker *w = worker_table_find(t, said->worker_id);
    if (w == NULL) {
        if (t->count == LIMIT_WORKERS) return NULL;
        w = mem_calloc(1, sizeof *w);
        w->id = text_dup(said->worker_id);
        if (t->count == t->capacity) {
            t->capacity = t->capacity > 0 ? t->capacity * 2 : 8;
            t->all = mem_realloc(t->all, t->capacity * sizeof *t->all);
        }
        t->all[t->count++] = w;
    }
    forget_description(w);
    w->device = text_dup(said->device);
    w->models = mem_calloc(said->model_count, sizeof *w->models);
    w->model_count = said->model_count;
    for (size_t i = 0; i < said->model_count; i++) {
        w->models[i].name = text_dup(said->models[i].name);
        w->models[i].revision = text_dup(said->models[i].revision);
        w->models[i].context_max = said->models[i].context_max;
        w->models[i].numerics = numerics_of(said, &said->models[i]);
    }
    w->slots = said->slots;
    w->kv_blocks = said->kv_blocks;
    w->draining = false;
    w->lease_end_ms = w->leave_ms = 0;
    return w;
}

static void worker_free(worker *w)
{
    forget_description(w);
    mem_free(w->id);
    mem_free(w->stream_slots);
    mem_free(w->free_slots);
    buffer_free(&w->ack_stream);
    buffer_free(&w->ack_next);
    mem_free(w);
}

void worker_table_remove(worker_table *t, worker *w)
{
    for (size_t i = 0; i < t->count; i++) {
        if (t->all[i] != w) continue;
        memmove(&t->all[i], &t->all[i + 1], (t->count - i - 1) * sizeof *t->all);
        t->count--;
        worker_free(w);
        return;
    }
    UNREACHABLE("worker is in the table");
}

void worker_table_free(worker_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        worker_free(t->all[i]);
    mem_free(t->all);
    *t = (worker_table){0};
}

const worker_model *worker_find_model(const worker *w, text_view model)
{
    for (size_t i = 0; i < w->model_count; i++)
        if (text_equal(text_of(w->models[i].name), model)) return &w->models[i];
    return NULL;
}

static void grow_slots(worker *w)
{
    uint32_t count = w->slot_count > 0 ? w->slot_count * 2 : 64;
    w->stream_slots = mem_realloc(w->stream_slots, count * sizeof(request *));
    w->free_slots = mem_realloc(w->free_slots, count * sizeof *w->free_slots);
    for (uint32_t i = count; i-- > w->slot_count;) { /* so that the lowest is given out first */
        w->stream_slots[i] = NULL;
        w->free_slots[w->free_count++] = (uint16_t)i;
    }
    w->slot_count = count;
}

bool worker_open_stream(worker *w, request *r)
{
    if (w->free_count == 0) {
        if (w->slot_count == LIMIT_STREAMS_PER_LINK) return false;
        grow_slots(w);
    }
    uint32_t slot = w->free_slots[--w->free_count];
    w->stream_slots[slot] = r;
    w->generation = (w->generation + 1) & (UINT32_MAX >> SLOT_BITS);
    if (w->generation == 0) w->generation = 1; /* so that no stream is numbered 0 */
    r->worker_stream = w->generation << SLOT_BITS | slot;
    return true;
}

request *worker_find_stream(const worker *w, uint32_t stream)
{
    uint32_t slot = stream & SLOT_MASK;
    if (slot >= w->slot_count) return NULL;
    request *r = w->stream_slots[slot];
    return r != NULL && r->worker_stream == stream ? r : NULL;
}

void worker_prefetch_stream(const worker *w, uint32_t stream)
{
    uint32_t slot = stream & SLOT_MASK;
    if (slot >= w->slot_count || w->stream_slots[slot] == NULL) return;
    const char *r = (const char *)w->stream_slots[slot];
    __builtin_prefetch(r, 1);
    __builtin_prefetch(r + 64, 1);
}

void worker_close_stream(worker *w, request *r)
{
    CHECK(r->worker_stream != 0 && worker_find_stream(w, r->worker_stream) == r);
    uint32_t slot = r->worker_stream & SLOT_MASK;
    w->stream_slots[slot] = NULL;
    w->free_slots[w->free_count++] = (uint16_t)slot;
    r->worker_stream = 0;
}
