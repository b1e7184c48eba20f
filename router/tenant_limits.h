/* tenant_limits: what one tenant may take of a router. Plain values; 0 = no limit. */
#ifndef GAGGLE_ROUTER_TENANT_LIMITS_H
#define GAGGLE_ROUTER_TENANT_LIMITS_H

#include <stdint.h>

#include "common/limits.h"

typedef struct tenant_limits {
    uint32_t weight; /* share among tenants that wait, 1..LIMIT_TENANT_WEIGHT */
    uint32_t requests_per_minute;
    uint64_t tokens_per_minute; /* of prompts and answers */
    uint32_t concurrent;        /* requests that run */
    uint32_t queued;            /* requests that wait */
    int32_t class_max;          /* highest class: 1 interactive, 0 standard, -1 batch */
} tenant_limits;

#define TENANT_LIMITS_NONE                                                                         \
    {                                                                                              \
        .weight = LIMIT_TENANT_WEIGHT_DEFAULT, .class_max = 1                                      \
    }

#endif
