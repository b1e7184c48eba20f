#include "tests/e2e/answers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"

enum { READ_MS = 60000 };

uint32_t answer_tokens(const answer *a)
{
    return (uint32_t)(a->ids.size / sizeof(uint32_t));
}

void answer_free(answer *a)
{
    buffer_free(&a->ids);
    buffer_free(&a->text);
    buffer_free(&a->text_len);
    buffer_free(&a->logprobs);
    buffer_free(&a->top_count);
    buffer_free(&a->top_ids);
    buffer_free(&a->top_logprobs);
}

static bool bytes_equal(const buffer *a, const buffer *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

const char *answer_difference(const answer *a, const answer *b, uint32_t *same)
{
    uint32_t count = answer_tokens(a) < answer_tokens(b) ? answer_tokens(a) : answer_tokens(b);
    for (*same = 0; *same < count; (*same)++)
        if (memcmp(a->ids.data + *same * sizeof(uint32_t), b->ids.data + *same * sizeof(uint32_t),
                   sizeof(uint32_t)) != 0)
            break;
    if (!bytes_equal(&a->ids, &b->ids)) return "ids";
    if (!bytes_equal(&a->text, &b->text)) return "text";
    if (!bytes_equal(&a->text_len, &b->text_len)) return "text lengths";
    if (!bytes_equal(&a->logprobs, &b->logprobs)) return "logprobs";
    if (!bytes_equal(&a->top_count, &b->top_count)) return "numbers of alternatives";
    if (!bytes_equal(&a->top_ids, &b->top_ids)) return "alternatives";
    if (!bytes_equal(&a->top_logprobs, &b->top_logprobs)) return "alternatives' logprobs";
    return a->reason != b->reason ? "reasons" : NULL;
}

void assert_answers_equal(const answer *alone, const answer *other, uint32_t number)
{
    uint32_t same;
    const char *what = answer_difference(alone, other, &same);
    if (what != NULL)
        fail_msg("answer %u: %u tokens, %s alone; %u tokens, %s (%s) here; their %s differ, their "
                 "ids from token %u on",
                 number, answer_tokens(alone), gaggle_finish_reason_name(alone->reason),
                 answer_tokens(other), gaggle_finish_reason_name(other->reason), other->sentence,
                 what, same);
}

/* A stream that did not ask may share a message with one that did: it gets NaN and no alternatives.
 */
static void take_logprobs(answer *a, const gaggle_event *event)
{
    uint32_t tops = 0;
    for (uint32_t i = 0; event->logprobs != NULL && i < event->count; i++)
        if (!isnan(event->logprobs[i]))
            buffer_append(&a->logprobs, &event->logprobs[i], sizeof(float));
    for (uint32_t i = 0; event->top_count != NULL && i < event->count; i++) {
        if (event->top_count[i] == 0) continue;
        buffer_append(&a->top_count, &event->top_count[i], sizeof(uint32_t));
        tops += event->top_count[i];
    }
    if (tops == 0) return;
    buffer_append(&a->top_ids, event->top_ids, tops * sizeof(uint32_t));
    buffer_append(&a->top_logprobs, event->top_logprobs, tops * sizeof(float));
}

void answer_hear(answer *a, const gaggle_event *event)
{
    buffer_append(&a->ids, event->ids, event->count * sizeof(uint32_t));
    buffer_append(&a->text, event->text, event->text_size);
    buffer_append(&a->text_len, event->text_len, event->count * sizeof(uint32_t));
    take_logprobs(a, event);
}

/* False: it was the end. */
static bool take_event(answer *a, const gaggle_event *event)
{
    if (event->type == GAGGLE_TOKENS) {
        assert_int_equal(event->first_index, answer_tokens(a));
        answer_hear(a, event);
        return true;
    }
    a->reason = event->reason;
    a->continuations = event->continuations;
    a->approximate = event->approximate;
    if (event->error != NULL) {
        a->code = event->error->code;
        a->retry_after_ms = event->error->retry_after_ms;
        snprintf(a->sentence, sizeof a->sentence, "%s", event->error->text);
    } else {
        assert_int_equal(event->total_tokens, answer_tokens(a));
    }
    return false;
}

bool answer_read(answer *a, gaggle_stream *s, size_t until_tokens)
{
    gaggle_event event;
    while (answer_tokens(a) < until_tokens) {
        assert_int_equal(gaggle_stream_next(s, READ_MS, &event), GAGGLE_OK);
        if (!take_event(a, &event)) return false;
    }
    return true;
}

void answers_read_all(answer *answers, gaggle_stream *const *streams, uint32_t count)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++)
        left += answers[i].reason == 0;
    uint64_t heard_ms = clock_now_ms();
    for (uint32_t i = 0; left > 0; i = (i + 1) % count) {
        if (answers[i].reason != 0) continue;
        gaggle_event event;
        gaggle_code code;
        while ((code = gaggle_stream_next(streams[i], 1, &event)) == GAGGLE_OK) {
            heard_ms = clock_now_ms();
            if (take_event(&answers[i], &event)) continue;
            left--;
            break;
        }
        if (code == GAGGLE_OK) continue;
        assert_int_equal(code, GAGGLE_DEADLINE_EXCEEDED);
        if (clock_now_ms() - heard_ms >= READ_MS)
            fail_msg("%u of %u answers stand still, answer %u is one of them", left, count, i);
    }
}

static const char *const prompts[] = {
    "What is the capital of France?",
    "Tell me a story about a dragon.",
    "What colour is the sky?",
    "Count to five.",
    "What is 2 + 2?",
    "Who are you?",
    "Tell me a story about a small boat and a large storm.",
    "What is the capital of Japan?",
};
enum { PROMPTS = sizeof prompts / sizeof *prompts };

void prepare_mixed(mixed_request *m, uint32_t number, uint32_t max_tokens)
{
    static const char *const stops[] = {".", "zzz"};
    static const uint32_t bias_ids[] = {300, 301};
    static const float bias[] = {2.0f, -100.0f};
    *m = (mixed_request){.message = {"user", prompts[number % PROMPTS]}};
    m->request =
        (gaggle_request){.messages = &m->message, .message_count = 1, .max_tokens = max_tokens};
    gaggle_request *r = &m->request;
    gaggle_sampling *s = &r->sampling;
    s->has_seed = s->has_temperature = true;
    s->seed = 1000 + number;
    switch (number % 6) {
    case 0:
        break; /* greedy: temperature 0 */
    case 1:
        s->temperature = 1.0f;
        break;
    case 2:
        s->temperature = 0.8f;
        s->has_top_k = s->has_top_p = true;
        s->top_k = 20;
        s->top_p = 0.9f;
        r->logprobs = GAGGLE_LOGPROBS(3);
        break;
    case 3:
        s->temperature = 1.3f;
        s->has_min_p = s->has_repetition_penalty = true;
        s->min_p = 0.05f;
        s->repetition_penalty = 1.2f;
        break;
    case 4:
        s->temperature = 0.7f;
        s->has_presence_penalty = s->has_frequency_penalty = true;
        s->presence_penalty = 0.5f;
        s->frequency_penalty = 0.3f;
        s->bias_ids = bias_ids;
        s->bias = bias;
        s->bias_count = 2;
        r->ignore_eos = true;
        break;
    default:
        s->temperature = 1.0f;
        r->stop = stops;
        r->stop_count = 2;
    }
}

gaggle_stream *submit_mixed(gaggle_client *client, uint32_t number, uint32_t max_tokens)
{
    mixed_request m;
    prepare_mixed(&m, number, max_tokens);
    gaggle_stream *stream;
    gaggle_error err;
    if (gaggle_submit(&stream, client, &m.request, &err) != GAGGLE_OK) fail_msg("%s", err.text);
    return stream;
}

void run_alone(gaggle_client *client, answer *answers, uint32_t count, uint32_t max_tokens)
{
    for (uint32_t i = 0; i < count; i++) {
        gaggle_stream *s = submit_mixed(client, i, max_tokens);
        answer_read(&answers[i], s, SIZE_MAX);
        gaggle_stream_close(s);
        assert_int_equal(answers[i].code, GAGGLE_OK);
        assert_true(answers[i].ids.size > 0);
    }
}

void assert_answers_survive(cluster *c, uint32_t count, uint32_t max_tokens, const trouble *t)
{
    gaggle_client *client = cluster_client(c);
    answer *alone = mem_calloc(count, sizeof *alone);
    answer *together = mem_calloc(count, sizeof *together);
    gaggle_stream **streams = mem_calloc(count, sizeof *streams);
    bool *running = mem_calloc(count, sizeof *running);
    run_alone(client, alone, count, max_tokens);

    for (uint32_t i = 0; i < count; i++) {
        streams[i] = submit_mixed(client, i, max_tokens);
        running[i] = true;
    }
    for (uint32_t blow = 1; blow <= t->blows; blow++) {
        for (uint32_t i = 0; i < count; i++)
            if (running[i])
                running[i] = answer_read(&together[i], streams[i],
                                         together[i].ids.size / sizeof(uint32_t) + t->tokens_apart);
        t->strike(c, blow);
    }
    answers_read_all(together, streams, count);
    for (uint32_t i = 0; i < count; i++) {
        gaggle_stream_close(streams[i]);
        assert_answers_equal(&alone[i], &together[i], i);
        answer_free(&alone[i]);
        answer_free(&together[i]);
    }
    mem_free(running);
    mem_free(streams);
    mem_free(together);
    mem_free(alone);
    gaggle_client_destroy(client);
}
