#include "worker/model/checkpoint.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "worker/model/printable.h"

#define INDEX_NAME  "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

/* One madvise() and one progress report each. */
#define READ_CHUNK_BYTES (8u * LIMIT_MIB)
/* Of each tensor's two ends, hashed into the revision. */
#define HASH_SAMPLE_BYTES 4096u

/* -- opening -------------------------------------------------------------------------- */

static status open_file(checkpoint *c, const char *dir, const char *name, error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return error_set(err, ST_INVALID_ARGUMENT, "the path of %s has over %d bytes", name,
                         PATH_MAX);
    safetensors *file;
    status st = safetensors_open(&file, path, err);
    if (st != ST_OK) return st;
    c->files[c->file_count] = file;
    c->names[c->file_count++] = mem_strdup(name);
    return ST_OK;
}

static void make_room(checkpoint *c, size_t count)
{
    c->files = mem_calloc(count, sizeof *c->files);
    c->names = mem_calloc(count, sizeof *c->names);
}

/* A name that cannot lead out of the model's folder. */
static bool is_plain_file_name(const json_t *value)
{
    const char *name = json_string_value(value);
    return name != NULL && name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL &&
           strlen(name) == json_string_length(value) && strlen(name) <= NAME_MAX;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct file names of the weight map, sorted. `*out` has room for all its entries. */
static status list_shards(const json_t *weight_map, const char **out, size_t *out_count, error *err)
{
    char text[PRINTABLE_SIZE];
    size_t count = 0;
    const char *tensor_name;
    const json_t *file_name;
    json_object_foreach((json_t *)weight_map, tensor_name, file_name)
    {
        if (!is_plain_file_name(file_name))
            return error_set(err, ST_INVALID_ARGUMENT,
                             INDEX_NAME ": %s: expected the name of a file in the same folder",
                             printable(text, tensor_name));
        out[count++] = json_string_value(file_name);
    }
    qsort(out, count, sizeof *out, compare_strings);
    size_t distinct = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(out[i], out[i - 1]) != 0) out[distinct++] = out[i];
    *out_count = distinct;
    if (distinct > LIMIT_SAFETENSORS_SHARDS)
        return error_set(err, ST_INVALID_ARGUMENT, INDEX_NAME ": %zu files; the limit is %u",
                         distinct, LIMIT_SAFETENSORS_SHARDS);
    return ST_OK;
}

static status open_shards(checkpoint *c, const char *dir, const json_t *index, error *err)
{
    json_t *weight_map = json_object_get(index, "weight_map");
    size_t entries = json_object_size(weight_map);
    if (entries == 0 || entries > LIMIT_SAFETENSORS_TENSORS)
        return error_set(err, ST_INVALID_ARGUMENT,
                         INDEX_NAME
                         ": weight_map: expected an object of 1 to %u entries, found %zu",
                         LIMIT_SAFETENSORS_TENSORS, entries);
    c->weight_map = json_incref(weight_map);

    const char **names = mem_alloc(entries * sizeof *names);
    size_t count = 0;
    status st = list_shards(weight_map, names, &count, err);
    if (st == ST_OK) make_room(c, count);
    for (size_t i = 0; st == ST_OK && i < count; i++)
        st = open_file(c, dir, names[i], err);
    mem_free(names);
    return st;
}

status checkpoint_open(checkpoint *c, const char *dir, error *err)
{
    char path[PATH_MAX];
    json_t *index = NULL;

    error why = {0};
    make_room(c, 1);
    status st = open_file(c, dir, SINGLE_NAME, &why);
    if (st == ST_OK) return ST_OK;
    if (st != ST_NOT_FOUND) return error_set(err, st, "%s", why.text);
    checkpoint_close(c);

    if (snprintf(path, sizeof path, "%s/" INDEX_NAME, dir) >= (int)sizeof path)
        return error_set(err, ST_INVALID_ARGUMENT, "the model folder's path has over %d bytes",
                         PATH_MAX);
    st = json_load_path(&index, path, LIMIT_SAFETENSORS_INDEX_BYTES, err);
    if (st == ST_NOT_FOUND)
        return error_set(err, st, "%s has neither " SINGLE_NAME " nor " INDEX_NAME, dir);
    if (st != ST_OK) return st;
    st = open_shards(c, dir, index, err);
    json_decref(index);
    return st;
}

void checkpoint_close(checkpoint *c)
{
    for (size_t i = 0; i < c->file_count; i++) {
        safetensors_close(c->files[i]);
        mem_free(c->names[i]);
    }
    mem_free(c->files);
    mem_free(c->names);
    json_decref(c->weight_map);
    *c = (checkpoint){0};
}

/* -- looking up ------------------------------------------------------------------------ */

status checkpoint_find(const checkpoint *c, const char *name, const tensor **out, error *err)
{
    char text[PRINTABLE_SIZE];
    size_t which = 0;
    if (c->weight_map != NULL) {
        const char *file_name = json_string_value(json_object_get(c->weight_map, name));
        if (file_name == NULL)
            return error_set(err, ST_NOT_FOUND, "tensor %s is missing in " INDEX_NAME, name);
        char **found =
            bsearch(&file_name, c->names, c->file_count, sizeof *c->names, compare_strings);
        which = (size_t)(found - c->names);
    }
    *out = safetensors_find(c->files[which], name);
    if (*out == NULL)
        return error_set(err, ST_NOT_FOUND, "tensor %s is missing in %s", name,
                         printable(text, c->names[which]));
    return ST_OK;
}

/* -- reading in ------------------------------------------------------------------------- */

void checkpoint_read_in(const checkpoint *c,
                        void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size;
    size_t data_begin;
    uint64_t total = 0;
    uint64_t done = 0;
    for (size_t i = 0; i < c->file_count; i++) {
        safetensors_bytes(c->files[i], &size, &data_begin);
        total += size;
    }
    for (size_t i = 0; i < c->file_count; i++) {
        const volatile uint8_t *bytes = safetensors_bytes(c->files[i], &size, &data_begin);
        for (size_t begin = 0; begin < size; begin += READ_CHUNK_BYTES) {
            size_t left = size - begin;
            size_t chunk = left < READ_CHUNK_BYTES ? left : READ_CHUNK_BYTES;
            /* The kernel fetches this chunk and the next while we touch this one's pages; that
             * only shares the page cache's own memory. Advice: whether it is taken matters not. */
            size_t ahead = left < 2 * READ_CHUNK_BYTES ? left : 2 * READ_CHUNK_BYTES;
            madvise((void *)(bytes + begin), ahead, MADV_WILLNEED);
            for (size_t at = begin; at < begin + chunk; at += page)
                (void)bytes[at];
            done += chunk;
            if (progress != NULL) progress(ctx, done, total);
        }
    }
}

/* -- revision --------------------------------------------------------------------------- */

void checkpoint_hash(const checkpoint *c, XXH3_state_t *hash)
{
    for (size_t i = 0; i < c->file_count; i++) {
        size_t size;
        size_t data_begin;
        const uint8_t *bytes = safetensors_bytes(c->files[i], &size, &data_begin);
        uint64_t file_size = size;
        XXH3_128bits_update(hash, &file_size, sizeof file_size);
        XXH3_128bits_update(hash, bytes, data_begin);
        for (size_t t = 0; t < safetensors_count(c->files[i]); t++) {
            const tensor *entry = safetensors_at(c->files[i], t);
            size_t sample =
                entry->size < HASH_SAMPLE_BYTES ? (size_t)entry->size : HASH_SAMPLE_BYTES;
            XXH3_128bits_update(hash, entry->data, sample);
            XXH3_128bits_update(hash, (const uint8_t *)entry->data + entry->size - sample, sample);
        }
    }
}
