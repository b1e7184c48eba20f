#include "client/cli/devices.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static uint32_t count_lines(FILE *lines, const char *prefix)
{
    char line[256];
    uint32_t count = 0;
    while (fgets(line, sizeof line, lines) != NULL)
        count += strncmp(line, prefix, strlen(prefix)) == 0;
    return count;
}

/* Its stdout is the pipe, its stderr nowhere. */
static pid_t start(const char *worker, int pipe_end)
{
    posix_spawn_file_actions_t actions;
    char *const args[] = {(char *)worker, "devices", NULL};
    pid_t pid = 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_end, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int code = posix_spawn(&pid, worker, &actions, NULL, args, environ);
    posix_spawn_file_actions_destroy(&actions);
    return code == 0 ? pid : 0;
}

uint32_t devices_count_gpus(const char *worker)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return 0;
    pid_t pid = start(worker, ends[1]);
    close(ends[1]);
    uint32_t count = 0;
    FILE *lines = fdopen(ends[0], "r");
    if (lines != NULL) {
        if (pid > 0) count = count_lines(lines, "cuda:");
        fclose(lines);
    } else {
        close(ends[0]);
    }
    if (pid > 0) waitpid(pid, NULL, 0);
    return count;
}
