/* safetensors: a checkpoint file, mapped and checked before a byte is used.
 *
 * Format: https://github.com/huggingface/safetensors (8-byte little-endian header length, JSON
 * header, data). Checked: header length and JSON, dtype, shape product without overflow, offsets
 * in bounds and equal to shape times dtype, no overlap, no hole, no duplicate name. The file is
 * mapped read-only and shared: workers of one machine share its pages. It must not shrink while it
 * is mapped: the kernel answers a read beyond its end with SIGBUS, and we do not catch that.
 * Replace checkpoints by renaming, not by writing into them.
 *
 * Immutable after open; any thread may read. */
#ifndef GAGGLE_WORKER_MODEL_SAFETENSORS_H
#define GAGGLE_WORKER_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef enum dtype {
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_OTHER, /* legal in the file, not computed with: F64, I8..I64, U8..U64, BOOL, F8 */
} dtype;

const char *dtype_name(dtype type);
size_t dtype_size(dtype type); /* bytes; 0 for DTYPE_OTHER */

#define TENSOR_DIMS_MAX 8u

typedef struct tensor {
    const char *name; /* owned by the file */
    dtype type;
    const char *type_name; /* as the file spells it: "F8_E4M3"; static */
    uint32_t dim_count;
    uint64_t dims[TENSOR_DIMS_MAX];
    const void *data; /* in the mapping; aligned only as the file has it */
    uint64_t size;    /* bytes */
} tensor;

typedef struct safetensors safetensors;

/* ST_NOT_FOUND, ST_PERMISSION_DENIED, ST_UNAVAILABLE (I/O), ST_RESOURCE_EXHAUSTED (no memory or
 * address space), ST_INVALID_ARGUMENT (not a safetensors file; the sentence says where and why). */
MUST_USE status safetensors_open(safetensors **out, const char *path, error *err);
/* Header check alone, for fuzzing and tests: `bytes` stand for the whole file and must outlive it.
 */
MUST_USE status safetensors_parse(safetensors **out, const uint8_t *bytes, size_t size, error *err);
void safetensors_close(safetensors *file); /* NULL is fine */

size_t safetensors_count(const safetensors *file);
const tensor *safetensors_at(const safetensors *file, size_t index);       /* in the data's order */
const tensor *safetensors_find(const safetensors *file, const char *name); /* NULL = not there */

/* Does `from` point into this file's mapping? */
bool safetensors_holds(const safetensors *file, const void *from);

/* Copy what is mapped at `from` (of an opened file) by read(): about twice as fast as through the
 * mapping, whose pages would have to be mapped one by one. ST_UNAVAILABLE: an I/O error, or the
 * file was cut short. */
MUST_USE status safetensors_read(const safetensors *file, const void *from, size_t size, void *to,
                                 error *err);

/* The whole file, and where in it the tensors' data begins. */
const uint8_t *safetensors_bytes(const safetensors *file, size_t *size, size_t *data_begin);

#endif
