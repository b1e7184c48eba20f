#include "worker/text/jinja/interp.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/limits.h"

/* What takes as long as one evaluation, some 50 ns. */
enum { BYTES_PER_STEP = 64, CHARACTERS_PER_STEP = 8, ITEMS_PER_STEP = 8 };

_Noreturn static void leave(interp *in, status code)
{
    in->code = code;
    longjmp(in->escape, 1);
}

void interp_fail(interp *in, const char *format, ...)
{
    char sentence[ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    leave(in, error_set(in->err, ST_INVALID_ARGUMENT, "line %u: %s", in->line, sentence));
}

void interp_raise(interp *in, const char *text, size_t size)
{
    int shown = size < ERROR_TEXT_SIZE ? (int)size : ERROR_TEXT_SIZE - 1;
    leave(in, error_set(in->err, ST_INVALID_ARGUMENT, "%.*s", shown, text));
}

void interp_exhausted(interp *in, const char *what, uint64_t limit)
{
    leave(in, error_set(in->err, ST_RESOURCE_EXHAUSTED,
                        "line %u: the chat template needs more than %llu %s", in->line,
                        (unsigned long long)limit, what));
}

void *interp_alloc(interp *in, size_t size)
{
    if (size > in->memory_max || in->memory.bytes > in->memory_max - size)
        interp_exhausted(in, "bytes of memory", in->memory_max);
    return arena_alloc(&in->memory, size);
}

void *interp_alloc_array(interp *in, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        interp_exhausted(in, "bytes of memory", in->memory_max);
    return interp_alloc(in, total);
}

void interp_spend(interp *in, uint64_t steps)
{
    if (steps > in->steps_left) interp_exhausted(in, "evaluation steps", LIMIT_CHAT_TEMPLATE_STEPS);
    in->steps_left -= steps;
}

void interp_spend_bytes(interp *in, size_t bytes)
{
    interp_spend(in, bytes / BYTES_PER_STEP);
}

void interp_spend_characters(interp *in, size_t size)
{
    interp_spend(in, size / CHARACTERS_PER_STEP);
}

void interp_spend_items(interp *in, size_t count)
{
    interp_spend(in, count / ITEMS_PER_STEP);
}

void interp_enter(interp *in)
{
    if (in->depth >= in->depth_max) interp_exhausted(in, "levels of nesting", in->depth_max);
    in->depth++;
}

void interp_leave(interp *in)
{
    in->depth--;
}
