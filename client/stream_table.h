/* stream_table: a conversation's streams by their number on the link.
 *
 * A number names a slot and its generation, so that what comes late for a stream that is gone does
 * not hit the next one in its slot. Loop thread. */
#ifndef GAGGLE_CLIENT_STREAM_TABLE_H
#define GAGGLE_CLIENT_STREAM_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "client/gaggle.h"
#include "common/limits.h"

typedef struct stream_table {
    gaggle_stream *slots[LIMIT_STREAMS_PER_LINK];
    size_t count;
    uint32_t next_slot; /* where to look for a free one */
    uint32_t generation;
} stream_table; /* {0} is empty */

/* Gives the stream its number; there must be a free slot (CHECK). */
void stream_table_add(stream_table *t, gaggle_stream *s);

/* NULL when there is none of that number (any more). */
gaggle_stream *stream_table_find(const stream_table *t, uint32_t number);

/* Takes its number away. */
void stream_table_remove(stream_table *t, gaggle_stream *s);

/* Every stream `s`; streams may be removed meanwhile. */
#define STREAM_TABLE_EACH(t, s)                                                                    \
    for (size_t slot_ = 0; slot_ < LIMIT_STREAMS_PER_LINK && (t)->count > 0; slot_++)              \
        if (((s) = (t)->slots[slot_]) != NULL)

#endif
