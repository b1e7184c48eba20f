/* Goal: what one process says, another one hears, and nothing that breaks a rule gets through.
 * Method: thousands of random envelopes of every kind go out and come back and are compared field
 * by field and byte by byte; then every rule of envelope.h is broken once in an otherwise valid
 * frame, and the refusal must name the field; then frames are cut short and bits flipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "envelope_samples.h"
#include "gaggle.pb-c.h"

enum { ROUNDS = 400 };

static void assert_encodes(const envelope *e, arena *a, buffer *out)
{
    assert_int_equal(envelope_encode(e, a, out), ST_OK);
}

static void test_every_kind_comes_back_as_it_went(void **state)
{
    (void)state;
    arena a = {0}, scratch = {0};
    buffer once = {0}, twice = {0};
    uint64_t random = 42;
    for (const envelope_kind *kind = sample_kinds; *kind != ENVELOPE_NONE; kind++) {
        for (int round = 0; round < ROUNDS; round++) {
            arena_reset(&a);
            arena_reset(&scratch);
            buffer_clear(&once);
            buffer_clear(&twice);
            envelope sent = sample_envelope(*kind, &random, &a);
            assert_encodes(&sent, &scratch, &once);

            envelope got;
            error err = {0};
            if (envelope_decode(once.data, once.size, &scratch, &got, &err) != ST_OK)
                fail_msg("%s was refused: %s", envelope_kind_name(*kind), err.text);
            const char *difference = sample_difference(&sent, &got);
            if (difference != NULL)
                fail_msg("%s: %s changed", envelope_kind_name(*kind), difference);
            assert_encodes(&got, &scratch, &twice);
            assert_int_equal(once.size, twice.size);
            assert_memory_equal(once.data, twice.data, once.size);
        }
    }
    buffer_free(&once);
    buffer_free(&twice);
    arena_free(&a);
    arena_free(&scratch);
}

/* -- every rule, broken once ----------------------------------------------------------- */

/* What the breaking statements below may use. */
static ProtobufCBinaryData sized(size_t size)
{
    static uint8_t *bytes;
    if (bytes == NULL) {
        bytes = malloc(LIMIT_MESSAGE_BYTES);
        assert_non_null(bytes);
        memset(bytes, 'x', LIMIT_MESSAGE_BYTES);
    }
    return (ProtobufCBinaryData){size, bytes};
}

static ProtobufCBinaryData literal(const char *bytes, size_t size)
{
    return (ProtobufCBinaryData){size, (uint8_t *)bytes};
}

static uint32_t ones[LIMIT_CONTEXT_TOKENS + 1];
static ProtobufCBinaryData many_ids[LIMIT_STREAMS_PER_LINK + 1];
static ProtobufCBinaryData many_texts[LIMIT_STOP_STRINGS + 1];
static float infinite[1] = {INFINITY};
static void *many[LIMIT_STREAMS_PER_LINK + 1];

static void *repeat(void *message)
{
    for (size_t i = 0; i < LIMIT_STREAMS_PER_LINK + 1; i++)
        many[i] = message;
    return many;
}

#define NOT_UTF8  literal("\xff", 1)
#define WITH_NUL  literal("a\0b", 3)
#define LINK      ST_INVALID_ARGUMENT
#define STREAM    ST_OUT_OF_RANGE
#define LONG_NAME sized(LIMIT_NAME_BYTES + 1)

/* X(kind, status, part of the refusal, what breaks the rule in `m`) */
#define RULES(X)                                                                                   \
    X(PING, LINK, "Envelope.link is required", m->has_link = 0)                                    \
    X(PING, LINK, "Envelope.n is required", m->has_n = 0)                                          \
    X(PING, LINK, "no message of a known kind", m->kind_case = 0)                                  \
    X(HELLO, LINK, "Hello.version is required", m->hello->has_version = 0)                         \
    X(HELLO, LINK, "Hello.role is required", m->hello->has_role = 0)                               \
    X(HELLO, LINK, "Hello.instance is required", m->hello->has_instance = 0)                       \
    X(HELLO, LINK, "Hello.role is 3", m->hello->role = (Gaggle__Pb__Role)3)                        \
    X(HELLO, LINK, "Hello.instance has 15 bytes", m->hello->instance = sized(15))                  \
    X(HELLO, LINK, "Hello.token has 4097 bytes; at most 4096", m->hello->has_token = 1,            \
      m->hello->token = sized(4097))                                                               \
    X(HELLO, LINK, "Hello.name has 257 bytes; at most 256", m->hello->has_name = 1,                \
      m->hello->name = LONG_NAME)                                                                  \
    X(HELLO, LINK, "Hello.name must be UTF-8 without NUL; byte 0 is 0xff", m->hello->has_name = 1, \
      m->hello->name = NOT_UTF8)                                                                   \
    X(HELLO, LINK, "Hello.name must be UTF-8 without NUL; byte 1 is 0x00", m->hello->has_name = 1, \
      m->hello->name = WITH_NUL)                                                                   \
    X(HELLO, LINK, "Hello.build", m->hello->has_build = 1, m->hello->build = LONG_NAME)            \
    X(WELCOME, LINK, "Welcome.version is required", m->welcome->has_version = 0)                   \
    X(WELCOME, LINK, "Welcome.router_instance is", m->welcome->has_router_instance = 0)            \
    X(WELCOME, LINK, "Welcome.router_instance has 17", m->welcome->router_instance = sized(17))    \
    X(WELCOME, LINK, "Welcome.ping_ms is required", m->welcome->has_ping_ms = 0)                   \
    X(WELCOME, LINK, "Welcome.dead_ms is required", m->welcome->has_dead_ms = 0)                   \
    X(WELCOME, LINK, "Welcome.build", m->welcome->has_build = 1, m->welcome->build = LONG_NAME)    \
    X(REGISTER, LINK, "Register.worker_id is required", m->register_->has_worker_id = 0)           \
    X(REGISTER, LINK, "Register.worker_id must not be", m->register_->worker_id = sized(0))        \
    X(REGISTER, LINK, "Register.worker_id has 257", m->register_->worker_id = LONG_NAME)           \
    X(REGISTER, LINK, "Register.device", m->register_->device = LONG_NAME)                         \
    X(REGISTER, LINK, "Register.models must not be empty", m->register_->n_models = 0)             \
    X(REGISTER, LINK, "models has 17 entries; at most 16",                                         \
      m->register_->models = repeat(m->register_->models[0]), m->register_->n_models = 17)         \
    X(REGISTER, LINK, "Model.name must not be", m->register_->models[0]->has_name = 0)             \
    X(REGISTER, LINK, "Model.name has 257", m->register_->models[0]->name = LONG_NAME)             \
    X(REGISTER, LINK, "Model.revision", m->register_->models[0]->revision = LONG_NAME)             \
    X(REGISTER, LINK, "Model.context_max is 1048577; at most 1048576",                             \
      m->register_->models[0]->has_context_max = 1,                                                \
      m->register_->models[0]->context_max = LIMIT_CONTEXT_TOKENS + 1)                             \
    X(REGISTER, LINK, "Register.slots is 4097; at most 4096", m->register_->has_slots = 1,         \
      m->register_->slots = LIMIT_STREAMS_PER_LINK + 1)                                            \
    X(REGISTER, LINK, "Register.live has 4097",                                                    \
      m->register_->live = repeat(m->register_->live[0]), m->register_->n_live = 4097)             \
    X(REGISTER, LINK, "Live.request_id is", m->register_->live[0]->has_request_id = 0)             \
    X(REGISTER, LINK, "Live.request_id has 3", m->register_->live[0]->request_id = sized(3))       \
    X(REGISTER, LINK, "Live.oldest is required", m->register_->live[0]->has_oldest = 0)            \
    X(REGISTER, LINK, "Live.next is required", m->register_->live[0]->has_next = 0)                \
    X(REGISTER, LINK, "Live.oldest is 8; at most 7", m->register_->live[0]->oldest = 8,            \
      m->register_->live[0]->next = 7)                                                             \
    X(REGISTER, LINK, "Live.next is 1048577",                                                      \
      m->register_->live[0]->next = LIMIT_CONTEXT_TOKENS + 1)                                      \
    X(REGISTER, LINK, "Live.model", m->register_->live[0]->model = LONG_NAME)                      \
    X(ADOPT, LINK, "Adopt.stream has 2 entries, but", m->adopt->n_stream = 2)                      \
    X(ADOPT, LINK, "Adopt.next_wanted has 1 entries, but", m->adopt->n_next_wanted = 1)            \
    X(ADOPT, LINK, "Adopt.request_id has 0 bytes", m->adopt->request_id[2] = sized(0))             \
    X(ADOPT, LINK, "Adopt.drop has 1 bytes", m->adopt->drop[0] = sized(1))                         \
    X(ADOPT, LINK, "Adopt.drop has 4097", m->adopt->drop = many_ids, m->adopt->n_drop = 4097)      \
    X(ADOPT, LINK, "Adopt.stream has 4097", m->adopt->request_id = many_ids,                       \
      m->adopt->n_request_id = 4097, m->adopt->stream = ones, m->adopt->n_stream = 4097,           \
      m->adopt->next_wanted = ones, m->adopt->n_next_wanted = 4097)                                \
    X(ADOPT, LINK, "Adopt.stream is 0", m->adopt->stream[1] = 0)                                   \
    X(ADOPT, LINK, "Adopt.next_wanted is 4294967294", m->adopt->next_wanted[1] = UINT32_MAX - 1)   \
    X(SUBMIT, LINK, "Submit.stream is required", m->submit->has_stream = 0)                        \
    X(SUBMIT, LINK, "Submit.stream is 0", m->submit->stream = 0)                                   \
    X(SUBMIT, LINK, "Submit.request_id is required", m->submit->has_request_id = 0)                \
    X(SUBMIT, LINK, "Submit.request_id has 2 bytes", m->submit->request_id = sized(2))             \
    X(SUBMIT, STREAM, "Submit.model", m->submit->has_model = 1, m->submit->model = LONG_NAME)      \
    X(SUBMIT, STREAM, "exactly one of text, messages and ids; 0", m->submit->has_text = 0)         \
    X(SUBMIT, STREAM, "exactly one of text, messages and ids; 2", m->submit->ids = ones,           \
      m->submit->n_ids = 1)                                                                        \
    X(SUBMIT, STREAM, "Submit.text must be UTF-8", m->submit->text = NOT_UTF8)                     \
    X(SUBMIT, STREAM, "Submit.ids has 1048577", m->submit->has_text = 0, m->submit->ids = ones,    \
      m->submit->n_ids = LIMIT_CONTEXT_TOKENS + 1)                                                 \
    X(SUBMIT, STREAM, "Submit.prior_ids has 1048577", m->submit->prior_ids = ones,                 \
      m->submit->n_prior_ids = LIMIT_CONTEXT_TOKENS + 1)                                           \
    X(SUBMIT, STREAM, "Submit.messages has 4097", m->submit->has_text = 0,                         \
      m->submit->messages = repeat(&one_message), m->submit->n_messages = 4097)                    \
    X(SUBMIT, STREAM, "Message.role is required", m->submit->has_text = 0,                         \
      m->submit->messages = repeat(&one_message), m->submit->n_messages = 1,                       \
      one_message.has_role = 0)                                                                    \
    X(SUBMIT, STREAM, "Message.role has 257", m->submit->has_text = 0,                             \
      m->submit->messages = repeat(&one_message), m->submit->n_messages = 1,                       \
      one_message.role = LONG_NAME)                                                                \
    X(SUBMIT, STREAM, "Message.content must be UTF-8", m->submit->has_text = 0,                    \
      m->submit->messages = repeat(&one_message), m->submit->n_messages = 1,                       \
      one_message.content = NOT_UTF8)                                                              \
    X(SUBMIT, STREAM, "Submit.stop has 17", m->submit->stop = many_texts, m->submit->n_stop = 17)  \
    X(SUBMIT, STREAM, "Submit.stop must not be empty", m->submit->stop[0] = sized(0))              \
    X(SUBMIT, STREAM, "Submit.stop has 257 bytes", m->submit->stop[0] = sized(257))                \
    X(SUBMIT, STREAM, "Submit.stop must be UTF-8", m->submit->stop[0] = NOT_UTF8)                  \
    X(SUBMIT, STREAM, "Submit.stop_ids has 65", m->submit->stop_ids = ones,                        \
      m->submit->n_stop_ids = 65)                                                                  \
    X(SUBMIT, STREAM, "Submit.max_tokens is 0", m->submit->has_max_tokens = 1,                     \
      m->submit->max_tokens = 0)                                                                   \
    X(SUBMIT, STREAM, "Submit.logprobs is 21; at most 20", m->submit->has_logprobs = 1,            \
      m->submit->logprobs = 21)                                                                    \
    X(SUBMIT, STREAM, "Submit.logprobs is 4294967295", m->submit->has_logprobs = 1,                \
      m->submit->logprobs = UINT32_MAX)                                                            \
    X(SUBMIT, STREAM, "Submit.window is 31", m->submit->has_window = 1, m->submit->window = 31)    \
    X(SUBMIT, STREAM, "Submit.window is 4097", m->submit->has_window = 1,                          \
      m->submit->window = 4097)                                                                    \
    X(SUBMIT, STREAM, "Submit.deadline_ms is 86400001", m->submit->has_deadline_ms = 1,            \
      m->submit->deadline_ms = LIMIT_DEADLINE_MS + 1)                                              \
    X(SUBMIT, STREAM, "Sampling.bias_ids has 1 entries, but",                                      \
      m->submit->sampling->bias_ids = ones, m->submit->sampling->n_bias_ids = 1)                   \
    X(SUBMIT, STREAM, "Sampling.bias has 1025", m->submit->sampling->bias_ids = ones,              \
      m->submit->sampling->n_bias_ids = 1025, m->submit->sampling->bias = (float *)ones,           \
      m->submit->sampling->n_bias = 1025)                                                          \
    X(SUBMIT, STREAM, "Sampling.bias must be a finite", m->submit->sampling->bias_ids = ones,      \
      m->submit->sampling->n_bias_ids = 1, m->submit->sampling->bias = infinite,                   \
      m->submit->sampling->n_bias = 1)                                                             \
    X(SUBMIT, STREAM, "Sampling.temperature must be a finite",                                     \
      m->submit->sampling->has_temperature = 1, m->submit->sampling->temperature = NAN)            \
    X(SUBMIT, STREAM, "Sampling.top_p must be a finite", m->submit->sampling->has_top_p = 1,       \
      m->submit->sampling->top_p = INFINITY)                                                       \
    X(SUBMIT, STREAM, "Sampling.min_p must be a finite", m->submit->sampling->has_min_p = 1,       \
      m->submit->sampling->min_p = NAN)                                                            \
    X(SUBMIT, STREAM, "Sampling.repetition_penalty must",                                          \
      m->submit->sampling->has_repetition_penalty = 1,                                             \
      m->submit->sampling->repetition_penalty = NAN)                                               \
    X(SUBMIT, STREAM, "Sampling.presence_penalty must",                                            \
      m->submit->sampling->has_presence_penalty = 1, m->submit->sampling->presence_penalty = NAN)  \
    X(SUBMIT, STREAM, "Sampling.frequency_penalty must",                                           \
      m->submit->sampling->has_frequency_penalty = 1,                                              \
      m->submit->sampling->frequency_penalty = -INFINITY)                                          \
    X(SUBMIT, STREAM, "Submit.cache_salt has 257 bytes; at most 256 are",                          \
      m->submit->has_cache_salt = 1, m->submit->cache_salt = sized(257))                           \
    X(ACCEPTED, LINK, "Accepted.stream is 0", m->accepted->has_stream = 0)                         \
    X(TOKENS, LINK, "Tokens.first_index has 1 entries, but", m->tokens->n_first_index = 1)         \
    X(TOKENS, LINK, "Tokens.count has 1 entries, but", m->tokens->n_count = 1)                     \
    X(TOKENS, LINK, "Tokens.text_len has 2 entries, but", m->tokens->n_text_len = 2)               \
    X(TOKENS, LINK, "Tokens.logprob has 2 entries, but", m->tokens->n_logprob = 2)                 \
    X(TOKENS, LINK, "Tokens.top_count has 1 entries, but", m->tokens->n_top_count = 1)             \
    X(TOKENS, LINK, "Tokens.top_logprob has 0 entries, but", m->tokens->n_top_logprob = 0)         \
    X(TOKENS, LINK, "Tokens.stream has 8193", m->tokens->stream = m->tokens->first_index = ones,   \
      m->tokens->count = ones, m->tokens->n_stream = m->tokens->n_first_index = 8193,              \
      m->tokens->n_count = 8193)                                                                   \
    X(TOKENS, LINK, "Tokens.token has 8193", m->tokens->token = m->tokens->text_len = ones,        \
      m->tokens->n_token = m->tokens->n_text_len = 8193, m->tokens->n_logprob = 0,                 \
      m->tokens->n_top_count = 0)                                                                  \
    X(TOKENS, LINK, "Tokens.stream is 0", m->tokens->stream[1] = 0)                                \
    X(TOKENS, LINK, "Tokens.count must not be", m->tokens->count[0] = 0)                           \
    X(TOKENS, LINK, "Tokens.count sums to 4, but Tokens.token has 3", m->tokens->count[0] = 3)     \
    X(TOKENS, LINK, "Tokens.first_index + Tokens.count is 4294967297",                             \
      m->tokens->first_index[0] = UINT32_MAX)                                                      \
    X(TOKENS, LINK, "Tokens.text_len sums to 13, but Tokens.text has 6",                           \
      m->tokens->text_len[2] = 9)                                                                  \
    X(TOKENS, LINK, "Tokens.text_len is 16385; at most 16384", m->tokens->text_len[2] = 16385)     \
    X(TOKENS, LINK, "Tokens.text_len is 4294967295; at most 16384",                                \
      m->tokens->text_len[0] = UINT32_MAX)                                                         \
    X(TOKENS, LINK, "Tokens.logprob must hold finite numbers or NaN; entry 1",                     \
      m->tokens->logprob[1] = -INFINITY)                                                           \
    X(TOKENS, LINK, "Tokens.top_count is 21; at most 20", m->tokens->top_count[0] = 21)            \
    X(TOKENS, LINK, "Tokens.top_count sums to 3, but Tokens.top_id has 2",                         \
      m->tokens->top_count[0] = 2)                                                                 \
    X(TOKENS, LINK, "Tokens.top_logprob must hold finite", m->tokens->top_logprob[0] = INFINITY)   \
    X(FINISH, LINK, "Finish.stream is required", m->finish->has_stream = 0)                        \
    X(FINISH, LINK, "Finish.stream is 0", m->finish->stream = 0)                                   \
    X(FINISH, LINK, "Finish.total is required", m->finish->has_total = 0)                          \
    X(FINISH, LINK, "Finish.total is 1048577", m->finish->total = LIMIT_CONTEXT_TOKENS + 1)        \
    X(FINISH, LINK, "Finish.reason is required", m->finish->has_reason = 0)                        \
    X(FINISH, LINK, "Finish.reason is 7", m->finish->reason = (Gaggle__Pb__FinishReason)7)         \
    X(FINISH, LINK, "Finish.crc is required", m->finish->has_crc = 0)                              \
    X(FINISH, LINK, "Finish.stop_text has 257", m->finish->stop_text = LONG_NAME,                  \
      m->finish->has_stop_text = 1)                                                                \
    X(FINISH, LINK, "Finish.error must be there", m->finish->error = NULL)                         \
    X(FINISH, LINK, "Finish.error must be there",                                                  \
      m->finish->reason = GAGGLE__PB__FINISH_REASON__STOP)                                         \
    X(FINISH, LINK, "Error.code is required", m->finish->error->has_code = 0)                      \
    X(FINISH, LINK, "Finish.error must be there", m->finish->error->code = 0)                      \
    X(ACK, LINK, "Ack.next_wanted has 2 entries, but", m->ack->n_next_wanted = 2)                  \
    X(ACK, LINK, "Ack.stream has 4097", m->ack->stream = m->ack->next_wanted = ones,               \
      m->ack->n_stream = m->ack->n_next_wanted = 4097)                                             \
    X(ACK, LINK, "Ack.stream is 0", m->ack->stream[0] = 0)                                         \
    X(ACK, LINK, "Ack.next_wanted is 4294967295", m->ack->next_wanted[1] = UINT32_MAX)             \
    X(CANCEL, LINK, "Cancel.stream has 4097", m->cancel->stream = ones,                            \
      m->cancel->n_stream = 4097)                                                                  \
    X(CANCEL, LINK, "Cancel.stream is 0", m->cancel->stream[0] = 0)                                \
    X(CANCEL, LINK, "Cancel.reason", m->cancel->reason = LONG_NAME)                                \
    X(CANCEL, LINK, "Cancel.finish is 6", m->cancel->has_finish = 1,                               \
      m->cancel->finish = (Gaggle__Pb__FinishReason)6)                                             \
    X(RESUME, LINK, "Resume.stream has 2 entries, but", m->resume->n_stream = 2)                   \
    X(RESUME, LINK, "Resume.next_wanted has 1 entries, but", m->resume->n_next_wanted = 1)         \
    X(RESUME, LINK, "Resume.request_id has 15 bytes", m->resume->request_id[0] = sized(15))        \
    X(RESUME, LINK, "Resume.stream has 4097", m->resume->request_id = many_ids,                    \
      m->resume->n_request_id = 4097, m->resume->stream = ones, m->resume->n_stream = 4097,        \
      m->resume->next_wanted = ones, m->resume->n_next_wanted = 4097)                              \
    X(RESUME, LINK, "Resume.stream is 0", m->resume->stream[0] = 0)                                \
    X(RESUME, LINK, "Resume.next_wanted is", m->resume->next_wanted[0] = UINT32_MAX)               \
    X(DRAIN, LINK, "Drain.reason", m->drain->reason = LONG_NAME)                                   \
    X(DRAIN, LINK, "Drain.worker_id", m->drain->worker_id = WITH_NUL)                              \
    X(ERROR, LINK, "Error.code is required", m->error->has_code = 0)                               \
    X(ERROR, LINK, "Error.code is 0", m->error->code = 0)                                          \
    X(ERROR, LINK, "Error.text has 512 bytes; at most 511", m->error->has_text = 1,                \
      m->error->text = sized(512))                                                                 \
    X(BYE, LINK, "Bye.reason", m->bye->reason = LONG_NAME)                                         \
    X(REPORT, LINK, "Report.build", m->report->build = LONG_NAME)                                  \
    X(REPORT, LINK, "Report.workers has 1025", m->report->workers = repeat(m->report->workers[0]), \
      m->report->n_workers = 1025)                                                                 \
    X(REPORT, LINK, "WorkerReport.worker_id must not", m->report->workers[0]->has_worker_id = 0)   \
    X(REPORT, LINK, "WorkerReport.worker_id has", m->report->workers[0]->worker_id = LONG_NAME)    \
    X(REPORT, LINK, "WorkerReport.device", m->report->workers[0]->device = LONG_NAME)              \
    X(REPORT, LINK, "Model.name must not", m->report->workers[0]->models[0]->has_name = 0)

static Gaggle__Pb__Message one_message;

typedef struct rule {
    envelope_kind kind;
    status expected;
    const char *sentence;
    const char *broken_by;
} rule;

static const rule rules[] = {
#define X(kind, expected, sentence, ...) {ENVELOPE_##kind, expected, sentence, #__VA_ARGS__},
    RULES(X)
#undef X
};

static void break_rule(size_t index, Gaggle__Pb__Envelope *m)
{
    size_t at = 0;
#define X(kind, expected, sentence, ...)                                                           \
    if (at++ == index) {                                                                           \
        (void)(__VA_ARGS__);                                                                       \
        return;                                                                                    \
    }
    RULES(X)
#undef X
    fail();
}

/* A valid envelope with something in every column that the rules above break. */
static envelope full_envelope(envelope_kind kind)
{
    static uint32_t numbers[3] = {1, 2, 3};
    static uint32_t counts[2] = {2, 1}, lengths[3] = {2, 2, 2}, tops[3] = {1, 1, 0};
    static float values[3] = {-1, -2, -3};
    static id128 ids[3];
    static msg_model model;
    static msg_live live;
    static msg_worker_report worker;
    static text_view stop;
    text_view name = text_of("name");
    model = (msg_model){name, name, 100};
    live = (msg_live){.base = 1, .next = 2, .model = name};
    worker =
        (msg_worker_report){.worker_id = name, .device = name, .models = &model, .model_count = 1};
    stop = name;

    envelope e = {.link = 7, .n = 9, .kind = kind};
    switch (kind) {
    case ENVELOPE_HELLO:
        e.hello.version = 1;
        e.hello.role = ROLE_CLIENT;
        break;
    case ENVELOPE_REGISTER:
        e.reg = (msg_register){.worker_id = name,
                               .device = name,
                               .models = &model,
                               .model_count = 1,
                               .live = &live,
                               .live_count = 1};
        break;
    case ENVELOPE_ADOPT:
        e.adopt = (msg_adopt){ids, numbers, numbers, 3, ids, 2};
        break;
    case ENVELOPE_SUBMIT:
        e.submit = (msg_submit){.stream = 5,
                                .has_text = true,
                                .text = name,
                                .stop = &stop,
                                .stop_count = 1,
                                .logprobs = LOGPROBS_NONE};
        memset(e.submit.request_id.bytes, 'r', LIMIT_ID_BYTES);
        break;
    case ENVELOPE_ACCEPTED:
        e.accepted.stream = 1;
        break;
    case ENVELOPE_TOKENS:
        e.tokens = (msg_tokens){.stream = numbers,
                                .first_index = numbers,
                                .count = counts,
                                .groups = 2,
                                .token = numbers,
                                .text_len = lengths,
                                .tokens = 3,
                                .text = (const uint8_t *)"abcdef",
                                .text_size = 6,
                                .logprob = values,
                                .top_count = tops,
                                .top_id = numbers,
                                .top_logprob = values,
                                .top_total = 2};
        break;
    case ENVELOPE_FINISH:
        e.finish = (msg_finish){
            .stream = 1, .reason = FINISH_FAILED, .error = {.code = ST_INTERNAL, .text = name}};
        break;
    case ENVELOPE_ACK:
        e.ack = (msg_ack){numbers, numbers, 3};
        break;
    case ENVELOPE_CANCEL:
        e.cancel = (msg_cancel){numbers, 3, name, FINISH_CANCELLED, false, 0};
        break;
    case ENVELOPE_RESUME:
        e.resume = (msg_resume){ids, numbers, numbers, 3};
        break;
    case ENVELOPE_DRAIN:
        e.drain = (msg_drain){1, name, name};
        break;
    case ENVELOPE_ERROR:
        e.error.code = ST_INTERNAL;
        break;
    case ENVELOPE_BYE:
        e.bye.reason = name;
        break;
    case ENVELOPE_REPORT:
        e.report = (msg_report){.build = name, .workers = &worker, .worker_count = 1};
        break;
    default:
        break;
    }
    return e;
}

/* A valid frame as generated structs, to be broken: everything lives in `a`. */
static void *arena_door(void *a, size_t size)
{
    return arena_alloc(a, size);
}
static void nothing(void *a, void *pointer)
{
    (void)a;
    (void)pointer;
}

static Gaggle__Pb__Envelope *unpacked(const envelope *e, arena *a)
{
    buffer frame = {0};
    assert_encodes(e, a, &frame);
    ProtobufCAllocator allocator = {arena_door, nothing, a};
    Gaggle__Pb__Envelope *m = gaggle__pb__envelope__unpack(&allocator, frame.size, frame.data);
    assert_non_null(m);
    buffer_free(&frame);
    return m;
}

static buffer packed(const Gaggle__Pb__Envelope *m)
{
    buffer frame = {0};
    size_t size = gaggle__pb__envelope__get_packed_size(m);
    buffer_reserve(&frame, size);
    frame.size = gaggle__pb__envelope__pack(m, frame.data);
    return frame;
}

static void test_each_broken_rule_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++)
        ones[i] = 1;
    for (size_t i = 0; i < sizeof many_ids / sizeof many_ids[0]; i++)
        many_ids[i] = sized(LIMIT_ID_BYTES);
    for (size_t i = 0; i < sizeof many_texts / sizeof many_texts[0]; i++)
        many_texts[i] = sized(1);

    arena a = {0};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const rule *r = &rules[i];
        gaggle__pb__message__init(&one_message);
        one_message.has_role = one_message.has_content = 1;
        one_message.role = one_message.content = sized(4);
        arena_reset(&a);

        envelope valid = full_envelope(r->kind), got = {.kind = ENVELOPE_NONE};
        Gaggle__Pb__Envelope *m = unpacked(&valid, &a);
        buffer frame = packed(m);
        error err = {0};
        assert_int_equal(envelope_decode(frame.data, frame.size, &a, &got, &err), ST_OK);
        buffer_free(&frame);
        memset(&got, 0, sizeof got);

        break_rule(i, m);
        frame = packed(m);
        status st = envelope_decode(frame.data, frame.size, &a, &got, &err);
        if (st != r->expected || err.code != st || strstr(err.text, r->sentence) == NULL)
            fail_msg("after `%s`: expected %s \"%s\", got %s \"%s\"", r->broken_by,
                     status_name(r->expected), r->sentence, status_name(st), err.text);
        if (st == ST_OUT_OF_RANGE) {
            assert_int_equal(got.kind, ENVELOPE_SUBMIT);
            assert_int_equal(got.link, valid.link);
            assert_int_equal(got.n, valid.n);
            assert_int_equal(got.submit.stream, valid.submit.stream);
            assert_true(id128_equal(&got.submit.request_id, &valid.submit.request_id));
            assert_null(got.submit.text.data);
        } else {
            assert_int_equal(got.kind, ENVELOPE_NONE); /* untouched */
        }
        buffer_free(&frame);
    }
    arena_free(&a);
    free(sized(0).data);
}

static void test_unknown_fields_and_codes_are_tolerated(void **state)
{
    (void)state;
    arena a = {0};
    envelope e = full_envelope(ENVELOPE_ERROR), got;
    Gaggle__Pb__Envelope *m = unpacked(&e, &a);
    m->error->code = 99;
    buffer frame = packed(m);
    static const uint8_t field_100[] = {0xa2, 0x06, 0x03, 'n', 'e', 'w'};
    buffer_append(&frame, field_100, sizeof field_100);
    error err;
    assert_int_equal(envelope_decode(frame.data, frame.size, &a, &got, &err), ST_OK);
    assert_int_equal(got.error.code, ST_UNKNOWN);
    buffer_free(&frame);
    arena_free(&a);
}

static void test_message_over_the_limit_is_not_encoded(void **state)
{
    (void)state;
    arena a = {0};
    buffer out = {0};
    buffer_append(&out, "kept", 4);
    envelope e = full_envelope(ENVELOPE_SUBMIT);
    char *text = malloc(LIMIT_MESSAGE_BYTES);
    assert_non_null(text);
    memset(text, 't', LIMIT_MESSAGE_BYTES);
    e.submit.text = (text_view){text, LIMIT_MESSAGE_BYTES};
    assert_int_equal(envelope_encode(&e, &a, &out), ST_RESOURCE_EXHAUSTED);
    assert_int_equal(out.size, 4);
    e.submit.text.size -= 100;
    assert_int_equal(envelope_encode(&e, &a, &out), ST_OK);
    envelope got;
    assert_int_equal(envelope_decode(out.data + 4, out.size - 4, &a, &got, NULL), ST_OK);
    free(text);
    buffer_free(&out);
    arena_free(&a);
}

/* Two bytes of frame can cost a hundred of memory; the arena must not follow for ever. */
static void test_frame_of_tiny_fields_cannot_take_much_memory(void **state)
{
    (void)state;
    enum { FIELDS = 3000000 };
    arena a = {0};
    buffer frame = {0};
    static const uint8_t head[] = {0x0d, 1, 0, 0, 0, 0x10, 1, 0x7a}; /* link, n, submit */
    buffer_append(&frame, head, sizeof head);
    uint32_t left = 2 * FIELDS;
    for (; left >= 0x80; left >>= 7)
        buffer_append(&frame, &(uint8_t){(uint8_t)(left | 0x80)}, 1);
    buffer_append(&frame, &(uint8_t){(uint8_t)left}, 1);
    for (int i = 0; i < FIELDS; i++)
        buffer_append(&frame, "\x2a\x00", 2); /* an empty Message */
    envelope got;
    error err;
    assert_int_equal(envelope_decode(frame.data, frame.size, &a, &got, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "too many small fields"));
    assert_true(a.bytes <= frame.size * 17 + (2u << 20));
    buffer_free(&frame);
    arena_free(&a);
}

static void test_error_sentence_is_repaired_when_sent(void **state)
{
    (void)state;
    arena a = {0};
    buffer out = {0};
    char sentence[ERROR_TEXT_SIZE + 100];
    memset(sentence, 's', sizeof sentence);
    memcpy(sentence, "quoted \xff\xc3", 9);
    memcpy(sentence + ERROR_TEXT_SIZE - 2, "\xc3\xa9", 2); /* the limit cuts it in two */
    envelope e = full_envelope(ENVELOPE_FINISH), got;
    e.finish.error.text = (text_view){sentence, sizeof sentence};
    assert_encodes(&e, &a, &out);
    assert_int_equal(envelope_decode(out.data, out.size, &a, &got, NULL), ST_OK);
    text_view text = got.finish.error.text;
    assert_int_equal(text.size, ERROR_TEXT_SIZE - 1);
    assert_memory_equal(text.data, "quoted ??s", 10);
    assert_int_equal(text.data[text.size - 1], '?');
    buffer_free(&out);
    arena_free(&a);
}

/* Whatever arrives: no crash, and what is accepted can be said again. */
static void test_damaged_frames_are_refused_or_sound(void **state)
{
    (void)state;
    arena a = {0}, scratch = {0};
    buffer frame = {0}, again = {0};
    uint64_t random = 7;
    for (const envelope_kind *kind = sample_kinds; *kind != ENVELOPE_NONE; kind++) {
        for (int round = 0; round < 60; round++) {
            arena_reset(&a);
            buffer_clear(&frame);
            envelope e = sample_envelope(*kind, &random, &a);
            assert_encodes(&e, &a, &frame);
            for (int damage = 0; damage < 30; damage++) {
                size_t size = frame.size, bit = sample_random(&random) % (8 * frame.size);
                if (damage % 3 == 0)
                    size = sample_random(&random) % frame.size;
                else
                    frame.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
                /* A copy of its own, so that the sanitizer sees a read past the end. */
                uint8_t *copy = mem_copy(frame.data, size);
                arena_reset(&scratch);
                envelope got;
                if (envelope_decode(copy, size, &scratch, &got, NULL) == ST_OK) {
                    buffer_clear(&again);
                    assert_int_equal(envelope_encode(&got, &scratch, &again), ST_OK);
                }
                mem_free(copy);
                if (damage % 3 != 0) frame.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            }
        }
    }
    buffer_free(&frame);
    buffer_free(&again);
    arena_free(&a);
    arena_free(&scratch);
}

static void test_crc_is_castagnolis(void **state)
{
    (void)state;
    /* RFC 3720, B.4: 32 bytes of 0, of 0xff, rising and falling. */
    uint32_t zeros[8] = {0}, full[8], rising[8], falling[8];
    uint8_t *r = (uint8_t *)rising, *f = (uint8_t *)falling;
    memset(full, 0xff, sizeof full);
    for (unsigned i = 0; i < 32; i++) {
        r[i] = (uint8_t)i;
        f[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(ids_crc32c(0, zeros, 8), 0x8a9136aa);
    assert_int_equal(ids_crc32c(0, full, 8), 0x62a8ab43);
    assert_int_equal(ids_crc32c(0, rising, 8), 0x46dd794e);
    assert_int_equal(ids_crc32c(0, falling, 8), 0x113fdb5c);
    assert_int_equal(ids_crc32c(0, NULL, 0), 0);

    uint64_t random = 3;
    uint32_t ids[257];
    for (size_t i = 0; i < 257; i++)
        ids[i] = (uint32_t)sample_random(&random);
    for (size_t cut = 0; cut <= 257; cut++) {
        uint32_t whole = ids_crc32c(0, ids, 257);
        assert_int_equal(ids_crc32c(ids_crc32c(0, ids, cut), ids + cut, 257 - cut), whole);
        assert_int_equal(ids_crc32c_table(0, ids, cut), ids_crc32c(0, ids, cut));
    }
}

static void test_utf8_is_judged_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size, valid;
    } cases[] = {
        {"", 0, 0},
        {"plain ascii, longer than eight", 30, 30},
        {"12345678\0", 9, 8},
        {"1234\0"
         "678",
         8, 4},
        {"1234567\x80", 8, 7},
        {"\xc3\xa9", 2, 2},
        {"\xc3", 1, 0},
        {"\xc0\x80", 2, 0},
        {"\xc1\xbf", 2, 0},
        {"\xe0\x9f\xbf", 3, 0},
        {"\xe0\xa0\x80", 3, 3},
        {"\xed\x9f\xbf", 3, 3},
        {"\xed\xa0\x80", 3, 0},
        {"\xee\x80\x80", 3, 3},
        {"\xe2\x82", 2, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xf0\x90\x80\x80", 4, 4},
        {"\xf4\x8f\xbf\xbf", 4, 4},
        {"\xf4\x90\x80\x80", 4, 0},
        {"\xf5\x80\x80\x80", 4, 0},
        {"a\x80", 2, 1},
        {"abc\xe2\x82\xacxyz\xff", 10, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(text_valid_size((text_view){cases[i].bytes, cases[i].size}),
                         cases[i].valid);
}

static void test_ids_and_names_read_well(void **state)
{
    (void)state;
    id128 a = id128_random(), b = id128_random();
    assert_false(id128_equal(&a, &b));
    assert_true(id128_equal(&a, &a));
    assert_true(id128_is_zero(&(id128){{0}}));
    assert_false(id128_is_zero(&a));
    char hex[33];
    assert_string_equal(id128_hex(&(id128){{0x01, 0xab, [15] = 0xf0}}, hex),
                        "01ab00000000000000000000000000f0");
    for (const envelope_kind *kind = sample_kinds; *kind != ENVELOPE_NONE; kind++)
        assert_string_not_equal(envelope_kind_name(*kind), "none");
    assert_string_equal(envelope_kind_name(ENVELOPE_NONE), "none");
    assert_string_equal(finish_reason_name(FINISH_SLOW_CONSUMER), "slow_consumer");
    char *copy = text_dup((text_view){"abc", 2});
    assert_string_equal(copy, "ab");
    mem_free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_comes_back_as_it_went),
        cmocka_unit_test(test_each_broken_rule_is_refused_by_name),
        cmocka_unit_test(test_unknown_fields_and_codes_are_tolerated),
        cmocka_unit_test(test_message_over_the_limit_is_not_encoded),
        cmocka_unit_test(test_frame_of_tiny_fields_cannot_take_much_memory),
        cmocka_unit_test(test_error_sentence_is_repaired_when_sent),
        cmocka_unit_test(test_damaged_frames_are_refused_or_sound),
        cmocka_unit_test(test_crc_is_castagnolis),
        cmocka_unit_test(test_utf8_is_judged_strictly),
        cmocka_unit_test(test_ids_and_names_read_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
