#include "common/hub_cache.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/json.h"
#include "common/mem.h"

#define FOLDER_PREFIX "models--"

/* -- names -------------------------------------------------------------------------------- */

static bool is_name_character(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

/* ORG or NAME. */
static bool is_name_part(const char *text, size_t size)
{
    if (size == 0 || strchr("-.", text[0]) != NULL || strchr("-.", text[size - 1]) != NULL)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (!is_name_character(text[i])) return false;
        bool doubled = i > 0 && text[i] == text[i - 1];
        if (doubled && (text[i] == '-' || text[i] == '.')) return false;
    }
    return true;
}

static bool is_name(const char *text, size_t size)
{
    if (size > LIMIT_HUB_NAME_BYTES) return false;
    if (size > 4 && memcmp(text + size - 4, ".git", 4) == 0) return false;
    const char *slash = memchr(text, '/', size);
    if (slash == NULL) return is_name_part(text, size);
    size_t org = (size_t)(slash - text);
    return is_name_part(text, org) && is_name_part(slash + 1, size - org - 1);
}

/* Those of ASCII, and U+0080 to U+009F, which are commands to a terminal, too. */
static bool is_control(const char *text, size_t size)
{
    unsigned char c = (unsigned char)text[0];
    if (c < ' ' || c == 0x7f) return true;
    unsigned char next = size > 1 ? (unsigned char)text[1] : 0;
    return c == 0xc2 && next >= 0x80 && next < 0xa0;
}

bool is_inner_path(const char *path, size_t size)
{
    if (size == 0 || size > LIMIT_HUB_PATH_BYTES) return false;
    for (size_t begin = 0; begin <= size;) {
        size_t end = begin;
        for (; end < size && path[end] != '/'; end++)
            if (path[end] == '\\' || is_control(path + end, size - end)) return false;
        size_t part = end - begin;
        if (part == 0 || part > 255) return false;
        if (path[begin] == '.' && (part == 1 || (part == 2 && path[begin + 1] == '.')))
            return false;
        begin = end + 1;
    }
    return true;
}

/* A branch, a tag, a commit, or what lies elsewhere below refs/. */
static bool is_revision(const char *text)
{
    size_t size = strlen(text);
    if (size > LIMIT_HUB_REVISION_BYTES || !is_inner_path(text, size)) return false;
    for (size_t i = 0; i < size; i++)
        if (!is_name_character(text[i]) && text[i] != '/' && text[i] != '+') return false;
    return text[0] != '-';
}

status model_ref_parse(model_ref *out, const char *text, error *err)
{
    size_t size = strcspn(text, ":");
    if (!is_name(text, size))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "'%.200s' is not the name of a model on a hub: ORG/NAME, or "
                         "ORG/NAME:REVISION",
                         text);
    const char *revision = text[size] == ':' ? text + size + 1 : "main";
    if (!is_revision(revision))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "'%.200s' is not a revision: a branch, a tag or a commit", revision);
    snprintf(out->name, sizeof out->name, "%.*s", (int)size, text);
    snprintf(out->revision, sizeof out->revision, "%s", revision);
    return ST_OK;
}

bool is_commit(const char *text)
{
    return strlen(text) == 40 && strspn(text, "0123456789abcdef") == 40;
}

/* -- folders ------------------------------------------------------------------------------- */

static char *joined(const char *folder, const char *name)
{
    size_t size = strlen(folder) + 1 + strlen(name) + 1;
    char *path = mem_alloc(size);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* "~/x" as a shell has it. */
static char *expanded(const char *path)
{
    const char *home = environment("HOME");
    if (path[0] != '~' || path[1] != '/' || home == NULL) return mem_strdup(path);
    return joined(home, path + 2);
}

char *hub_folder(const char *own, const char *below)
{
    const char *named = environment(own);
    if (named != NULL) return expanded(named);
    const char *hf_home = environment("HF_HOME"), *cache = environment("XDG_CACHE_HOME");
    char *home = hf_home != NULL ? expanded(hf_home)
                 : cache != NULL ? joined(cache, "huggingface")
                                 : expanded("~/.cache/huggingface");
    char *folder = joined(home, below);
    mem_free(home);
    return folder;
}

char *hub_cache_root(void)
{
    return hub_folder("HF_HUB_CACHE", "hub");
}

char *hub_cache_model(const char *root, const char *name)
{
    char folder[sizeof FOLDER_PREFIX + LIMIT_HUB_NAME_BYTES + 2];
    const char *slash = strchr(name, '/');
    if (slash == NULL)
        snprintf(folder, sizeof folder, FOLDER_PREFIX "%s", name);
    else
        snprintf(folder, sizeof folder, FOLDER_PREFIX "%.*s--%s", (int)(slash - name), name,
                 slash + 1);
    return joined(root, folder);
}

bool hub_cache_name(const char *folder, char name[LIMIT_HUB_NAME_BYTES + 1])
{
    if (strncmp(folder, FOLDER_PREFIX, sizeof FOLDER_PREFIX - 1) != 0) return false;
    const char *rest = folder + sizeof FOLDER_PREFIX - 1;
    const char *dashes = strstr(rest, "--");
    const char *own = dashes != NULL ? dashes + 2 : rest;
    size_t org = dashes != NULL ? (size_t)(dashes - rest) + 1 : 0; /* with its slash */
    size_t own_size = strlen(own);
    if (org + own_size > LIMIT_HUB_NAME_BYTES) return false;
    if (org > 0) {
        memcpy(name, rest, org - 1);
        name[org - 1] = '/';
    }
    memcpy(name + org, own, own_size + 1);
    return is_name(name, strlen(name));
}

status hub_cache_commit(char commit[41], const char *root, const model_ref *ref, error *err)
{
    if (is_commit(ref->revision)) {
        memcpy(commit, ref->revision, 41);
        return ST_OK;
    }
    char *model = hub_cache_model(root, ref->name), *refs = joined(model, "refs");
    char *path = joined(refs, ref->revision), *text = NULL;
    size_t size;
    error why;
    status st = file_read(&text, &size, path, 4096, &why);
    if (st == ST_OK) {
        text[strcspn(text, " \r\n")] = '\0';
        if (is_commit(text)) {
            memcpy(commit, text, 41);
        } else {
            st = error_set(err, ST_NOT_FOUND, "%s does not hold a commit", path);
        }
    } else if (st == ST_NOT_FOUND) {
        error_set(err, st, "%s:%s is not in the cache %s", ref->name, ref->revision, root);
    } else {
        error_set(err, st, "%s", why.text);
    }
    mem_free(text);
    mem_free(path);
    mem_free(refs);
    mem_free(model);
    return st;
}

/* -- what a model is made of ----------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void model_index_files_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free(names[i]);
    mem_free(names);
}

status model_index_files(char ***out, size_t *out_count, const json_t *index, error *err)
{
    json_t *map = json_object_get(index, "weight_map");
    size_t entries = json_object_size(map);
    if (entries == 0 || entries > LIMIT_SAFETENSORS_TENSORS)
        return error_set(err, ST_INVALID_ARGUMENT,
                         MODEL_INDEX_NAME
                         ": weight_map: expected an object of 1 to %u entries, found %zu",
                         LIMIT_SAFETENSORS_TENSORS, entries);
    char **names = mem_calloc(entries, sizeof *names);
    size_t count = 0, distinct = 0;
    const char *tensor;
    const json_t *file;
    json_object_foreach(map, tensor, file)
    {
        const char *name = json_string_value(file);
        size_t size = json_string_length(file);
        if (name == NULL || name[0] == '.' || !is_inner_path(name, size) ||
            memchr(name, '/', size) != NULL) {
            model_index_files_free(names, count);
            return error_set(err, ST_INVALID_ARGUMENT,
                             MODEL_INDEX_NAME
                             ": weight_map: entry %zu is not the name of a file in the same folder",
                             count + 1);
        }
        names[count++] = mem_strndup(name, size);
    }
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++) {
        if (distinct > 0 && strcmp(names[distinct - 1], names[i]) == 0)
            mem_free(names[i]);
        else
            names[distinct++] = names[i];
    }
    if (distinct > LIMIT_SAFETENSORS_SHARDS) {
        model_index_files_free(names, distinct);
        return error_set(err, ST_INVALID_ARGUMENT, MODEL_INDEX_NAME ": %zu files; the limit is %u",
                         distinct, LIMIT_SAFETENSORS_SHARDS);
    }
    *out = names;
    *out_count = distinct;
    return ST_OK;
}

status model_index_read(char ***out, size_t *count, const char *dir, error *err)
{
    char *path = joined(dir, MODEL_INDEX_NAME);
    json_t *index;
    status st = json_load_path(&index, path, LIMIT_SAFETENSORS_INDEX_BYTES, err);
    mem_free(path);
    if (st != ST_OK) return st;
    st = model_index_files(out, count, index, err);
    json_decref(index);
    return st;
}

static bool is_file(const char *dir, const char *name)
{
    char *path = joined(dir, name);
    struct stat info;
    bool is = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    mem_free(path);
    return is;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static status missing(const char *dir, const char *name, error *err)
{
    return error_set(err, ST_NOT_FOUND, "%s has no %s", dir, name);
}

static status check_shards(const char *dir, error *err)
{
    char **names;
    size_t count;
    status st = model_index_read(&names, &count, dir, err);
    if (st != ST_OK) return st;
    for (size_t i = 0; st == ST_OK && i < count; i++)
        if (!is_file(dir, names[i])) st = missing(dir, names[i], err);
    model_index_files_free(names, count);
    return st;
}

status model_folder_check(const char *dir, error *err)
{
    static const char *const needed[] = {"config.json", "tokenizer.json"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!is_file(dir, needed[i])) return missing(dir, needed[i], err);
    if (is_file(dir, MODEL_WEIGHTS_NAME)) return ST_OK;
    if (is_file(dir, MODEL_INDEX_NAME)) return check_shards(dir, err);
    return missing(dir, MODEL_WEIGHTS_NAME, err);
}

/* The last name of `path` in front of `end`, slashes behind it left out; it begins at *begin. */
static size_t last_name(const char *path, size_t end, size_t *begin)
{
    while (end > 1 && path[end - 1] == '/')
        end--;
    *begin = end;
    while (*begin > 0 && path[*begin - 1] != '/')
        --*begin;
    return end - *begin;
}

char *model_name_of(const char *dir)
{
    size_t begin, above;
    size_t size = last_name(dir, strlen(dir), &begin);
    char *own = mem_strndup(dir + begin, size);
    if (!is_commit(own)) return own;
    /* ROOT/models--ORG--NAME/snapshots/COMMIT */
    char name[LIMIT_HUB_NAME_BYTES + 1];
    last_name(dir, begin, &above);
    size = last_name(dir, above, &above);
    char *folder = mem_strndup(dir + above, size);
    bool is_cached = hub_cache_name(folder, name);
    mem_free(folder);
    if (!is_cached) return own;
    mem_free(own);
    return mem_strdup(name);
}

status model_find(char **dir, model_ref *ref, const char *text, error *err)
{
    *ref = (model_ref){0};
    *dir = NULL;
    /* A name is ORG/NAME here: NAME alone would be any folder that somebody mistyped. */
    model_ref named;
    bool is_reference = strchr(text, '/') != NULL && model_ref_parse(&named, text, NULL) == ST_OK;
    if (is_folder(text) || !is_reference) {
        *dir = mem_strdup(text); /* its reader says what is wrong with it */
        return ST_OK;
    }
    *ref = named;
    char *root = hub_cache_root(), *model = hub_cache_model(root, named.name);
    char commit[41];
    error why;
    status st = hub_cache_commit(commit, root, &named, &why);
    if (st == ST_OK) {
        char *snapshots = joined(model, "snapshots");
        *dir = joined(snapshots, commit);
        mem_free(snapshots);
        st = model_folder_check(*dir, &why);
    }
    mem_free(model);
    mem_free(root);
    if (st == ST_OK) return ST_OK;
    mem_free(*dir);
    *dir = NULL;
    if (st != ST_NOT_FOUND) return error_set(err, st, "%s", why.text);
    return error_set(err, st, "there is no folder %s, and as a model: %s; fetch it: gaggle pull %s",
                     text, why.text, text);
}
