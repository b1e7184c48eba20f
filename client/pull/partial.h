/* partial: a file that is being fetched, and what of it is there. Two files in the blobs folder:
 *
 *   ETAG.gaggle.incomplete   the bytes, at their places; with holes
 *   ETAG.gaggle.ranges       how many bytes each piece has from its beginning (little-endian:
 *                            "GGLRNG01", size, size of a piece, then a number for each piece)
 *
 * Bytes are written before they are counted, so a process may be killed at any moment: what is
 * counted is there. What a machine that loses power may have lost shows in the hash that ends every
 * fetch. The names are our own: others' ETAG.incomplete is read as a beginning without holes.
 * Whoever uses it holds the model's lock (pull_lock.h). */
#ifndef GAGGLE_PULL_PARTIAL_H
#define GAGGLE_PULL_PARTIAL_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

#define PARTIAL_SUFFIX ".gaggle.incomplete"
#define RANGES_SUFFIX  ".gaggle.ranges"

typedef struct partial {
    char *path, *ranges_path;
    int fd, ranges_fd; /* -1: closed */
    uint64_t size, piece_size;
    size_t piece_count;
    uint64_t *piece_done; /* [piece_count] bytes from the piece's beginning */
    uint64_t done;        /* their sum */
} partial;

/* Open what an earlier pull left, or begin; files that do not fit `size` are begun anew. A new one
 * has pieces of `piece_size`, or more where there would be too many. ST_RESOURCE_EXHAUSTED (disk
 * full), ST_PERMISSION_DENIED, ST_UNAVAILABLE; nothing stays open then. */
MUST_USE status partial_open(partial *p, const char *blobs, const char *etag, uint64_t size,
                             uint64_t piece_size, error *err);

/* How many bytes of it an earlier pull left. */
uint64_t partial_peek(const char *blobs, const char *etag, uint64_t size);

/* Nothing of it is there any more. */
MUST_USE status partial_restart(partial *p, uint64_t piece_size, error *err);

uint64_t partial_piece_begin(const partial *p, size_t piece);
uint64_t partial_piece_size(const partial *p, size_t piece);

/* The next bytes of a piece; at most what it lacks. ST_RESOURCE_EXHAUSTED: the disk is full; what
 * was counted before stays. */
MUST_USE status partial_write(partial *p, size_t piece, const void *bytes, size_t size, error *err);

/* All of it is there and right: it gets its name, and is down to the disk before when it is large.
 */
MUST_USE status partial_finish(partial *p, const char *blob_path, error *err);

/* Keep it for later. Any number of times. */
void partial_close(partial *p);

#endif
