#include "bench/router/under_test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"

double cpu_seconds(pid_t pid)
{
    char path[300], folder[64];
    snprintf(folder, sizeof folder, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(folder);
    CHECK(tasks != NULL);
    uint64_t all_ns = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        unsigned long long ns;
        if (entry->d_name[0] == '.') continue; /* ".." has a schedstat, too: the main thread's */
        snprintf(path, sizeof path, "%s/%.200s/schedstat", folder, entry->d_name);
        FILE *f = fopen(path, "r");
        if (f == NULL) continue;
        if (fscanf(f, "%llu", &ns) == 1) all_ns += ns;
        fclose(f);
    }
    closedir(tasks);
    return (double)all_ns / 1e9;
}

long memory_kib(pid_t pid, const char *kind)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, kind, strlen(kind)) == 0) sscanf(line + strlen(kind), ": %ld", &kib);
    fclose(f);
    return kib;
}

pid_t bench_fork(void)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

long files_open(pid_t pid)
{
    char folder[64];
    snprintf(folder, sizeof folder, "/proc/%d/fd", (int)pid);
    DIR *files = opendir(folder);
    CHECK(files != NULL);
    long count = 0;
    for (struct dirent *entry; (entry = readdir(files)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(files);
    return count;
}

pid_t program_start(const char *program, const char *const *args)
{
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t pid = bench_fork();
    if (pid == 0) {
        dup2(ready[1], STDOUT_FILENO);
        close(ready[0]);
        execv(program, (char *const *)args);
        perror(program);
        _exit(127);
    }
    close(ready[1]);
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1); /* its ready line begins */
    close(ready[0]);
    return pid;
}

pid_t router_start(const char *program, const char *client_url, const char *worker_url)
{
    return program_start(program,
                         (const char *[]){program, "--listen", client_url, "--worker-listen",
                                          worker_url, "--log-level", "error", NULL});
}

void pause_ms(uint32_t ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

void process_kill(pid_t pid)
{
    int end;
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &end, 0) == pid);
    CHECK(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL); /* else it had ended before */
}

static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    close(fd);
    return ntohs(address.sin_port);
}

bench_urls bench_urls_make(const char *scheme)
{
    bench_urls urls;
    if (strcmp(scheme, "ipc") == 0) {
        snprintf(urls.client, sizeof urls.client, "ipc:///tmp/gaggle-bench-%d-c", (int)getpid());
        snprintf(urls.worker, sizeof urls.worker, "ipc:///tmp/gaggle-bench-%d-w", (int)getpid());
    } else {
        snprintf(urls.client, sizeof urls.client, "%s://127.0.0.1:%u", scheme, free_port());
        snprintf(urls.worker, sizeof urls.worker, "%s://127.0.0.1:%u", scheme, free_port());
    }
    return urls;
}

uint32_t percentile_us(const latency *before, const latency *after, double share)
{
    uint64_t all = 0, seen = 0;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++)
        all += after->count[i] - before->count[i];
    for (uint32_t i = 0; i < LATENCY_BUCKETS; i++) {
        seen += after->count[i] - before->count[i];
        if ((double)seen >= share * (double)all) return (i + 1) * LATENCY_BUCKET_US;
    }
    return LATENCY_BUCKETS * LATENCY_BUCKET_US;
}

void latency_add(latency *l, uint64_t us, uint32_t times)
{
    size_t bucket = us / LATENCY_BUCKET_US;
    l->count[bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1] += times;
}
