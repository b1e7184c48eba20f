/* hub_cache: models by their names on a hub, and the folder where all programs of this machine keep
 * them: the cache that Hugging Face's tools share.
 *
 *   ROOT/models--ORG--NAME/
 *     blobs/ETAG              contents; SHA-256 of large files, git's SHA-1 of the others
 *     refs/main               the commit that a branch or tag stood for when it was fetched
 *     snapshots/COMMIT/FILE   symbolic links into blobs
 *
 * ROOT is HF_HUB_CACHE, or HF_HOME/hub, or XDG_CACHE_HOME/huggingface/hub, or
 * ~/.cache/huggingface/hub. Nothing here writes, and nothing here knows a network: fetching is
 * client/pull. Any thread. */
#ifndef GAGGLE_COMMON_HUB_CACHE_H
#define GAGGLE_COMMON_HUB_CACHE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/limits.h"
#include "common/status.h"

#define MODEL_INDEX_NAME   "model.safetensors.index.json"
#define MODEL_WEIGHTS_NAME "model.safetensors"

/* "ORG/NAME:revision"; "main" where no revision is given. */
typedef struct model_ref {
    char name[LIMIT_HUB_NAME_BYTES + 1];
    char revision[LIMIT_HUB_REVISION_BYTES + 1];
} model_ref;

/* ST_INVALID_ARGUMENT: not a name or a revision as hubs allow them. The name alone, without ORG/,
 * is one, too. */
MUST_USE status model_ref_parse(model_ref *out, const char *text, error *err);

/* Is it 40 hexadecimal digits? Such a revision is a commit. */
bool is_commit(const char *text);

/* A path of a file in a model's folder, which cannot lead out of it: no "..", no empty part, no
 * control characters, at most LIMIT_HUB_PATH_BYTES. */
bool is_inner_path(const char *path, size_t size);

/* The folder of one of Hugging Face's tools: `own` is the variable that names it, otherwise it is
 * `below` HF_HOME. mem_free(). */
char *hub_folder(const char *own, const char *below);

/* ROOT, and the folder of a model in it. mem_free(). */
char *hub_cache_root(void);
char *hub_cache_model(const char *root, const char *name);

/* "models--ORG--NAME" -> "ORG/NAME"; false for any other folder. */
bool hub_cache_name(const char *folder, char name[LIMIT_HUB_NAME_BYTES + 1]);

/* The commit that a revision stands for in this cache. ST_NOT_FOUND: never fetched. */
MUST_USE status hub_cache_commit(char commit[41], const char *root, const model_ref *ref,
                                 error *err);

/* The distinct files that an index names, sorted; mem_free() each and the list. A name that is not
 * of a file in the same folder is refused: ST_INVALID_ARGUMENT. */
MUST_USE status model_index_files(char ***out, size_t *count, const json_t *index, error *err);
/* Those that the index in a folder names. */
MUST_USE status model_index_read(char ***out, size_t *count, const char *dir, error *err);
void model_index_files_free(char **names, size_t count);

/* Has the folder everything that a worker needs? ST_NOT_FOUND names what is missing. */
MUST_USE status model_folder_check(const char *dir, error *err);

/* What people call the model in a folder: ORG/NAME in a cache, otherwise the folder's own name.
 * mem_free(). */
char *model_name_of(const char *dir);

/* What somebody who says --model means: a folder, which is taken as it stands, or else a model of
 * the cache. mem_free(*dir). `ref->name` is empty for a folder. ST_NOT_FOUND: it is a name, but
 * the model is not here or not whole; `gaggle pull` fetches it, and `ref` is filled for that.
 * ST_INVALID_ARGUMENT: it is neither. */
MUST_USE status model_find(char **dir, model_ref *ref, const char *text, error *err);

#endif
