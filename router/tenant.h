/* tenant: what each tenant has taken, and whether it may take more.
 *
 * Tenants have small numbers (auth.h). One that was never given limits has none. Rates are token
 * buckets that hold one minute's worth and fill all the time: a request takes what it probably
 * costs when it queues, and what it did cost is put right when it ends, so that a bucket may be
 * overdrawn. What costs more than the whole bucket may go when that is full.
 *
 * Time is given. O(1) each. Loop thread. */
#ifndef GAGGLE_ROUTER_TENANT_H
#define GAGGLE_ROUTER_TENANT_H

#include <stdbool.h>

#include "common/status.h"
#include "router/tenant_limits.h"

typedef struct tenant_table tenant_table;

#define TENANT_UNKNOWN UINT32_MAX /* of a request that a former router admitted: no limits */

tenant_table *tenant_table_create(void);
void tenant_table_destroy(tenant_table *t); /* NULL is fine */

/* Give it these limits from now on; what it has taken stays taken. number < LIMIT_TENANT_NUMBERS.
 */
void tenant_set_limits(tenant_table *t, uint32_t number, const tenant_limits *limits,
                       uint64_t now_ms);

uint32_t tenant_weight(const tenant_table *t, uint32_t number); /* never 0 */
int32_t tenant_class_max(const tenant_table *t, uint32_t number);
uint32_t tenant_queued(const tenant_table *t, uint32_t number);
uint32_t tenant_running(const tenant_table *t, uint32_t number);

/* May it queue one more, of about `tokens`? ST_RESOURCE_EXHAUSTED names limit and value;
 * retry_after_ms is what the bucket needs, 0 when the queue is what must get shorter. */
MUST_USE status tenant_check(const tenant_table *t, uint32_t number, uint32_t tokens,
                             uint64_t now_ms, error *err);
/* May one of those that wait run? Those that come back (`again`) keep their places among those that
 * run, so that no other takes them. */
bool tenant_may_run(const tenant_table *t, uint32_t number, bool again);

/* One request's way: enter, then leave; or enter, start, end. `again`: it comes back from a worker
 * that was lost, and its tenant is not charged for another request. */
void tenant_enter(tenant_table *t, uint32_t number, uint32_t tokens, bool again, uint64_t now_ms);
void tenant_leave(tenant_table *t, uint32_t number, uint32_t tokens, bool again, uint64_t now_ms);
void tenant_start(tenant_table *t, uint32_t number, bool again);
void tenant_end(tenant_table *t, uint32_t number, uint32_t charged, uint32_t actual,
                uint64_t now_ms);

#endif
