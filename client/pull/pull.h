/* pull: a model of a hub, whole, in the cache that Hugging Face's tools share (hub_cache.h).
 *
 * 1. What the hub lists for the revision, which is a commit from then on (hub_listing.h).
 * 2. The lock of the model: a second pull of it waits, and then finds everything there.
 * 3. Configuration and tokenizer; then the weights that their index names (fetch.h).
 * 4. Each file that has its name among the blobs is linked into the snapshot, and when all are,
 *    the revision's name is written into refs: so refs never lead to half a model. */
#ifndef GAGGLE_PULL_PULL_H
#define GAGGLE_PULL_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "client/pull/hub_settings.h"
#include "common/hub_cache.h"

typedef struct pull_options {
    const char *command; /* "pull": whose sentences these are, on stderr */
    uint32_t connections, silent_ms, tries_max, retry_ms;
    uint64_t piece_bytes;
    bool check;            /* take the hash of what is already there, too */
    bool (*stopped)(void); /* asked often; true: ST_CANCELLED */
} pull_options;

pull_options pull_options_default(const char *command);

typedef struct pull_result {
    char *dir; /* the snapshot; mem_free() */
    char commit[41];
    uint64_t files, size; /* of the model */
    uint64_t fetched;     /* bytes that came over the network */
} pull_result;

/* ST_OK: `dir` holds everything that a worker needs. Other codes come with a sentence that says
 * what to do; what was fetched until then is kept. */
MUST_USE status pull_model(pull_result *out, const model_ref *ref, const hub_settings *hub,
                           const pull_options *options, error *err);

#endif
