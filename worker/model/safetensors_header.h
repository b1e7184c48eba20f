/* safetensors header: its JSON, read into a table of tensors. Private to worker/model.
 *
 * Knows the grammar only; whether shapes, offsets and data agree is safetensors.c's question. */
#ifndef GAGGLE_WORKER_MODEL_SAFETENSORS_HEADER_H
#define GAGGLE_WORKER_MODEL_SAFETENSORS_HEADER_H

#include "worker/model/safetensors.h"

typedef struct header_entry {
    tensor tensor;       /* data and size not set yet */
    uint64_t begin, end; /* data_offsets, as written */
    uint32_t bits;       /* of one element */
} header_entry;

typedef struct safetensors_header {
    header_entry *entries; /* [count] in the order of the file */
    size_t count;
    char *names; /* the entries' names */
} safetensors_header;

/* Scan `size` bytes of JSON. On failure nothing is kept: ST_INVALID_ARGUMENT with the byte where
 * it stopped, ST_RESOURCE_EXHAUSTED. Duplicate tensor names are not looked for. */
MUST_USE status safetensors_header_scan(safetensors_header *out, const char *text, size_t size,
                                        error *err);
void safetensors_header_fini(safetensors_header *header);

#endif
