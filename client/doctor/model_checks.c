#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "client/doctor/checks.h"
#include "client/doctor/host_facts.h"
#include "client/pull/disk.h"
#include "common/hub_cache.h"
#include "common/mem.h"

/* The smallest models take a GiB, those people mean with a T4 about 15. */
#define DISK_FEW_BYTES (20ull << 30)

/* -- the cache ----------------------------------------------------------------------------------
 */

/* The folder, or what there is of the way to it. */
static void cut_to_what_is_there(char *path)
{
    while (access(path, F_OK) != 0) {
        char *slash = strrchr(path, '/');
        bool last = slash == NULL || slash == path;
        if (slash == NULL) path[0] = '.';
        path[last ? 1 : slash - path] = '\0';
        if (last) return;
    }
}

void check_cache(findings *f)
{
    char *cache = hub_cache_root(), *there = mem_strdup(cache), space[BYTES_TEXT_SIZE];
    struct statvfs disk;
    cut_to_what_is_there(there);
    if (access(there, W_OK | X_OK) != 0) {
        finding_add(f, FINDING_WARN, "cache", "%s cannot be written to: %s", there,
                    strerror(errno));
        finding_advise(f, "models that are there can be used; to pull others name a folder of "
                          "yours: export HF_HOME=DIR");
    } else if (statvfs(there, &disk) == 0) {
        uint64_t bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
        bool few = bytes < DISK_FEW_BYTES;
        finding_add(f, few ? FINDING_WARN : FINDING_OK, "cache", "%s, %s free", cache,
                    bytes_text(space, bytes));
        if (few)
            finding_advise(f, "gaggle ls shows what is there and gaggle rm removes it; or name a "
                              "larger disk: export HF_HOME=DIR");
    }
    mem_free(there);
    mem_free(cache);
}

/* -- a model ------------------------------------------------------------------------------------
 */

static status add_size(uint64_t *bytes, const char *dir, const char *name, error *err)
{
    struct stat info;
    char *path = path_join(dir, name);
    status st = ST_OK;
    if (access(path, R_OK) != 0)
        st = disk_failed("read", path, err);
    else if (stat(path, &info) == 0)
        *bytes += (uint64_t)info.st_size;
    mem_free(path);
    return st;
}

static status weights_size(uint64_t *bytes, const char *dir, error *err)
{
    char *path = path_join(dir, MODEL_INDEX_NAME), **names = NULL;
    bool in_shards = access(path, F_OK) == 0;
    size_t count = 0;
    mem_free(path);
    if (!in_shards) return add_size(bytes, dir, MODEL_WEIGHTS_NAME, err);
    status st = model_index_read(&names, &count, dir, err);
    for (size_t i = 0; st == ST_OK && i < count; i++)
        st = add_size(bytes, dir, names[i], err);
    model_index_files_free(names, count);
    return st;
}

static void compare_with_memory(findings *f, const char *root, const char *dir, uint64_t weights)
{
    memory_facts memory;
    char size[BYTES_TEXT_SIZE], available[BYTES_TEXT_SIZE];
    bytes_text(size, weights);
    if (host_memory(&memory, root) && weights > memory.available) {
        finding_add(f, FINDING_WARN, "model",
                    "%s has %s of weights, and %s of memory are available", dir, size,
                    bytes_text(available, memory.available));
        finding_advise(f, "on the CPU it would read them from disk again for each token: take a "
                          "smaller model, or a GPU (gaggle show says what fits)");
        return;
    }
    finding_add(f, FINDING_OK, "model", "%s, %s of weights, readable", dir, size);
}

void check_model(findings *f, const char *root, const char *model)
{
    char *dir = NULL;
    model_ref ref;
    error err;
    uint64_t weights = 0;
    status st = model_find(&dir, &ref, model, &err);
    if (st == ST_OK) st = model_folder_check(dir, &err);
    if (st == ST_OK) st = weights_size(&weights, dir, &err);
    if (st == ST_OK) {
        compare_with_memory(f, root, dir, weights);
    } else {
        finding_add(f, FINDING_FAIL, "model", "%s", err.text);
        if (st == ST_PERMISSION_DENIED)
            finding_advise(f, "make it readable for who runs the worker (chmod -R a+rX DIR)");
        else if (st == ST_NOT_FOUND && dir == NULL && ref.name[0] != '\0')
            finding_advise(f, "gaggle pull %s", model);
        else
            finding_advise(f, "name a Hugging Face folder (config.json, *.safetensors, "
                              "tokenizer.json), or ORG/NAME of one to pull");
    }
    mem_free(dir);
}
