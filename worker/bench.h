/* bench: `gaggle-worker bench`: a backend's speed beside what the machine could do at best. */
#ifndef GAGGLE_WORKER_BENCH_H
#define GAGGLE_WORKER_BENCH_H

/* argv[0] is "bench". Table on stderr, CSV on stdout. Returns the process's exit status. */
int worker_bench(int argc, char **argv);

#endif
