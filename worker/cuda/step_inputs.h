/* step_inputs: a step_plan as the arrays that kernels read.
 *
 * Built in pinned memory on the CPU, copied to one device buffer on the stream, and read there by
 * all layers. Two host copies, because a step may be built while the one before it is under way;
 * one device copy, because the stream runs them one after the other.
 *
 *   head    what has a size that the rows of the step decide: tokens, positions, KV rows, rows to
 *           sample, prefill items, counts. For a captured graph the rows are the bucket's, so that
 *           addresses stay the same
 *   decode  items, one list for each window of the model; as many as there are
 *   pool    block tables, masked ids, biases; as much as there is
 *
 * Rows beyond the plan's (padding of a bucket) write their KV to the spare block, have no attention
 * item and draw no token. */
#ifndef GAGGLE_WORKER_CUDA_STEP_INPUTS_H
#define GAGGLE_WORKER_CUDA_STEP_INPUTS_H

#include "worker/backend.h"
#include "worker/cuda/attention_plan.h"
#include "worker/cuda/device.h"
#include "worker/cuda/kernels/sample.h"

#define STEP_WINDOWS_MAX 2u /* windows of one model's layers */

/* What never changes. */
typedef struct step_inputs_options {
    uint32_t step_tokens, step_sequences, context_max;
    uint32_t kv_blocks; /* the spare one has this id */
    uint32_t windows[STEP_WINDOWS_MAX];
    uint32_t window_count;
    uint32_t tile_tokens;  /* of prefill items */
    uint32_t items_wanted; /* of decode items, in a step */
    bool all_prefill;      /* decode rows become prefill items too (batch-invariant) */
    uint32_t device_slots; /* of last_sampled and the penalty counts */
} step_inputs_options;

/* Device addresses and counts of one step, for forward.c. */
typedef struct step_view {
    uint32_t token_count; /* rows of the residual stream, padding included */
    uint32_t sample_count;
    bool samples_are_tokens; /* sample i is token i: wanted rows need no gathering */
    bool greedy_only;
    const uint32_t *tokens, *positions, *kv_rows;
    const attention_prefill_item *prefill_items;
    uint32_t prefill_item_count, prefill_tokens_max;
    bool has_decode;
    const attention_decode_item *decode_items[STEP_WINDOWS_MAX];
    const uint32_t *decode_counts; /* [STEP_WINDOWS_MAX] */
    const uint32_t *pool;          /* block tables; and ids, see bias */
    const uint32_t *wanted;        /* [sample_count] rows whose logits are wanted */
    const sample_row *sample_rows;
    const sample_step *sample_step;
    const float *bias; /* beside pool's bias ids */
} step_view;

/* How one sequence is known to the device. */
typedef struct device_slot {
    uint64_t key;       /* step_sequence.key; UINT64_MAX: nobody's */
    uint64_t last_step; /* that it was part of */
    uint32_t counted;   /* ids that the penalty counts hold; 0: they are not loaded */
} device_slot;

typedef struct step_inputs step_inputs;

/* Bytes of device and of pinned memory that step_inputs_create() will take. */
uint64_t step_inputs_device_bytes(const step_inputs_options *options);

MUST_USE status step_inputs_create(step_inputs **out, gpu *g, const step_inputs_options *options,
                                   error *err);
void step_inputs_destroy(step_inputs *s); /* memory of the device goes with gpu_close() */

/* A sequence whose penalty counts must be loaded before the step runs. */
typedef struct counts_load {
    uint32_t device_slot;
    const uint32_t *ids;
    uint32_t id_count, prompt_count;
} counts_load;

/* Build `plan` and enqueue its copy.
 *
 * bucket    0: as many rows as the plan has. Otherwise a captured graph's rows, >= the plan's; the
 *           plan must be decode only (step_inputs_is_decode)
 * parity    0 or 1: which host copy; the step that used it last must be collected
 * results   device address of this step's mapped results, `done` of its word, which becomes
 *           `sequence`
 * loads     [step_sequences], *load_count of them are filled */
MUST_USE status step_inputs_send(step_inputs *s, const step_plan *plan, uint32_t bucket,
                                 uint32_t parity, sample_result *results, uint32_t *done,
                                 uint32_t sequence, step_view *view, counts_load *loads,
                                 uint32_t *load_count, error *err);

/* Is every sequence one token that is sampled? Such steps are the same whatever their lengths. */
bool step_inputs_is_decode(const step_plan *plan);

#endif
