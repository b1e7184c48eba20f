/* fetch: files of one commit of a model, from the hub into the blobs folder, several pieces at
 * once. What an earlier fetch left of a file goes on; each file gets its name only after its hash
 * was found right. */
#ifndef GAGGLE_PULL_FETCH_H
#define GAGGLE_PULL_FETCH_H

#include "client/pull/hub_http.h"
#include "client/pull/hub_listing.h"
#include "client/pull/progress.h"

typedef struct fetch_options {
    hub_http *http;
    const char *endpoint, *name, *commit;
    const char *blobs; /* folder */
    uint64_t piece_bytes;
    uint32_t connections;
    progress *progress;    /* its caller begins it for these files */
    bool (*stopped)(void); /* asked often; true: ST_CANCELLED */
    /* A file has got its name; a status other than ST_OK ends everything. */
    status (*on_file)(void *ctx, const hub_file *file, error *err);
    void *ctx;
} fetch_options;

/* Bytes of these files that must still come over the network. */
uint64_t fetch_missing_bytes(const char *blobs, const hub_file *const *files, size_t count);

/* Is this file there under its name? */
bool blob_is_there(const char *blobs, const hub_file *file);

/* Fetch those of `files` that are not there; no two of them have the same content. On failure what
 * came is kept for another time. `head` is then what the hub answered, if it refused. ST_ABORTED:
 * the hub has other content than its listing said; ST_RESOURCE_EXHAUSTED: the disk is full;
 * ST_DATA_LOSS: what came has another hash, twice. *bytes_out counts what came. */
MUST_USE status fetch_files(const fetch_options *o, const hub_file *const *files, size_t count,
                            uint64_t *bytes_out, http_head *head, error *err);

/* Percent-encode for a URL's path; '/' stays when `slashes`. */
void url_append(buffer *url, const char *text, bool slashes);

#endif
