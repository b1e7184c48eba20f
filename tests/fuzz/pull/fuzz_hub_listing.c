/* Any bytes as a hub's listing of a model, and as the index of its weights: read, or refused with a
 * sentence. No path of what was read leads out of the model's folder, no hash is anything but
 * digits, and no size is beyond the limit. */
#include <stdint.h>
#include <string.h>

#include "client/pull/hub_listing.h"
#include "common/check.h"
#include "common/hub_cache.h"
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_file(const hub_listing *l, const hub_file *file)
{
    CHECK(is_inner_path(file->path, strlen(file->path)));
    CHECK(file->path[0] != '/' && strstr(file->path, "/../") == NULL);
    CHECK(strcmp(file->path, "..") != 0 && strncmp(file->path, "../", 3) != 0);
    CHECK(file->size <= LIMIT_HUB_FILE_BYTES);
    CHECK(strlen(file->etag) == (file->is_lfs ? 64u : 40u));
    CHECK(strspn(file->etag, "0123456789abcdef") == strlen(file->etag));
    CHECK(hub_listing_find(l, file->path) != NULL);
    if (hub_file_is_small_part(file->path)) CHECK(strlen(file->path) > 0);
}

static void check_listing(const char *bytes, size_t size)
{
    hub_listing l;
    error err = {0};
    status st = hub_listing_parse(&l, bytes, size, &err);
    if (st != ST_OK) {
        CHECK(err.code == st && err.text[0] != '\0');
        return;
    }
    CHECK(is_commit(l.commit) && l.count <= LIMIT_HUB_FILES);
    for (size_t i = 0; i < l.count; i++)
        check_file(&l, &l.files[i]);
    const hub_file *weights;
    st = hub_listing_weights(&l, &weights, &err);
    CHECK((st == ST_OK) == (weights != NULL));
    hub_listing_free(&l);
}

static void check_index(const char *bytes, size_t size)
{
    json_t *root;
    if (json_parse(&root, bytes, size, "index", NULL) != ST_OK) return;
    char **names;
    size_t count;
    if (model_index_files(&names, &count, root, NULL) == ST_OK) {
        CHECK(count > 0 && count <= LIMIT_SAFETENSORS_SHARDS);
        for (size_t i = 0; i < count; i++) {
            CHECK(strchr(names[i], '/') == NULL && is_inner_path(names[i], strlen(names[i])));
            if (i > 0) CHECK(strcmp(names[i - 1], names[i]) < 0);
        }
        model_index_files_free(names, count);
    }
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_listing((const char *)data, size);
    check_index((const char *)data, size);
    return 0;
}
