#include "client/cli/dispatch.h"

#include <string.h>

#include "client/cli/cli.h"
#include "common/check.h"

enum { COMMANDS_MAX = 32 };

static int usage(FILE *out, const char *program, const cli_command *commands, size_t count,
                 const char *hint)
{
    fprintf(out, "usage: %s COMMAND [options]\n\n", program);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].about);
    fprintf(out, "\n%s\n", hint);
    return out == stdout ? EXIT_DONE : EXIT_USAGE;
}

/* The man page of the list itself; each command prints its own. */
static int print_man(const char *program, const cli_command *commands, size_t count,
                     const char *hint)
{
    char synopsis[64];
    snprintf(synopsis, sizeof synopsis, "%s COMMAND [options]", program);
    buffer list = {0};
    for (size_t i = 0; i < count; i++) {
        char line[128];
        int size = snprintf(line, sizeof line, "%-10s %s\n", commands[i].name, commands[i].about);
        buffer_append(&list, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
    }
    buffer_append(&list, "\n", 1);
    buffer_append(&list, hint, strlen(hint) + 1);
    const option_table table = {
        .usage = synopsis,
        .about = "Runs one of its commands, each of which has a man page of its own.",
        .epilogue = (const char *)list.data,
    };
    options_print_man(&table, stdout);
    buffer_free(&list);
    return EXIT_DONE;
}

int dispatch(const char *program, const cli_command *commands, size_t count, const char *hint,
             int argc, char **argv)
{
    CHECK(count <= COMMANDS_MAX);
    if (argc < 2) return usage(stderr, program, commands, count, hint);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return usage(stdout, program, commands, count, hint);
    if (strcmp(argv[1], "--man") == 0) return print_man(program, commands, count, hint);
    const char *names[COMMANDS_MAX];
    for (size_t i = 0; i < count; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
        names[i] = commands[i].name;
    }
    const char *nearest = options_nearest(argv[1], names, count);
    if (nearest != NULL)
        fprintf(stderr, "%s: there is no command '%s'; did you mean '%s'?\n", program, argv[1],
                nearest);
    else
        fprintf(stderr, "%s: there is no command '%s'; --help lists them\n", program, argv[1]);
    return EXIT_USAGE;
}
