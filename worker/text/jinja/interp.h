/* interp: what one parse or one render of a template carries, and how it gives up.
 *
 * Every function of this folder takes an interp first. Failure does not travel through return
 * values: interp_fail() writes the sentence and jumps to the `escape` that chat_template.c set.
 * That is safe because of one rule: nothing in this folder owns anything but memory of the
 * interp's arena, which chat_template.c frees on both ways out. So no function here needs a
 * cleanup path, and none may call malloc, open a file or take a lock.
 *
 * What bounds a hostile template (limits.h, "chat template"): steps_left counts evaluations and
 * the bytes that strings move; depth counts nested evaluations, hence the C stack; memory_max
 * bounds the arena. Hitting one is ST_RESOURCE_EXHAUSTED, everything else
 * ST_INVALID_ARGUMENT. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_INTERP_H
#define GAGGLE_WORKER_TEXT_JINJA_INTERP_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"
#include "common/status.h"

struct dict;
struct builder;
struct program;

typedef struct interp {
    jmp_buf escape;
    status code; /* why it was left through `escape` */
    error *err;  /* may be NULL */
    arena memory;
    size_t memory_max;
    uint64_t steps_left;
    uint32_t depth;
    uint32_t depth_max;
    uint32_t line; /* of what is evaluated, for errors */

    /* Of a render only. */
    const struct program *program;
    struct dict *variables; /* the caller's, then the built-in names */
    struct dict *exported;  /* assigned at the template's top level; blocks read them */
    struct builder *out;    /* where output goes now */
    int64_t now;            /* for strftime_now, seconds since the epoch */
} interp;

/* "line N: ..." */
_Noreturn void interp_fail(interp *in, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* raise_exception(): the template's own sentence and nothing else. */
_Noreturn void interp_raise(interp *in, const char *text, size_t size);
_Noreturn void interp_exhausted(interp *in, const char *what, uint64_t limit);

/* Zeroed arena memory. */
void *interp_alloc(interp *in, size_t size);
/* count * size bytes; an overflow counts as exhausted memory. */
void *interp_alloc_array(interp *in, size_t count, size_t size);

/* Pay for `steps` evaluations. */
void interp_spend(interp *in, uint64_t steps);
/* Pay for moving or comparing `bytes` at once. */
void interp_spend_bytes(interp *in, size_t bytes);
/* Pay for looking at each character of a text of `size` bytes. */
void interp_spend_characters(interp *in, size_t size);

/* Pay for looking at each of `count` items. */
void interp_spend_items(interp *in, size_t count);

/* Around anything that recurses. A failure in between needs no leave. */
void interp_enter(interp *in);
void interp_leave(interp *in);

#endif
