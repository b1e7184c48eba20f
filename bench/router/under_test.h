/* under_test: the router as a process of its own, and what is measured of it from outside. */
#ifndef GAGGLE_BENCH_ROUTER_UNDER_TEST_H
#define GAGGLE_BENCH_ROUTER_UNDER_TEST_H

#include <stdint.h>
#include <sys/types.h>

typedef struct bench_urls {
    char client[128], worker[128];
} bench_urls;

bench_urls bench_urls_make(const char *scheme);

/* fork() whose child dies with its parent. */
pid_t bench_fork(void);

/* Returns when it has written to stdout: it is ready. `args` from argv[0] on, ended by NULL. */
pid_t program_start(const char *program, const char *const *args);
pid_t router_start(const char *program, const char *client_url, const char *worker_url);
void process_kill(pid_t pid);

/* Of all its threads, to the nanosecond: user and system time in /proc/PID/stat come in steps of
 * 10 ms, more than the router uses in a second. */
double cpu_seconds(pid_t pid);

/* "VmRSS": all that is resident, of which the pages of libraries vary by 100 KiB from run to run;
 * "RssAnon": what the process filled itself. */
long memory_kib(pid_t pid, const char *kind);

/* Its open files. */
long files_open(pid_t pid);

void pause_ms(uint32_t ms);

enum { LATENCY_BUCKETS = 4096, LATENCY_BUCKET_US = 16 };

/* A histogram; the last bucket is for all above. */
typedef struct latency {
    uint32_t count[LATENCY_BUCKETS];
} latency;

void latency_add(latency *l, uint64_t us, uint32_t times);
/* Of what came between two copies of it. */
uint32_t percentile_us(const latency *before, const latency *after, double share);

#endif
