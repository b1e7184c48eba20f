/* cli: what the subcommands of `gaggle` share. Each is a function in a file of its own, gets argv
 * with its own name first, and returns the exit status: 0 done, 1 failed, 2 used wrongly,
 * 130 interrupted. Answers go to stdout, everything else to stderr. */
#ifndef GAGGLE_CLIENT_CLI_H
#define GAGGLE_CLIENT_CLI_H

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "client/gaggle.h"
#include "common/mem.h"
#include "common/options.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

int cli_certs(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_complete(int argc, char **argv);
int cli_connect(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_drain(int argc, char **argv);
int cli_health(int argc, char **argv);
int cli_ls(int argc, char **argv);
int cli_ps(int argc, char **argv);
int cli_pull(int argc, char **argv);
int cli_rm(int argc, char **argv);
int cli_show(int argc, char **argv);
int cli_token(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_top(int argc, char **argv);
int cli_up(int argc, char **argv);

/* "gaggle ps: sentence" on stderr. */
void cli_say(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for an error, with its code and the time to come back. Returns EXIT_FAILED. */
int cli_fail(const char *command, const gaggle_error *err);
/* options_parse() with its refusal printed: false = return EXIT_USAGE. Of the INI file, [gaggle
 * chat] is for the command chat, and [gaggle] holds what the rows mark as shared. */
bool cli_parse(const char *command, const option_table *table, int argc, char **argv, int *rest);

#define CLI_COUNT(array) (sizeof(array) / sizeof(array)[0])

/* -- the connection -------------------------------------------------------------------- */

typedef struct connect_options {
    option_list routers;
    const char *token;
    const char *ca_file, *cert_file, *key_file, *server_name;
    bool insecure;
    uint32_t offline_ms;
} connect_options;

/* clang-format off */
#define CONNECT_DEFAULTS {.offline_ms = 10000}
/* clang-format on */

/* Rows of a static option table; `o` is a static connect_options. */
/* clang-format off */
#define CONNECT_ROWS(o)                                                                            \
    {"router", 'r', OPTION_LIST, &(o).routers, "URL",                                              \
     .help = "the router, or several [" GAGGLE_DEFAULT_URL "]", .shared = true},                    \
    {"token", 0, OPTION_TEXT, &(o).token, "TOKEN", .help = "bearer token", .shared = true},        \
    {"tls-ca", 0, OPTION_TEXT, &(o).ca_file, "FILE", .help = "PEM of the router's CA",             \
     .shared = true, .rare = true},                                                                \
    {"tls-cert", 0, OPTION_TEXT, &(o).cert_file, "FILE", .help = "PEM of our certificate",         \
     .shared = true, .rare = true},                                                                \
    {"tls-key", 0, OPTION_TEXT, &(o).key_file, "FILE", .help = "PEM of its key", .shared = true,   \
     .rare = true},                                                                                \
    {"tls-server-name", 0, OPTION_TEXT, &(o).server_name, "NAME",                                  \
     .help = "name to check, not the URL's host", .shared = true, .rare = true},                   \
    {"tls-insecure", 0, OPTION_FLAG, &(o).insecure, NULL, .help = "accept any certificate",        \
     .shared = true, .rare = true},                                                                \
    {"offline-ms", 0, OPTION_MS, &(o).offline_ms, "TIME",                                          \
     .help = "give up after so long without a router [10s]", .min = 1, .max = 86400000,            \
     .shared = true, .rare = true}
/* clang-format on */

/* A client for one command; NULL after an error that was printed. Trouble with the link is said on
 * stderr once each time it begins. */
gaggle_client *connect_client(const char *command, const connect_options *o);

/* -- the request -------------------------------------------------------------------------- */

typedef struct request_options {
    const char *model;
    double temperature, top_p, min_p;
    double repetition_penalty, presence_penalty, frequency_penalty;
    uint32_t top_k;
    uint64_t seed;
    option_list stop, stop_ids, bias;
    uint32_t max_tokens, min_tokens;
    bool ignore_eos;
    uint32_t logprobs;
    uint32_t deadline_ms;
    uint32_t window;
    const char *cache_salt;
    /* Filled by request_fill(). */
    uint32_t stop_id_values[OPTION_LIST_MAX];
    uint32_t bias_id_values[OPTION_LIST_MAX];
    float bias_values[OPTION_LIST_MAX];
} request_options;

/* NaN and the largest numbers stand for "not given". */
#define REQUEST_DEFAULTS                                                                           \
    {                                                                                              \
        .temperature = NAN, .top_p = NAN, .min_p = NAN, .repetition_penalty = NAN,                 \
        .presence_penalty = NAN, .frequency_penalty = NAN, .top_k = UINT32_MAX,                    \
        .seed = UINT64_MAX, .logprobs = UINT32_MAX                                                 \
    }

/* clang-format off */
#define REQUEST_ROWS(o)                                                                            \
    {"model", 'm', OPTION_TEXT, &(o).model, "NAME", .help = "model [the only one]"},               \
    {"max-tokens", 'n', OPTION_U32, &(o).max_tokens, "N",                                          \
     .help = "longest answer [what the context leaves]"},                                          \
    {"min-tokens", 0, OPTION_U32, &(o).min_tokens, "N", .help = "no end before so many",           \
     .rare = true},                                                                                \
    {"temperature", 't', OPTION_F64, &(o).temperature, "T",                                        \
     .help = "0 = greedy [the model's]", .min = 0, .max = 100},                                    \
    {"top-k", 0, OPTION_U32, &(o).top_k, "K", .help = "0 = off"},                                  \
    {"top-p", 0, OPTION_F64, &(o).top_p, "P", .help = "above 0, to 1", .min = 0, .max = 1},        \
    {"min-p", 0, OPTION_F64, &(o).min_p, "P", .help = "0 to 1", .min = 0, .max = 1},               \
    {"repetition-penalty", 0, OPTION_F64, &(o).repetition_penalty, "X", .help = "1 = off",         \
     .min = 0, .max = 100, .rare = true},                                                          \
    {"presence-penalty", 0, OPTION_F64, &(o).presence_penalty, "X", .help = "0 = off",             \
     .min = -2, .max = 2, .rare = true},                                                           \
    {"frequency-penalty", 0, OPTION_F64, &(o).frequency_penalty, "X", .help = "0 = off",           \
     .min = -2, .max = 2, .rare = true},                                                           \
    {"logit-bias", 0, OPTION_LIST, &(o).bias, "ID:X",                                              \
     .help = "add X to a token's logit, may be repeated", .rare = true},                           \
    {"seed", 's', OPTION_U64, &(o).seed, "N", .help = "same seed, same answer [random]"},          \
    {"stop", 0, OPTION_LIST, &(o).stop, "TEXT", .help = "ends the answer, may be repeated"},       \
    {"stop-token-ids", 0, OPTION_LIST, &(o).stop_ids, "ID", .help = "likewise", .rare = true},     \
    {"ignore-eos", 0, OPTION_FLAG, &(o).ignore_eos, NULL,                                          \
     .help = "go on past the model's end token", .rare = true},                                    \
    {"deadline-ms", 0, OPTION_MS, &(o).deadline_ms, "TIME",                                        \
     .help = "end the answer after so long"},                                                      \
    {"window", 0, OPTION_U32, &(o).window, "N",                                                    \
     .help = "tokens the source may be ahead of us [256]", .rare = true},                          \
    {"cache-salt", 0, OPTION_TEXT, &(o).cache_salt, "TEXT",                                        \
     .help = "share cached prompts only with who says the same", .rare = true}
/* clang-format on */

/* The parsed options as a request without a prompt; it points into `o`. False: a refusal was
 * printed. */
bool request_fill(gaggle_request *request, request_options *o, const char *command);

/* Numbers separated by commas or white space, from `text` or, when it is @FILE, from that file.
 * mem_free(*out). False: a refusal was printed. */
bool ids_read(uint32_t **out, size_t *count, const char *text, const char *command);

/* -- an answer ------------------------------------------------------------------------------ */

/* From here on SIGINT sets a flag, and a second one ends the process. */
void interrupt_watch(void);
bool interrupt_taken(void); /* since interrupt_reset() */
void interrupt_reset(void);

/* The next event; cancels the stream when SIGINT comes. GAGGLE_FINISH comes in any case. */
void answer_next(gaggle_stream *stream, gaggle_event *event);

/* Everything a stream is: `sink` is fed whole events by answer_next(). */
typedef struct answer {
    buffer ids; /* uint32_t */
    buffer text;
    buffer text_len;  /* uint32_t */
    buffer logprobs;  /* float; empty when not asked for */
    buffer top_count; /* uint32_t */
    buffer top_ids, top_logprobs;
} answer;

void answer_add(answer *a, const gaggle_event *event);
void answer_free(answer *a);

/* A JSON string of bytes that may not be UTF-8: what is not becomes U+FFFD. */
json_t *json_text(const char *text, size_t size);

#endif
