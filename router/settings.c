#include "router/settings.h"

#include <string.h>

#include "common/mem.h"

#define DEFAULT_LISTEN        "tcp://127.0.0.1:7400"
#define DEFAULT_WORKER_LISTEN "tcp://127.0.0.1:7410"

enum { ROWS = 25 };

static const char *const metrics_compat_names[] = {"vllm", "none", NULL};

/* Writes ROWS rows with `s` for their target. */
static option_table make_table(settings *s, option_row *rows)
{
    const option_row all[ROWS] = {
        {"listen", 'l', OPTION_LIST, &s->listen, "URL",
         .help = "clients connect here [" DEFAULT_LISTEN "]"},
        {"worker-listen", 'w', OPTION_LIST, &s->worker_listen, "URL",
         .help = "workers connect here [" DEFAULT_WORKER_LISTEN "]"},
        {"http-listen", 0, OPTION_TEXT, &s->http_listen, "URL",
         .help = "probes, metrics and admins: http://127.0.0.1:7480 [off]"},
        {"metrics-compat", 0, OPTION_TEXT, &s->metrics_compat, "NAMES",
         .help = "whose names /metrics has besides gaggle_*: vllm or none [vllm]",
         .choices = metrics_compat_names, .rare = true},
        {"keys", 'k', OPTION_TEXT, &s->keys_file, "FILE",
         .help = "who may connect, as gaggle token writes it"},
        {"api-token", 0, OPTION_LIST, &s->api_tokens, "TOKEN",
         .help = "clients must show one of these", .reloadable = true},
        {"api-token-file", 0, OPTION_TEXT, &s->api_token_file, "FILE",
         .help = "more tokens for clients, one a line", .reloadable = true, .rare = true},
        {"join-token", 0, OPTION_LIST, &s->join_tokens, "TOKEN",
         .help = "workers must show one of these", .reloadable = true},
        {"join-token-file", 0, OPTION_TEXT, &s->join_token_file, "FILE",
         .help = "more tokens for workers, one a line", .reloadable = true, .rare = true},
        {"tls-cert", 0, OPTION_TEXT, &s->tls_cert, "FILE",
         .help = "certificate (PEM) for tls+tcp and wss"},
        {"tls-key", 0, OPTION_TEXT, &s->tls_key, "FILE", .help = "the certificate's key (PEM)"},
        {"worker-ca", 0, OPTION_TEXT, &s->worker_ca, "FILE",
         .help = "workers must have a certificate of this CA", .rare = true},
        {"client-ca", 0, OPTION_TEXT, &s->client_ca, "FILE",
         .help = "clients must have a certificate of this CA", .rare = true},
        {"max-queue", 0, OPTION_U32, &s->queue_requests, "N",
         .help = "requests that may wait [4096]", .min = 1, .max = LIMIT_REQUESTS,
         .reloadable = true},
        {"max-queue-bytes", 0, OPTION_U64, &s->queue_bytes, "SIZE",
         .help = "memory of their prompts [256M]", .min = 1, .max = 1e12, .reloadable = true,
         .rare = true},
        {"max-queue-tokens", 0, OPTION_U64, &s->queue_tokens, "N",
         .help = "estimated tokens of those that wait [128M]", .min = 1, .max = 1e12,
         .reloadable = true, .rare = true},
        {"max-kept-bytes", 0, OPTION_U64, &s->kept_bytes, "SIZE",
         .help = "prompts and answers of open requests [1G]", .min = 1, .max = 1e12,
         .reloadable = true, .rare = true},
        {"max-continuations", 0, OPTION_U32, &s->continuations_max, "N",
         .help = "workers that one answer may lose [8]", .max = 1000, .reloadable = true,
         .rare = true},
        {"client-grace-ms", 0, OPTION_MS, &s->client_grace_ms, "TIME",
         .help = "a client may be away so long [30s]", .reloadable = true, .rare = true},
        {"worker-grace-ms", 0, OPTION_MS, &s->worker_grace_ms, "TIME",
         .help = "a worker may be away so long [5s]", .reloadable = true, .rare = true},
        {"stall-ms", 0, OPTION_MS, &s->stall_ms, "TIME",
         .help = "a stream that is not read ends after [30s]", .reloadable = true, .rare = true},
        {"drain-ms", 0, OPTION_MS, &s->drain_ms, "TIME",
         .help = "after SIGTERM requests may run so long [30s]", .reloadable = true, .rare = true},
        {"log-level", 0, OPTION_TEXT, &s->log_level, "LEVEL",
         .help = "error, warn, info or debug [info]", .choices = log_level_names,
         .reloadable = true},
        {"log-format", 0, OPTION_TEXT, &s->log_format, "FORMAT", .help = "text or json [text]",
         .choices = log_format_names, .reloadable = true},
        {"check-config", 0, OPTION_FLAG, &s->check_config, NULL,
         .help = "only say whether all of this is right"},
    };
    memcpy(rows, all, sizeof all);
    return (option_table){
        .usage = "gaggle-router [options]",
        .about = "Takes requests from clients, places them on workers, streams the tokens back.\n"
                 "URLs: tcp:// tls+tcp:// ws:// wss:// ipc://. SIGTERM drains, SIGHUP reads again.",
        .rows = rows,
        .row_count = ROWS,
        .section = "router",
    };
}

static const settings defaults = {
    .metrics_compat = "vllm",
    .log_level = "info",
    .log_format = "text",
    .client_grace_ms = LIMIT_CLIENT_GRACE_MS_DEFAULT,
    .worker_grace_ms = LIMIT_WORKER_GRACE_MS_DEFAULT,
    .stall_ms = LIMIT_STALL_MS_DEFAULT,
    .drain_ms = 30000,
    .queue_requests = LIMIT_QUEUE_REQUESTS,
    .queue_bytes = LIMIT_SUBMIT_BYTES_QUEUE,
    .queue_tokens = LIMIT_QUEUE_TOKENS,
    .kept_bytes = LIMIT_KEPT_BYTES,
    .continuations_max = LIMIT_CONTINUATIONS,
};

/* -- reading and checking ----------------------------------------------------------------- */

static status check_listeners(const settings *s, error *err)
{
    status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < s->listen.count; i++)
        st = auth_check_listener(&s->auth, s->listen.items[i], ROLE_CLIENT, err);
    for (size_t i = 0; st == ST_OK && i < s->worker_listen.count; i++)
        st = auth_check_listener(&s->auth, s->worker_listen.items[i], ROLE_WORKER, err);
    return st;
}

/* Everything but the keys file, which only keys.c reads again. */
static status read_all(settings *s, int argc, char **argv, error *err)
{
    *s = defaults;
    option_row rows[ROWS];
    const option_table table = make_table(s, rows);
    status st = options_parse(&table, argc, argv, NULL, err);
    if (st != ST_OK) return st;
    if (s->listen.count == 0) s->listen.items[s->listen.count++] = DEFAULT_LISTEN;
    if (s->worker_listen.count == 0)
        s->worker_listen.items[s->worker_listen.count++] = DEFAULT_WORKER_LISTEN;
    s->auth.api_tokens = s->api_tokens;
    s->auth.join_tokens = s->join_tokens;
    st = auth_check(&s->auth, err);
    if (st == ST_OK && s->api_token_file != NULL)
        st = auth_load_file(&s->auth.api_tokens, s->api_token_file, err);
    if (st == ST_OK && s->join_token_file != NULL)
        st = auth_load_file(&s->auth.join_tokens, s->join_token_file, err);
    return st;
}

/* Those of the files stand behind the `given` ones, which are the table's. */
static void free_file_tokens(option_list *all, size_t given)
{
    while (all->count > given)
        mem_free((void *)all->items[--all->count]);
}

static void free_tokens(settings *s)
{
    free_file_tokens(&s->auth.api_tokens, s->api_tokens.count);
    free_file_tokens(&s->auth.join_tokens, s->join_tokens.count);
}

status settings_read(settings *s, int argc, char **argv, error *err)
{
    status st = read_all(s, argc, argv, err);
    if (st == ST_OK && s->keys_file != NULL) st = keys_create(&s->auth.keys, s->keys_file, err);
    return st == ST_OK ? check_listeners(s, err) : st;
}

void settings_free(settings *s)
{
    free_tokens(s);
    keys_destroy(s->auth.keys);
    s->auth.keys = NULL;
}

/* -- a reload ------------------------------------------------------------------------------- */

/* What runs has its listeners open, so they must still be allowed; and the next start must be. */
static status check_next(const settings *running, settings *next, error *err)
{
    next->auth.keys = running->auth.keys;
    status st = check_listeners(next, err);
    if (st != ST_OK) return st;
    const settings opened = {
        .listen = running->listen, .worker_listen = running->worker_listen, .auth = next->auth};
    return check_listeners(&opened, err);
}

enum { RELOAD_ROWS = ROWS + 2 };

/* The rows, and behind them what only the files say. */
static option_table make_reload_table(settings *s, option_row rows[RELOAD_ROWS])
{
    option_table table = make_table(s, rows);
    rows[ROWS] = (option_row){.name = "clients' tokens",
                              .type = OPTION_LIST,
                              .target = &s->auth.api_tokens,
                              .reloadable = true};
    rows[ROWS + 1] = (option_row){.name = "workers' tokens",
                                  .type = OPTION_LIST,
                                  .target = &s->auth.join_tokens,
                                  .reloadable = true};
    table.row_count = RELOAD_ROWS;
    return table;
}

status settings_reload(settings *running, int argc, char **argv, option_changes *changes,
                       error *err)
{
    settings next;
    status st = read_all(&next, argc, argv, err);
    if (st == ST_OK) st = check_next(running, &next, err);
    /* Last, for it is all or nothing by itself and cannot be taken back. */
    if (st == ST_OK && running->auth.keys != NULL) st = keys_reload(running->auth.keys, err);
    if (st != ST_OK) {
        free_tokens(&next);
        return st;
    }
    settings before = *running;
    option_row running_rows[RELOAD_ROWS], next_rows[RELOAD_ROWS];
    const option_table running_table = make_reload_table(running, running_rows);
    const option_table next_table = make_reload_table(&next, next_rows);
    options_reload(&running_table, &next_table, changes);
    /* Equal lists were not copied, but those of the files are texts of their own each time. */
    running->auth.api_tokens = next.auth.api_tokens;
    running->auth.join_tokens = next.auth.join_tokens;
    free_tokens(&before);
    return ST_OK;
}

void settings_apply_log(const settings *s)
{
    log_set((log_level)log_level_parse(s->log_level), (log_format)log_format_parse(s->log_format));
}

core_options settings_core_options(const settings *s)
{
    core_options options = core_options_default();
    options.client_grace_ms = s->client_grace_ms;
    options.worker_grace_ms = s->worker_grace_ms;
    options.stall_ms = s->stall_ms;
    options.queue_requests_max = s->queue_requests;
    options.queue_bytes_max = s->queue_bytes;
    options.queue_tokens_max = s->queue_tokens;
    options.kept_bytes_max = s->kept_bytes;
    options.continuations_max = s->continuations_max;
    return options;
}
