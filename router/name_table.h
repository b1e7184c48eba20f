/* name_table: names to numbers, in the order in which they came. {0} is an empty one. Names are not
 * copied and must stay. Never forgets one. Any thread, one at a time. */
#ifndef GAGGLE_ROUTER_NAME_TABLE_H
#define GAGGLE_ROUTER_NAME_TABLE_H

#include <stdint.h>

#include "proto/envelope.h"

typedef struct name_table {
    const char **names; /* [count] */
    uint32_t count;
    uint32_t *slots;   /* a name's number + 1; 0 = empty */
    uint32_t capacity; /* power of two, at least twice `count`; of `names` it is the half */
} name_table;

#define NAME_NONE UINT32_MAX

uint32_t name_table_find(const name_table *t, text_view name); /* NAME_NONE: not there */
/* `name` must not be there yet (CHECK); returns its number. */
uint32_t name_table_add(name_table *t, const char *name);
void name_table_free(name_table *t);

#endif
