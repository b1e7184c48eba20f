#include "client/pull/cache_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/pull/disk.h"
#include "client/pull/partial.h"
#include "common/json.h"

/* -- walking --------------------------------------------------------------------------------------
 */

/* Every file and link below `folder`; folders come after what is in them when `folders`. A folder
 * that is not there is empty. The visitor's status ends the walk. */
typedef status (*visitor)(void *ctx, const FTSENT *entry, error *err);

static status walk(const char *folder, bool folders, visitor visit, void *ctx, error *err)
{
    char *path = mem_strdup(folder), *paths[] = {path, NULL};
    FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    status st = fts == NULL ? disk_failed("read", folder, err) : ST_OK;
    for (FTSENT *entry; st == ST_OK && (entry = fts_read(fts)) != NULL;) {
        bool is_folder = entry->fts_info == FTS_D || entry->fts_info == FTS_DP;
        bool fails =
            entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS;
        if (fails && entry->fts_errno != ENOENT) {
            errno = entry->fts_errno;
            st = disk_failed("read", entry->fts_path, err);
        } else if (!fails && (!is_folder || (folders && entry->fts_info == FTS_DP))) {
            st = visit(ctx, entry, err);
        }
    }
    if (fts != NULL) fts_close(fts);
    mem_free(path);
    return st;
}

static status remove_entry(void *ctx, const FTSENT *entry, error *err)
{
    (void)ctx;
    bool is_folder = entry->fts_info == FTS_DP;
    if ((is_folder ? rmdir(entry->fts_accpath) : unlink(entry->fts_accpath)) == 0) return ST_OK;
    return errno == ENOENT ? ST_OK : disk_failed("remove", entry->fts_path, err);
}

static status remove_all(const char *folder, error *err)
{
    return walk(folder, true, remove_entry, NULL, err);
}

static bool ends_with(const char *text, size_t size, const char *end)
{
    size_t end_size = strlen(end);
    return size >= end_size && memcmp(text + size - end_size, end, end_size) == 0;
}

static bool is_unfinished(const char *name, size_t size)
{
    return ends_with(name, size, PARTIAL_SUFFIX) || ends_with(name, size, RANGES_SUFFIX);
}

static uint64_t bytes_on_disk(const struct stat *info)
{
    return (uint64_t)info->st_blocks * 512;
}

/* -- which blob is used how often
 * ------------------------------------------------------------------ */

typedef struct blob_use {
    char *name;
    uint32_t snapshots, last; /* how many link to it; the last that was counted */
    uint64_t bytes;           /* on the disk */
} blob_use;

typedef struct blob_uses {
    blob_use *items; /* sorted by name */
    size_t count, capacity;
    cached_model *model;
} blob_uses;

static int compare_uses(const void *a, const void *b)
{
    return strcmp(((const blob_use *)a)->name, ((const blob_use *)b)->name);
}

static status add_blob(void *ctx, const FTSENT *entry, error *err)
{
    (void)err;
    blob_uses *uses = ctx;
    uint64_t bytes = bytes_on_disk(entry->fts_statp);
    uses->model->size += bytes;
    if (is_unfinished(entry->fts_name, entry->fts_namelen)) {
        uses->model->unfinished += bytes;
        return ST_OK;
    }
    if (uses->count == uses->capacity) {
        uses->capacity = uses->capacity > 0 ? 2 * uses->capacity : 64;
        uses->items = mem_realloc(uses->items, uses->capacity * sizeof *uses->items);
    }
    uses->items[uses->count++] = (blob_use){.name = mem_strdup(entry->fts_name), .bytes = bytes};
    return ST_OK;
}

static blob_use *blob_of_link(const blob_uses *uses, const char *link)
{
    char target[LIMIT_HUB_PATH_BYTES * 4];
    ssize_t size = readlink(link, target, sizeof target - 1);
    if (size <= 0) return NULL;
    target[size] = '\0';
    char *slash = strrchr(target, '/');
    blob_use wanted = {.name = slash != NULL ? slash + 1 : target};
    if (uses->count == 0) return NULL;
    return bsearch(&wanted, uses->items, uses->count, sizeof *uses->items, compare_uses);
}

static void uses_free(blob_uses *uses)
{
    for (size_t i = 0; i < uses->count; i++)
        mem_free(uses->items[i].name);
    mem_free(uses->items);
}

/* -- snapshots
 * ----------------------------------------------------------------------------------------- */

typedef struct snapshot_count {
    cached_snapshot *snapshot;
    blob_uses *uses;
    uint32_t number; /* from 1 */
} snapshot_count;

static status count_file(void *ctx, const FTSENT *entry, error *err)
{
    (void)err;
    snapshot_count *c = ctx;
    struct stat info;
    if (stat(entry->fts_accpath, &info) != 0) return ST_OK; /* a link to nothing */
    c->snapshot->size += (uint64_t)info.st_size;
    c->snapshot->files++;
    if (entry->fts_info == FTS_F) c->snapshot->alone += bytes_on_disk(&info);
    blob_use *use = blob_of_link(c->uses, entry->fts_accpath);
    if (use == NULL || use->last == c->number) return ST_OK;
    use->last = c->number;
    use->snapshots++;
    return ST_OK;
}

typedef struct ref_search {
    const cached_model *model;
    const char *refs; /* folder */
} ref_search;

static cached_snapshot *find_snapshot(const cached_model *m, const char *commit)
{
    for (size_t i = 0; i < m->snapshot_count; i++)
        if (strcmp(m->snapshots[i].commit, commit) == 0) return &m->snapshots[i];
    return NULL;
}

/* The commit that a file below refs/ holds; false: none. */
static bool read_ref(const char *path, char commit[41])
{
    char *text;
    size_t size;
    if (file_read(&text, &size, path, 4096, NULL) != ST_OK) return false;
    text[strcspn(text, " \r\n")] = '\0';
    bool valid = is_commit(text);
    if (valid) memcpy(commit, text, 41);
    mem_free(text);
    return valid;
}

static status add_ref(void *ctx, const FTSENT *entry, error *err)
{
    (void)err;
    const ref_search *search = ctx;
    char commit[41];
    const char *name = entry->fts_path + strlen(search->refs) + 1;
    if (!read_ref(entry->fts_accpath, commit) || !is_inner_path(name, strlen(name))) return ST_OK;
    cached_snapshot *s = find_snapshot(search->model, commit);
    if (s == NULL) return ST_OK;
    size_t size = strlen(s->refs) + strlen(name) + 2;
    char *refs = mem_alloc(size);
    snprintf(refs, size, "%s%s%s", s->refs, s->refs[0] != '\0' ? "," : "", name);
    mem_free(s->refs);
    s->refs = refs;
    return ST_OK;
}

static void add_snapshot(cached_model *m, const char *snapshots, const char *commit)
{
    m->snapshots = mem_realloc(m->snapshots, (m->snapshot_count + 1) * sizeof *m->snapshots);
    cached_snapshot *s = &m->snapshots[m->snapshot_count++];
    *s = (cached_snapshot){.refs = mem_strdup(""), .dir = path_join(snapshots, commit)};
    memcpy(s->commit, commit, sizeof s->commit);
    struct stat info;
    if (stat(s->dir, &info) == 0) s->changed = info.st_mtime;
    error why;
    s->whole = model_folder_check(s->dir, &why) == ST_OK;
    if (s->whole) return;
    size_t dir = strlen(s->dir); /* "DIR has no X" -> "no X" */
    bool has = strncmp(why.text, s->dir, dir) == 0 && strncmp(why.text + dir, " has ", 5) == 0;
    snprintf(s->missing, sizeof s->missing, "%.90s", has ? why.text + dir + 5 : why.text);
}

static int compare_snapshots(const void *a, const void *b)
{
    const cached_snapshot *x = a, *y = b;
    if (x->changed != y->changed) return x->changed > y->changed ? -1 : 1;
    return strcmp(x->commit, y->commit);
}

static status read_snapshots(cached_model *m, error *err)
{
    char *snapshots = path_join(m->folder, "snapshots");
    DIR *folder = opendir(snapshots);
    status st = ST_OK;
    if (folder == NULL && errno != ENOENT) st = disk_failed("read", snapshots, err);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        if (is_commit(entry->d_name)) add_snapshot(m, snapshots, entry->d_name);
    if (folder != NULL) closedir(folder);
    if (m->snapshot_count > 0)
        qsort(m->snapshots, m->snapshot_count, sizeof *m->snapshots, compare_snapshots);
    mem_free(snapshots);
    return st;
}

/* Count in `uses` what links where. */
static status count_uses(cached_model *m, blob_uses *uses, error *err)
{
    *uses = (blob_uses){.model = m};
    char *blobs = path_join(m->folder, "blobs");
    status st = walk(blobs, false, add_blob, uses, err);
    mem_free(blobs);
    if (uses->count > 0) qsort(uses->items, uses->count, sizeof *uses->items, compare_uses);
    for (size_t i = 0; st == ST_OK && i < m->snapshot_count; i++) {
        snapshot_count c = {&m->snapshots[i], uses, (uint32_t)i + 1};
        st = walk(m->snapshots[i].dir, false, count_file, &c, err);
    }
    return st;
}

static status read_model(cached_model *m, error *err)
{
    status st = read_snapshots(m, err);
    if (st != ST_OK) return st;
    char *refs = path_join(m->folder, "refs");
    ref_search search = {m, refs};
    st = walk(refs, false, add_ref, &search, err);
    mem_free(refs);
    blob_uses uses;
    if (st != ST_OK) return st;
    st = count_uses(m, &uses, err);
    for (size_t i = 0; i < uses.count; i++)
        if (uses.items[i].snapshots == 1)
            m->snapshots[uses.items[i].last - 1].alone += uses.items[i].bytes;
    uses_free(&uses);
    return st;
}

/* -- the list
 * -------------------------------------------------------------------------------------------- */

static int compare_models(const void *a, const void *b)
{
    return strcmp(((const cached_model *)a)->name, ((const cached_model *)b)->name);
}

status cache_list_read(cache_list *out, const char *root, const char *name, error *err)
{
    *out = (cache_list){0};
    DIR *folder = opendir(root);
    if (folder == NULL && errno == ENOENT) return ST_OK;
    if (folder == NULL) return disk_failed("read", root, err);
    status st = ST_OK;
    for (struct dirent *entry; st == ST_OK && (entry = readdir(folder)) != NULL;) {
        cached_model m = {0};
        if (!hub_cache_name(entry->d_name, m.name)) continue;
        if (name != NULL && strcmp(m.name, name) != 0) continue;
        m.folder = path_join(root, entry->d_name);
        out->models = mem_realloc(out->models, (out->count + 1) * sizeof *out->models);
        out->models[out->count] = m;
        st = read_model(&out->models[out->count++], err);
    }
    closedir(folder);
    if (st != ST_OK)
        cache_list_free(out);
    else if (out->count > 0)
        qsort(out->models, out->count, sizeof *out->models, compare_models);
    return st;
}

void cache_list_free(cache_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        cached_model *m = &list->models[i];
        for (size_t k = 0; k < m->snapshot_count; k++) {
            mem_free(m->snapshots[k].refs);
            mem_free(m->snapshots[k].dir);
        }
        mem_free(m->snapshots);
        mem_free(m->folder);
    }
    mem_free(list->models);
    *list = (cache_list){0};
}

/* -- removing
 * ------------------------------------------------------------------------------------------------
 */

status cached_model_remove(const cached_model *model, error *err)
{
    return remove_all(model->folder, err);
}

static status remove_ref(void *ctx, const FTSENT *entry, error *err)
{
    char commit[41];
    if (!read_ref(entry->fts_accpath, commit) || strcmp(commit, ctx) != 0) return ST_OK;
    return remove_entry(NULL, entry, err);
}

static status remove_unused(const cached_model *model, const blob_uses *uses, uint32_t number,
                            error *err)
{
    char *blobs = path_join(model->folder, "blobs");
    status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < uses->count; i++) {
        const blob_use *use = &uses->items[i];
        if (use->snapshots != 1 || use->last != number) continue;
        char *path = path_join(blobs, use->name);
        if (unlink(path) != 0 && errno != ENOENT) st = disk_failed("remove", path, err);
        mem_free(path);
    }
    mem_free(blobs);
    return st;
}

/* First what leads to it, then the links, then the bytes: nobody is led to half a model. */
status cached_snapshot_remove(const cached_model *model, const cached_snapshot *snapshot,
                              error *err)
{
    cached_model again = {.snapshots = mem_calloc(model->snapshot_count, sizeof *again.snapshots),
                          .snapshot_count = model->snapshot_count,
                          .folder = model->folder};
    for (size_t i = 0; i < model->snapshot_count; i++)
        again.snapshots[i].dir = model->snapshots[i].dir;
    blob_uses uses;
    status st = count_uses(&again, &uses, err);
    char *refs = path_join(model->folder, "refs"), commit[41];
    memcpy(commit, snapshot->commit, sizeof commit);
    if (st == ST_OK) st = walk(refs, false, remove_ref, commit, err);
    if (st == ST_OK) st = remove_all(snapshot->dir, err);
    if (st == ST_OK)
        st = remove_unused(model, &uses, (uint32_t)(snapshot - model->snapshots) + 1, err);
    mem_free(refs);
    uses_free(&uses);
    mem_free(again.snapshots);
    return st;
}

static status remove_unfinished(void *ctx, const FTSENT *entry, error *err)
{
    if (!is_unfinished(entry->fts_name, entry->fts_namelen)) return ST_OK;
    return remove_entry(ctx, entry, err);
}

status cached_unfinished_remove(const cached_model *model, error *err)
{
    char *blobs = path_join(model->folder, "blobs");
    status st = walk(blobs, false, remove_unfinished, NULL, err);
    mem_free(blobs);
    return st;
}
