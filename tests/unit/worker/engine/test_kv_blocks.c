/* Goal: blocks are taken all or none, counted, and never in two hands by mistake; the cache finds a
 * prefix exactly while it is kept, drops what was idle longest, and never an ancestor before its
 * child.
 * Method: thousands of random steps against simple models, every invariant checked at each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/worker/engine/test_random.h"
#include "worker/engine/prefix_cache.h"

/* -- kv_blocks against an array of counts -------------------------------------------------- */

static void test_blocks_are_counted_like_the_model(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        enum { MOST = 40 };
        test_random r = {seed};
        uint32_t count = random_between(&r, 1, MOST), model[MOST] = {0}, free_count = count;
        kv_blocks *kv = kv_blocks_create(count);
        for (uint32_t step = 0; step < 3000; step++) {
            uint32_t id = random_below(&r, count), what = random_below(&r, 3);
            if (what == 0) {
                uint32_t wanted = random_below(&r, count + 2), ids[MOST + 2];
                memset(ids, 0xEE, sizeof ids);
                status st = kv_blocks_take(kv, wanted, ids);
                assert_int_equal(st, wanted <= free_count ? ST_OK : ST_RESOURCE_EXHAUSTED);
                for (uint32_t i = 0; i < wanted; i++) {
                    if (st != ST_OK) {
                        assert_int_equal(ids[i], 0xEEEEEEEE);
                        continue;
                    }
                    assert_int_equal(model[ids[i]], 0);
                    model[ids[i]] = 1;
                    free_count--;
                }
            } else if (what == 1 && model[id] > 0) {
                kv_blocks_share(kv, id);
                model[id]++;
            } else if (model[id] > 0) {
                kv_blocks_release(kv, id);
                if (--model[id] == 0) free_count++;
            }
            assert_int_equal(kv_blocks_free_count(kv), free_count);
            for (uint32_t i = 0; i < count; i++)
                assert_int_equal(kv_blocks_references(kv, i), model[i]);
            kv_blocks_verify(kv);
        }
        kv_blocks_destroy(kv);
    }
}

/* -- prefix_cache against a list of prefixes ------------------------------------------------ */

enum { DEPTH = 6, BLOCKS_MAX = 40, HOLDERS = 8 };

static const id128 no_salt;

/* A prefix of n blocks is n letters under a salt; block k of it is 16 times letter k. */
typedef struct kept {
    char letters[DEPTH + 1]; /* empty: this block is not published */
    id128 salt;
    uint32_t holders;
    uint64_t idle_since;
} kept;

typedef struct holder {
    char letters[DEPTH + 1];
    id128 salt;
    uint32_t blocks[DEPTH];
    uint32_t count, published;
} holder;

typedef struct cache_model {
    kept kept[BLOCKS_MAX]; /* by block */
    bool in_use[BLOCKS_MAX];
    uint32_t count;
    uint64_t clock;
} cache_model;

static void tokens_of(char letter, uint32_t tokens[LIMIT_KV_BLOCK_TOKENS])
{
    for (uint32_t i = 0; i < LIMIT_KV_BLOCK_TOKENS; i++)
        tokens[i] = (uint32_t)letter;
}

static bool is_prefix(const kept *k, const holder *h, uint32_t count)
{
    return strlen(k->letters) == count && memcmp(k->letters, h->letters, count) == 0 &&
           id128_equal(&k->salt, &h->salt);
}

static uint32_t model_find(const cache_model *m, const holder *h, uint32_t count)
{
    for (uint32_t id = 0; id < m->count; id++)
        if (is_prefix(&m->kept[id], h, count)) return id;
    return KV_BLOCK_NONE;
}

static uint32_t model_available(const cache_model *m)
{
    uint32_t available = 0;
    for (uint32_t id = 0; id < m->count; id++)
        available += !m->in_use[id] || (m->kept[id].letters[0] != '\0' && m->kept[id].holders == 0);
    return available;
}

static uint64_t model_oldest(const cache_model *m)
{
    uint64_t oldest = 0;
    for (uint32_t id = 0; id < m->count; id++) {
        const kept *k = &m->kept[id];
        if (k->letters[0] == '\0' || k->holders > 0) continue;
        if (oldest == 0 || k->idle_since < oldest) oldest = k->idle_since;
    }
    return oldest;
}

/* What taking `wanted` blocks drops. */
static void model_make_room(cache_model *m, uint32_t wanted)
{
    for (;;) {
        uint32_t free_count = 0, oldest = KV_BLOCK_NONE;
        for (uint32_t id = 0; id < m->count; id++) {
            const kept *k = &m->kept[id];
            free_count += !m->in_use[id];
            if (k->letters[0] == '\0' || k->holders > 0) continue;
            if (oldest == KV_BLOCK_NONE || k->idle_since < m->kept[oldest].idle_since) oldest = id;
        }
        if (free_count >= wanted) return;
        m->kept[oldest].letters[0] = '\0';
        m->in_use[oldest] = false;
    }
}

static uint32_t parent_of(const holder *h, uint32_t index)
{
    return index > 0 ? h->blocks[index - 1] : KV_BLOCK_NONE;
}

/* A sequence begins: it shares what it finds and takes the rest. */
static void hold(prefix_cache *c, cache_model *m, holder *h, test_random *r)
{
    uint32_t length = random_between(r, 1, DEPTH), tokens[LIMIT_KV_BLOCK_TOKENS];
    for (uint32_t i = 0; i < length; i++)
        h->letters[i] = (char)('a' + random_below(r, 2));
    h->letters[length] = '\0';
    h->salt.bytes[sizeof h->salt.bytes - 1] = (uint8_t)random_below(r, 2);
    for (; h->count < length; h->count++) {
        tokens_of(h->letters[h->count], tokens);
        uint32_t found = prefix_cache_find(c, &h->salt, parent_of(h, h->count), tokens);
        assert_int_equal(found, model_find(m, h, h->count + 1));
        if (found == KV_BLOCK_NONE) break;
        m->kept[found].holders++;
        h->blocks[h->count] = found;
    }
    h->published = h->count;
    uint32_t rest = length - h->count;
    bool fits = rest <= model_available(m);
    status st = prefix_cache_take(c, rest, &h->blocks[h->count]);
    assert_int_equal(st, fits ? ST_OK : ST_RESOURCE_EXHAUSTED);
    if (!fits) return;
    model_make_room(m, rest);
    for (; h->count < length; h->count++) {
        assert_false(m->in_use[h->blocks[h->count]]);
        m->in_use[h->blocks[h->count]] = true;
    }
}

static void publish_one(prefix_cache *c, cache_model *m, holder *h)
{
    uint32_t i = h->published, own = h->blocks[i], tokens[LIMIT_KV_BLOCK_TOKENS];
    tokens_of(h->letters[i], tokens);
    uint32_t equal = model_find(m, h, i + 1);
    h->blocks[i] = prefix_cache_publish(c, &h->salt, parent_of(h, i), tokens, own);
    assert_int_equal(h->blocks[i], equal != KV_BLOCK_NONE ? equal : own);
    kept *k = &m->kept[h->blocks[i]];
    if (equal != KV_BLOCK_NONE) {
        m->in_use[own] = false;
    } else {
        memcpy(k->letters, h->letters, i + 1);
        k->letters[i + 1] = '\0';
        k->salt = h->salt;
        k->holders = 0;
    }
    k->holders++;
    h->published++;
}

static void let_go(prefix_cache *c, cache_model *m, holder *h)
{
    while (h->count > 0) {
        uint32_t id = h->blocks[--h->count];
        prefix_cache_set_time(c, m->clock + 1);
        prefix_cache_release(c, id);
        if (h->count >= h->published)
            m->in_use[id] = false;
        else if (--m->kept[id].holders == 0)
            m->kept[id].idle_since = ++m->clock;
    }
    h->published = 0;
}

static void test_cache_keeps_what_the_model_keeps(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        test_random r = {seed};
        cache_model m = {.count = random_between(&r, 4, BLOCKS_MAX)};
        kv_blocks *kv = kv_blocks_create(m.count);
        prefix_cache *c = prefix_cache_create(kv, true);
        holder holders[HOLDERS] = {0};
        for (uint32_t step = 0; step < 3000; step++) {
            holder *h = &holders[random_below(&r, HOLDERS)];
            if (h->count == 0)
                hold(c, &m, h, &r);
            else if (h->published < h->count && random_below(&r, 4))
                publish_one(c, &m, h);
            else
                let_go(c, &m, h);
            assert_int_equal(prefix_cache_available(c), model_available(&m));
            assert_int_equal(prefix_cache_oldest_us(c), model_oldest(&m));
            prefix_cache_verify(c);
        }
        for (uint32_t i = 0; i < HOLDERS; i++)
            let_go(c, &m, &holders[i]);
        assert_int_equal(prefix_cache_available(c), m.count);
        prefix_cache_destroy(c);
        kv_blocks_destroy(kv);
    }
}

static void test_disabled_cache_finds_nothing_and_keeps_nothing(void **state)
{
    (void)state;
    kv_blocks *kv = kv_blocks_create(3);
    prefix_cache *c = prefix_cache_create(kv, false);
    uint32_t block, tokens[LIMIT_KV_BLOCK_TOKENS];
    tokens_of('a', tokens);
    assert_int_equal(prefix_cache_take(c, 1, &block), ST_OK);
    assert_int_equal(prefix_cache_publish(c, &no_salt, KV_BLOCK_NONE, tokens, block), block);
    assert_int_equal(prefix_cache_find(c, &no_salt, KV_BLOCK_NONE, tokens), KV_BLOCK_NONE);
    prefix_cache_release(c, block);
    assert_int_equal(kv_blocks_free_count(kv), 3);
    prefix_cache_verify(c);
    prefix_cache_destroy(c);
    kv_blocks_destroy(kv);
}

/* The same 16 tokens behind different prefixes are different blocks. */
static void test_equal_tokens_behind_other_prefixes_are_not_found(void **state)
{
    (void)state;
    kv_blocks *kv = kv_blocks_create(8);
    prefix_cache *c = prefix_cache_create(kv, true);
    uint32_t blocks[3], a[LIMIT_KV_BLOCK_TOKENS], b[LIMIT_KV_BLOCK_TOKENS];
    tokens_of('a', a);
    tokens_of('b', b);
    assert_int_equal(prefix_cache_take(c, 3, blocks), ST_OK);
    assert_int_equal(prefix_cache_publish(c, &no_salt, KV_BLOCK_NONE, a, blocks[0]), blocks[0]);
    assert_int_equal(prefix_cache_publish(c, &no_salt, blocks[0], a, blocks[1]), blocks[1]);
    assert_int_equal(prefix_cache_publish(c, &no_salt, KV_BLOCK_NONE, b, blocks[2]), blocks[2]);
    assert_int_equal(prefix_cache_find(c, &no_salt, blocks[2], a), KV_BLOCK_NONE);
    assert_int_equal(prefix_cache_find(c, &no_salt, blocks[1], a), KV_BLOCK_NONE);
    assert_int_equal(prefix_cache_find(c, &no_salt, blocks[0], a), blocks[1]);
    prefix_cache_release(c, blocks[1]);
    for (uint32_t i = 3; i-- > 0;)
        prefix_cache_release(c, blocks[i]);
    prefix_cache_verify(c);
    prefix_cache_destroy(c);
    kv_blocks_destroy(kv);
}

/* Two tenants ask the same: each has a tree of its own. */
static void test_equal_tokens_under_two_salts_share_nothing(void **state)
{
    (void)state;
    kv_blocks *kv = kv_blocks_create(8);
    prefix_cache *c = prefix_cache_create(kv, true);
    const id128 salts[3] = {{{0}}, {{1}}, {.bytes = {[15] = 1}}};
    uint32_t blocks[3][2], tokens[LIMIT_KV_BLOCK_TOKENS];
    tokens_of('a', tokens);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(prefix_cache_find(c, &salts[i], KV_BLOCK_NONE, tokens), KV_BLOCK_NONE);
        assert_int_equal(prefix_cache_take(c, 2, blocks[i]), ST_OK);
        for (uint32_t k = 0; k < 2; k++)
            assert_int_equal(prefix_cache_publish(c, &salts[i],
                                                  k > 0 ? blocks[i][0] : KV_BLOCK_NONE, tokens,
                                                  blocks[i][k]),
                             blocks[i][k]);
        prefix_cache_verify(c);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(prefix_cache_find(c, &salts[i], KV_BLOCK_NONE, tokens), blocks[i][0]);
        assert_int_equal(prefix_cache_find(c, &salts[i], blocks[i][0], tokens), blocks[i][1]);
        for (uint32_t times = 0; times < 2; times++) {
            prefix_cache_release(c, blocks[i][1]);
            prefix_cache_release(c, blocks[i][0]);
        }
    }
    prefix_cache_verify(c);
    prefix_cache_destroy(c);
    kv_blocks_destroy(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_are_counted_like_the_model),
        cmocka_unit_test(test_cache_keeps_what_the_model_keeps),
        cmocka_unit_test(test_disabled_cache_finds_nothing_and_keeps_nothing),
        cmocka_unit_test(test_equal_tokens_behind_other_prefixes_are_not_found),
        cmocka_unit_test(test_equal_tokens_under_two_salts_share_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
