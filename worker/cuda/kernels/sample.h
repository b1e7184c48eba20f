/* sample: rows of logits to one token each, on the device.
 *
 * The twin of worker/engine/sampling.c: its header gives the order of operations and the rules of
 * ties, truncation and draw; for the same float logits the token is the same, and so are logprobs
 * up to the last bit of log(). Results depend neither on the batch, nor on the grid, nor on the
 * run.
 *
 * The host says per step what each row wants in `sample_row`s in device memory, and polls one word
 * of mapped pinned memory for the results; nothing else crosses the bus. The drawn id is left in
 * last_sampled[slot] for the next step, and penalty counts are kept here, so the host may enqueue
 * the next step before it knows this one's tokens.
 *
 * source  Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011. */
#ifndef GAGGLE_WORKER_CUDA_SAMPLE_H
#define GAGGLE_WORKER_CUDA_SAMPLE_H

#include <stddef.h>

#include "worker/cuda/kernels/kernel_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SAMPLE_TOP_MAX      20u /* LIMIT_LOGPROBS_TOP */
#define SAMPLE_VOCAB_MAX    (1u << 20)
#define SAMPLE_ROWS_MAX     4096u
#define SAMPLE_LOGPROBS_OFF 0xffffffffu /* LOGPROBS_OFF */

enum sample_row_flags {
    SAMPLE_ROW_SKIP = 1,      /* padding: nothing is read or written for it */
    SAMPLE_ROW_PENALTIES = 2, /* apply the penalties from counts[slot], count the drawn id there */
};

/* What one row wants; sampling_params has the ranges, which are checked before they come here. */
typedef struct sample_row {
    uint64_t seed;
    uint32_t slot;     /* of last_sampled and counts */
    uint32_t position; /* the new token's absolute position */
    float temperature; /* 0 = greedy */
    uint32_t top_k;    /* 0 = off */
    float top_p;       /* 1 = off */
    float min_p;       /* 0 = off */
    float repetition_penalty;
    float presence_penalty;
    float frequency_penalty;
    uint32_t logprobs;               /* SAMPLE_LOGPROBS_OFF, or 0..SAMPLE_TOP_MAX alternatives */
    uint32_t bias_begin, bias_count; /* of bias_ids and bias; ids distinct within a row */
    uint32_t masked_begin, masked_count; /* of masked_ids */
    uint32_t flags;                      /* of sample_row_flags */
    uint32_t reserved;
} sample_row;

enum sample_status {
    SAMPLE_DRAWN,
    SAMPLE_BROKEN, /* NaN or +Inf logits, or all are -Inf: nothing drawn, nothing else written */
};

/* One row's answer. Only top_ids and top_logprobs below top_count are written. */
typedef struct sample_result {
    uint32_t status; /* of sample_status */
    uint32_t id;
    float logprob; /* natural log, before temperature and truncation; NaN when off */
    uint32_t top_count;
    uint32_t top_ids[SAMPLE_TOP_MAX]; /* likeliest first; lowest id first on a tie */
    float top_logprobs[SAMPLE_TOP_MAX];
} sample_result;

/* One step's destination, in device memory so that a captured graph can be given another one.
 * Both pointers are device addresses of mapped pinned memory. When the results of all rows can be
 * read, *done becomes `sequence` (release, system scope). */
typedef struct sample_step {
    sample_result *results; /* [rows]; 16-byte aligned; those of skipped rows are not written */
    uint32_t *done;
    uint32_t sequence;
    uint32_t row_count; /* rows at and above it are padding, whatever their flags */
} sample_step;

typedef struct sample_args {
    float *logits;          /* [rows, logits_stride], 16-byte aligned; overwritten */
    uint32_t logits_stride; /* multiple of 4, >= vocab_used; logits at and above vocab_used are
                             * neither used nor need they be initialised */
    uint32_t rows;       /* of the grid: 0..SAMPLE_ROWS_MAX; 0 launches nothing, `done` included */
    uint32_t vocab_used; /* 1..SAMPLE_VOCAB_MAX; ids at and above are never drawn */
    const sample_row *row;    /* [rows], 8-byte aligned */
    const sample_step *step;  /* 8-byte aligned */
    const uint32_t *bias_ids; /* shared by all rows; < logits_stride. NULL when no row has a bias */
    const float *bias;        /* beside bias_ids */
    const uint32_t *masked_ids; /* < logits_stride. NULL when no row has any */
    uint16_t *counts;       /* [slots, counts_stride]; NULL when no row has SAMPLE_ROW_PENALTIES */
    uint32_t counts_stride; /* multiple of 8, >= vocab_used */
    uint32_t *last_sampled; /* [slots]: id of each row's slot; unchanged if skipped or broken */
    void *workspace;        /* sample_workspace_bytes(>= rows), 256-byte aligned; zeroed once by the
                             * caller; a finished call leaves it ready for the next, of any rows */
} sample_args;

/* Bytes of workspace for up to `rows` rows: about 38 KB a row. */
size_t sample_workspace_bytes(uint32_t rows);

/* Sample `args->rows` rows.
 *
 * greedy_only  promise: every row has temperature 0 and no logprobs (bias, masks and penalties are
 *              allowed). One kernel instead of two; the same tokens. A row that breaks the promise
 *              gets its likeliest token without logprobs.
 * device       sm_count decides into how many blocks a row is split, which no result depends on
 * arch         sm_75 and later; the same code everywhere; 17 KB of shared memory
 * cost         greedy: 4 * rows * vocab_used bytes; otherwise twice that, top-p without top-k four
 *              times. Penalties 2 bytes more a logit. A row that thousands of equal logits or a
 *              top-k above 768 keep from being settled by a short list: 6 to 10 reads of it by one
 *              block.
 *
 * Launched with programmatic overlap. */
cudaError_t sample(const kernel_device *device, const sample_args *args, bool greedy_only,
                   cudaStream_t stream);

/* Make counts[slot] those of a sequence: to be called when a sequence with penalties takes a slot.
 *
 * counts    [slots, counts_stride] uint16: high bit, the id stands in the prompt; low 15 bits, how
 *           often it stands in the answer, at most 32767
 * ids       [id_count] device memory, < vocab each; the first prompt_count are the prompt
 * vocab     1..counts_stride */
cudaError_t sample_counts_load(uint16_t *counts, uint32_t counts_stride, uint32_t slot,
                               uint32_t vocab, const uint32_t *ids, uint32_t id_count,
                               uint32_t prompt_count, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
