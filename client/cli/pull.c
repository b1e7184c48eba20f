/* gaggle pull: a model from a hub into this machine's cache. */
#include <stdio.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/pull/disk.h"
#include "client/pull/pull.h"
#include "common/clock.h"

static pull_options options;
static uint32_t retries;
static bool missing_only;

static const option_row rows[] = {
    {"if-missing", 0, OPTION_FLAG, &missing_only, NULL,
     .help = "what is here and whole will do: do not ask the hub"},
    {"connections", 'c', OPTION_U32, &options.connections, "N",
     .help = "pieces that are fetched at once [8]", .min = 1, .max = LIMIT_HUB_CONNECTIONS},
    {"check", 0, OPTION_FLAG, &options.check, NULL,
     .help = "take the hash of what is already there, too"},
    {"timeout", 0, OPTION_MS, &options.silent_ms, "TIME",
     .help = "a connection that is silent for so long is lost [30s]", .min = 100, .max = 3600000},
    {"retries", 0, OPTION_U32, &retries, "N", .help = "tries in a row that may bring nothing [6]",
     .min = 0, .max = 1000},
    {"retry-ms", 0, OPTION_MS, &options.retry_ms, "TIME",
     .help = "the first wait between them, at most; it doubles [500ms]", .min = 1, .max = 30000,
     .rare = true},
    {"piece-size", 0, OPTION_U64, &options.piece_bytes, "SIZE",
     .help = "large files are fetched in pieces of this size [64M]", .min = 4096, .max = 1 << 30,
     .rare = true},
};

static const option_table table = {
    "gaggle pull ORG/NAME[:REVISION] [options]",
    "Fetch a model from Hugging Face, or go on with it.\nIts folder goes to stdout.",
    rows,
    CLI_COUNT(rows),
    "Only what a worker needs is fetched: configuration, tokenizer, chat template\n"
    "and safetensors, to the cache that Hugging Face's tools share. Its environment\n"
    "counts: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.\n\n"
    "  gaggle pull HuggingFaceTB/SmolLM2-360M-Instruct\n"
    "  gaggle up -m HuggingFaceTB/SmolLM2-360M-Instruct    # pulls what is missing",
};

/* The folder of what was pulled before, if it is whole. */
static bool print_what_is_here(const char *text)
{
    char *dir;
    model_ref ref;
    bool is_here = model_find(&dir, &ref, text, NULL) == ST_OK && ref.name[0] != '\0';
    if (is_here) puts(dir);
    mem_free(dir);
    return is_here;
}

/* Where the hub cannot be asked, what was pulled before may do. */
static void say_what_is_there(const char *text)
{
    char *dir;
    model_ref ref;
    if (model_find(&dir, &ref, text, NULL) == ST_OK && ref.name[0] != '\0')
        cli_say("pull", "what was pulled before is whole and can be used");
    mem_free(dir);
}

int cli_pull(int argc, char **argv)
{
    options = pull_options_default("pull");
    retries = options.tries_max - 1;
    int rest;
    if (!cli_parse("pull", &table, argc, argv, &rest)) return EXIT_USAGE;
    error err;
    model_ref ref;
    if (rest != 1) {
        cli_say("pull", "name one model: ORG/NAME, or ORG/NAME:REVISION");
        return EXIT_USAGE;
    }
    if (model_ref_parse(&ref, argv[1], &err) != ST_OK) {
        cli_say("pull", "%s", err.text);
        return EXIT_USAGE;
    }
    if (missing_only && print_what_is_here(argv[1])) return EXIT_DONE;
    options.tries_max = retries + 1;
    hub_settings hub;
    status st = hub_settings_read(&hub, &err);
    if (st != ST_OK) {
        cli_say("pull", "%s", err.text);
        return EXIT_USAGE;
    }
    interrupt_watch();
    options.stopped = interrupt_taken;
    pull_result result;
    uint64_t begin_ms = clock_now_ms();
    st = pull_model(&result, &ref, &hub, &options, &err);
    hub_settings_free(&hub);
    if (st != ST_OK) {
        cli_say("pull", "%s", err.text);
        if (st == ST_UNAVAILABLE || st == ST_DEADLINE_EXCEEDED) say_what_is_there(argv[1]);
        return st == ST_CANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
    }
    char size[BYTES_TEXT_SIZE], fetched[BYTES_TEXT_SIZE];
    if (result.fetched > 0)
        cli_say("pull", "%s: %s in %llu files; %s fetched in %.1f s", ref.name,
                bytes_text(size, result.size), (unsigned long long)result.files,
                bytes_text(fetched, result.fetched), (double)(clock_now_ms() - begin_ms) / 1000);
    else
        cli_say("pull", "%s: everything is there", ref.name);
    puts(result.dir);
    mem_free(result.dir);
    return EXIT_DONE;
}
