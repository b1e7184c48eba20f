#include "client/pull/hub_listing.h"

#include <string.h>

#include "common/hub_cache.h"
#include "common/json.h"

#define WHAT "the hub's listing"

static status refused(error *err, const char *why, size_t index)
{
    return error_set(err, ST_INVALID_ARGUMENT, WHAT ": file %zu: %s", index, why);
}

static bool is_hash(const json_t *value, size_t digits)
{
    const char *text = json_string_value(value);
    return text != NULL && json_string_length(value) == digits &&
           strspn(text, "0123456789abcdef") == digits;
}

static bool is_size(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           (uint64_t)json_integer_value(value) <= LIMIT_HUB_FILE_BYTES;
}

static status read_file(hub_listing *l, const json_t *entry, size_t index, error *err)
{
    hub_file *file = &l->files[index];
    const json_t *path = json_object_get(entry, "rfilename");
    const json_t *size = json_object_get(entry, "size");
    const json_t *hash = json_object_get(entry, "blobId");
    const json_t *lfs = json_object_get(entry, "lfs");
    if (!json_is_string(path) || !is_inner_path(json_string_value(path), json_string_length(path)))
        return refused(err, "rfilename: not a path inside the model's folder", index);
    file->is_lfs = json_is_object(lfs);
    if (file->is_lfs) {
        hash = json_object_get(lfs, "sha256");
        size = json_object_get(lfs, "size");
    }
    if (!is_size(size)) return refused(err, "size: not a number of bytes, or too many", index);
    if (!is_hash(hash, file->is_lfs ? 64 : 40))
        return refused(err, file->is_lfs ? "lfs.sha256: not a SHA-256" : "blobId: not a SHA-1",
                       index);
    file->path = arena_strndup(&l->memory, json_string_value(path), json_string_length(path));
    file->size = (uint64_t)json_integer_value(size);
    memcpy(file->etag, json_string_value(hash), json_string_length(hash) + 1);
    return ST_OK;
}

static status read_listing(hub_listing *l, const json_t *root, error *err)
{
    const json_t *commit = json_object_get(root, "sha"), *files = json_object_get(root, "siblings");
    if (!is_hash(commit, 40))
        return error_set(err, ST_INVALID_ARGUMENT, WHAT ": sha: not a commit's 40 digits");
    if (!json_is_array(files))
        return error_set(err, ST_INVALID_ARGUMENT, WHAT ": siblings: not a list of files");
    size_t count = json_array_size(files);
    if (count > LIMIT_HUB_FILES)
        return error_set(err, ST_INVALID_ARGUMENT, WHAT ": %zu files; the limit is %u", count,
                         LIMIT_HUB_FILES);
    memcpy(l->commit, json_string_value(commit), 41);
    if (count == 0) return ST_OK;
    l->files = arena_alloc(&l->memory, count * sizeof *l->files);
    for (; l->count < count; l->count++) {
        status st = read_file(l, json_array_get(files, l->count), l->count, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

status hub_listing_parse(hub_listing *out, const char *bytes, size_t size, error *err)
{
    *out = (hub_listing){0};
    json_t *root;
    status st = json_parse(&root, bytes, size, WHAT, err);
    if (st != ST_OK) return st;
    st = read_listing(out, root, err);
    json_decref(root);
    if (st != ST_OK) hub_listing_free(out);
    return st;
}

void hub_listing_free(hub_listing *l)
{
    arena_free(&l->memory);
    *l = (hub_listing){0};
}

const hub_file *hub_listing_find(const hub_listing *l, const char *path)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->files[i].path, path) == 0) return &l->files[i];
    return NULL;
}

/* -- what is needed ------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

bool hub_file_is_small_part(const char *path)
{
    static const char *const names[] = {
        "config.json",       "generation_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja",    "chat_template.json",
        MODEL_INDEX_NAME,
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(path, names[i]) == 0) return true;
    static const char templates[] = "additional_chat_templates/";
    if (strncmp(path, templates, sizeof templates - 1) == 0) return ends_with(path, ".jinja");
    return strchr(path, '/') == NULL && strncmp(path, "tokenizer", 9) == 0;
}

status hub_listing_weights(const hub_listing *l, const hub_file **out, error *err)
{
    *out = hub_listing_find(l, MODEL_WEIGHTS_NAME);
    if (*out != NULL) return ST_OK;
    static const char *const kinds[] = {".gguf", ".bin", ".pth", ".pt", ".safetensors", ".onnx"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < l->count; i++)
            if (ends_with(l->files[i].path, kinds[k]))
                return error_set(err, ST_UNIMPLEMENTED,
                                 "has no " MODEL_WEIGHTS_NAME " and no " MODEL_INDEX_NAME
                                 ", which gaggle reads; it has %.200s",
                                 l->files[i].path);
    return error_set(err, ST_UNIMPLEMENTED,
                     "has no " MODEL_WEIGHTS_NAME " and no " MODEL_INDEX_NAME
                     ": it holds no weights that gaggle reads");
}
