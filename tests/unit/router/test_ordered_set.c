/* Goal: an ordered set is in order, whatever comes and goes, and its sums are right.
 * Method: random steps beside a plain sorted array; keys that would make an unbalanced tree deep.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/ordered_set.h"
#include "tests/unit/worker/engine/test_random.h"

enum { NODES = 300 };

static int compare(const ordered_node *a, const ordered_node *b)
{
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

typedef struct model {
    ordered_node *sorted[NODES];
    uint32_t count;
} model;

static uint32_t model_at(const model *m, const ordered_node *n)
{
    uint32_t at = 0;
    while (at < m->count && compare(m->sorted[at], n) < 0)
        at++;
    return at;
}

static void check_nodes(const ordered_node *n, const model *m, uint32_t *at)
{
    if (n == NULL) return;
    check_nodes(n->left, m, at);
    assert_ptr_equal(n, m->sorted[*at]);
    ++*at;
    check_nodes(n->right, m, at);
}

static void check(const ordered_set *s, const model *m, test_random *random)
{
    uint32_t at = 0;
    check_nodes(s->root, m, &at);
    assert_int_equal(at, m->count);
    assert_ptr_equal(ordered_set_first(s), m->count > 0 ? m->sorted[0] : NULL);
    ordered_node probe = {.key = random_below(random, 22), .order = random_below(random, NODES)};
    at = model_at(m, &probe);
    assert_ptr_equal(ordered_set_at(s, probe.key, probe.order),
                     at < m->count ? m->sorted[at] : NULL);
    uint64_t before = 0, all = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        all += m->sorted[i]->amount;
        if (i < at) before += m->sorted[i]->amount;
    }
    assert_int_equal(ordered_set_sum_before(s, probe.key, probe.order), before);
    assert_int_equal(ordered_set_sum(s), all);
}

static void test_random_steps_agree_with_a_sorted_array(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        test_random random = {seed};
        ordered_node nodes[NODES] = {0};
        bool in[NODES] = {false};
        ordered_set s = {0};
        model m = {.count = 0};
        uint32_t most = random_between(&random, 1, NODES);
        for (int step = 0; step < 3000; step++) {
            uint32_t i = random_below(&random, most);
            ordered_node *n = &nodes[i];
            if (!in[i]) {
                *n = (ordered_node){.key = random_below(&random, 20),
                                    .order = i,
                                    .amount = random_below(&random, 3) == 0
                                                  ? UINT32_MAX
                                                  : random_below(&random, 100)};
                uint32_t at = model_at(&m, n);
                for (uint32_t j = m.count++; j > at; j--)
                    m.sorted[j] = m.sorted[j - 1];
                m.sorted[at] = n;
                /* equal ranks must do no harm */
                ordered_set_add(&s, n, random_below(&random, 50));
            } else {
                uint32_t at = model_at(&m, n);
                m.count--;
                for (uint32_t j = at; j < m.count; j++)
                    m.sorted[j] = m.sorted[j + 1];
                ordered_set_remove(&s, n);
            }
            in[i] = !in[i];
            check(&s, &m, &random);
        }
    }
}

static uint32_t depth(const ordered_node *n)
{
    if (n == NULL) return 0;
    uint32_t left = depth(n->left), right = depth(n->right);
    return 1 + (left > right ? left : right);
}

static void test_sorted_keys_do_not_make_it_deep(void **state)
{
    (void)state;
    enum { MANY = 65536 };
    ordered_node *nodes = test_calloc(MANY, sizeof *nodes);
    test_random random = {7};
    ordered_set s = {0};
    for (uint32_t i = 0; i < MANY; i++) {
        nodes[i].key = i;
        ordered_set_add(&s, &nodes[i], (uint32_t)random_next(&random));
    }
    assert_in_range(depth(s.root), 17, 64);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_ptr_equal(ordered_set_first(&s), &nodes[i]);
        ordered_set_remove(&s, &nodes[i]);
    }
    assert_null(s.root);
    test_free(nodes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_steps_agree_with_a_sorted_array),
        cmocka_unit_test(test_sorted_keys_do_not_make_it_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
