/* ring: a bounded queue of pointers from one thread to one other, without locks.
 *
 * One thread pushes, one thread pops; each may also ask for the count. What was written to an
 * object before its push is seen by who pops it. Nobody waits here: full and empty are answers. */
#ifndef GAGGLE_COMMON_RING_H
#define GAGGLE_COMMON_RING_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ring ring;

ring *ring_create(uint32_t capacity); /* entries: a power of two */
void ring_destroy(ring *r);           /* NULL is fine; what is left in it is not touched */

/* Pushing thread. False: full, nothing was pushed. `item` is not NULL. */
bool ring_push(ring *r, void *item);

/* Popping thread. NULL: empty. */
void *ring_pop(ring *r);

/* Exact for the thread that asks until the other one moves on: the pushing thread sees no fewer
 * than there are, the popping thread no more. */
uint32_t ring_count(const ring *r);
uint32_t ring_capacity(const ring *r);

#endif
