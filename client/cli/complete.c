/* gaggle complete: one prompt, one answer, as text while it comes or as one JSON object. */
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/limits.h"

static connect_options link_options = CONNECT_DEFAULTS;
static request_options options = REQUEST_DEFAULTS;
static bool as_json, raw;
static const char *ids_text, *messages_path;

static const option_row rows[] = {
    {"json", 0, OPTION_FLAG, &as_json, NULL, .help = "one JSON object instead of text"},
    {"ids", 0, OPTION_TEXT, &ids_text, "IDS", .help = "prompt as token ids: 1,2,3 or @FILE"},
    {"messages", 0, OPTION_TEXT, &messages_path, "FILE",
     .help = "prompt: [{\"role\": \"user\", \"content\": \"...\"}]"},
    {"raw", 0, OPTION_FLAG, &raw, NULL, .help = "add no special tokens to the text"},
    {"logprobs", 0, OPTION_U32, &options.logprobs, "N",
     .help = "of the N likeliest tokens; with --json", .min = 0, .max = LIMIT_LOGPROBS_TOP},
    REQUEST_ROWS(options),
    CONNECT_ROWS(link_options),
};

static const option_table table = {
    "gaggle complete [options] [PROMPT...]",
    "Prompt from the arguments, else from stdin; the answer goes to stdout as it comes.",
    rows,
    CLI_COUNT(rows),
    NULL,
};

/* What the prompt points to, until the answer is over. */
typedef struct prompt {
    buffer text;
    uint32_t *ids;
    json_t *json;
    gaggle_message *messages;
} prompt;

static void prompt_free(prompt *p)
{
    buffer_free(&p->text);
    mem_free(p->ids);
    json_decref(p->json);
    mem_free(p->messages);
}

static bool stdin_read(buffer *out)
{
    enum { PIECE = 65536 };
    for (;;) {
        buffer_reserve(out, PIECE);
        size_t got = fread(out->data + out->size, 1, PIECE, stdin);
        out->size += got;
        if (out->size > LIMIT_MESSAGE_BYTES) {
            cli_say("complete", "the prompt has more than %u bytes", LIMIT_MESSAGE_BYTES);
            return false;
        }
        if (got == 0) return true;
    }
}

static bool messages_read(prompt *p, gaggle_request *request)
{
    error err;
    if (json_load_path(&p->json, messages_path, LIMIT_MESSAGE_BYTES, &err) != ST_OK) {
        cli_say("complete", "%s", err.text);
        return false;
    }
    size_t count = json_array_size(p->json);
    p->messages = mem_calloc(count, sizeof *p->messages);
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(p->json, i);
        p->messages[i].role = json_string_value(json_object_get(message, "role"));
        p->messages[i].content = json_string_value(json_object_get(message, "content"));
        if (p->messages[i].role == NULL || p->messages[i].content == NULL) {
            cli_say("complete", "%s: message %zu needs \"role\" and \"content\" as strings",
                    messages_path, i);
            return false;
        }
    }
    if (count == 0) cli_say("complete", "%s: an array of messages is expected", messages_path);
    request->messages = p->messages;
    request->message_count = count;
    return count > 0;
}

static bool prompt_read(prompt *p, gaggle_request *request, int count, char **words)
{
    if ((ids_text != NULL) + (messages_path != NULL) + (count > 0) > 1) {
        cli_say("complete", "give one of PROMPT, --ids and --messages");
        return false;
    }
    if (ids_text != NULL) {
        if (!ids_read(&p->ids, &request->id_count, ids_text, "complete")) return false;
        request->ids = p->ids;
        return true;
    }
    if (messages_path != NULL) return messages_read(p, request);
    if (count == 0 && isatty(STDIN_FILENO)) {
        cli_say("complete", "no prompt: give it as arguments, by --messages or --ids, or on stdin");
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (i > 0) buffer_append(&p->text, " ", 1);
        buffer_append(&p->text, words[i], strlen(words[i]));
    }
    if (count == 0 && !stdin_read(&p->text)) return false;
    buffer_append(&p->text, "", 1);
    request->text = (const char *)p->text.data;
    if (strlen(request->text) + 1 < p->text.size) {
        cli_say("complete", "the prompt must not contain NUL");
        return false;
    }
    request->raw = raw;
    return true;
}

/* -- JSON ------------------------------------------------------------------------------ */

/* JSON has neither NaN (not given) nor infinity (a token that cannot come). */
static json_t *number_or_null(float value)
{
    return isfinite(value) ? json_real((double)value) : json_null();
}

static json_t *alternatives_json(const answer *a)
{
    const uint32_t *counts = (const uint32_t *)a->top_count.data;
    const uint32_t *ids = (const uint32_t *)a->top_ids.data;
    const float *values = (const float *)a->top_logprobs.data;
    json_t *all = json_array();
    size_t at = 0;
    for (size_t i = 0; i < a->top_count.size / sizeof *counts; i++) {
        json_t *of_token = json_array();
        for (uint32_t k = 0; k < counts[i]; k++, at++)
            json_array_append_new(of_token, json_pack("{s:I, s:o}", "id", (json_int_t)ids[at],
                                                      "logprob", number_or_null(values[at])));
        json_array_append_new(all, of_token);
    }
    return all;
}

static json_t *answer_json(const answer *a, const gaggle_event *end, gaggle_stream *stream,
                           double first_ms, double total_ms)
{
    char id[33];
    gaggle_stream_id(stream, id);
    json_t *ids = json_array();
    for (size_t i = 0; i < a->ids.size / sizeof(uint32_t); i++)
        json_array_append_new(ids, json_integer(((const uint32_t *)a->ids.data)[i]));
    /* The seed is a string: JSON readers round numbers past 2^53. */
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)gaggle_stream_seed(stream));
    json_t *out = json_pack("{s:s, s:o, s:o, s:s, s:s}", "request_id", id, "ids", ids, "text",
                            json_text((const char *)a->text.data, a->text.size), "finish_reason",
                            gaggle_finish_reason_name(end->reason), "seed", seed);
    if (end->stop_text != NULL)
        json_object_set_new(out, "stop_text", json_text(end->stop_text, strlen(end->stop_text)));
    if (end->has_stop_id) json_object_set_new(out, "stop_id", json_integer(end->stop_id));
    if (a->logprobs.size > 0) {
        json_t *logprobs = json_array();
        for (size_t i = 0; i < a->logprobs.size / sizeof(float); i++)
            json_array_append_new(logprobs, number_or_null(((const float *)a->logprobs.data)[i]));
        json_object_set_new(out, "logprobs", logprobs);
    }
    if (a->top_count.size > 0) json_object_set_new(out, "top_logprobs", alternatives_json(a));
    json_object_set_new(out, "usage",
                        json_pack("{s:I, s:I, s:I}", "prompt_tokens",
                                  (json_int_t)end->prompt_tokens, "cached_tokens",
                                  (json_int_t)end->cached_tokens, "completion_tokens",
                                  (json_int_t)end->total_tokens));
    json_object_set_new(out, "timings",
                        json_pack("{s:f, s:f, s:f, s:f, s:f}", "queue_ms", end->queue_us / 1e3,
                                  "prefill_ms", end->prefill_us / 1e3, "decode_ms",
                                  end->decode_us / 1e3, "first_token_ms", first_ms, "total_ms",
                                  total_ms));
    if (end->continuations > 0)
        json_object_set_new(out, "continued",
                            json_pack("{s:I, s:b}", "times", (json_int_t)end->continuations,
                                      "exact", !end->approximate));
    if (end->error != NULL)
        json_object_set_new(out, "error",
                            json_pack("{s:s, s:s, s:I}", "code", gaggle_code_name(end->error->code),
                                      "text", end->error->text, "retry_after_ms",
                                      (json_int_t)end->error->retry_after_ms));
    return out;
}

/* -- the command -------------------------------------------------------------------------- */

static int exit_status(const gaggle_event *end)
{
    switch (end->reason) {
    case GAGGLE_FINISH_STOP:
    case GAGGLE_FINISH_LENGTH:
        return EXIT_DONE;
    case GAGGLE_FINISH_CANCELLED:
        return EXIT_INTERRUPTED;
    case GAGGLE_FINISH_FAILED:
        return cli_fail("complete", end->error);
    case GAGGLE_FINISH_DEADLINE:
    case GAGGLE_FINISH_SLOW_CONSUMER:
        break;
    }
    cli_say("complete", "the answer ended early: %s", gaggle_finish_reason_name(end->reason));
    return EXIT_FAILED;
}

static int answer_print(gaggle_stream *stream)
{
    answer whole = {0};
    gaggle_event event;
    uint64_t start_ns = clock_now_ns(), first_ns = 0;
    for (;;) {
        answer_next(stream, &event);
        if (event.type == GAGGLE_FINISH) break;
        if (first_ns == 0) first_ns = clock_now_ns();
        if (as_json) {
            answer_add(&whole, &event);
        } else {
            fwrite(event.text, 1, event.text_size, stdout);
            fflush(stdout);
        }
    }
    if (as_json) {
        enum { FLOAT_DIGITS = 9 }; /* bring a float back exactly */
        double total_ms = (double)(clock_now_ns() - start_ns) / 1e6;
        double first_ms = first_ns > 0 ? (double)(first_ns - start_ns) / 1e6 : total_ms;
        json_t *out = answer_json(&whole, &event, stream, first_ms, total_ms);
        json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(FLOAT_DIGITS));
        json_decref(out);
    }
    /* A pipe gets the answer and nothing else. */
    if (as_json || isatty(STDOUT_FILENO)) putchar('\n');
    answer_free(&whole);
    return exit_status(&event);
}

int cli_complete(int argc, char **argv)
{
    int words;
    if (!cli_parse("complete", &table, argc, argv, &words)) return EXIT_USAGE;
    gaggle_request request;
    prompt text = {0};
    if (!request_fill(&request, &options, "complete") ||
        !prompt_read(&text, &request, words, argv + 1)) {
        prompt_free(&text);
        return EXIT_USAGE;
    }

    int result = EXIT_FAILED;
    gaggle_error err;
    gaggle_stream *stream;
    gaggle_client *client = connect_client("complete", &link_options);
    if (client != NULL) {
        interrupt_watch();
        if (gaggle_submit(&stream, client, &request, &err) != GAGGLE_OK) {
            result = cli_fail("complete", &err);
        } else {
            result = answer_print(stream);
            gaggle_stream_close(stream);
        }
    }
    gaggle_client_destroy(client);
    prompt_free(&text);
    return result;
}
