/* blob_hash: is a file what its name among the blobs says? SHA-256 of large files; of the others
 * what git calls a blob: SHA-1 over "blob SIZE", a NUL and the bytes. */
#ifndef GAGGLE_PULL_BLOB_HASH_H
#define GAGGLE_PULL_BLOB_HASH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

/* The hash of the `size` bytes of an open file, in hexadecimal. `stop` ends it early with
 * ST_CANCELLED. ST_UNAVAILABLE: it cannot be read, or has fewer bytes. Any thread. */
MUST_USE status blob_hash(char out[65], int fd, uint64_t size, bool is_lfs, const atomic_bool *stop,
                          error *err);

#endif
