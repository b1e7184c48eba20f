#include "fake_service.h"

#include <stdio.h>
#include <string.h>

#include "common/check.h"

static void on_wake(uv_async_t *wake)
{
    fake_service *s = wake->data;
    pthread_mutex_lock(&s->mutex);
    if (s->call != NULL) s->call(s);
    s->call = NULL;
    pthread_cond_signal(&s->done);
    pthread_mutex_unlock(&s->mutex);
}

static void *thread_main(void *arg)
{
    uv_run(&((fake_service *)arg)->loop, UV_RUN_DEFAULT);
    return NULL;
}

void fake_service_call(fake_service *s, void (*call)(fake_service *s))
{
    pthread_mutex_lock(&s->mutex);
    s->call = call;
    uv_async_send(&s->wake);
    while (s->call != NULL)
        pthread_cond_wait(&s->done, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
}

void fake_call_counts(fake_service *s)
{
    s->counts = *fake_router_counts(s->router);
}

void fake_call_cut(fake_service *s)
{
    fake_router_cut(s->router);
}

void fake_call_restart(fake_service *s)
{
    fake_router_restart(s->router);
}

static void on_router_closed(void *ctx)
{
    uv_close((uv_handle_t *)&((fake_service *)ctx)->wake, NULL);
}

static void call_close(fake_service *s)
{
    fake_router_close(s->router, on_router_closed, s);
}

void fake_service_start(fake_service *s, const fake_plan *plan)
{
    memset(s, 0, sizeof *s);
    uv_loop_init(&s->loop);
    uv_async_init(&s->loop, &s->wake, on_wake);
    s->wake.data = s;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->done, NULL);
    s->router = fake_router_create(&s->loop, plan);
    snprintf(s->url, sizeof s->url, "%s", fake_router_url(s->router));
    CHECK(pthread_create(&s->thread, NULL, thread_main, s) == 0);
}

void fake_service_stop(fake_service *s)
{
    fake_service_call(s, call_close);
    pthread_join(s->thread, NULL);
    CHECK(uv_loop_close(&s->loop) == 0);
    pthread_cond_destroy(&s->done);
    pthread_mutex_destroy(&s->mutex);
}
