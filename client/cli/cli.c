#include "client/cli/cli.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/limits.h"
#include "proto/envelope.h"

void cli_say(const char *command, const char *format, ...)
{
    char sentence[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    fprintf(stderr, "gaggle %s: %s\n", command, sentence);
}

int cli_fail(const char *command, const gaggle_error *err)
{
    if (err->retry_after_ms > 0)
        cli_say(command, "%s: %s (try again in %.1f s)", gaggle_code_name(err->code), err->text,
                err->retry_after_ms / 1000.0);
    else
        cli_say(command, "%s: %s", gaggle_code_name(err->code), err->text);
    return EXIT_FAILED;
}

bool cli_parse(const char *command, const option_table *table, int argc, char **argv, int *rest)
{
    error err;
    char section[32];
    snprintf(section, sizeof section, "gaggle %s", command);
    option_table whole = *table;
    whole.section = section;
    whole.shared_section = "gaggle";
    if (options_parse(&whole, argc, argv, rest, &err) == ST_OK) return true;
    cli_say(command, "%s", err.text);
    return false;
}

/* -- the connection ---------------------------------------------------------------------- */

/* On the client's thread; one client a process. */
static void on_link(void *ctx, bool up, const gaggle_error *why)
{
    static bool trouble;
    if (!up && !trouble) cli_say(ctx, "no router: %s; trying on", why->text);
    if (up && trouble) cli_say(ctx, "connected");
    trouble = !up;
}

gaggle_client *connect_client(const char *command, const connect_options *o)
{
    static char name[16];
    snprintf(name, sizeof name, "%s", command);
    gaggle_options options = {
        .urls = o->routers.items,
        .url_count = o->routers.count,
        .token = o->token,
        .name = "gaggle CLI",
        .ca_file = o->ca_file,
        .cert_file = o->cert_file,
        .key_file = o->key_file,
        .server_name = o->server_name,
        .insecure = o->insecure,
        .offline_ms = o->offline_ms,
        .on_link = on_link,
        .ctx = name,
    };
    gaggle_client *client;
    gaggle_error err;
    if (gaggle_client_create(&client, &options, &err) == GAGGLE_OK) return client;
    cli_fail(command, &err);
    return NULL;
}

/* -- the request --------------------------------------------------------------------------- */

static bool given(double value, bool *has, float *out)
{
    *has = !isnan(value);
    if (*has) *out = (float)value;
    return *has;
}

static bool id_parse(const char *text, char **end, uint32_t *out)
{
    unsigned long long value = strtoull(text, end, 10);
    *out = (uint32_t)value;
    return *end != text && text[0] != '-' && text[0] != '+' && value <= UINT32_MAX;
}

bool request_fill(gaggle_request *r, request_options *o, const char *command)
{
    gaggle_sampling s = {0};
    given(o->temperature, &s.has_temperature, &s.temperature);
    given(o->top_p, &s.has_top_p, &s.top_p);
    given(o->min_p, &s.has_min_p, &s.min_p);
    given(o->repetition_penalty, &s.has_repetition_penalty, &s.repetition_penalty);
    given(o->presence_penalty, &s.has_presence_penalty, &s.presence_penalty);
    given(o->frequency_penalty, &s.has_frequency_penalty, &s.frequency_penalty);
    s.has_top_k = o->top_k != UINT32_MAX;
    if (s.has_top_k) s.top_k = o->top_k;
    s.has_seed = o->seed != UINT64_MAX;
    if (s.has_seed) s.seed = o->seed;

    char *end;
    for (size_t i = 0; i < o->stop_ids.count; i++) {
        if (!id_parse(o->stop_ids.items[i], &end, &o->stop_id_values[i]) || *end != '\0') {
            cli_say(command, "--stop-token-ids is '%s'; it must be a token id",
                    o->stop_ids.items[i]);
            return false;
        }
    }
    for (size_t i = 0; i < o->bias.count; i++) {
        const char *text = o->bias.items[i];
        bool valid = id_parse(text, &end, &o->bias_id_values[i]) && *end == ':';
        if (valid) {
            const char *number = end + 1;
            o->bias_values[i] = strtof(number, &end);
            valid = end != number && *end == '\0' && isfinite(o->bias_values[i]);
        }
        if (!valid) {
            cli_say(command, "--logit-bias is '%s'; it must be ID:NUMBER", text);
            return false;
        }
    }
    s.bias_ids = o->bias_id_values;
    s.bias = o->bias_values;
    s.bias_count = o->bias.count;

    *r = (gaggle_request){
        .model = o->model,
        .sampling = s,
        .stop = o->stop.items,
        .stop_count = o->stop.count,
        .stop_ids = o->stop_id_values,
        .stop_id_count = o->stop_ids.count,
        .max_tokens = o->max_tokens,
        .min_tokens = o->min_tokens,
        .ignore_eos = o->ignore_eos,
        .logprobs = o->logprobs != UINT32_MAX ? GAGGLE_LOGPROBS(o->logprobs) : 0,
        .window = o->window,
        .deadline_ms = o->deadline_ms,
        .cache_salt = o->cache_salt,
    };
    return true;
}

bool ids_read(uint32_t **out, size_t *count, const char *text, const char *command)
{
    char *file = NULL;
    if (text[0] == '@') {
        size_t size;
        error err;
        if (file_read(&file, &size, text + 1, LIMIT_MESSAGE_BYTES, &err) != ST_OK) {
            cli_say(command, "%s", err.text);
            return false;
        }
        text = file;
    }
    buffer ids = {0};
    const char *separators = ", \t\r\n[]"; /* a JSON array will do, too */
    bool valid = true;
    for (text += strspn(text, separators); valid && *text != '\0';) {
        uint32_t id;
        char *end;
        valid = id_parse(text, &end, &id) && (*end == '\0' || strchr(separators, *end) != NULL);
        if (!valid) {
            cli_say(command, "'%.20s' is not a token id", text);
            break;
        }
        buffer_append(&ids, &id, sizeof id);
        text = end + strspn(end, separators);
    }
    mem_free(file);
    if (!valid) buffer_free(&ids);
    *out = (uint32_t *)ids.data;
    *count = ids.size / sizeof **out;
    return valid;
}

/* -- an answer -------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    if (interrupted) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    interrupted = 1;
}

void interrupt_watch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
}

bool interrupt_taken(void)
{
    return interrupted != 0;
}

void interrupt_reset(void)
{
    interrupted = 0;
}

void answer_next(gaggle_stream *stream, gaggle_event *event)
{
    enum { LOOK_EVERY_MS = 50 }; /* a signal handler may not call the library */
    bool cancelled = false;
    while (gaggle_stream_next(stream, LOOK_EVERY_MS, event) != GAGGLE_OK) {
        if (cancelled || !interrupt_taken()) continue;
        gaggle_cancel(stream);
        cancelled = true;
    }
    if (!cancelled && interrupt_taken()) gaggle_cancel(stream);
}

void answer_add(answer *a, const gaggle_event *e)
{
    buffer_append(&a->ids, e->ids, e->count * sizeof *e->ids);
    buffer_append(&a->text, e->text, e->text_size);
    buffer_append(&a->text_len, e->text_len, e->count * sizeof *e->text_len);
    if (e->logprobs != NULL)
        buffer_append(&a->logprobs, e->logprobs, e->count * sizeof *e->logprobs);
    if (e->top_count == NULL) return;
    size_t tops = 0;
    for (uint32_t i = 0; i < e->count; i++)
        tops += e->top_count[i];
    buffer_append(&a->top_count, e->top_count, e->count * sizeof *e->top_count);
    buffer_append(&a->top_ids, e->top_ids, tops * sizeof *e->top_ids);
    buffer_append(&a->top_logprobs, e->top_logprobs, tops * sizeof *e->top_logprobs);
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

json_t *json_text(const char *text, size_t size)
{
    json_t *plain = json_stringn(size > 0 ? text : "", size);
    if (plain != NULL) return plain;
    buffer repaired = {0};
    text_view view = {text, size};
    for (size_t at = 0; at < size;) {
        size_t whole = text_character_size(view, at);
        if (whole > 0)
            buffer_append(&repaired, text + at, whole);
        else
            buffer_append(&repaired, "\xef\xbf\xbd", 3);
        at += whole > 0 ? whole : 1;
    }
    json_t *result = json_stringn((const char *)repaired.data, repaired.size);
    buffer_free(&repaired);
    return result;
}
