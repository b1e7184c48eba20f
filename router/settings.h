/* settings: what the router is told by flags, environment and file (common/options.h), checked.
 *
 * All of it is here, with its defaults, so that a start, `--check-config` and a reload judge the
 * same things. Loop thread. */
#ifndef GAGGLE_ROUTER_SETTINGS_H
#define GAGGLE_ROUTER_SETTINGS_H

#include "common/log.h"
#include "common/options.h"
#include "router/auth.h"
#include "router/core.h"

typedef struct settings {
    option_list listen, worker_listen;
    option_list api_tokens, join_tokens; /* without those of the files */
    const char *api_token_file, *join_token_file, *keys_file;
    const char *tls_cert, *tls_key, *worker_ca, *client_ca;
    const char *http_listen, *metrics_compat;
    const char *log_level, *log_format;
    uint32_t client_grace_ms, worker_grace_ms, stall_ms, drain_ms;
    uint32_t queue_requests, continuations_max;
    uint64_t queue_bytes, queue_tokens, kept_bytes;
    bool check_config;
    auth auth; /* all plain tokens; the keys file as it was last read */
} settings;

/* Read and check everything, the files it names included. It exits after --help and the like.
 * Nothing to free but with settings_free(), on failure too. */
MUST_USE status settings_read(settings *s, int argc, char **argv, error *err);
void settings_free(settings *s);

/* Read everything again, from the same arguments. On failure nothing has changed. Otherwise
 * `running` has what can change while it runs, and `changes` says what that was and what needs a
 * restart. The new levels of the log are the caller's to set, as at the start. */
MUST_USE status settings_reload(settings *running, int argc, char **argv, option_changes *changes,
                                error *err);

/* The log as the settings want it. */
void settings_apply_log(const settings *s);

/* What of them is the core's; without a seed. */
core_options settings_core_options(const settings *s);

#endif
