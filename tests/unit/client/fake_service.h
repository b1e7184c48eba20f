/* fake_service: a fake router on a thread of its own. */
#ifndef GAGGLE_TESTS_FAKE_SERVICE_H
#define GAGGLE_TESTS_FAKE_SERVICE_H

#include <pthread.h>

#include "fake_router.h"

typedef struct fake_service {
    uv_loop_t loop;
    uv_async_t wake;
    pthread_t thread;
    fake_router *router;
    char url[64];
    pthread_mutex_t mutex;
    pthread_cond_t done;
    void (*call)(struct fake_service *s);
    fake_counts counts; /* as of the last fake_call_counts() */
} fake_service;

void fake_service_start(fake_service *s, const fake_plan *plan);
void fake_service_stop(fake_service *s);

/* Run `call` on the router's thread and wait for it. */
void fake_service_call(fake_service *s, void (*call)(fake_service *s));

/* Such calls. */
void fake_call_counts(fake_service *s);
void fake_call_cut(fake_service *s);
void fake_call_restart(fake_service *s);

#endif
