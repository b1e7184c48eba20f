/* ordered_set: things in order of (key, order), least first, with the sum of their amounts.
 *
 * A treap (Seidel and Aragon 1996): a search tree over the keys that is a heap over random ranks,
 * so that it is about 2 ln n deep whatever the keys are. The nodes lie in the caller's structs, and
 * the caller brings the ranks: they must be random to whoever chooses the keys, for the functions
 * recurse to the tree's depth. O(log n) each; a node is in one set at a time. Loop thread. */
#ifndef GAGGLE_ROUTER_ORDERED_SET_H
#define GAGGLE_ROUTER_ORDERED_SET_H

#include <stdint.h>

typedef struct ordered_node {
    struct ordered_node *left, *right;
    uint64_t key, order; /* no two of a set agree in both */
    uint64_t sum;        /* of the amounts from here down */
    uint32_t amount;
    uint32_t rank;
} ordered_node;

typedef struct ordered_set {
    ordered_node *root;
} ordered_set; /* {0} is empty */

/* The caller has set key, order and amount. */
void ordered_set_add(ordered_set *s, ordered_node *n, uint32_t rank);
void ordered_set_remove(ordered_set *s, ordered_node *n); /* it is in it */

ordered_node *ordered_set_first(const ordered_set *s); /* NULL: empty */
/* The first one not before (key, order), or NULL. */
ordered_node *ordered_set_at(const ordered_set *s, uint64_t key, uint64_t order);
/* Of the amounts of those before (key, order), and of all. */
uint64_t ordered_set_sum_before(const ordered_set *s, uint64_t key, uint64_t order);
uint64_t ordered_set_sum(const ordered_set *s);

#endif
