/* What travels, in words, for whoever reads a run with --verbose. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/envelope.h"
#include "tests/sim/sim.h"

static void add(char *line, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add(char *line, size_t size, const char *format, ...)
{
    size_t used = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, size - used, format, args);
    va_end(args);
}

static void add_pairs(char *line, size_t size, const uint32_t *streams, const uint32_t *values,
                      size_t count)
{
    for (size_t i = 0; i < count; i++)
        add(line, size, " %x:%d", streams[i], (int)values[i]);
}

static void describe(const envelope *e, char *line, size_t size)
{
    char hex[33];
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        add(line, size, " %x request=%s prior=%zu", e->submit.stream,
            id128_hex(&e->submit.request_id, hex), e->submit.prior_count);
        break;
    case ENVELOPE_ACCEPTED:
        add(line, size, " %x%s", e->accepted.stream, e->accepted.resumed ? " resumed" : "");
        break;
    case ENVELOPE_TOKENS:
        for (size_t i = 0; i < e->tokens.groups; i++)
            add(line, size, " %x:%u+%u", e->tokens.stream[i], e->tokens.first_index[i],
                e->tokens.count[i]);
        break;
    case ENVELOPE_FINISH:
        add(line, size, " %x total=%u %s", e->finish.stream, e->finish.total,
            finish_reason_name(e->finish.reason));
        break;
    case ENVELOPE_ACK:
        add_pairs(line, size, e->ack.stream, e->ack.next_wanted, e->ack.count);
        break;
    case ENVELOPE_RESUME:
        add_pairs(line, size, e->resume.stream, e->resume.next_wanted, e->resume.count);
        break;
    case ENVELOPE_CANCEL:
        for (size_t i = 0; i < e->cancel.count; i++)
            add(line, size, " %x", e->cancel.stream[i]);
        add(line, size, " %s", e->cancel.forget ? "forget" : finish_reason_name(e->cancel.finish));
        break;
    case ENVELOPE_REGISTER:
        for (size_t i = 0; i < e->reg.live_count; i++)
            add(line, size, " %.8s:%u..%u%s", id128_hex(&e->reg.live[i].request_id, hex),
                e->reg.live[i].base, e->reg.live[i].next, e->reg.live[i].finished ? "!" : "");
        break;
    case ENVELOPE_ADOPT:
        add_pairs(line, size, e->adopt.stream, e->adopt.next_wanted, e->adopt.count);
        for (size_t i = 0; i < e->adopt.drop_count; i++)
            add(line, size, " drop %.8s", id128_hex(&e->adopt.drop[i], hex));
        break;
    case ENVELOPE_ERROR:
        add(line, size, " %x %s \"%.*s\"", e->error.stream, status_name(e->error.code),
            (int)e->error.text.size, e->error.text.data);
        break;
    default:
        break;
    }
}

void sim_trace_message(const char *from, const uint8_t *bytes, size_t size)
{
    if (!world.verbose) return;
    envelope e;
    arena scratch = {0};
    if (envelope_decode(bytes, size, &scratch, &e, NULL) == ST_OK && e.kind != ENVELOPE_PING &&
        e.kind != ENVELOPE_PONG && e.kind != ENVELOPE_LOAD) {
        char line[400] = "";
        describe(&e, line, sizeof line);
        sim_trace("<- %s %s%s", from, envelope_kind_name(e.kind), line);
    }
    arena_free(&scratch);
}
