/* worker_probe: gaggle-worker itself, asked which devices it could run on: whether it starts on
 * this system at all, and what its CUDA backend finds. */
#ifndef GAGGLE_DOCTOR_WORKER_PROBE_H
#define GAGGLE_DOCTOR_WORKER_PROBE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct worker_probe {
    char program[4096]; /* "" = there is none, beside this program or in PATH */
    char backend[4096]; /* its libgaggle_cuda.so; "" = none */
    bool started;       /* it ended with 0 in time */
    uint32_t gpus;      /* that it can use */
    char words[512];    /* its first line on stderr: why there is no GPU, or why it did not start */
} worker_probe;

/* `beside`: the folder to look in first; NULL: of this program. */
void worker_probe_run(worker_probe *out, const char *beside);

#endif
