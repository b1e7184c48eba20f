/* dispatch: from a word to the function that does it, with a list for --help. */
#ifndef GAGGLE_CLIENT_CLI_DISPATCH_H
#define GAGGLE_CLIENT_CLI_DISPATCH_H

#include <stddef.h>

typedef struct cli_command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is its name; returns the exit status */
    const char *about;
} cli_command;

/* Run the command that argv[1] names. `program` is what stands before it; `hint` ends the list that
 * --help prints. No command or an unknown one is EXIT_USAGE, with the nearest name. */
int dispatch(const char *program, const cli_command *commands, size_t count, const char *hint,
             int argc, char **argv);

#endif
