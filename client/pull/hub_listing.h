/* hub_listing: what a hub says a model consists of, and which of it a worker needs. Foreign bytes:
 * every path, size and hash is checked before anything is named after it. Plain values. */
#ifndef GAGGLE_PULL_HUB_LISTING_H
#define GAGGLE_PULL_HUB_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"
#include "common/status.h"

typedef struct hub_file {
    const char *path; /* in the model's folder: is_inner_path() */
    uint64_t size;
    char etag[65]; /* SHA-256 when `is_lfs`, else SHA-1 of git's blob; hexadecimal */
    bool is_lfs;
} hub_file;

typedef struct hub_listing {
    char commit[41];
    hub_file *files; /* in the hub's order */
    size_t count;
    arena memory;
} hub_listing; /* {0} is an empty one */

/* The answer of /api/models/NAME/revision/REVISION?blobs=true. ST_INVALID_ARGUMENT says what is
 * wrong with it. */
MUST_USE status hub_listing_parse(hub_listing *out, const char *bytes, size_t size, error *err);
void hub_listing_free(hub_listing *listing);

const hub_file *hub_listing_find(const hub_listing *listing, const char *path); /* NULL: none */

/* Is it one of the small files that a worker or whoever shares the cache reads: configuration,
 * tokenizer, chat template, the index of the weights? */
bool hub_file_is_small_part(const char *path);

/* Weights without an index, or why there are none that we read: ST_UNIMPLEMENTED names what is
 * there instead. */
MUST_USE status hub_listing_weights(const hub_listing *listing, const hub_file **out, error *err);

#endif
