#include "tests/e2e/answers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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

/* NULL: none. */
static const char *difference(const answer *a, const answer *b)
{
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
    const char *what = difference(alone, other);
    if (what == NULL) return;
    size_t at = 0, count = alone->ids.size < other->ids.size ? alone->ids.size : other->ids.size;
    while (at < count && alone->ids.data[at] == other->ids.data[at])
        at++;
    fail_msg(
        "answer %u: %zu tokens, %s alone; %zu tokens, %s (%s) here; their %s differ, their ids "
        "from token %zu on",
        number, alone->ids.size / sizeof(uint32_t), gaggle_finish_reason_name(alone->reason),
        other->ids.size / sizeof(uint32_t), gaggle_finish_reason_name(other->reason),
        other->sentence, what, at / sizeof(uint32_t));
}

static void take_logprobs(answer *a, const gaggle_event *event)
{
    uint32_t tops = 0;
    if (event->logprobs != NULL)
        buffer_append(&a->logprobs, event->logprobs, event->count * sizeof(float));
    if (event->top_count == NULL) return;
    for (uint32_t i = 0; i < event->count; i++)
        tops += event->top_count[i];
    buffer_append(&a->top_count, event->top_count, event->count * sizeof(uint32_t));
    buffer_append(&a->top_ids, event->top_ids, tops * sizeof(uint32_t));
    buffer_append(&a->top_logprobs, event->top_logprobs, tops * sizeof(float));
}

bool answer_read(answer *a, gaggle_stream *s, size_t until_tokens)
{
    gaggle_event event;
    while (a->ids.size / sizeof(uint32_t) < until_tokens) {
        assert_int_equal(gaggle_stream_next(s, 60000, &event), GAGGLE_OK);
        if (event.type == GAGGLE_TOKENS) {
            assert_int_equal(event.first_index, a->ids.size / sizeof(uint32_t));
            buffer_append(&a->ids, event.ids, event.count * sizeof(uint32_t));
            buffer_append(&a->text, event.text, event.text_size);
            buffer_append(&a->text_len, event.text_len, event.count * sizeof(uint32_t));
            take_logprobs(a, &event);
            continue;
        }
        a->reason = event.reason;
        a->continuations = event.continuations;
        a->approximate = event.approximate;
        if (event.error != NULL) {
            a->code = event.error->code;
            a->retry_after_ms = event.error->retry_after_ms;
            snprintf(a->sentence, sizeof a->sentence, "%s", event.error->text);
        } else {
            assert_int_equal(event.total_tokens, a->ids.size / sizeof(uint32_t));
        }
        return false;
    }
    return true;
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

gaggle_stream *submit_mixed(gaggle_client *client, uint32_t number, uint32_t max_tokens)
{
    static const char *const stops[] = {".", "zzz"};
    static const uint32_t bias_ids[] = {300, 301};
    static const float bias[] = {2.0f, -100.0f};
    const gaggle_message message = {"user", prompts[number % PROMPTS]};
    gaggle_request request = {.messages = &message, .message_count = 1, .max_tokens = max_tokens};
    gaggle_sampling *s = &request.sampling;
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
        request.logprobs = GAGGLE_LOGPROBS(3);
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
        request.ignore_eos = true;
        break;
    default:
        s->temperature = 1.0f;
        request.stop = stops;
        request.stop_count = 2;
    }
    gaggle_stream *stream;
    gaggle_error err;
    if (gaggle_submit(&stream, client, &request, &err) != GAGGLE_OK) fail_msg("%s", err.text);
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
    for (uint32_t i = 0; i < count; i++) {
        if (running[i]) answer_read(&together[i], streams[i], SIZE_MAX);
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
