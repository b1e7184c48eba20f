#include "router/request.h"

#include "common/check.h"
#include "common/log.h"

#define BIT(state) (1u << (state))

static const unsigned next_states[] = {
    [REQUEST_QUEUED] = BIT(REQUEST_RUNNING) | BIT(REQUEST_FINISHED) | BIT(REQUEST_DONE),
    [REQUEST_RUNNING] =
        BIT(REQUEST_QUEUED) | BIT(REQUEST_ENDING) | BIT(REQUEST_FINISHED) | BIT(REQUEST_DONE),
    [REQUEST_ENDING] = BIT(REQUEST_FINISHED) | BIT(REQUEST_DONE),
    [REQUEST_FINISHED] = BIT(REQUEST_RUNNING) | BIT(REQUEST_QUEUED) | BIT(REQUEST_DONE),
    [REQUEST_DONE] = 0,
};

void request_forget_submit(request *r)
{
    if (r->submit == NULL) return;
    mem_free(r->submit->prompt);
    mem_free(r->submit->ids);
    mem_free(r->submit);
    r->submit = NULL;
}

const char *request_state_name(request_state state)
{
    static const char *const names[] = {"queued", "running", "ending", "finished", "done"};
    return names[state];
}

void request_set_state(request *r, request_state next, uint64_t now_ms)
{
    CHECK(next_states[r->state] & BIT(next));
    char hex[33];
    log_debug("request=%s state=%s->%s next=%u after_ms=%llu", id128_hex(&r->id, hex),
              request_state_name((request_state)r->state), request_state_name(next), r->next,
              (unsigned long long)(now_ms - r->since_ms));
    r->state = (uint8_t)next;
    r->since_ms = now_ms;
}
