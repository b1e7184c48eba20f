#include "router/request_table.h"

#include <string.h>
#include <xxhash.h>

#include "common/check.h"

/* Open addressing with linear probing; a removed entry's followers are moved back (Knuth, TAOCP
 * 6.4, algorithm R), so there are no tombstones. At most three quarters full. */
typedef struct pointer_table {
    request **slots;
    size_t capacity; /* power of two */
    size_t count;
} pointer_table;

typedef uint64_t (*hash_function)(const request_table *t, const request *r);

struct request_table {
    request **all;
    size_t count, capacity;
    pointer_table by_id, by_stream;
    uint64_t seed;
};

static uint64_t hash_id(const request_table *t, const id128 *id)
{
    return XXH3_64bits_withSeed(id->bytes, sizeof id->bytes, t->seed);
}

static uint64_t hash_stream(const request_table *t, const struct core_link *client, uint32_t stream)
{
    uint64_t key[2] = {(uint64_t)(uintptr_t)client, stream};
    return XXH3_64bits_withSeed(key, sizeof key, t->seed);
}

static uint64_t hash_request_id(const request_table *t, const request *r)
{
    return hash_id(t, &r->id);
}

static uint64_t hash_request_stream(const request_table *t, const request *r)
{
    return hash_stream(t, r->client, r->client_stream);
}

static void insert(const request_table *t, pointer_table *p, hash_function hash, request *r);

static void grow(const request_table *t, pointer_table *p, hash_function hash)
{
    pointer_table old = *p;
    p->capacity = old.capacity > 0 ? old.capacity * 2 : 64;
    p->slots = mem_calloc(p->capacity, sizeof *p->slots);
    p->count = 0;
    for (size_t i = 0; i < old.capacity; i++)
        if (old.slots[i] != NULL) insert(t, p, hash, old.slots[i]);
    mem_free(old.slots);
}

static void insert(const request_table *t, pointer_table *p, hash_function hash, request *r)
{
    if ((p->count + 1) * 4 > p->capacity * 3) grow(t, p, hash);
    size_t i = hash(t, r) & (p->capacity - 1);
    while (p->slots[i] != NULL)
        i = (i + 1) & (p->capacity - 1);
    p->slots[i] = r;
    p->count++;
}

static void erase(const request_table *t, pointer_table *p, hash_function hash, const request *r)
{
    size_t mask = p->capacity - 1;
    size_t i = hash(t, r) & mask;
    while (p->slots[i] != r) {
        CHECK(p->slots[i] != NULL);
        i = (i + 1) & mask;
    }
    size_t hole = i;
    for (;;) {
        i = (i + 1) & mask;
        request *follower = p->slots[i];
        if (follower == NULL) break;
        size_t home = hash(t, follower) & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue; /* its home is behind the hole */
        p->slots[hole] = follower;
        hole = i;
    }
    p->slots[hole] = NULL;
    p->count--;
}

request_table *request_table_create(uint64_t seed)
{
    request_table *t = mem_calloc(1, sizeof *t);
    t->seed = seed;
    return t;
}

static void request_free(request *r)
{
    mem_free(r->submit);
    mem_free(r->failure);
    mem_free(r);
}

void request_table_destroy(request_table *t)
{
    if (t == NULL) return;
    for (size_t i = 0; i < t->count; i++)
        request_free(t->all[i]);
    mem_free(t->all);
    mem_free(t->by_id.slots);
    mem_free(t->by_stream.slots);
    mem_free(t);
}

request *request_table_add(request_table *t, const id128 *id)
{
    if (t->count == LIMIT_REQUESTS) return NULL;
    request *r = mem_calloc(1, sizeof *r);
    r->id = *id;
    if (t->count == t->capacity) {
        t->capacity = t->capacity > 0 ? t->capacity + t->capacity / 2 : 64;
        t->all = mem_realloc(t->all, t->capacity * sizeof *t->all);
    }
    r->table_index = (uint32_t)t->count;
    t->all[t->count++] = r;
    insert(t, &t->by_id, hash_request_id, r);
    return r;
}

void request_table_remove(request_table *t, request *r)
{
    if (r->client != NULL) erase(t, &t->by_stream, hash_request_stream, r);
    erase(t, &t->by_id, hash_request_id, r);
    request *last = t->all[--t->count];
    t->all[r->table_index] = last;
    last->table_index = r->table_index;
    request_free(r);
}

request *request_table_find(const request_table *t, const id128 *id)
{
    if (t->by_id.capacity == 0) return NULL;
    size_t mask = t->by_id.capacity - 1;
    for (size_t i = hash_id(t, id) & mask; t->by_id.slots[i] != NULL; i = (i + 1) & mask)
        if (id128_equal(&t->by_id.slots[i]->id, id)) return t->by_id.slots[i];
    return NULL;
}

request *request_table_find_stream(const request_table *t, const struct core_link *client,
                                   uint32_t stream)
{
    if (t->by_stream.capacity == 0) return NULL;
    size_t mask = t->by_stream.capacity - 1;
    for (size_t i = hash_stream(t, client, stream) & mask; t->by_stream.slots[i] != NULL;
         i = (i + 1) & mask) {
        request *r = t->by_stream.slots[i];
        if (r->client == client && r->client_stream == stream) return r;
    }
    return NULL;
}

void request_table_attach(request_table *t, request *r, struct core_link *client, uint32_t stream)
{
    if (r->client != NULL) erase(t, &t->by_stream, hash_request_stream, r);
    r->client = client;
    r->client_stream = stream;
    if (client == NULL) return;
    CHECK(request_table_find_stream(t, client, stream) == NULL);
    insert(t, &t->by_stream, hash_request_stream, r);
}

size_t request_table_count(const request_table *t)
{
    return t->count;
}

request *request_table_at(const request_table *t, size_t index)
{
    return t->all[index];
}
