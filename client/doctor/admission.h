/* admission: one real try to be a router's client or worker: dialled by the links themselves, with
 * Hello, and for a client with a question how the fleet is. Nothing is asked of the model. */
#ifndef GAGGLE_DOCTOR_ADMISSION_H
#define GAGGLE_DOCTOR_ADMISSION_H

#include "common/link.h"
#include "proto/envelope.h"

typedef struct admission_wish {
    const char *url;
    const link_tls *tls; /* NULL: none */
    role role;
    const char *token;
    uint32_t patience_ms;
} admission_wish;

typedef struct admission {
    error why;      /* code ST_OK: admitted */
    char build[64]; /* of the router */
    uint64_t answer_us;
    bool has_fleet; /* of a client */
    uint32_t workers, ready;
    char models[128];
    bool draining;
} admission;

/* ST_OK: *out has an answer, a refusal too; otherwise nothing was dialled. */
MUST_USE status admission_try(admission *out, const admission_wish *wish, error *err);

#endif
