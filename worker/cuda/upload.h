/* upload: weights from the mapped checkpoint to the device, in the order and form that kernels
 * want.
 *
 * q, k and v lie behind each other, and so do gate and up, so that each is one product. Matrices
 * become T; norms (with their 1 +) and biases float. Threads read from the page cache into pinned
 * buffers, whose way to the device overlaps with the next copy; what is not T already is converted
 * on the device. Numbers that T cannot hold are counted.
 *
 * Rows and columns of matrices are padded with zeros to multiples of GPU_PADDING, which products
 * want; sizes below mean the padded ones. Real models need no padding but for the vocabulary. */
#ifndef GAGGLE_WORKER_CUDA_UPLOAD_H
#define GAGGLE_WORKER_CUDA_UPLOAD_H

#include "worker/cuda/device.h"
#include "worker/model/weights.h"

#define GPU_PADDING 8u

uint32_t gpu_padded(uint32_t count);

/* All device pointers; NULL: the model has none. Shapes as in weights.h. */
typedef struct gpu_layer {
    float *input_norm;
    void *qkv; /* [(heads + 2 kv_heads) * head_dim, hidden] */
    float *qkv_bias;
    float *q_norm, *k_norm;
    void *o; /* [hidden, heads * head_dim] */
    float *o_bias;
    float *post_attention_norm;
    float *mlp_norm;
    void *gate_up; /* [2 * intermediate, hidden] */
    float *gate_up_bias;
    void *down; /* [hidden, intermediate] */
    float *down_bias;
    float *post_mlp_norm;
} gpu_layer;

typedef struct gpu_weights {
    kernel_dtype type;
    void *embedding, *head;
    float *final_norm;
    gpu_layer *layers; /* host memory, [layer_count] */
    uint64_t bytes;
    uint64_t overflowed, flushed; /* elements that T could not hold; became infinite, or zero */
} gpu_weights;

/* Device bytes that gpu_weights_upload() takes. */
uint64_t gpu_weights_bytes(const model *m, kernel_dtype type);

/* Allocates on `g` and fills; dummy models are made up on the device. `progress` (may be NULL) is
 * called by this thread. On failure gpu_weights_fini() is still fine; the device's memory goes with
 * gpu_close(). ST_RESOURCE_EXHAUSTED, ST_INTERNAL (a CUDA call), ST_UNAVAILABLE (reading). */
MUST_USE status gpu_weights_upload(gpu_weights *w, gpu *g, const model *m, kernel_dtype type,
                                   void (*progress)(void *ctx, uint64_t done, uint64_t total),
                                   void *ctx, error *err);
void gpu_weights_fini(gpu_weights *w);

#endif
