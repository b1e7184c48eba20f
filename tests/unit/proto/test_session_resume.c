/* Goal: whatever is cut, whenever, nothing that is resumed is lost, doubled or reordered.
 * Method: on all five schemes at once, a source numbers tokens and keeps a window of them until
 * they are acknowledged, as a worker does; a sink takes exactly the next index and, after every
 * reconnect, says by Resume where to go on. Each flow is cut at random indices, from within the
 * callbacks at either end, with tokens in flight. A token's value is a function of its scheme and
 * index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <nng/nng.h>

#include "session_support.h"

enum { TOTAL = 60000, WINDOW = 256, CUTS = 30, STREAM = 7 };

typedef struct flow {
    scheme kind;
    house house;
    talker sink;
    /* source */
    session *out; /* NULL until a Resume says where to begin */
    uint32_t next, acked;
    /* sink */
    uint32_t wanted, acknowledged;
    unsigned resumes;
    id128 request_id;
    /* the next cut */
    uint32_t random, cut_at;
    bool cut_source;
    unsigned cuts;
} flow;

static uint32_t draw(flow *f, uint32_t below)
{
    f->random = f->random * 1664525u + 1013904223u;
    return (f->random >> 8) % below;
}

/* Indices of cuts rise by 1..2 TOTAL/CUTS: the last tokens flow in peace. */
static void cut_if_due(flow *f, session *s, bool source, uint32_t index)
{
    if (source != f->cut_source || index < f->cut_at || f->cuts == CUTS) return;
    f->cuts++;
    f->cut_at = index + 1 + draw(f, 2 * (TOTAL / CUTS));
    f->cut_source = draw(f, 2) == 0;
    session_cut(s);
}

static uint32_t token_at(const flow *f, uint32_t index)
{
    return (index + 1) * 2654435761u ^ (uint32_t)f->kind;
}

/* -- the source, on the accepted side --------------------------------------------------- */

static void source_flush(flow *f)
{
    if (f->out == NULL || !session_is_idle(f->out)) return;
    uint32_t count = f->acked + WINDOW - f->next;
    if (f->next + count > TOTAL) count = TOTAL - f->next;
    if (count == 0) return;
    uint32_t token[WINDOW], length[WINDOW], stream = STREAM;
    for (uint32_t i = 0; i < count; i++) {
        token[i] = token_at(f, f->next + i);
        length[i] = 1;
    }
    static const uint8_t text[WINDOW];
    envelope e = {.kind = ENVELOPE_TOKENS,
                  .tokens = {.stream = &stream,
                             .first_index = &f->next,
                             .count = &count,
                             .groups = 1,
                             .token = token,
                             .text_len = length,
                             .tokens = count,
                             .text = text,
                             .text_size = count}};
    session_send(f->out, &e);
    f->next += count;
    cut_if_due(f, f->out, true, f->next);
}

static void source_envelope(talker *t, const envelope *e)
{
    flow *f = t->arg;
    if (e->kind == ENVELOPE_RESUME) {
        assert_int_equal(e->resume.count, 1);
        assert_true(id128_equal(e->resume.request_id, &f->request_id));
        f->out = t->s;
        /* What was acknowledged is gone: it must not be asked for again. */
        assert_true(e->resume.next_wanted[0] >= f->acked);
        f->acked = f->next = e->resume.next_wanted[0];
        f->resumes++;
    } else if (e->kind == ENVELOPE_ACK && f->out == t->s) {
        assert_int_equal(e->ack.count, 1);
        assert_in_range(e->ack.next_wanted[0], f->acked, f->next);
        f->acked = e->ack.next_wanted[0];
    }
    source_flush(f);
}

static void source_idle(talker *t)
{
    source_flush(t->arg);
}

static void source_down(talker *t)
{
    flow *f = t->arg;
    for (talker *other = f->house.talkers; other != NULL; other = other->next)
        if (other->s != NULL && other->s == f->out) return; /* a later one has taken over */
    f->out = NULL;
}

/* -- the sink, on the dialling side ------------------------------------------------------- */

static void sink_up(talker *t)
{
    flow *f = t->arg;
    uint32_t stream = STREAM;
    envelope e = {.kind = ENVELOPE_RESUME,
                  .resume = {.request_id = &f->request_id,
                             .stream = &stream,
                             .next_wanted = &f->wanted,
                             .count = 1}};
    session_send(t->s, &e);
    f->acknowledged = f->wanted;
}

static void sink_envelope(talker *t, const envelope *e)
{
    flow *f = t->arg;
    assert_int_equal(e->kind, ENVELOPE_TOKENS);
    const msg_tokens *m = &e->tokens;
    assert_int_equal(m->groups, 1);
    assert_int_equal(m->stream[0], STREAM);
    assert_int_equal(m->first_index[0], f->wanted); /* no gap, no repetition */
    for (uint32_t i = 0; i < m->count[0]; i++)
        assert_int_equal(m->token[i], token_at(f, f->wanted + i));
    f->wanted += m->count[0];
    cut_if_due(f, t->s, false, f->wanted);
    if (f->wanted - f->acknowledged < WINDOW / 4 && f->wanted < TOTAL) return;
    uint32_t stream = STREAM;
    envelope ack = {.kind = ENVELOPE_ACK,
                    .ack = {.stream = &stream, .next_wanted = &f->wanted, .count = 1}};
    session_send(t->s, &ack);
    f->acknowledged = f->wanted;
}

/* -- the run ------------------------------------------------------------------------------- */

static bool all_done(void *arg)
{
    const flow *flows = arg;
    for (scheme s = 0; s < scheme_count(); s++)
        if (flows[s].wanted < TOTAL) return false;
    return true;
}

static void test_nothing_is_lost_however_often_the_links_are_cut(void **state)
{
    (void)state;
    uv_loop_t loop;
    session_hub *hub = open_sessions(&loop);
    static flow flows[SCHEME_COUNT];
    memset(flows, 0, sizeof flows);
    for (scheme s = 0; s < scheme_count(); s++) {
        flow *f = &flows[s];
        f->kind = s;
        f->random = 42 + (uint32_t)s;
        f->cut_at = 1;
        f->request_id = id128_random();
        f->house = (house){.on_envelope = source_envelope,
                           .on_idle = source_idle,
                           .on_down = source_down,
                           .arg = f};
        house_open(&f->house, hub, s, "resume");
        f->sink = (talker){.on_up = sink_up, .on_envelope = sink_envelope, .arg = f};
        error err;
        test_url url = dial_url(s, "resume", session_listener_port(f->house.listener));
        const char *urls[] = {url.text};
        session_dial_options options = dial_options(s, urls);
        assert_int_equal(session_dial(&f->sink.s, hub, &options, &talker_handlers, &f->sink, &err),
                         ST_OK);
    }
    if (!run_until(&loop, all_done, flows, 3 * BUDGET_MS))
        for (scheme s = 0; s < scheme_count(); s++)
            print_message("%s: %u tokens, %u cuts, last down: %s\n", scheme_names[s],
                          flows[s].wanted, flows[s].cuts, flows[s].sink.why.text);
    close_sessions(&loop, hub);
    for (scheme s = 0; s < scheme_count(); s++) {
        flow *f = &flows[s];
        assert_int_equal(f->wanted, TOTAL);
        assert_true(f->cuts >= CUTS / 2);
        assert_true(f->resumes > f->cuts);
        assert_int_equal(f->sink.downs, f->sink.ups); /* they alternate */
        assert_int_equal(f->house.downs, f->house.ups);
        house_free(&f->house);
    }
}

int main(void)
{
    fail_at_once();
    make_certificates();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_lost_however_often_the_links_are_cut),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nng_fini(); /* so that a leak checker sees what it had left to free */
    return failed;
}
