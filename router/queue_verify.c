/* What must hold between the queue's parts, checked from end to end. */
#include "common/check.h"
#include "router/queue_internal.h"

typedef struct tally {
    queue_sum waiting[QUEUE_CLASSES];
    uint32_t running, ready_models, halted_models, parked, parked_again, idle, batch, held;
} tally;

static uint32_t count_nodes(const ordered_node *n)
{
    if (n == NULL) return 0;
    CHECK(n->left == NULL || n->left->rank <= n->rank);
    CHECK(n->right == NULL || n->right->rank <= n->rank);
    uint64_t sum = n->amount;
    sum += n->left != NULL ? n->left->sum : 0;
    sum += n->right != NULL ? n->right->sum : 0;
    CHECK(n->sum == sum);
    CHECK(n->left == NULL || n->left->key < n->key ||
          (n->left->key == n->key && n->left->order < n->order));
    CHECK(n->right == NULL || n->right->key > n->key ||
          (n->right->key == n->key && n->right->order > n->order));
    return 1 + count_nodes(n->left) + count_nodes(n->right);
}

static void verify_flow(const queue *q, queue_lane *l, queue_flow *f, uint32_t *entries,
                        uint32_t *ready, tally *t)
{
    uint32_t own = count_nodes(f->entries.root);
    CHECK(f->lane == l && f->by_tenant.key == f->tenant && own <= f->waiting);
    CHECK(!(f->is_ready && f->is_parked));
    CHECK((f->is_ready || f->is_parked) == (own > 0));
    CHECK(!f->is_ready || f->ready.key == f->account.time);
    CHECK(!f->is_parked || f->ready.key == f->tenant);
    CHECK(f->is_idle == (f->waiting + f->running == 0));
    CHECK(f->account.time <= l->clock.latest || f->account.time <= l->clock.now);
    CHECK(queue_find_flow(l, f->tenant) == f);
    CHECK(tenant_running(q->tenants, f->tenant) >= f->running);
    CHECK(tenant_queued(q->tenants, f->tenant) >= f->waiting);
    *entries += own;
    *ready += f->is_ready;
    t->parked += f->is_parked;
    t->idle += f->is_idle;
}

static void verify_flows(const queue *q, queue_lane *l, ordered_node *n, uint32_t *entries,
                         uint32_t *ready, uint32_t *waiting, uint32_t *running, tally *t)
{
    if (n == NULL) return;
    queue_flow *f = OWNER(queue_flow, by_tenant, n);
    verify_flow(q, l, f, entries, ready, t);
    *waiting += f->waiting;
    *running += f->running;
    verify_flows(q, l, n->left, entries, ready, waiting, running, t);
    verify_flows(q, l, n->right, entries, ready, waiting, running, t);
}

static void verify_lane(const queue *q, queue_lane *l, tally *t)
{
    uint32_t entries = 0, ready = 0, waiting = 0, running = 0;
    uint32_t held = 0, again = 0, parked = 0;
    verify_flows(q, l, l->flows.root, &entries, &ready, &waiting, &running, t);
    CHECK(count_nodes(l->flows.root) == l->flow_count && count_nodes(l->ready.root) == ready);
    CHECK(waiting == l->waiting && running == l->running);
    queue_sum *sum = &t->waiting[l->class];
    const queue_entry *previous = NULL;
    for (const queue_entry *e = l->all.head; e != NULL; previous = e, e = e->next) {
        CHECK(e->previous == previous && e->flow->lane == l && e->node.amount == e->tokens);
        held += e->is_held;
        again += e->again && !e->is_held && !e->is_parked;
        parked += e->is_parked;
        t->batch += l->class == QUEUE_BATCH && !e->again;
        waiting--;
        sum->requests++;
        sum->bytes += e->bytes;
        sum->tokens += e->tokens;
    }
    CHECK(l->all.tail == previous && waiting == 0);
    CHECK(count_nodes(l->returned.root) == again);
    CHECK(entries + again + held + parked == l->waiting);
    t->held += held;
    t->parked_again += parked;
}

static void verify_model(const queue *q, queue_model *m, tally *t)
{
    uint32_t waiting = 0, running = 0, flows = 0;
    uint64_t before = 0, after = 0;
    const uint32_t held_before = t->held;
    bool ready = false;
    for (int i = 0; i < QUEUE_CLASSES; i++)
        before += t->waiting[i].tokens;
    for (int i = 0; i < QUEUE_CLASSES; i++) {
        queue_lane *l = &m->lanes[i];
        CHECK(l->model == m && l->class == i);
        verify_lane(q, l, t);
        waiting += l->waiting;
        running += l->running;
        flows += l->flow_count;
        ready = ready || l->returned.root != NULL || l->ready.root != NULL;
    }
    for (int i = 0; i < QUEUE_CLASSES; i++)
        after += t->waiting[i].tokens;
    CHECK(flows > 0 && waiting == m->waiting && running == m->running);
    CHECK(after - before == m->tokens);
    CHECK(m->is_ready == (ready && !m->is_blocked));
    CHECK(count_nodes(m->held.root) == t->held - held_before);
    CHECK(m->is_halted == (m->is_blocked || m->held.root != NULL));
    CHECK(!m->is_ready || m->ready.key == m->account.time);
    CHECK(queue_find_model(q, (text_view){m->name, m->name_size}) == m);
    t->running += running;
    t->ready_models += m->is_ready;
    t->halted_models += m->is_halted;
}

void queue_verify(const queue *q)
{
    tally t = {0};
    for (uint32_t i = 0; i < QUEUE_MODEL_BUCKETS; i++)
        for (queue_model *m = q->buckets[i]; m != NULL; m = m->next_of_bucket)
            verify_model(q, m, &t);
    for (int i = 0; i < QUEUE_CLASSES; i++)
        CHECK(t.waiting[i].requests == q->waiting[i].requests &&
              t.waiting[i].bytes == q->waiting[i].bytes &&
              t.waiting[i].tokens == q->waiting[i].tokens);
    CHECK(t.running == q->running);
    for (const queue_model *m = q->halted; m != NULL; m = m->halted_next)
        t.halted_models--;
    CHECK(t.halted_models == 0);
    CHECK(count_nodes(q->ready.root) == t.ready_models);
    CHECK(count_nodes(q->parked.root) == t.parked);
    CHECK(count_nodes(q->parked_again.root) == t.parked_again);
    CHECK(t.idle == q->idle_count && q->idle_count <= LIMIT_QUEUE_IDLE_FLOWS);
    for (const queue_entry *e = q->batch_youngest; e != NULL; e = e->batch_previous) {
        CHECK(e->batch_previous == NULL || e->batch_previous->batch_next == e);
        t.batch--;
    }
    CHECK(t.batch == 0);
}
