#include "client/doctor/admission.h"

#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "proto/session.h"

typedef struct attempt {
    uv_loop_t loop;
    uv_timer_t patience;
    session_hub *hub;
    session *session; /* NULL once it is closed */
    const admission_wish *wish;
    admission *result;
    uint64_t asked_ns;
    bool answered; /* `result` is final */
} attempt;

static void finish(attempt *a, const error *why)
{
    if (a->answered) return;
    a->answered = true;
    if (why != NULL) a->result->why = *why;
    if (a->session != NULL) session_close(a->session, "gaggle doctor has looked");
}

static void on_up(void *ctx, session *s, const msg_welcome *welcome)
{
    attempt *a = ctx;
    snprintf(a->result->build, sizeof a->result->build, "%.*s", (int)welcome->build.size,
             welcome->build.data);
    if (a->wish->role != ROLE_CLIENT) {
        finish(a, NULL);
        return;
    }
    a->asked_ns = clock_now_ns();
    envelope e = {.kind = ENVELOPE_QUERY, .query.id = 1};
    session_send(s, &e);
}

static void add_model(admission *r, text_view name)
{
    char with_ends[LIMIT_NAME_BYTES + 3], known[sizeof r->models + 2];
    snprintf(with_ends, sizeof with_ends, " %.*s ", (int)name.size, name.data);
    snprintf(known, sizeof known, " %s ", r->models);
    if (strstr(known, with_ends) != NULL) return;
    size_t used = strlen(r->models);
    if (used + name.size + 2 > sizeof r->models) return;
    snprintf(r->models + used, sizeof r->models - used, "%s%.*s", used > 0 ? " " : "",
             (int)name.size, name.data);
}

static void on_envelope(void *ctx, session *s, const envelope *e, const error *refused)
{
    (void)s;
    (void)refused;
    attempt *a = ctx;
    if (e->kind != ENVELOPE_REPORT) return;
    admission *r = a->result;
    r->has_fleet = true;
    r->answer_us = (clock_now_ns() - a->asked_ns) / 1000;
    r->draining = e->report.draining;
    r->workers = (uint32_t)e->report.worker_count;
    for (size_t i = 0; i < e->report.worker_count; i++) {
        const msg_worker_report *w = &e->report.workers[i];
        if (!w->connected || w->draining) continue;
        r->ready++;
        for (size_t m = 0; m < w->model_count; m++)
            add_model(r, w->models[m].name);
    }
    finish(a, NULL);
}

static void on_down(void *ctx, session *s, const error *why)
{
    (void)s;
    finish(ctx, why);
}

static void on_hub_closed(void *ctx)
{
    (void)ctx;
}

static void on_closed(void *ctx, session *s, const error *why)
{
    (void)s;
    attempt *a = ctx;
    a->session = NULL;
    finish(a, why);
    uv_close((uv_handle_t *)&a->patience, NULL);
    session_hub_close(a->hub, on_hub_closed, a);
}

static void on_patience_over(uv_timer_t *timer)
{
    error why;
    error_set(&why, ST_DEADLINE_EXCEEDED, "it did not answer within %u ms",
              ((attempt *)timer->data)->wish->patience_ms);
    finish(timer->data, &why);
}

static status dial(attempt *a, error *err)
{
    static const session_handlers handlers = {
        .on_up = on_up, .on_envelope = on_envelope, .on_down = on_down, .on_closed = on_closed};
    const session_dial_options options = {.urls = &a->wish->url,
                                          .url_count = 1,
                                          .tls = a->wish->tls,
                                          .role = a->wish->role,
                                          .instance = id128_random(),
                                          .token = a->wish->token,
                                          .name = "gaggle doctor"};
    return session_dial(&a->session, a->hub, &options, &handlers, a, err);
}

status admission_try(admission *out, const admission_wish *wish, error *err)
{
    *out = (admission){0};
    attempt a = {.wish = wish, .result = out};
    CHECK(uv_loop_init(&a.loop) == 0);
    uv_timer_init(&a.loop, &a.patience);
    a.patience.data = &a;
    status st = session_hub_create(&a.hub, &a.loop, err);
    if (st == ST_OK) {
        st = dial(&a, err);
        if (st == ST_OK)
            uv_timer_start(&a.patience, on_patience_over, wish->patience_ms, 0);
        else
            session_hub_close(a.hub, on_hub_closed, NULL);
    }
    if (st != ST_OK) uv_close((uv_handle_t *)&a.patience, NULL);
    uv_run(&a.loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&a.loop) == 0);
    return st;
}
