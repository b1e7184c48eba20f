#include "client/stream_table.h"

#include "client/client_internal.h"
#include "common/check.h"

enum { GENERATIONS = 1000000 };
_Static_assert((uint64_t)(GENERATIONS + 1) * LIMIT_STREAMS_PER_LINK < UINT32_MAX, "numbers fit");

void stream_table_add(stream_table *t, gaggle_stream *s)
{
    CHECK(t->count < LIMIT_STREAMS_PER_LINK);
    while (t->slots[t->next_slot] != NULL)
        t->next_slot = (t->next_slot + 1) % LIMIT_STREAMS_PER_LINK;
    t->generation = (t->generation + 1) % GENERATIONS;
    s->number = t->generation * LIMIT_STREAMS_PER_LINK + t->next_slot + 1;
    t->slots[t->next_slot] = s;
    t->next_slot = (t->next_slot + 1) % LIMIT_STREAMS_PER_LINK;
    t->count++;
}

static size_t slot_of(uint32_t number)
{
    return (number - 1) % LIMIT_STREAMS_PER_LINK;
}

gaggle_stream *stream_table_find(const stream_table *t, uint32_t number)
{
    if (number == 0) return NULL;
    gaggle_stream *s = t->slots[slot_of(number)];
    return s != NULL && s->number == number ? s : NULL;
}

void stream_table_remove(stream_table *t, gaggle_stream *s)
{
    t->slots[slot_of(s->number)] = NULL;
    s->number = 0;
    t->count--;
}
