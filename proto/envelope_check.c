/* The rules of envelope.h over the plain structs: one function a kind. Decoding runs them on what
 * arrived, encoding on what is about to leave. */
#include <inttypes.h>
#include <math.h>

#include "common/check.h"
#include "proto/envelope.h"

/* Each helper gives true when the rule holds, and else fills `err` and gives false. */

static bool at_most(error *err, const char *field, uint64_t value, uint64_t limit)
{
    if (value <= limit) return true;
    error_set(err, ST_INVALID_ARGUMENT, "%s is %" PRIu64 "; at most %" PRIu64 " is allowed", field,
              value, limit);
    return false;
}

static bool count_at_most(error *err, const char *field, size_t count, size_t limit)
{
    if (count <= limit) return true;
    error_set(err, ST_INVALID_ARGUMENT, "%s has %zu entries; at most %zu are allowed", field, count,
              limit);
    return false;
}

static bool bytes_at_most(error *err, const char *field, text_view bytes, size_t limit)
{
    if (bytes.size <= limit) return true;
    error_set(err, ST_INVALID_ARGUMENT, "%s has %zu bytes; at most %zu are allowed", field,
              bytes.size, limit);
    return false;
}

static bool text_ok(error *err, const char *field, text_view text, size_t limit)
{
    if (!bytes_at_most(err, field, text, limit)) return false;
    size_t valid = text_valid_size(text);
    if (valid == text.size) return true;
    error_set(err, ST_INVALID_ARGUMENT, "%s must be UTF-8 without NUL; byte %zu is 0x%02x", field,
              valid, (unsigned)(unsigned char)text.data[valid]);
    return false;
}

static bool not_empty(error *err, const char *field, size_t size)
{
    if (size > 0) return true;
    error_set(err, ST_INVALID_ARGUMENT, "%s must not be empty", field);
    return false;
}

static bool stream_ok(error *err, const char *field, uint32_t stream)
{
    if (stream != 0) return true;
    error_set(err, ST_INVALID_ARGUMENT, "%s is 0; a stream has a number from 1 on", field);
    return false;
}

static bool streams_ok(error *err, const char *field, const uint32_t *stream, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (stream[i] == 0) return stream_ok(err, field, 0);
    }
    return true;
}

static bool finite_ok(error *err, const char *field, float value)
{
    if (isfinite(value)) return true;
    error_set(err, ST_INVALID_ARGUMENT, "%s must be a finite number; it is %f", field,
              (double)value);
    return false;
}

/* Logprobs: NaN says that none was asked for. */
static bool logprobs_ok(error *err, const char *field, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (isinf(values[i])) {
            error_set(err, ST_INVALID_ARGUMENT,
                      "%s must hold finite numbers or NaN; entry %zu is %f", field, i,
                      (double)values[i]);
            return false;
        }
    }
    return true;
}

/* Indices a consumer wants next. `hold`: NEXT_WANTED_HOLD is a value too. */
static bool wanted_ok(error *err, const char *field, const uint32_t *next, size_t count, bool hold)
{
    for (size_t i = 0; i < count; i++) {
        if (hold && next[i] == NEXT_WANTED_HOLD) continue;
        if (!at_most(err, field, next[i], LIMIT_CONTEXT_TOKENS)) return false;
    }
    return true;
}

static bool sum_is(error *err, const char *field, uint64_t sum, const char *whole, size_t size)
{
    if (sum == size) return true;
    error_set(err, ST_INVALID_ARGUMENT, "%s sums to %" PRIu64 ", but %s has %zu", field, sum, whole,
              size);
    return false;
}

static bool role_ok(error *err, role value)
{
    if (value == ROLE_CLIENT || value == ROLE_WORKER) return true;
    error_set(err, ST_INVALID_ARGUMENT, "Hello.role is %d; it must be 1 (client) or 2 (worker)",
              (int)value);
    return false;
}

static bool hello_ok(const msg_hello *m, error *err)
{
    return role_ok(err, m->role) && text_ok(err, "Hello.token", m->token, LIMIT_TOKEN_BYTES) &&
           text_ok(err, "Hello.build", m->build, LIMIT_NAME_BYTES) &&
           text_ok(err, "Hello.name", m->name, LIMIT_NAME_BYTES);
}

static bool welcome_ok(const msg_welcome *m, error *err)
{
    return text_ok(err, "Welcome.build", m->build, LIMIT_NAME_BYTES);
}

static bool models_ok(error *err, const msg_model *models, size_t count)
{
    if (!count_at_most(err, "models", count, LIMIT_MODELS_PER_WORKER)) return false;
    for (size_t i = 0; i < count; i++) {
        const msg_model *m = &models[i];
        if (!not_empty(err, "Model.name", m->name.size) ||
            !text_ok(err, "Model.name", m->name, LIMIT_NAME_BYTES) ||
            !text_ok(err, "Model.revision", m->revision, LIMIT_NAME_BYTES) ||
            !at_most(err, "Model.context_max", m->context_max, LIMIT_CONTEXT_TOKENS))
            return false;
    }
    return true;
}

static bool live_ok(error *err, const msg_live *live)
{
    return at_most(err, "Live.next", live->next, LIMIT_CONTEXT_TOKENS) &&
           at_most(err, "Live.oldest", live->base, live->next) &&
           text_ok(err, "Live.model", live->model, LIMIT_NAME_BYTES);
}

static bool register_ok(const msg_register *m, error *err)
{
    if (!not_empty(err, "Register.worker_id", m->worker_id.size) ||
        !text_ok(err, "Register.worker_id", m->worker_id, LIMIT_NAME_BYTES) ||
        !text_ok(err, "Register.device", m->device, LIMIT_NAME_BYTES) ||
        !not_empty(err, "Register.models", m->model_count) ||
        !models_ok(err, m->models, m->model_count) ||
        !text_ok(err, "Register.numerics", m->numerics, LIMIT_NAME_BYTES) ||
        !at_most(err, "Register.slots", m->slots, LIMIT_STREAMS_PER_LINK) ||
        !count_at_most(err, "Register.live", m->live_count, LIMIT_STREAMS_PER_LINK))
        return false;
    for (size_t i = 0; i < m->live_count; i++)
        if (!live_ok(err, &m->live[i])) return false;
    return true;
}

static bool adopt_ok(const msg_adopt *m, error *err)
{
    return count_at_most(err, "Adopt.stream", m->count, LIMIT_STREAMS_PER_LINK) &&
           count_at_most(err, "Adopt.drop", m->drop_count, LIMIT_STREAMS_PER_LINK) &&
           streams_ok(err, "Adopt.stream", m->stream, m->count) &&
           wanted_ok(err, "Adopt.next_wanted", m->next_wanted, m->count, true);
}

static bool sampling_ok(const msg_sampling *m, error *err)
{
    if (!finite_ok(err, "Sampling.temperature", m->temperature) ||
        !finite_ok(err, "Sampling.top_p", m->top_p) ||
        !finite_ok(err, "Sampling.min_p", m->min_p) ||
        !finite_ok(err, "Sampling.repetition_penalty", m->repetition_penalty) ||
        !finite_ok(err, "Sampling.presence_penalty", m->presence_penalty) ||
        !finite_ok(err, "Sampling.frequency_penalty", m->frequency_penalty) ||
        !count_at_most(err, "Sampling.bias", m->bias_count, LIMIT_LOGIT_BIASES))
        return false;
    for (size_t i = 0; i < m->bias_count; i++)
        if (!finite_ok(err, "Sampling.bias", m->bias[i])) return false;
    return true;
}

static bool prompt_ok(const msg_submit *m, error *err)
{
    int prompts = m->has_text + (m->message_count > 0) + (m->id_count > 0);
    if (prompts != 1) {
        error_set(err, ST_INVALID_ARGUMENT,
                  "Submit needs exactly one of text, messages and ids; %d were given", prompts);
        return false;
    }
    if (!text_ok(err, "Submit.text", m->text, LIMIT_MESSAGE_BYTES) ||
        !count_at_most(err, "Submit.messages", m->message_count, LIMIT_MESSAGES) ||
        !count_at_most(err, "Submit.ids", m->id_count, LIMIT_CONTEXT_TOKENS))
        return false;
    for (size_t i = 0; i < m->message_count; i++) {
        if (!text_ok(err, "Message.role", m->messages[i].role, LIMIT_NAME_BYTES) ||
            !text_ok(err, "Message.content", m->messages[i].content, LIMIT_MESSAGE_BYTES))
            return false;
    }
    return true;
}

static bool stops_ok(const msg_submit *m, error *err)
{
    if (!count_at_most(err, "Submit.stop", m->stop_count, LIMIT_STOP_STRINGS) ||
        !count_at_most(err, "Submit.stop_ids", m->stop_id_count, LIMIT_STOP_IDS))
        return false;
    for (size_t i = 0; i < m->stop_count; i++) {
        if (!not_empty(err, "Submit.stop", m->stop[i].size) ||
            !text_ok(err, "Submit.stop", m->stop[i], LIMIT_STOP_STRING_BYTES))
            return false;
    }
    return true;
}

static bool window_ok(error *err, uint32_t window)
{
    if (window == 0 || (window >= LIMIT_WINDOW_TOKENS_MIN && window <= LIMIT_WINDOW_TOKENS_MAX))
        return true;
    error_set(err, ST_INVALID_ARGUMENT, "Submit.window is %u; it must be %u to %u tokens", window,
              LIMIT_WINDOW_TOKENS_MIN, LIMIT_WINDOW_TOKENS_MAX);
    return false;
}

static bool submit_ok(const msg_submit *m, error *err)
{
    return stream_ok(err, "Submit.stream", m->stream) &&
           text_ok(err, "Submit.model", m->model, LIMIT_NAME_BYTES) && prompt_ok(m, err) &&
           sampling_ok(&m->sampling, err) && stops_ok(m, err) &&
           (m->logprobs == LOGPROBS_NONE ||
            at_most(err, "Submit.logprobs", m->logprobs, LIMIT_LOGPROBS_TOP)) &&
           window_ok(err, m->window) &&
           at_most(err, "Submit.deadline_ms", m->deadline_ms, LIMIT_DEADLINE_MS) &&
           count_at_most(err, "Submit.prior_ids", m->prior_count, LIMIT_CONTEXT_TOKENS) &&
           at_most(err, "Submit.prior_unacked", m->prior_unacked, (uint32_t)m->prior_count) &&
           bytes_at_most(err, "Submit.cache_salt", m->cache_salt, LIMIT_CACHE_SALT_BYTES) &&
           text_ok(err, "Submit.traceparent", m->traceparent, LIMIT_NAME_BYTES);
}

static bool token_groups_ok(const msg_tokens *m, error *err)
{
    uint64_t tokens = 0;
    for (size_t g = 0; g < m->groups; g++) {
        if (!stream_ok(err, "Tokens.stream", m->stream[g]) ||
            !not_empty(err, "Tokens.count", m->count[g]) ||
            !at_most(err, "Tokens.first_index + Tokens.count",
                     (uint64_t)m->first_index[g] + m->count[g], LIMIT_CONTEXT_TOKENS))
            return false;
        tokens += m->count[g];
    }
    return sum_is(err, "Tokens.count", tokens, "Tokens.token", m->tokens);
}

static bool token_alternatives_ok(const msg_tokens *m, error *err)
{
    uint64_t alternatives = 0;
    for (size_t i = 0; m->top_count != NULL && i < m->tokens; i++) {
        if (!at_most(err, "Tokens.top_count", m->top_count[i], LIMIT_LOGPROBS_TOP)) return false;
        alternatives += m->top_count[i];
    }
    return sum_is(err, "Tokens.top_count", alternatives, "Tokens.top_id", m->top_total) &&
           logprobs_ok(err, "Tokens.top_logprob", m->top_logprob, m->top_total);
}

static bool tokens_ok(const msg_tokens *m, error *err)
{
    if (!count_at_most(err, "Tokens.stream", m->groups, LIMIT_TOKENS_MESSAGE_ENTRIES) ||
        !count_at_most(err, "Tokens.token", m->tokens, LIMIT_TOKENS_MESSAGE_ENTRIES) ||
        !token_groups_ok(m, err))
        return false;
    uint64_t text_size = 0;
    uint32_t longest = 0;
    for (size_t i = 0; i < m->tokens; i++) {
        text_size += m->text_len[i];
        if (m->text_len[i] > longest) longest = m->text_len[i];
    }
    return at_most(err, "Tokens.text_len", longest, LIMIT_TOKENS_TEXT_LEN) &&
           sum_is(err, "Tokens.text_len", text_size, "Tokens.text", m->text_size) &&
           (m->logprob == NULL || logprobs_ok(err, "Tokens.logprob", m->logprob, m->tokens)) &&
           token_alternatives_ok(m, err);
}

static bool error_ok(const msg_error *m, error *err)
{
    if (m->code == ST_OK || (unsigned)m->code >= STATUS_COUNT) {
        error_set(err, ST_INVALID_ARGUMENT, "Error.code is %d; it must be 1 to %d", (int)m->code,
                  STATUS_COUNT - 1);
        return false;
    }
    return text_ok(err, "Error.text", m->text, ERROR_TEXT_SIZE - 1);
}

static bool finish_ok(const msg_finish *m, error *err)
{
    if (m->reason < FINISH_STOP || m->reason > FINISH_FAILED) {
        error_set(err, ST_INVALID_ARGUMENT, "Finish.reason is %d; it must be %d to %d",
                  (int)m->reason, FINISH_STOP, FINISH_FAILED);
        return false;
    }
    if ((m->reason == FINISH_FAILED) != (m->error.code != ST_OK)) {
        error_set(err, ST_INVALID_ARGUMENT, "Finish.error must be there with FAILED and only then");
        return false;
    }
    return stream_ok(err, "Finish.stream", m->stream) &&
           at_most(err, "Finish.total", m->total, LIMIT_CONTEXT_TOKENS) &&
           text_ok(err, "Finish.stop_text", m->stop_text, LIMIT_STOP_STRING_BYTES) &&
           (m->reason != FINISH_FAILED || error_ok(&m->error, err));
}

static bool ack_ok(const msg_ack *m, error *err)
{
    return count_at_most(err, "Ack.stream", m->count, LIMIT_STREAMS_PER_LINK) &&
           streams_ok(err, "Ack.stream", m->stream, m->count) &&
           wanted_ok(err, "Ack.next_wanted", m->next_wanted, m->count, false);
}

static bool cancel_ok(const msg_cancel *m, error *err)
{
    if (m->finish != 0 && (m->finish < FINISH_CANCELLED || m->finish > FINISH_SLOW_CONSUMER)) {
        error_set(err, ST_INVALID_ARGUMENT, "Cancel.finish is %d; it must be %d to %d",
                  (int)m->finish, FINISH_CANCELLED, FINISH_SLOW_CONSUMER);
        return false;
    }
    return count_at_most(err, "Cancel.stream", m->count, LIMIT_STREAMS_PER_LINK) &&
           streams_ok(err, "Cancel.stream", m->stream, m->count) &&
           text_ok(err, "Cancel.reason", m->reason, LIMIT_NAME_BYTES);
}

static bool resume_ok(const msg_resume *m, error *err)
{
    return count_at_most(err, "Resume.stream", m->count, LIMIT_STREAMS_PER_LINK) &&
           streams_ok(err, "Resume.stream", m->stream, m->count) &&
           wanted_ok(err, "Resume.next_wanted", m->next_wanted, m->count, false);
}

static bool drain_ok(const msg_drain *m, error *err)
{
    return text_ok(err, "Drain.reason", m->reason, LIMIT_NAME_BYTES) &&
           text_ok(err, "Drain.worker_id", m->worker_id, LIMIT_NAME_BYTES);
}

static bool report_ok(const msg_report *m, error *err)
{
    if (!text_ok(err, "Report.build", m->build, LIMIT_NAME_BYTES) ||
        !count_at_most(err, "Report.workers", m->worker_count, LIMIT_WORKERS))
        return false;
    for (size_t i = 0; i < m->worker_count; i++) {
        const msg_worker_report *w = &m->workers[i];
        if (!not_empty(err, "WorkerReport.worker_id", w->worker_id.size) ||
            !text_ok(err, "WorkerReport.worker_id", w->worker_id, LIMIT_NAME_BYTES) ||
            !text_ok(err, "WorkerReport.device", w->device, LIMIT_NAME_BYTES) ||
            !models_ok(err, w->models, w->model_count) ||
            !at_most(err, "WorkerReport.breaker", w->breaker, 2))
            return false;
    }
    return true;
}

static bool kind_ok(const envelope *e, error *err)
{
    switch (e->kind) {
    case ENVELOPE_HELLO:
        return hello_ok(&e->hello, err);
    case ENVELOPE_WELCOME:
        return welcome_ok(&e->welcome, err);
    case ENVELOPE_REGISTER:
        return register_ok(&e->reg, err);
    case ENVELOPE_ADOPT:
        return adopt_ok(&e->adopt, err);
    case ENVELOPE_SUBMIT:
        return submit_ok(&e->submit, err);
    case ENVELOPE_ACCEPTED:
        return stream_ok(err, "Accepted.stream", e->accepted.stream);
    case ENVELOPE_TOKENS:
        return tokens_ok(&e->tokens, err);
    case ENVELOPE_FINISH:
        return finish_ok(&e->finish, err);
    case ENVELOPE_ACK:
        return ack_ok(&e->ack, err);
    case ENVELOPE_CANCEL:
        return cancel_ok(&e->cancel, err);
    case ENVELOPE_RESUME:
        return resume_ok(&e->resume, err);
    case ENVELOPE_DRAIN:
        return drain_ok(&e->drain, err);
    case ENVELOPE_ERROR:
        return error_ok(&e->error, err);
    case ENVELOPE_BYE:
        return text_ok(err, "Bye.reason", e->bye.reason, LIMIT_NAME_BYTES);
    case ENVELOPE_REPORT:
        return report_ok(&e->report, err);
    case ENVELOPE_LOAD:
    case ENVELOPE_PING:
    case ENVELOPE_PONG:
    case ENVELOPE_QUERY:
        return true;
    case ENVELOPE_NONE:
        break;
    }
    error_set(err, ST_INVALID_ARGUMENT, "the envelope has no message of a known kind");
    return false;
}

status envelope_check(const envelope *e, error *err)
{
    return kind_ok(e, err) ? ST_OK : ST_INVALID_ARGUMENT;
}
