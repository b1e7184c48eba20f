#include "worker/generate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/mem.h"
#include "worker/load_model.h"
#include "worker/prompt_line.h"
#include "worker/request_prepare.h"

typedef struct settings {
    model_settings model;
    const char *prompts;
    bool logits;
} settings;

/* What one line has given so far. */
typedef struct result {
    bool finished;
    buffer ids;      /* of uint32_t */
    buffer logprobs; /* of float */
    buffer text;
    float *logits; /* [vocab] or NULL */
    finish_reason reason;
    char *stop_text; /* NULL: none */
    bool has_stop_id;
    uint32_t stop_id;
    uint32_t prompt_tokens, cached_tokens;
    error failure;
} result;

/* Lines [printed, submitted) are in the engine or wait for an earlier one to be printed. */
enum { WINDOW = LIMIT_STREAMS_PER_LINK };

typedef struct run {
    settings settings;
    loaded_model loaded;
    engine *engine;
    FILE *input;
    char *line; /* getline()'s */
    size_t line_capacity;
    arena arena;
    result results[WINDOW]; /* of line n at n % WINDOW */
    uint64_t submitted, printed;
    bool input_ended;
    uint64_t refused;
} run;

static uint64_t now_us(void)
{
    return clock_now_ns() / 1000;
}

static result *result_of(run *r, uint64_t number)
{
    return &r->results[number % WINDOW];
}

/* -- in ---------------------------------------------------------------------------------- */

static status read_settings(settings *s, int argc, char **argv, error *err)
{
    *s = (settings){.model = model_settings_default()};
    const option_row own[] = {
        {"prompts", 'p', OPTION_TEXT, &s->prompts, "FILE",
         "requests, one JSON object a line; - is stdin", 0, 0},
        {"logits", 0, OPTION_FLAG, &s->logits, NULL, "print the logits after each prompt", 0, 0},
    };
    enum { OWN = sizeof own / sizeof *own };
    option_row rows[MODEL_OPTION_ROWS + OWN];
    model_option_rows(&s->model, rows);
    memcpy(rows + MODEL_OPTION_ROWS, own, sizeof own);
    const option_table table = {
        .usage = "gaggle-worker generate -m DIR --prompts FILE [options]",
        .about = "Runs requests from a file through the engine and prints the answers as JSON.",
        .rows = rows,
        .row_count = MODEL_OPTION_ROWS + OWN,
        .epilogue =
            "A line: {\"prompt\": \"Once upon a time\", \"max_tokens\": 64, \"temperature\": 0}\n"
            "or with \"ids\": [..] or \"messages\": [{\"role\": .., \"content\": ..}].\n",
    };
    status st = options_parse(&table, argc, argv, NULL, err);
    if (st != ST_OK) return st;
    if (s->model.dir == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "no model: give -m DIR, a Hugging Face folder");
    if (s->prompts == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "no requests: give --prompts FILE, or -");
    return ST_OK;
}

static void refuse(run *r, uint64_t number, const error *why)
{
    result *slot = result_of(r, number);
    slot->finished = true;
    slot->reason = FINISH_FAILED;
    slot->failure = *why;
    r->refused++;
}

static status submit(run *r, const char *line, size_t size, uint64_t number, error *err)
{
    if (size > (size_t)LIMIT_MESSAGE_BYTES)
        return error_set(err, ST_OUT_OF_RANGE, "the line has %zu bytes; the limit is %u", size,
                         LIMIT_MESSAGE_BYTES);
    const request_context context = {
        .model = r->loaded.model,
        .tokenizer = r->loaded.tokenizer,
        .chat_template = r->loaded.chat_template,
        .context_max = r->loaded.context_max,
    };
    msg_submit message;
    engine_request *request = NULL;
    arena_reset(&r->arena);
    status st = prompt_line_parse(&message, line, size, &r->arena, err);
    if (st == ST_OK) st = request_prepare(&request, &context, &message, time(NULL), err);
    if (st != ST_OK) return st;
    request->key = number;
    request->priority = message.priority;
    request->credit_end = UINT32_MAX;
    request->wants_logits = r->settings.logits;
    st = engine_submit(r->engine, request, now_us(), err);
    if (st != ST_OK) engine_request_destroy(request);
    return st;
}

static status read_lines(run *r, error *err)
{
    while (!r->input_ended && r->submitted - r->printed < WINDOW) {
        ssize_t size = getline(&r->line, &r->line_capacity, r->input);
        if (size < 0) {
            r->input_ended = true;
            if (ferror(r->input))
                return error_set(err, ST_UNAVAILABLE, "cannot read %s: %s", r->settings.prompts,
                                 strerror(errno));
            return ST_OK;
        }
        if (strspn(r->line, " \t\r\n") == (size_t)size) continue;
        uint64_t number = r->submitted++;
        *result_of(r, number) = (result){0};
        error why;
        if (submit(r, r->line, (size_t)size, number, &why) != ST_OK) refuse(r, number, &why);
    }
    return ST_OK;
}

/* -- out --------------------------------------------------------------------------------- */

static void take_output(void *ctx, const engine_output *o)
{
    run *r = ctx;
    result *slot = result_of(r, o->key);
    for (uint32_t i = 0; i < o->token_count; i++) {
        buffer_append(&slot->ids, &o->tokens[i].id, sizeof o->tokens[i].id);
        buffer_append(&slot->logprobs, &o->tokens[i].logprob, sizeof o->tokens[i].logprob);
    }
    buffer_append(&slot->text, o->text, o->text_size);
    if (o->logits != NULL)
        slot->logits = mem_copy(o->logits, r->loaded.model->config.vocab_size * sizeof *o->logits);
    if (!o->finished) return;
    slot->finished = true;
    slot->reason = o->reason;
    slot->has_stop_id = o->has_stop_id;
    slot->stop_id = o->stop_id;
    if (o->stop_text != NULL) slot->stop_text = mem_strdup(o->stop_text);
    slot->prompt_tokens = o->prompt_tokens;
    slot->cached_tokens = o->cached_tokens;
    slot->failure = o->failure;
}

static void print_string(const char *name, const char *text, size_t size)
{
    json_t *value = json_stringn(size > 0 ? text : "", size);
    /* The engine gives out whole characters; an error may quote anything. */
    if (value == NULL) value = json_string("(not valid UTF-8)");
    printf("\"%s\":", name);
    json_dumpf(value, stdout, JSON_ENCODE_ANY);
    json_decref(value);
}

static void print_floats(const char *name, const float *values, size_t count)
{
    printf(",\"%s\":[", name);
    for (size_t i = 0; i < count; i++)
        printf("%s%.9g", i > 0 ? "," : "", (double)values[i]);
    putchar(']');
}

static void print_result(const run *r, const result *slot)
{
    if (slot->failure.code != ST_OK) {
        printf("{\"error\":{\"code\":\"%s\",", status_name(slot->failure.code));
        print_string("text", slot->failure.text, strlen(slot->failure.text));
        puts("}}");
        return;
    }
    const uint32_t *ids = (const uint32_t *)(const void *)slot->ids.data;
    const float *logprobs = (const float *)(const void *)slot->logprobs.data;
    size_t count = slot->ids.size / sizeof *ids;
    printf("{\"ids\":[");
    for (size_t i = 0; i < count; i++)
        printf("%s%u", i > 0 ? "," : "", ids[i]);
    printf("],");
    print_string("text", (const char *)slot->text.data, slot->text.size);
    printf(",\"finish\":\"%s\"", finish_reason_name(slot->reason));
    if (slot->has_stop_id) printf(",\"stop_id\":%u", slot->stop_id);
    if (slot->stop_text != NULL) {
        putchar(',');
        print_string("stop_text", slot->stop_text, strlen(slot->stop_text));
    }
    printf(",\"prompt_tokens\":%u,\"cached_tokens\":%u", slot->prompt_tokens, slot->cached_tokens);
    if (count > 0 && !isnan(logprobs[0])) print_floats("logprobs", logprobs, count);
    if (slot->logits != NULL)
        print_floats("logits", slot->logits, r->loaded.model->config.vocab_size);
    puts("}");
}

static void result_clear(result *slot)
{
    buffer_free(&slot->ids);
    buffer_free(&slot->logprobs);
    buffer_free(&slot->text);
    mem_free(slot->logits);
    mem_free(slot->stop_text);
    *slot = (result){0};
}

static void print_finished(run *r)
{
    while (r->printed < r->submitted && result_of(r, r->printed)->finished) {
        result *slot = result_of(r, r->printed++);
        print_result(r, slot);
        result_clear(slot);
    }
}

/* -- the run ------------------------------------------------------------------------------ */

static status start(run *r, int argc, char **argv, error *err)
{
    status st = read_settings(&r->settings, argc, argv, err);
    if (st != ST_OK) return st;
    bool from_stdin = strcmp(r->settings.prompts, "-") == 0;
    r->input = from_stdin ? stdin : fopen(r->settings.prompts, "re");
    if (r->input == NULL)
        return error_set(err, ST_NOT_FOUND, "cannot open %s: %s", r->settings.prompts,
                         strerror(errno));
    st = load_model(&r->loaded, &r->settings.model, err);
    if (st != ST_OK) return st;
    if (r->settings.model.dry_run) {
        r->input_ended = true;
        return ST_OK;
    }
    engine_options options = r->loaded.engine;
    options.clock_us = now_us;
    return engine_create(&r->engine, r->loaded.backend, r->loaded.model, r->loaded.tokenizer,
                         &options, take_output, r, err);
}

static status work(run *r, error *err)
{
    while (!r->input_ended || r->printed < r->submitted) {
        status st = read_lines(r, err);
        if (st != ST_OK) return st;
        (void)engine_step(r->engine, now_us(), err);
        if (err->code != ST_OK) return err->code;
        print_finished(r);
    }
    return ST_OK;
}

static void stop(run *r)
{
    for (; r->printed < r->submitted; r->printed++)
        result_clear(result_of(r, r->printed));
    engine_destroy(r->engine);
    loaded_model_destroy(&r->loaded);
    if (r->input != NULL && r->input != stdin) fclose(r->input);
    free(r->line);
    arena_free(&r->arena);
    mem_free(r);
}

int worker_generate(int argc, char **argv)
{
    run *r = mem_calloc(1, sizeof *r);
    error err = {0};
    status st = start(r, argc, argv, &err);
    if (st == ST_OK) st = work(r, &err);
    int code = st == ST_OK ? r->refused > 0 : st == ST_INVALID_ARGUMENT ? 2 : 1;
    stop(r);
    if (st != ST_OK) fprintf(stderr, "gaggle-worker generate: %s\n", err.text);
    return code;
}
