#include "router/request_table.h"

#include <string.h>
#include <xxhash.h>

#include "common/check.h"

/* Open addressing with linear probing; a removed entry's followers are moved back (Knuth, TAOCP
 * 6.4, algorithm R), so there are no tombstones. At most three quarters full. */
typedef struct number_table {
    uint32_t *slots;   /* a request's number + 1; 0 = empty */
    uint32_t capacity; /* power of two */
    uint32_t count;
} number_table;

typedef uint64_t (*hash_function)(const request_table *t, const request *r);

enum { NUMBER_NONE = UINT32_MAX };
#define TIME_NONE UINT64_MAX

/* The arrays have their full size from the start; what was never used of them is never touched and
 * so takes no memory. */
struct request_table {
    request *all;       /* [LIMIT_REQUESTS] */
    uint64_t *times_ms; /* [LIMIT_REQUESTS]; TIME_NONE for free numbers */
    uint32_t end;       /* numbers below were given out once */
    uint32_t first_free;
    uint32_t count;
    number_table by_id, by_stream;
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

static uint32_t home_of(const number_table *n, uint64_t hash)
{
    return (uint32_t)hash & (n->capacity - 1);
}

static void put(const request_table *t, number_table *n, hash_function hash, const request *r)
{
    uint32_t i = home_of(n, hash(t, r));
    while (n->slots[i] != 0)
        i = (i + 1) & (n->capacity - 1);
    n->slots[i] = r->number + 1;
}

static void insert(const request_table *t, number_table *n, hash_function hash, const request *r)
{
    n->count++;
    if (n->count * 4 > n->capacity * 3) {
        number_table old = *n;
        n->capacity = old.capacity > 0 ? old.capacity * 2 : 64;
        n->slots = mem_calloc(n->capacity, sizeof *n->slots);
        for (uint32_t i = 0; i < old.capacity; i++)
            if (old.slots[i] != 0) put(t, n, hash, &t->all[old.slots[i] - 1]);
        mem_free(old.slots);
    }
    put(t, n, hash, r);
}

static void erase(const request_table *t, number_table *n, hash_function hash, const request *r)
{
    uint32_t mask = n->capacity - 1;
    uint32_t i = home_of(n, hash(t, r));
    while (n->slots[i] != r->number + 1) {
        CHECK(n->slots[i] != 0);
        i = (i + 1) & mask;
    }
    uint32_t hole = i;
    for (;;) {
        i = (i + 1) & mask;
        if (n->slots[i] == 0) break;
        uint32_t home = home_of(n, hash(t, &t->all[n->slots[i] - 1]));
        if (((i - home) & mask) < ((i - hole) & mask)) continue; /* its home is behind the hole */
        n->slots[hole] = n->slots[i];
        hole = i;
    }
    n->slots[hole] = 0;
    n->count--;
}

request_table *request_table_create(uint64_t seed)
{
    request_table *t = mem_calloc(1, sizeof *t);
    t->seed = seed;
    t->first_free = NUMBER_NONE;
    t->all = mem_calloc(LIMIT_REQUESTS, sizeof *t->all);
    t->times_ms = mem_calloc(LIMIT_REQUESTS, sizeof *t->times_ms);
    return t;
}

static void forget(request *r)
{
    request_forget_submit(r);
    mem_free(r->failure);
}

void request_table_destroy(request_table *t)
{
    if (t == NULL) return;
    for (uint32_t i = 0; i < t->end; i++)
        if (request_table_at(t, i) != NULL) forget(&t->all[i]);
    mem_free(t->all);
    mem_free(t->times_ms);
    mem_free(t->by_id.slots);
    mem_free(t->by_stream.slots);
    mem_free(t);
}

request *request_table_add(request_table *t, const id128 *id)
{
    if (t->count == LIMIT_REQUESTS) return NULL;
    uint32_t number = t->first_free;
    if (number != NUMBER_NONE)
        t->first_free = t->all[number].number;
    else
        number = t->end++;
    request *r = &t->all[number];
    *r = (request){.id = *id, .number = number};
    t->times_ms[number] = 0;
    t->count++;
    insert(t, &t->by_id, hash_request_id, r);
    return r;
}

void request_table_remove(request_table *t, request *r)
{
    if (r->client != NULL) erase(t, &t->by_stream, hash_request_stream, r);
    erase(t, &t->by_id, hash_request_id, r);
    forget(r);
    uint32_t number = r->number;
    *r = (request){.state = REQUEST_DONE, .number = t->first_free};
    t->first_free = number;
    t->times_ms[number] = TIME_NONE;
    t->count--;
}

request *request_table_find(const request_table *t, const id128 *id)
{
    const number_table *n = &t->by_id;
    if (n->capacity == 0) return NULL;
    for (uint32_t i = home_of(n, hash_id(t, id)); n->slots[i] != 0;
         i = (i + 1) & (n->capacity - 1)) {
        request *r = &t->all[n->slots[i] - 1];
        if (id128_equal(&r->id, id)) return r;
    }
    return NULL;
}

request *request_table_find_stream(const request_table *t, const struct core_link *client,
                                   uint32_t stream)
{
    const number_table *n = &t->by_stream;
    if (n->capacity == 0) return NULL;
    for (uint32_t i = home_of(n, hash_stream(t, client, stream)); n->slots[i] != 0;
         i = (i + 1) & (n->capacity - 1)) {
        request *r = &t->all[n->slots[i] - 1];
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

uint32_t request_table_end(const request_table *t)
{
    return t->end;
}

request *request_table_at(const request_table *t, uint32_t number)
{
    return t->all[number].state != REQUEST_DONE ? &t->all[number] : NULL;
}

void request_table_wake_at(request_table *t, const request *r, uint64_t time_ms)
{
    t->times_ms[r->number] = time_ms;
}

request *request_table_due(const request_table *t, uint32_t number, uint64_t now_ms)
{
    while (number < t->end && t->times_ms[number] > now_ms)
        number++;
    return number < t->end ? &t->all[number] : NULL;
}
