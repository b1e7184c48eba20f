/* run_program: a program under test, with its output in files and a way to send it signals. */
#ifndef GAGGLE_TESTS_RUN_PROGRAM_H
#define GAGGLE_TESTS_RUN_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct program {
    pid_t pid;
    char out_path[256], err_path[256];
} program;

/* Start `args` (ended by NULL) with `input` (NULL: nothing) on stdin. */
void program_start(program *p, const char *const *args, const char *input);

/* Wait until its stdout (or stderr) holds `text`, at most 30 s; false: it never did. */
bool program_says(const program *p, bool on_stderr, const char *text);

/* Wait for its end, at most 60 s, after which it is killed: exit status, or -signal. */
int program_wait(program *p);

/* What it wrote; valid until the next call of the same function. */
const char *program_out(const program *p);
const char *program_err(const program *p);

/* start and wait. */
int program_run(program *p, const char *const *args, const char *input);

/* The only child of `parent` whose command line contains `name`; 0 = none. */
pid_t child_of(pid_t parent, const char *name);

#endif
