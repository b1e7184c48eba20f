/* The order of those who wait. What goes where:
 *
 *   queue.ready            models, by virtual time: not blocked, and somebody could go
 *     model.lanes[class]   three; the one with the smallest virtual time
 *       lane.returned      first of all, as they came back
 *       lane.ready         flows, by virtual time: the tenants that have entries and may run more
 *         flow.entries     by deadline and arrival
 *     model.held           what the caller found no room for, while others of the model may go
 *   queue.parked           flows whose tenant runs as many as it may
 *   queue.parked_again     entries that came back, the same
 *   queue.halted           models that are blocked or hold some back
 *   queue.idle_*           flows with nothing here, oldest first
 *
 * A flow without requests stays known, since its virtual time may be ahead of the others': who
 * sends one request after the other would else be next each time. When too many are known the
 * oldest is forgotten and its lane's clock put forward to its time, so that it gains nothing. When
 * nothing waits and nothing runs in a lane, nobody is ahead of anybody any more. */
#include <xxhash.h>

#include "common/check.h"
#include "common/mem.h"
#include "router/queue_internal.h"

const uint32_t queue_class_weights[QUEUE_CLASSES] = {16, 4, 1};

_Static_assert(sizeof(queue_entry) <= 128, "as queue.h says");
_Static_assert(sizeof(queue_flow) <= 184, "as queue.h says");

static queue_flow *flow_of_ready(ordered_node *n)
{
    return OWNER(queue_flow, ready, n);
}

static queue_entry *entry_of(ordered_node *n)
{
    return OWNER(queue_entry, node, n);
}

static queue_entry *first_entry(const queue_flow *f)
{
    ordered_node *n = ordered_set_first(&f->entries);
    return n != NULL ? entry_of(n) : NULL;
}

/* splitmix64 (Steele, Lea, Flood 2014): ranks in the trees. */
static uint32_t next_rank(queue *q)
{
    uint64_t z = (q->random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

/* -- who is ready ------------------------------------------------------------------------ */

static bool lane_is_ready(const queue_lane *l)
{
    return l->returned.root != NULL || l->ready.root != NULL;
}

static bool model_is_ready(const queue_model *m)
{
    for (int i = 0; i < QUEUE_CLASSES; i++)
        if (lane_is_ready(&m->lanes[i])) return true;
    return false;
}

/* Put it where it belongs after anything about it changed. */
static void model_refresh(queue *q, queue_model *m)
{
    bool ready = !m->is_blocked && model_is_ready(m);
    if (ready == m->is_ready && (!ready || m->ready.key == m->account.time)) return;
    if (m->is_ready) ordered_set_remove(&q->ready, &m->ready);
    m->is_ready = ready;
    if (!ready) return;
    m->ready.key = m->account.time;
    m->ready.order = ++q->sequence;
    ordered_set_add(&q->ready, &m->ready, next_rank(q));
}

static void flow_refresh(queue *q, queue_flow *f)
{
    queue_lane *l = f->lane;
    bool has_entries = f->entries.root != NULL;
    if (f->is_parked && !has_entries) {
        ordered_set_remove(&q->parked, &f->ready);
        f->is_parked = false;
    }
    bool ready = has_entries && !f->is_parked;
    if (ready == f->is_ready && (!ready || f->ready.key == f->account.time)) return;
    if (f->is_ready) ordered_set_remove(&l->ready, &f->ready);
    f->is_ready = ready;
    if (!ready) return;
    f->ready.key = f->account.time;
    f->ready.order = ++q->sequence;
    f->ready.amount = tenant_weight(q->tenants, f->tenant);
    ordered_set_add(&l->ready, &f->ready, next_rank(q));
}

static void flow_park(queue *q, queue_flow *f)
{
    ordered_set_remove(&f->lane->ready, &f->ready);
    f->is_ready = false;
    f->is_parked = true;
    f->ready.key = f->tenant;
    f->ready.order = ++q->sequence;
    ordered_set_add(&q->parked, &f->ready, next_rank(q));
}

static void flow_unpark(queue *q, queue_flow *f)
{
    ordered_set_remove(&q->parked, &f->ready);
    f->is_parked = false;
    flow_refresh(q, f);
    model_refresh(q, f->lane->model);
}

static void entry_park(queue *q, queue_entry *e)
{
    ordered_set_remove(&e->flow->lane->returned, &e->node);
    e->is_parked = true;
    e->node.key = e->flow->tenant;
    ordered_set_add(&q->parked_again, &e->node, next_rank(q));
}

static void entry_unpark(queue *q, queue_entry *e)
{
    ordered_set_remove(&q->parked_again, &e->node);
    e->is_parked = false;
    e->node.key = 0;
    ordered_set_add(&e->flow->lane->returned, &e->node, next_rank(q));
    model_refresh(q, e->flow->lane->model);
}

static void unpark_tenant(queue *q, uint32_t tenant)
{
    ordered_node *n;
    while ((n = ordered_set_at(&q->parked_again, tenant, 0)) != NULL && n->key == tenant)
        entry_unpark(q, entry_of(n));
    while ((n = ordered_set_at(&q->parked, tenant, 0)) != NULL && n->key == tenant)
        flow_unpark(q, flow_of_ready(n));
}

/* -- models and flows -------------------------------------------------------------------- */

queue_model *queue_find_model(const queue *q, text_view model)
{
    uint64_t hash = XXH3_64bits(model.data, model.size);
    queue_model *m = q->buckets[hash % QUEUE_MODEL_BUCKETS];
    while (m != NULL && (m->hash != hash || !text_equal((text_view){m->name, m->name_size}, model)))
        m = m->next_of_bucket;
    return m;
}

static queue_model *add_model(queue *q, text_view name)
{
    queue_model *m = mem_calloc(1, sizeof *m + name.size);
    if (name.size > 0) memcpy(m->name, name.data, name.size);
    m->name_size = name.size;
    m->hash = XXH3_64bits(name.data, name.size);
    for (uint8_t i = 0; i < QUEUE_CLASSES; i++) {
        m->lanes[i].model = m;
        m->lanes[i].class = i;
    }
    queue_model **bucket = &q->buckets[m->hash % QUEUE_MODEL_BUCKETS];
    m->next_of_bucket = *bucket;
    *bucket = m;
    return m;
}

/* When it is neither held nor parked. */
static ordered_set *home_of(const queue_entry *e)
{
    return e->again ? &e->flow->lane->returned : &e->flow->entries;
}

static void set_halted(queue *q, queue_model *m)
{
    bool halted = m->is_blocked || m->held.root != NULL;
    if (m->is_halted == halted) return;
    m->is_halted = halted;
    if (halted) {
        m->halted_previous = NULL;
        m->halted_next = q->halted;
        if (q->halted != NULL) q->halted->halted_previous = m;
        q->halted = m;
    } else {
        *(m->halted_previous != NULL ? &m->halted_previous->halted_next : &q->halted) =
            m->halted_next;
        if (m->halted_next != NULL) m->halted_next->halted_previous = m->halted_previous;
    }
}

/* Let all of its requests be looked at again. */
static void unblock(queue *q, queue_model *m)
{
    m->is_blocked = false;
    for (ordered_node *n; (n = ordered_set_first(&m->held)) != NULL;) {
        queue_entry *e = entry_of(n);
        ordered_set_remove(&m->held, n);
        e->is_held = false;
        ordered_set_add(home_of(e), n, next_rank(q));
        flow_refresh(q, e->flow);
    }
    set_halted(q, m);
    model_refresh(q, m);
}

static void forget_model(queue *q, queue_model *m)
{
    unblock(q, m);
    fair_share_pass(&q->clock, m->account.time);
    queue_model **at = &q->buckets[m->hash % QUEUE_MODEL_BUCKETS];
    while (*at != m)
        at = &(*at)->next_of_bucket;
    *at = m->next_of_bucket;
    mem_free(m);
}

queue_flow *queue_find_flow(const queue_lane *lane, uint32_t tenant)
{
    ordered_node *n = ordered_set_at(&lane->flows, tenant, 0);
    return n != NULL && n->key == tenant ? OWNER(queue_flow, by_tenant, n) : NULL;
}

static queue_flow *add_flow(queue *q, queue_lane *l, uint32_t tenant)
{
    queue_flow *f = mem_calloc(1, sizeof *f);
    f->lane = l;
    f->tenant = tenant;
    f->by_tenant.key = tenant;
    ordered_set_add(&l->flows, &f->by_tenant, next_rank(q));
    l->flow_count++;
    return f;
}

static void unlink_idle(queue *q, queue_flow *f)
{
    queue_flow *previous = f->idle_previous, *next = f->idle_next;
    *(previous != NULL ? &previous->idle_next : &q->idle_oldest) = next;
    *(next != NULL ? &next->idle_previous : &q->idle_youngest) = previous;
    f->is_idle = false;
    q->idle_count--;
}

static void forget_flow(queue *q, queue_flow *f)
{
    queue_lane *l = f->lane;
    unlink_idle(q, f);
    fair_share_pass(&l->clock, f->account.time);
    ordered_set_remove(&l->flows, &f->by_tenant);
    l->flow_count--;
    mem_free(f);
    queue_model *m = l->model;
    for (int i = 0; i < QUEUE_CLASSES; i++)
        if (m->lanes[i].flow_count > 0) return;
    forget_model(q, m);
}

/* Whoever has nothing left here rests. */
static void rest(queue *q, queue_flow *f)
{
    queue_lane *l = f->lane;
    queue_model *m = l->model;
    if (f->waiting + f->running > 0) return;
    f->is_idle = true;
    f->idle_next = NULL;
    f->idle_previous = q->idle_youngest;
    *(q->idle_youngest != NULL ? &q->idle_youngest->idle_next : &q->idle_oldest) = f;
    q->idle_youngest = f;
    q->idle_count++;
    if (l->waiting + l->running == 0) fair_share_pass(&l->clock, l->clock.latest);
    if (m->waiting + m->running == 0) fair_share_pass(&m->clock, m->clock.latest);
    if (queue_waiting(q).requests + q->running == 0) fair_share_pass(&q->clock, q->clock.latest);
    if (q->idle_count > LIMIT_QUEUE_IDLE_FLOWS) forget_flow(q, q->idle_oldest);
}

/* -- coming ------------------------------------------------------------------------------ */

queue *queue_create(const queue_sum *limits, tenant_table *tenants, uint64_t seed)
{
    queue *q = mem_calloc(1, sizeof *q);
    q->limits = *limits;
    q->tenants = tenants;
    q->random_state = seed;
    return q;
}

void queue_set_limits(queue *q, const queue_sum *limits)
{
    q->limits = *limits;
}

static void free_flows(ordered_node *n)
{
    if (n == NULL) return;
    free_flows(n->left);
    free_flows(n->right);
    mem_free(OWNER(queue_flow, by_tenant, n));
}

static void free_model(queue_model *m)
{
    for (int i = 0; i < QUEUE_CLASSES; i++) {
        queue_lane *l = &m->lanes[i];
        free_flows(l->flows.root);
        for (queue_entry *e = l->all.head, *next; e != NULL; e = next) {
            next = e->next;
            mem_free(e);
        }
    }
    mem_free(m);
}

void queue_destroy(queue *q)
{
    if (q == NULL) return;
    for (uint32_t i = 0; i < QUEUE_MODEL_BUCKETS; i++) {
        for (queue_model *m = q->buckets[i], *next; m != NULL; m = next) {
            next = m->next_of_bucket;
            free_model(m);
        }
    }
    mem_free(q);
}

queue_class queue_class_of(const queue *q, const queue_ask *ask)
{
    int32_t class = (ask->priority > 0) - (ask->priority < 0);
    int32_t most = tenant_class_max(q->tenants, ask->tenant);
    if (class > most) class = most;
    return class > 0 ? QUEUE_INTERACTIVE : class == 0 ? QUEUE_STANDARD : QUEUE_BATCH;
}

static void list_add(entry_list *list, queue_entry *e)
{
    e->previous = list->tail;
    *(list->tail != NULL ? &list->tail->next : &list->head) = e;
    list->tail = e;
}

static void list_remove(entry_list *list, queue_entry *e)
{
    *(e->previous != NULL ? &e->previous->next : &list->head) = e->next;
    *(e->next != NULL ? &e->next->previous : &list->tail) = e->previous;
}

static void batch_add(queue *q, queue_entry *e)
{
    e->batch_previous = q->batch_youngest;
    if (q->batch_youngest != NULL) q->batch_youngest->batch_next = e;
    q->batch_youngest = e;
}

static void batch_remove(queue *q, queue_entry *e)
{
    if (e->batch_previous != NULL) e->batch_previous->batch_next = e->batch_next;
    *(e->batch_next != NULL ? &e->batch_next->batch_previous : &q->batch_youngest) =
        e->batch_previous;
}

void queue_push(queue *q, struct request *r, queue_place *p, const queue_ask *ask, bool again,
                uint64_t now_ms)
{
    CHECK(p->charged == 0);
    queue_model *m = queue_find_model(q, ask->model);
    if (m == NULL) m = add_model(q, ask->model);
    queue_lane *l = &m->lanes[queue_class_of(q, ask)];
    queue_flow *f = queue_find_flow(l, ask->tenant);
    if (f == NULL)
        f = add_flow(q, l, ask->tenant);
    else if (f->is_idle)
        unlink_idle(q, f);

    if (m->waiting++ == 0) fair_share_wake(&m->account, &q->clock);
    if (l->waiting++ == 0) fair_share_wake(&l->account, &m->clock);
    if (f->waiting++ == 0) fair_share_wake(&f->account, &l->clock);

    queue_entry *e = mem_calloc(1, sizeof *e);
    e->request = r;
    e->flow = f;
    e->tokens = ask->tokens > 0 ? ask->tokens : 1;
    e->bytes = ask->bytes;
    e->again = again;
    if (!again) e->node.key = ask->deadline_ms != 0 ? ask->deadline_ms : UINT64_MAX;
    e->node.order = ++q->sequence;
    e->node.amount = e->tokens;
    ordered_set_add(home_of(e), &e->node, next_rank(q));
    list_add(&l->all, e);
    if (l->class == QUEUE_BATCH && !again) batch_add(q, e);
    m->tokens += e->tokens;
    queue_sum *sum = &q->waiting[l->class];
    sum->requests++;
    sum->bytes += e->bytes;
    sum->tokens += e->tokens;
    tenant_enter(q->tenants, f->tenant, e->tokens, again, now_ms);
    flow_refresh(q, f);
    model_refresh(q, m);
    p->entry = e;
}

/* -- leaving ----------------------------------------------------------------------------- */

static void unlink_entry(queue *q, queue_entry *e)
{
    queue_flow *f = e->flow;
    queue_lane *l = f->lane;
    ordered_set *in = e->is_held ? &l->model->held : e->is_parked ? &q->parked_again : home_of(e);
    ordered_set_remove(in, &e->node);
    if (e->is_held) set_halted(q, l->model);
    list_remove(&l->all, e);
    if (l->class == QUEUE_BATCH && !e->again) batch_remove(q, e);
    f->waiting--;
    l->waiting--;
    l->model->waiting--;
    l->model->tokens -= e->tokens;
    queue_sum *sum = &q->waiting[l->class];
    sum->requests--;
    sum->bytes -= e->bytes;
    sum->tokens -= e->tokens;
}

static queue_entry *lane_head(queue *q, queue_lane *l)
{
    ordered_node *n;
    while ((n = ordered_set_first(&l->returned)) != NULL) {
        queue_entry *e = entry_of(n);
        if (tenant_may_run(q->tenants, e->flow->tenant, true)) return e;
        entry_park(q, e);
    }
    while ((n = ordered_set_first(&l->ready)) != NULL) {
        queue_flow *f = flow_of_ready(n);
        if (tenant_may_run(q->tenants, f->tenant, false)) return first_entry(f);
        flow_park(q, f);
    }
    return NULL;
}

/* The lane furthest behind; the more urgent of two. */
static queue_lane *next_lane(queue_model *m)
{
    queue_lane *best = NULL;
    for (int i = 0; i < QUEUE_CLASSES; i++) {
        queue_lane *l = &m->lanes[i];
        if (lane_is_ready(l) && (best == NULL || l->account.time < best->account.time)) best = l;
    }
    return best;
}

struct request *queue_head(queue *q)
{
    ordered_node *n;
    while ((n = ordered_set_first(&q->ready)) != NULL) {
        queue_model *m = OWNER(queue_model, ready, n);
        queue_lane *l;
        while ((l = next_lane(m)) != NULL) {
            const queue_entry *e = lane_head(q, l);
            if (e != NULL) return e->request;
        }
        model_refresh(q, m); /* all who wait for it are parked now */
    }
    return NULL;
}

void queue_take(queue *q, queue_place *p, uint64_t now_ms)
{
    CHECK(p->entry != NULL && p->charged == 0);
    queue_entry *e = p->entry;
    queue_flow *f = e->flow;
    queue_lane *l = f->lane;
    queue_model *m = l->model;
    uint64_t of_class = fair_share_of(e->tokens, queue_class_weights[l->class]);
    fair_share_charge(&m->account, &q->clock, of_class);
    fair_share_charge(&l->account, &m->clock, of_class);
    fair_share_charge(&f->account, &l->clock,
                      fair_share_of(e->tokens, tenant_weight(q->tenants, f->tenant)));
    unlink_entry(q, e);
    f->running++;
    l->running++;
    m->running++;
    q->running++;
    tenant_start(q->tenants, f->tenant, e->again);
    queue_note_drain(q, e->tokens, now_ms);
    flow_refresh(q, f);
    model_refresh(q, m);
    *p = (queue_place){.flow = f, .charged = e->tokens};
    mem_free(e);
}

void queue_remove(queue *q, queue_place *p, uint64_t now_ms)
{
    CHECK(p->entry != NULL && p->charged == 0);
    queue_entry *e = p->entry;
    queue_flow *f = e->flow;
    unlink_entry(q, e);
    tenant_leave(q->tenants, f->tenant, e->tokens, e->again, now_ms);
    if (e->again) unpark_tenant(q, f->tenant);
    flow_refresh(q, f);
    model_refresh(q, f->lane->model);
    *p = (queue_place){0};
    mem_free(e);
    rest(q, f);
}

void queue_settle(queue *q, queue_place *p, uint32_t actual, uint64_t now_ms)
{
    if (p->charged == 0) return;
    if (actual > LIMIT_CONTEXT_TOKENS) actual = LIMIT_CONTEXT_TOKENS;
    queue_flow *f = p->flow;
    queue_lane *l = f->lane;
    queue_model *m = l->model;
    uint32_t class_weight = queue_class_weights[l->class];
    uint32_t weight = tenant_weight(q->tenants, f->tenant);
    uint64_t charged = fair_share_of(p->charged, class_weight),
             cost = fair_share_of(actual, class_weight);
    fair_share_correct(&m->account, &q->clock, charged, cost);
    fair_share_correct(&l->account, &m->clock, charged, cost);
    fair_share_correct(&f->account, &l->clock, fair_share_of(p->charged, weight),
                       fair_share_of(actual, weight));
    f->running--;
    l->running--;
    m->running--;
    q->running--;
    tenant_end(q->tenants, f->tenant, p->charged, actual, now_ms);
    queue_note_cost(q, p->charged, actual);
    unpark_tenant(q, f->tenant);
    flow_refresh(q, f);
    model_refresh(q, m);
    *p = (queue_place){0};
    rest(q, f);
}

/* -- room -------------------------------------------------------------------------------- */

void queue_block(queue *q, const queue_place *p)
{
    CHECK(p->entry != NULL && p->charged == 0);
    queue_model *m = p->entry->flow->lane->model;
    m->is_blocked = true;
    set_halted(q, m);
    model_refresh(q, m);
}

void queue_hold(queue *q, const queue_place *p)
{
    CHECK(p->entry != NULL && p->charged == 0 && !p->entry->is_held);
    queue_entry *e = p->entry;
    queue_model *m = e->flow->lane->model;
    ordered_set_remove(home_of(e), &e->node);
    ordered_set_add(&m->held, &e->node, next_rank(q));
    e->is_held = true;
    set_halted(q, m);
    flow_refresh(q, e->flow);
    model_refresh(q, m);
}

void queue_unblock(queue *q, text_view model)
{
    if (q->halted == NULL) return;
    queue_model *m = queue_find_model(q, model);
    if (m != NULL) unblock(q, m);
}

void queue_unblock_all(queue *q)
{
    while (q->halted != NULL)
        unblock(q, q->halted);
}

void queue_limits_changed(queue *q)
{
    ordered_node *n;
    while ((n = ordered_set_first(&q->parked_again)) != NULL)
        entry_unpark(q, entry_of(n));
    while ((n = ordered_set_first(&q->parked)) != NULL)
        flow_unpark(q, flow_of_ready(n));
}

/* -- looking ----------------------------------------------------------------------------- */

struct request *queue_any(const queue *q, text_view model)
{
    const queue_model *m = queue_find_model(q, model);
    for (int i = 0; m != NULL && i < QUEUE_CLASSES; i++) {
        const queue_entry *e = m->lanes[i].all.head;
        if (e != NULL) return e->request;
    }
    return NULL;
}

queue_sum queue_waiting_class(const queue *q, queue_class class)
{
    return q->waiting[class];
}

queue_sum queue_waiting(const queue *q)
{
    queue_sum sum = {0};
    for (int i = 0; i < QUEUE_CLASSES; i++) {
        sum.requests += q->waiting[i].requests;
        sum.bytes += q->waiting[i].bytes;
        sum.tokens += q->waiting[i].tokens;
    }
    return sum;
}
