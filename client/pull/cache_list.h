/* cache_list: the models that the cache holds, and taking them out of it. Folders that others made
 * are read as ours are; what is no model is left alone. */
#ifndef GAGGLE_PULL_CACHE_LIST_H
#define GAGGLE_PULL_CACHE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "common/hub_cache.h"
#include "common/mem.h"

typedef struct cached_snapshot {
    char commit[41];
    char *refs; /* branches and tags that stand for it, with commas; may be empty */
    char *dir;
    uint64_t size;  /* of its files */
    uint64_t alone; /* bytes on the disk that nothing else in this model's folder uses */
    uint64_t files;
    time_t changed;
    bool whole;       /* model_folder_check() */
    char missing[96]; /* why not */
} cached_snapshot;

typedef struct cached_model {
    char name[LIMIT_HUB_NAME_BYTES + 1];
    char *folder;
    cached_snapshot *snapshots; /* sorted: the last changed first */
    size_t snapshot_count;
    uint64_t size;       /* of all blobs on the disk, unfinished ones included */
    uint64_t unfinished; /* of what pulls left off */
} cached_model;

typedef struct cache_list {
    cached_model *models; /* sorted by name */
    size_t count;
} cache_list; /* {0} is an empty one */

/* All models below `root`, or only `name` (NULL: all). A cache that is not there is empty.
 * ST_PERMISSION_DENIED, ST_UNAVAILABLE. */
MUST_USE status cache_list_read(cache_list *out, const char *root, const char *name, error *err);
void cache_list_free(cache_list *list);

/* Who calls holds pull_lock. Remove a model's whole folder; or one snapshot, its refs and the blobs
 * that no other snapshot uses; or only what pulls left off. What has been removed stays removed
 * when something fails. */
MUST_USE status cached_model_remove(const cached_model *model, error *err);
MUST_USE status cached_snapshot_remove(const cached_model *model, const cached_snapshot *snapshot,
                                       error *err);
MUST_USE status cached_unfinished_remove(const cached_model *model, error *err);

#endif
