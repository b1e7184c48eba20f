/* backend_file: which GPUs the code in libgaggle_cuda.so is for, read from the file, so that it can
 * be said without CUDA and without loading it. Pure. */
#ifndef GAGGLE_DOCTOR_BACKEND_FILE_H
#define GAGGLE_DOCTOR_BACKEND_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum { BACKEND_ARCHS_MAX = 32 };

/* Machine code for one architecture, or PTX, which the driver compiles for later ones, too. */
typedef struct backend_arch {
    uint16_t number; /* 75 = sm_75 */
    bool ptx;
    bool only_this; /* sm_90a: runs on no other */
} backend_arch;

typedef struct backend_file {
    uint32_t cuda_major; /* of the cuBLAS that it is linked to; 0 = none */
    backend_arch archs[BACKEND_ARCHS_MAX];
    size_t arch_count;
} backend_file;

/* `bytes` of an ELF file of 64 bits. ST_INVALID_ARGUMENT: it is none, or one that contradicts
 * itself. */
MUST_USE status backend_file_parse(backend_file *out, const uint8_t *bytes, size_t size,
                                   error *err);

/* Does a GPU of architecture `arch` (75 = sm_75) run this code? Machine code runs on its own
 * generation's later members, PTX on everything later. */
bool backend_file_covers(const backend_file *b, uint32_t arch);

/* "sm_75 sm_80 sm_90a, PTX 90" */
void backend_file_text(const backend_file *b, char *out, size_t size);

#endif
