/* key_map: from a request's key to what belongs to it. A hash table of fixed size; no entry is
 * allocated. One thread at a time. */
#ifndef GAGGLE_WORKER_ENGINE_KEY_MAP_H
#define GAGGLE_WORKER_ENGINE_KEY_MAP_H

#include <stdint.h>

typedef struct key_map key_map;

key_map *key_map_create(uint32_t capacity); /* entries, at least 1 */
void key_map_destroy(key_map *m);           /* NULL is fine; the values are the caller's */

uint32_t key_map_count(const key_map *m);

/* The key is not there yet and there is room (CHECK). `value` is not NULL. */
void key_map_add(key_map *m, uint64_t key, void *value);
void *key_map_find(const key_map *m, uint64_t key); /* NULL: not there */
void *key_map_remove(key_map *m, uint64_t key);     /* what was there, or NULL */

/* Each value once, NULL after the last: start with *cursor 0. Nothing may be added or removed on
 * the way. */
void *key_map_next(const key_map *m, uint32_t *cursor);

#endif
