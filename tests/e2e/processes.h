/* processes: real gaggle processes for a test, on ports or sockets of their own. */
#ifndef GAGGLE_TESTS_PROCESSES_H
#define GAGGLE_TESTS_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct process {
    pid_t pid;        /* 0: not running */
    int output;       /* its stdout */
    char ready[4096]; /* its first line of output */
} process;

/* Start build/bin/NAME with `args` (NULL-terminated, without argv[0]) and, with `wait_ready`, wait
 * for its first line on stdout. Its stderr goes to LOG_NAME in the test's scratch folder.
 * Fails the test when it ends before. */
void process_start(process *p, const char *name, const char *const *args, bool wait_ready);

/* Everything it writes to stdout until it ends; mem_free(). *status_out is its exit status, or
 * 128 + signal. */
char *process_output(process *p, int *status_out);

/* Wait for its end, which is under way; returns what process_stop() does. */
int process_wait(process *p);

/* Has it ended by now? Then *status_out is what process_stop() returns. */
bool process_has_ended(process *p, int *status_out);

/* Signal it and wait for its end; returns its exit status, or 128 + signal. */
int process_stop(process *p, int signal_number);

/* A line of /proc/PID/status in KiB: "VmRSS", "VmHWM", ...; -1 where this kernel has none. */
long process_memory_kib(const process *p, const char *line_name);

/* A TCP port nobody listens on. */
uint16_t free_port(void);

/* The folder of the bundled model in the source tree. */
const char *bundled_model(void);

/* "GAGGLE_SHARED_DATA/NAME" when it is there, else NULL after printing "skipped: ...". */
const char *shared_data(const char *name);

#endif
