/* gaggle: what a person types. One subcommand, one file. */
#include <signal.h>
#include <string.h>

#include "client/cli/child.h"
#include "client/cli/cli.h"
#include "common/log.h"

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} command;

static const command commands[] = {
    {"up", cli_up, "serve a model on this machine: a router and its workers, supervised"},
    {"chat", cli_chat, "talk to a model"},
    {"complete", cli_complete, "one prompt, one answer"},
    {"ps", cli_ps, "routers, workers, models and load"},
    {"tokenize", cli_tokenize, "text to token ids and back, line by line"},
};

static int usage(FILE *out)
{
    fprintf(out, "usage: gaggle COMMAND [options]\n\n");
    for (size_t i = 0; i < CLI_COUNT(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].about);
    fprintf(out,
            "\n`gaggle COMMAND --help` lists a command's options. Each option --some-name can\n"
            "also be set as GAGGLE_SOME_NAME in the environment; GAGGLE_ROUTER is the router.\n");
    return out == stdout ? EXIT_DONE : EXIT_USAGE;
}

int main(int argc, char **argv)
{
    log_init("gaggle", LOG_WARN);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) return usage(stderr);
    if (strcmp(argv[1], "__exec") == 0) return child_exec(argc, argv); /* `up` starts others so */
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return usage(stdout);
    if (strcmp(argv[1], "--version") == 0) {
        printf("gaggle %s\n", gaggle_version());
        return EXIT_DONE;
    }
    const char *names[CLI_COUNT(commands)];
    for (size_t i = 0; i < CLI_COUNT(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
        names[i] = commands[i].name;
    }
    const char *nearest = options_nearest(argv[1], names, CLI_COUNT(commands));
    if (nearest != NULL)
        fprintf(stderr, "gaggle: there is no command '%s'; did you mean '%s'?\n", argv[1], nearest);
    else
        fprintf(stderr, "gaggle: there is no command '%s'; --help lists them\n", argv[1]);
    return EXIT_USAGE;
}
