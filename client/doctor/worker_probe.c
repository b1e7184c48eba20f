#include "client/doctor/worker_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

#define WORKER_NAME  "gaggle-worker"
#define BACKEND_NAME "libgaggle_cuda.so"

enum { PATIENCE_MS = 30000, SAID_BYTES = 4096 };

extern char **environ;

/* -- where it is ---------------------------------------------------------------------------- */

static bool is_there(char *out, size_t size, const char *folder, const char *name, int mode)
{
    int used = snprintf(out, size, "%s/%s", folder, name);
    if (used > 0 && (size_t)used < size && access(out, mode) == 0) return true;
    out[0] = '\0';
    return false;
}

static void find_program(worker_probe *p, const char *beside)
{
    char own[PATH_MAX];
    if (beside == NULL) {
        ssize_t size = readlink("/proc/self/exe", own, sizeof own - 1);
        own[size > 0 ? size : 0] = '\0';
        beside = size > 0 ? dirname(own) : ".";
    }
    if (is_there(p->program, sizeof p->program, beside, WORKER_NAME, X_OK)) return;
    const char *path = getenv("PATH");
    char folder[PATH_MAX];
    while (path != NULL && *path != '\0') {
        size_t size = strcspn(path, ":");
        snprintf(folder, sizeof folder, "%.*s", (int)size, path);
        if (is_there(p->program, sizeof p->program, folder, WORKER_NAME, X_OK)) return;
        path += size + (path[size] == ':');
    }
}

/* Where worker/device.c looks: beside the program itself, and in ../lib/gaggle. */
static void find_backend(worker_probe *p)
{
    char real[PATH_MAX], folder[PATH_MAX + 16];
    if (realpath(p->program, real) == NULL) return;
    const char *home = dirname(real);
    if (is_there(p->backend, sizeof p->backend, home, BACKEND_NAME, R_OK)) return;
    snprintf(folder, sizeof folder, "%s/../lib/gaggle", home);
    is_there(p->backend, sizeof p->backend, folder, BACKEND_NAME, R_OK);
}

/* -- what it says --------------------------------------------------------------------------- */

typedef struct said {
    int fd; /* -1: ended */
    char text[SAID_BYTES];
    size_t size;
} said;

static void take(said *s)
{
    char rest[SAID_BYTES]; /* what is too much is read and dropped, so that it can end */
    size_t room = sizeof s->text - 1 - s->size;
    ssize_t got = room > 0 ? read(s->fd, s->text + s->size, room) : read(s->fd, rest, sizeof rest);
    if (got < 0 && errno == EINTR) return;
    if (got > 0) {
        if (room > 0) s->size += (size_t)got;
        return;
    }
    close(s->fd);
    s->fd = -1;
}

/* Until both have ended; false: it took too long. */
static bool listen_to(said *out, said *err)
{
    const uint64_t until_ms = clock_now_ms() + PATIENCE_MS;
    while (out->fd >= 0 || err->fd >= 0) {
        uint64_t now_ms = clock_now_ms();
        struct pollfd fds[2] = {{out->fd, POLLIN, 0}, {err->fd, POLLIN, 0}};
        if (now_ms >= until_ms) return false;
        if (poll(fds, 2, (int)(until_ms - now_ms)) < 0 && errno != EINTR) return false;
        if (out->fd >= 0 && fds[0].revents != 0) take(out);
        if (err->fd >= 0 && fds[1].revents != 0) take(err);
    }
    return true;
}

static pid_t start(const char *program, int out_end, int err_end)
{
    posix_spawn_file_actions_t actions;
    char *const args[] = {(char *)program, "devices", NULL};
    pid_t pid = 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out_end, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err_end, STDERR_FILENO);
    int code = posix_spawn(&pid, program, &actions, NULL, args, environ);
    posix_spawn_file_actions_destroy(&actions);
    errno = code;
    return code == 0 ? pid : 0;
}

static uint32_t count_lines(const char *text, const char *beginning)
{
    uint32_t count = 0;
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        count += strncmp(line, beginning, strlen(beginning)) == 0;
    }
    return count;
}

static void judge(worker_probe *p, const said *out, const said *err, bool in_time, int how)
{
    p->started = in_time && WIFEXITED(how) && WEXITSTATUS(how) == 0;
    p->gpus = count_lines(out->text, "cuda:");
    snprintf(p->words, sizeof p->words, "%.*s", (int)strcspn(err->text, "\n"), err->text);
    if (!in_time)
        snprintf(p->words, sizeof p->words, "it did not answer within %d s", PATIENCE_MS / 1000);
    else if (!p->started && p->words[0] == '\0' && WIFSIGNALED(how))
        snprintf(p->words, sizeof p->words, "it died by signal %d", WTERMSIG(how));
}

void worker_probe_run(worker_probe *out, const char *beside)
{
    *out = (worker_probe){0};
    find_program(out, beside);
    if (out->program[0] == '\0') return;
    find_backend(out);
    int out_ends[2], err_ends[2];
    if (pipe2(out_ends, O_CLOEXEC) != 0) return;
    if (pipe2(err_ends, O_CLOEXEC) != 0) {
        close(out_ends[0]);
        close(out_ends[1]);
        return;
    }
    said said_out = {.fd = out_ends[0]}, said_err = {.fd = err_ends[0]};
    pid_t pid = start(out->program, out_ends[1], err_ends[1]);
    if (pid == 0) snprintf(out->words, sizeof out->words, "%s", strerror(errno));
    close(out_ends[1]);
    close(err_ends[1]);
    bool in_time = listen_to(&said_out, &said_err);
    if (said_out.fd >= 0) close(said_out.fd);
    if (said_err.fd >= 0) close(said_err.fd);
    if (pid == 0) return;
    int how = 0;
    if (!in_time) kill(pid, SIGKILL);
    waitpid(pid, &how, 0);
    judge(out, &said_out, &said_err, in_time, how);
}
