#include "tests/e2e/processes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "common/mem.h"

enum { ARGS_MAX = 64 };

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    CHECK(value != NULL); /* set by ctest: see tests/CMakeLists.txt */
    return value;
}

/* The first line, without its end; false when the process closed its output before. */
static bool read_line(int fd, char *line, size_t size)
{
    size_t used = 0;
    while (used + 1 < size) {
        ssize_t got = read(fd, line + used, 1);
        if (got <= 0) return false;
        if (line[used] == '\n') break;
        used++;
    }
    line[used] = '\0';
    return true;
}

void process_start(process *p, const char *name, const char *const *args, bool wait_ready)
{
    char program[1024], log[1024];
    char *argv[ARGS_MAX + 2];
    size_t count = 0;
    snprintf(program, sizeof program, "%s/%s", environment("GAGGLE_BIN_DIR"), name);
    snprintf(log, sizeof log, "%s/%s.log", environment("GAGGLE_TEST_TMP"), name);
    argv[count++] = program;
    for (size_t i = 0; args[i] != NULL; i++) {
        CHECK(count < ARGS_MAX);
        argv[count++] = (char *)args[i];
    }
    argv[count] = NULL;

    int output[2];
    CHECK(pipe2(output, O_CLOEXEC) == 0);
    p->pid = fork();
    CHECK(p->pid >= 0);
    if (p->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is killed leaves nothing behind */
        int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        dup2(output[1], STDOUT_FILENO);
        if (log_fd >= 0) dup2(log_fd, STDERR_FILENO);
        execv(program, argv);
        perror(program);
        _exit(127);
    }
    close(output[1]);
    p->output = output[0];
    p->ready[0] = '\0';
    if (wait_ready && !read_line(p->output, p->ready, sizeof p->ready)) {
        fprintf(stderr, "%s ended before it was ready; see %s\n", name, log);
        UNREACHABLE("process is ready");
    }
}

/* With waitpid()'s answer: the number a shell would show. */
static int let_go(process *p, int wait_status)
{
    close(p->output);
    p->pid = 0;
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

int process_wait(process *p)
{
    if (p->pid == 0) return 0;
    int wait_status;
    CHECK(waitpid(p->pid, &wait_status, 0) == p->pid);
    return let_go(p, wait_status);
}

bool process_has_ended(process *p, int *status_out)
{
    int wait_status;
    if (waitpid(p->pid, &wait_status, WNOHANG) != p->pid) return false;
    *status_out = let_go(p, wait_status);
    return true;
}

char *process_output(process *p, int *status_out)
{
    buffer all = {0};
    char piece[4096];
    for (ssize_t got; (got = read(p->output, piece, sizeof piece)) > 0;)
        buffer_append(&all, piece, (size_t)got);
    buffer_append(&all, "", 1);
    *status_out = process_wait(p);
    return (char *)all.data;
}

int process_stop(process *p, int signal_number)
{
    if (p->pid == 0) return 0;
    kill(p->pid, signal_number);
    return process_wait(p);
}

long process_memory_kib(const process *p, const char *line_name)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)p->pid);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    size_t size = strlen(line_name);
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, line_name, size) == 0 && line[size] == ':')
            kib = strtol(line + size + 1, NULL, 10);
    fclose(file);
    return kib;
}

/* Below the ports that the kernel gives to whoever dials, and none twice: what is free now is still
 * free when its listener starts. Tests that run side by side begin at places of their own. */
uint16_t free_port(void)
{
    enum { FIRST = 12000, COUNT = 20000, APART = 61 };
    static uint32_t place;
    if (place == 0) place = (uint32_t)getpid() * APART;
    for (int tries = 0; tries < COUNT; tries++) {
        uint16_t port = (uint16_t)(FIRST + place++ % COUNT);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(fd >= 0);
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons(port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int taken = bind(fd, (struct sockaddr *)&address, sizeof address);
        close(fd);
        if (taken == 0) return port;
    }
    UNREACHABLE("no port is free");
}

const char *bundled_model(void)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/models/gosling", environment("GAGGLE_SOURCE_DIR"));
    return path;
}

const char *shared_data(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", environment("GAGGLE_SHARED_DATA"), name);
    if (access(path, R_OK) == 0) return path;
    printf("skipped: %s is not there\n", path);
    return NULL;
}
