#include "router/admission.h"

#include "common/check.h"

void admission_init(admission *a, uint32_t requests_max, uint64_t bytes_max)
{
    *a = (admission){.requests_max = requests_max, .bytes_max = bytes_max};
}

/* Time until about an eighth of the queue has drained, 100 ms to 60 s. */
static uint32_t retry_after_ms(const admission *a)
{
    double interval_ms = a->finish_interval_ms > 0 ? a->finish_interval_ms : 250;
    uint32_t share = a->count / 8 + 1;
    double ms = interval_ms * share;
    return ms < 100 ? 100 : ms > 60000 ? 60000 : (uint32_t)ms;
}

status admission_check(const admission *a, size_t bytes, error *err)
{
    status st = ST_OK;
    if (a->count >= a->requests_max)
        st = error_set(err, ST_RESOURCE_EXHAUSTED,
                       "the queue is full: %u requests wait, the limit is %u", a->count,
                       a->requests_max);
    else if (bytes > a->bytes_max)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "the prompt has %zu bytes; the limit of all that wait is %llu", bytes,
                         (unsigned long long)a->bytes_max);
    else if (a->bytes + bytes > a->bytes_max)
        st = error_set(err, ST_RESOURCE_EXHAUSTED,
                       "the queue is full: prompts of %llu bytes wait, the limit is %llu",
                       (unsigned long long)a->bytes, (unsigned long long)a->bytes_max);
    if (st != ST_OK && err != NULL) err->retry_after_ms = retry_after_ms(a);
    return st;
}

void admission_push(admission *a, request *r, bool first)
{
    request *after = a->tail; /* r goes behind this one */
    while (after != NULL && (after->submit->priority < r->submit->priority ||
                             (first && after->submit->priority == r->submit->priority)))
        after = after->submit->queue_previous;
    request *before = after != NULL ? after->submit->queue_next : a->head;
    r->submit->queue_previous = after;
    r->submit->queue_next = before;
    *(after != NULL ? &after->submit->queue_next : &a->head) = r;
    *(before != NULL ? &before->submit->queue_previous : &a->tail) = r;
    a->count++;
    a->bytes += r->submit->size;
}

void admission_remove(admission *a, request *r)
{
    CHECK(a->count > 0 && a->bytes >= r->submit->size);
    request *previous = r->submit->queue_previous, *next = r->submit->queue_next;
    *(previous != NULL ? &previous->submit->queue_next : &a->head) = next;
    *(next != NULL ? &next->submit->queue_previous : &a->tail) = previous;
    r->submit->queue_previous = r->submit->queue_next = NULL;
    a->count--;
    a->bytes -= r->submit->size;
}

void admission_note_finish(admission *a, uint64_t now_ms)
{
    /* Only time in which requests waited says how fast they leave; an idle night does not. */
    if (a->waited) {
        double interval = (double)(now_ms - a->finished_ms);
        a->finish_interval_ms =
            a->finish_interval_ms > 0 ? a->finish_interval_ms * 0.9 + interval * 0.1 : interval;
    }
    a->waited = a->count > 0;
    a->finished_ms = now_ms;
}
