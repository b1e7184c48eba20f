/* render_support: a template and a context in, text or a refusal out. */
#ifndef GAGGLE_TESTS_UNIT_WORKER_CHAT_TEMPLATE_RENDER_SUPPORT_H
#define GAGGLE_TESTS_UNIT_WORKER_CHAT_TEMPLATE_RENDER_SUPPORT_H

#include "worker/text/chat_template.h"

/* 2024-07-26 12:34:56 UTC */
#define RENDER_NOW 1721997296

typedef struct rendered {
    status parsed;
    status code; /* of the render; not run when `parsed` is no ST_OK */
    error err;
    buffer text; /* NUL-terminated, the NUL not counted */
} rendered;

rendered render_bytes(const char *source, size_t size, const json_t *context);
/* The context as JSON. */
rendered render_text(const char *source, const char *context);
void rendered_free(rendered *r);

/* What a template must give; `expected` NULL: it must be refused. */
typedef struct render_case {
    const char *source;
    const char *expected;
} render_case;
/* Each case with this context; every case that differs is printed, then the test fails. */
void render_cases(const render_case *cases, size_t count, const char *context);
#define RENDER_CASES(cases, context) render_cases(cases, sizeof(cases) / sizeof(cases)[0], context)

#endif
