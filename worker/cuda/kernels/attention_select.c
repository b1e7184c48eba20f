#include "worker/cuda/kernels/attention.h"

/* A function of device and shape alone: the two kernels round differently, and a row must not
 * change with what else is in the step. wgmma is about twice as fast as mma.sync (README.md). */
static bool uses_sm90(const kernel_device *device, const kernel_kv *kv,
                      const attention_shape *shape)
{
    return device->has_sm90a && attention_prefill_sm90_tile_tokens(device, kv, shape) > 0;
}

uint32_t attention_prefill_tile_tokens(const kernel_device *device, const kernel_kv *kv,
                                       const attention_shape *shape)
{
    return uses_sm90(device, kv, shape) ? attention_prefill_sm90_tile_tokens(device, kv, shape)
                                        : attention_prefill_mma_tile_tokens(device, kv, shape);
}

cudaError_t attention_prefill(const kernel_device *device, const attention_prefill_args *args,
                              cudaStream_t stream)
{
    return uses_sm90(device, &args->kv, &args->shape) ? attention_prefill_sm90(device, args, stream)
                                                      : attention_prefill_mma(device, args, stream);
}
