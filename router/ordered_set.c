#include "router/ordered_set.h"

#include <stdbool.h>
#include <stddef.h>

#include "common/check.h"

static bool is_before(const ordered_node *n, uint64_t key, uint64_t order)
{
    return n->key < key || (n->key == key && n->order < order);
}

static uint64_t sum_of(const ordered_node *n)
{
    return n != NULL ? n->sum : 0;
}

static void add_up(ordered_node *n)
{
    n->sum = sum_of(n->left) + n->amount + sum_of(n->right);
}

/* Those before (key, order) go to *before, the others to *rest. */
static void split(ordered_node *n, uint64_t key, uint64_t order, ordered_node **before,
                  ordered_node **rest)
{
    if (n == NULL) {
        *before = *rest = NULL;
        return;
    }
    if (is_before(n, key, order)) {
        split(n->right, key, order, &n->right, rest);
        *before = n;
    } else {
        split(n->left, key, order, before, &n->left);
        *rest = n;
    }
    add_up(n);
}

/* Everything of `before` comes before everything of `after`. */
static ordered_node *join(ordered_node *before, ordered_node *after)
{
    if (before == NULL) return after;
    if (after == NULL) return before;
    ordered_node *top = before->rank > after->rank ? before : after;
    if (top == before)
        top->right = join(before->right, after);
    else
        top->left = join(before, after->left);
    add_up(top);
    return top;
}

static void add(ordered_node **at, ordered_node *n)
{
    ordered_node *here = *at;
    if (here == NULL || n->rank > here->rank) {
        split(here, n->key, n->order, &n->left, &n->right);
        *at = n;
        add_up(n);
        return;
    }
    add(is_before(here, n->key, n->order) ? &here->right : &here->left, n);
    add_up(here);
}

void ordered_set_add(ordered_set *s, ordered_node *n, uint32_t rank)
{
    n->rank = rank;
    add(&s->root, n);
}

static void take_out(ordered_node **at, const ordered_node *n)
{
    ordered_node *here = *at;
    CHECK(here != NULL);
    if (here == n) {
        *at = join(here->left, here->right);
        return;
    }
    take_out(is_before(here, n->key, n->order) ? &here->right : &here->left, n);
    add_up(here);
}

void ordered_set_remove(ordered_set *s, ordered_node *n)
{
    take_out(&s->root, n);
    n->left = n->right = NULL;
}

ordered_node *ordered_set_first(const ordered_set *s)
{
    ordered_node *n = s->root;
    while (n != NULL && n->left != NULL)
        n = n->left;
    return n;
}

ordered_node *ordered_set_at(const ordered_set *s, uint64_t key, uint64_t order)
{
    ordered_node *found = NULL;
    for (ordered_node *n = s->root; n != NULL;) {
        bool before = is_before(n, key, order);
        if (!before) found = n;
        n = before ? n->right : n->left;
    }
    return found;
}

uint64_t ordered_set_sum_before(const ordered_set *s, uint64_t key, uint64_t order)
{
    uint64_t sum = 0;
    for (const ordered_node *n = s->root; n != NULL;) {
        bool before = is_before(n, key, order);
        if (before) sum += sum_of(n->left) + n->amount;
        n = before ? n->right : n->left;
    }
    return sum;
}

uint64_t ordered_set_sum(const ordered_set *s)
{
    return sum_of(s->root);
}
