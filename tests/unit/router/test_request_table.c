/* Goal: a known request is found by its id and by its client's number, a forgotten one never.
 * Each is due when its time has come, and not before. Method: thousands of random steps beside a
 * plain list. Few ids and tables as full as they get make long runs of colliding entries, which is
 * where removal goes wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "router/request_table.h"
#include "tests/unit/worker/engine/test_random.h"

enum { ENTRIES_MAX = 3000, CLIENTS = 3 };

static char clients[CLIENTS];

static struct core_link *client_at(uint32_t i)
{
    return (struct core_link *)(void *)&clients[i];
}

typedef struct entry {
    bool known;
    id128 id;
    struct core_link *client;
    uint32_t stream;
    uint64_t time_ms;
    request *r;
} entry;

enum { TIMES = 50 };

typedef struct model {
    entry all[ENTRIES_MAX]; /* one for each id there is */
    uint32_t count;
    size_t known;
    request_table *table;
    test_random random;
} model;

static entry *model_stream(model *m, const struct core_link *client, uint32_t stream)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (m->all[i].known && m->all[i].client == client && m->all[i].stream == stream)
            return &m->all[i];
    return NULL;
}

static void check_entry(model *m, const entry *e)
{
    assert_ptr_equal(request_table_find(m->table, &e->id), e->known ? e->r : NULL);
    if (!e->known) return;
    assert_true(id128_equal(&e->r->id, &e->id));
    assert_ptr_equal(e->r->client, e->client);
    if (e->client != NULL)
        assert_ptr_equal(request_table_find_stream(m->table, e->client, e->stream), e->r);
}

static void check_all(model *m)
{
    assert_int_equal(request_table_count(m->table), m->known);
    for (uint32_t i = 0; i < m->count; i++)
        check_entry(m, &m->all[i]);
    size_t seen = 0;
    for (uint32_t i = 0; i < request_table_end(m->table); i++) {
        const request *r = request_table_at(m->table, i);
        if (r == NULL) continue;
        seen++;
        assert_int_equal(r->number, i);
        assert_ptr_equal(request_table_find(m->table, &r->id), r);
    }
    assert_int_equal(seen, m->known);
    uint64_t now_ms = random_below(&m->random, TIMES);
    size_t due = 0, expected = 0;
    for (uint32_t i = 0; i < m->count; i++)
        expected += m->all[i].known && m->all[i].time_ms <= now_ms;
    const request *r;
    for (uint32_t from = 0; (r = request_table_due(m->table, from, now_ms)) != NULL; due++)
        from = r->number + 1;
    assert_int_equal(due, expected);
    /* Numbers that nobody has, or had. */
    for (uint32_t i = 0; i < 20; i++) {
        uint32_t stream = random_below(&m->random, 2 * m->count);
        struct core_link *client = client_at(random_below(&m->random, CLIENTS));
        const entry *e = model_stream(m, client, stream);
        assert_ptr_equal(request_table_find_stream(m->table, client, stream),
                         e != NULL ? e->r : NULL);
    }
}

static void attach_at_random(model *m, entry *e)
{
    struct core_link *client = client_at(random_below(&m->random, CLIENTS));
    uint32_t stream = random_below(&m->random, 2 * m->count);
    const entry *holder = model_stream(m, client, stream);
    if (holder != NULL && holder != e) return;
    request_table_attach(m->table, e->r, client, stream);
    e->client = client;
    e->stream = stream;
}

static void step(model *m, uint32_t leave_percent)
{
    entry *e = &m->all[random_below(&m->random, m->count)];
    if (!e->known) {
        e->r = request_table_add(m->table, &e->id);
        assert_non_null(e->r);
        assert_null(e->r->client);
        assert_null(e->r->submit);
        assert_int_equal(e->r->next, 0);
        e->known = true;
        e->time_ms = 0;
        e->client = NULL;
        m->known++;
        if (random_below(&m->random, 4) > 0) attach_at_random(m, e);
    } else if (random_below(&m->random, 100) < leave_percent) {
        /* What it owns goes with it: a sanitizer would tell. */
        if (random_below(&m->random, 2) == 0) e->r->submit = mem_calloc(1, sizeof(kept_submit) + 9);
        if (random_below(&m->random, 2) == 0) e->r->failure = mem_calloc(1, sizeof(error));
        request_table_remove(m->table, e->r);
        e->known = false;
        m->known--;
    } else if (random_below(&m->random, 3) == 0) {
        e->time_ms = random_below(&m->random, TIMES);
        request_table_wake_at(m->table, e->r, e->time_ms);
    } else if (random_below(&m->random, 3) == 0) {
        request_table_attach(m->table, e->r, NULL, 0);
        e->client = NULL;
    } else {
        attach_at_random(m, e);
    }
}

static void run(uint32_t ids, uint64_t seed, uint32_t steps, uint32_t check_each)
{
    static model m;
    m = (model){.count = ids, .table = request_table_create(seed), .random = {seed}};
    for (uint32_t i = 0; i < ids; i++) {
        uint64_t halves[2] = {random_next(&m.random), random_next(&m.random)};
        if (i % 2 == 0) halves[0] = i; /* ids that differ in few bits */
        if (i % 2 == 0) halves[1] = 0;
        memcpy(m.all[i].id.bytes, halves, sizeof m.all[i].id.bytes);
    }
    for (uint32_t i = 0; i < steps; i++) {
        step(&m, i < steps / 2 ? 20 : 60);
        if (i % check_each == 0) check_all(&m);
    }
    check_all(&m);
    request_table_destroy(m.table);
}

static void test_small_full_tables_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++)
        run(30 + (uint32_t)seed, seed, 3000, 3); /* up to the table's filling and beyond */
}

static void test_large_tables_lose_nothing(void **state)
{
    (void)state;
    run(ENTRIES_MAX, 1, 60000, 3001);
}

static void test_an_empty_table_finds_nothing(void **state)
{
    (void)state;
    request_table *t = request_table_create(1);
    const id128 id = {{1}};
    assert_null(request_table_find(t, &id));
    assert_null(request_table_find_stream(t, client_at(0), 1));
    assert_int_equal(request_table_count(t), 0);
    request *r = request_table_add(t, &id);
    assert_null(request_table_find_stream(t, client_at(0), 0));
    request_table_remove(t, r);
    assert_null(request_table_find(t, &id));
    request_table_destroy(t);
    request_table_destroy(NULL);
}

static void test_one_number_of_two_clients_is_two_requests(void **state)
{
    (void)state;
    request_table *t = request_table_create(7);
    const id128 one = {{1}}, two = {{2}};
    request *first = request_table_add(t, &one), *second = request_table_add(t, &two);
    request_table_attach(t, first, client_at(0), 5);
    request_table_attach(t, second, client_at(1), 5);
    assert_ptr_equal(request_table_find_stream(t, client_at(0), 5), first);
    assert_ptr_equal(request_table_find_stream(t, client_at(1), 5), second);
    request_table_attach(t, first, client_at(0), 5); /* again: the same */
    assert_ptr_equal(request_table_find_stream(t, client_at(0), 5), first);
    request_table_attach(t, first, client_at(0), 6);
    assert_null(request_table_find_stream(t, client_at(0), 5));
    assert_ptr_equal(request_table_find_stream(t, client_at(0), 6), first);
    request_table_destroy(t);
}

static void test_the_table_is_bounded(void **state)
{
    (void)state;
    request_table *t = request_table_create(3);
    id128 id = {0};
    for (uint32_t i = 0; i < LIMIT_REQUESTS; i++) {
        memcpy(id.bytes, &i, sizeof i);
        request *r = request_table_add(t, &id);
        assert_non_null(r);
        request_table_attach(t, r, client_at(i % CLIENTS), i);
    }
    const id128 more = {{0xff, 0xff, 0xff, 0xff}};
    assert_null(request_table_add(t, &more));
    assert_null(request_table_find(t, &more));
    assert_int_equal(request_table_count(t), LIMIT_REQUESTS);
    for (uint32_t i = 0; i < LIMIT_REQUESTS; i += 97) {
        memcpy(id.bytes, &i, sizeof i);
        request *r = request_table_find(t, &id);
        assert_non_null(r);
        assert_ptr_equal(request_table_find_stream(t, client_at(i % CLIENTS), i), r);
    }
    request_table_remove(t, request_table_find(t, &id));
    assert_non_null(request_table_add(t, &more));
    request_table_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_full_tables_lose_nothing),
        cmocka_unit_test(test_large_tables_lose_nothing),
        cmocka_unit_test(test_an_empty_table_finds_nothing),
        cmocka_unit_test(test_one_number_of_two_clients_is_two_requests),
        cmocka_unit_test(test_the_table_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
