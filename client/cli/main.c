/* gaggle: what a person types. One subcommand, one file. */
#include <signal.h>
#include <string.h>

#include "client/cli/child.h"
#include "client/cli/cli.h"
#include "client/cli/dispatch.h"
#include "common/log.h"

static const cli_command commands[] = {
    {"up", cli_up, "serve a model on this machine: a router and its workers, supervised"},
    {"chat", cli_chat, "talk to a model"},
    {"complete", cli_complete, "one prompt, one answer"},
    {"ps", cli_ps, "routers, workers, models and load"},
    {"top", cli_top, "the same, live"},
    {"drain", cli_drain, "let a worker end; what it runs ends or goes on elsewhere"},
    {"health", cli_health, "is the router or the worker here well? For probes"},
    {"pull", cli_pull, "fetch a model from Hugging Face, or go on with it"},
    {"ls", cli_ls, "the models in this machine's cache"},
    {"show", cli_show, "what a model is, and the memory it needs"},
    {"rm", cli_rm, "remove a model from the cache"},
    {"doctor", cli_doctor, "look what is wrong with this machine or the router, and what to do"},
    {"tokenize", cli_tokenize, "text to token ids and back, line by line"},
    {"token", cli_token, "make, list and revoke the keys of a router's keys file"},
    {"connect", cli_connect, "what to paste so that Kaggle, Colab or Modal work for a router"},
    {"certs", cli_certs, "make a private CA and certificates for a fleet"},
};

static const char hint[] =
    "`gaggle COMMAND --help` lists a command's options. Each option --some-name can\n"
    "also be set as GAGGLE_SOME_NAME in the environment; GAGGLE_ROUTER is the router.";

int main(int argc, char **argv)
{
    log_init("gaggle", LOG_WARN);
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "__exec") == 0)
        return child_exec(argc, argv); /* `up` starts others so */
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("gaggle %s\n", gaggle_version());
        return EXIT_DONE;
    }
    return dispatch("gaggle", commands, CLI_COUNT(commands), hint, argc, argv);
}
