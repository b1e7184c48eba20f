/* A client of somebody else's making: it keeps the form of the protocol and nothing of its sense.
 *
 * It repeats Submits and Resumes, acknowledges what it never got, cancels what is over, claims
 * requests of others. Nobody else may notice; what it is told of its own requests must be true;
 * and when it is gone everything of it is. */
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "proto/session.h"
#include "tests/sim/sim.h"

enum { REQUESTS = 6, PROMPT = 3, PRIOR_MAX = 700 };

typedef struct own_request {
    id128 id;
    uint32_t stream;
    uint64_t seed;
    uint32_t prompt[PROMPT];
    sim_question question;
} own_request;

struct sim_stranger {
    sim_process process;
    session_hub *hub; /* NULL: gone */
    session *session;
    own_request requests[REQUESTS];
    sim_event *act;
};

static void chat(void *ctx);

static void send_submit(sim_stranger *s, const own_request *r)
{
    static uint32_t prior[PRIOR_MAX];
    uint32_t total = sim_answer_total(&r->question);
    uint32_t prior_count = sim_chance(70) ? 0 : sim_pick(total + 1);
    for (uint32_t i = 0; i < prior_count; i++)
        prior[i] = sim_answer_token(&r->question, i);
    envelope e = {.kind = ENVELOPE_SUBMIT};
    e.submit = (msg_submit){.stream = r->stream,
                            .request_id = r->id,
                            .model = text_of("model"),
                            .ids = r->prompt,
                            .id_count = PROMPT,
                            .sampling = {.has_seed = true, .seed = r->seed},
                            .logprobs = LOGPROBS_NONE,
                            .window = 32,
                            .prior_ids = prior,
                            .prior_count = prior_count};
    session_send(s->session, &e);
}

/* Somebody else's, if anybody has asked for anything yet. */
static void claim(sim_stranger *s)
{
    if (id128_is_zero(&sim_last_request)) return;
    uint32_t stream = 1000 + sim_pick(3), next_wanted = 0;
    envelope e = {.kind = ENVELOPE_RESUME};
    e.resume = (msg_resume){.request_id = &sim_last_request,
                            .stream = &stream,
                            .next_wanted = &next_wanted,
                            .count = 1};
    session_send(s->session, &e);
}

static void say_something(sim_stranger *s)
{
    own_request *r = &s->requests[sim_pick(REQUESTS)];
    uint32_t number = sim_pick(sim_answer_total(&r->question) + 3);
    envelope e = {0};
    switch (sim_pick(8)) {
    case 0:
    case 1:
        send_submit(s, r);
        return;
    case 2:
        e.kind = ENVELOPE_RESUME;
        e.resume = (msg_resume){
            .request_id = &r->id, .stream = &r->stream, .next_wanted = &number, .count = 1};
        break;
    case 3:
        e.kind = ENVELOPE_CANCEL;
        e.cancel = (msg_cancel){.stream = &r->stream, .count = 1};
        break;
    case 4:
        claim(s);
        return;
    case 5:
        e.kind = ENVELOPE_QUERY;
        e.query.id = sim_pick(9);
        break;
    default:
        e.kind = ENVELOPE_ACK;
        e.ack = (msg_ack){.stream = &r->stream, .next_wanted = &number, .count = 1};
    }
    session_send(s->session, &e);
}

static void chat(void *ctx)
{
    sim_stranger *s = ctx;
    s->act = sim_after(&s->process, sim_pick(60000), chat, s);
    if (session_is_up(s->session)) say_something(s);
}

static void on_envelope(void *ctx, session *dialler, const envelope *e, const error *refused)
{
    (void)dialler;
    (void)refused;
    const sim_stranger *s = ctx;
    if (e->kind != ENVELOPE_TOKENS) return;
    size_t at = 0;
    for (size_t g = 0; g < e->tokens.groups; g++) {
        const own_request *r = NULL;
        for (uint32_t i = 0; i < REQUESTS; i++)
            if (s->requests[i].stream == e->tokens.stream[g]) r = &s->requests[i];
        CHECK(r != NULL); /* nobody else's */
        for (uint32_t i = 0; i < e->tokens.count[g]; i++, at++)
            CHECK(e->tokens.token[at] ==
                  sim_answer_token(&r->question, e->tokens.first_index[g] + i));
    }
}

static void on_hub_closed(void *ctx)
{
    ((sim_stranger *)ctx)->hub = NULL;
}

void sim_stranger_leave(sim_stranger *s)
{
    if (s->hub == NULL) return;
    sim_process *previous = sim_enter(&s->process);
    s->process.dead = true;
    sim_network_kill(&s->process, sim_chance(50));
    sim_cancel(s->act);
    session_hub_close(s->hub, on_hub_closed, s);
    sim_run_out(&s->process);
    CHECK(s->hub == NULL);
    sim_enter(previous);
}

sim_stranger *sim_stranger_create(uint32_t router)
{
    sim_stranger *s = mem_calloc(1, sizeof *s);
    sim_process_init(&s->process, "stranger", NULL, NULL);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        own_request *r = &s->requests[i];
        *r = (own_request){.id = id128_random(), .stream = i + 1, .seed = sim_random()};
        for (uint32_t j = 0; j < PROMPT; j++)
            r->prompt[j] = sim_pick(50000);
        r->question = sim_question_of(r->prompt, PROMPT, r->seed, 0, LOGPROBS_NONE);
    }
    static const session_handlers handlers = {.on_envelope = on_envelope};
    char url[64];
    snprintf(url, sizeof url, SIM_CLIENT_URL, router);
    const char *urls[] = {url};
    const session_dial_options dial = {.urls = urls,
                                       .url_count = 1,
                                       .role = ROLE_CLIENT,
                                       .instance = id128_random(),
                                       .token = SIM_STRANGER_TOKEN,
                                       .name = "stranger"};
    error err;
    sim_process *previous = sim_enter(&s->process);
    CHECK(session_hub_create(&s->hub, &s->process.loop, &err) == ST_OK);
    CHECK(session_dial(&s->session, s->hub, &dial, &handlers, s, &err) == ST_OK);
    s->act = sim_after(&s->process, sim_pick(500000), chat, s);
    sim_enter(previous);
    return s;
}

void sim_stranger_destroy(sim_stranger *s)
{
    if (s == NULL) return;
    sim_stranger_leave(s);
    mem_free(s);
}
