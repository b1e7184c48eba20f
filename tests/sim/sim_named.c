#include "tests/sim/sim_named.h"

#include <stddef.h>

const sim_named_seed sim_named_seeds[] = {
    {0, NULL, NULL},
};
