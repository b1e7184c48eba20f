/* sim_named: seeds that found something, so that it stays found.
 *
 * A seed's cluster, wishes and troubles are fixed (sim_draw_for), its timing is not quite: it
 * depends on what the product sends. Whoever changes what is drawn (sim_draw.c, sim_trouble.c)
 * finds new seeds for these by putting the bug back in. */
#ifndef GAGGLE_TESTS_SIM_NAMED_H
#define GAGGLE_TESTS_SIM_NAMED_H

#include <stdint.h>

typedef struct sim_named_seed {
    uint64_t seed;
    const char *name;
    const char *what; /* it was, and how it showed */
} sim_named_seed;

extern const sim_named_seed sim_named_seeds[]; /* ended by a NULL name */

#endif
