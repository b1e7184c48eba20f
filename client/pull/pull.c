#include "client/pull/pull.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/pull/blob_hash.h"
#include "client/pull/disk.h"
#include "client/pull/fetch.h"
#include "client/pull/hub_words.h"
#include "client/pull/pull_lock.h"
#include "common/check.h"

/* A hub whose listing and files differ is asked for the listing so often. */
enum { LISTINGS_MAX = 3, TURN_MS = 200 };

typedef struct pull {
    const model_ref *ref;
    const hub_settings *hub;
    const pull_options *options;
    hub_http *http;
    http_head head; /* of the answer that ended it */
    progress progress;
    hub_listing listing;
    char *model, *blobs, *snapshot; /* folders */
    int lock;
    const hub_file **needed; /* [listing.count] */
    size_t needed_count;
    uint64_t fetched;
} pull;

static bool never_stopped(void)
{
    return false;
}

pull_options pull_options_default(const char *command)
{
    return (pull_options){.command = command,
                          .connections = 8,
                          .silent_ms = 30000,
                          .tries_max = 7,
                          .retry_ms = 500,
                          .piece_bytes = 64u << 20,
                          .stopped = never_stopped};
}

static void say(void *ctx, const char *sentence)
{
    pull *p = ctx;
    progress_say(&p->progress, sentence);
}

/* -- the listing ---------------------------------------------------------------------------------
 */

typedef struct listing_answer {
    buffer bytes;
    bool ended;
    status st;
    error why;
    http_head head;
} listing_answer;

static bool listing_on_try(void *ctx, http_try *next)
{
    (void)next;
    buffer_clear(&((listing_answer *)ctx)->bytes);
    return true;
}

static status listing_on_head(void *ctx, const http_head *head, const char *url, error *err)
{
    (void)ctx;
    (void)url;
    if (head->code == 200) return ST_OK;
    return error_set(err, ST_UNAVAILABLE, "the hub answers %ld", head->code);
}

static status listing_on_body(void *ctx, const void *bytes, size_t size, error *err)
{
    listing_answer *a = ctx;
    if (size > LIMIT_HUB_LISTING_BYTES - a->bytes.size)
        return error_set(err, ST_OUT_OF_RANGE, "the hub's listing has over %u bytes",
                         LIMIT_HUB_LISTING_BYTES);
    buffer_append(&a->bytes, bytes, size);
    return ST_OK;
}

static status listing_on_complete(void *ctx, error *err)
{
    (void)ctx;
    (void)err;
    return ST_OK;
}

static void listing_on_end(void *ctx, status st, const error *why, const http_head *head)
{
    listing_answer *a = ctx;
    a->ended = true;
    a->st = st;
    a->why = *why;
    a->head = *head;
}

static char *listing_url(const pull *p)
{
    buffer url = {0};
    buffer_append(&url, p->hub->endpoint, strlen(p->hub->endpoint));
    buffer_append(&url, "/api/models/", 12);
    url_append(&url, p->ref->name, true);
    buffer_append(&url, "/revision/", 10);
    url_append(&url, p->ref->revision, false);
    buffer_append(&url, "?blobs=true", 12);
    return (char *)url.data;
}

static status list(pull *p, error *err)
{
    static const http_sink sink = {.on_try = listing_on_try,
                                   .on_head = listing_on_head,
                                   .on_body = listing_on_body,
                                   .on_complete = listing_on_complete,
                                   .on_end = listing_on_end};
    listing_answer a = {0};
    char *url = listing_url(p);
    http_request *request = http_start(p->http, url, p->ref->name, &sink, &a);
    mem_free(url);
    while (!a.ended && !p->options->stopped())
        hub_http_turn(p->http, TURN_MS);
    if (!a.ended) {
        http_abort(request);
        a.st = error_set(&a.why, ST_CANCELLED, "stopped");
    }
    p->head = a.head;
    if (a.st == ST_OK) {
        hub_listing_free(&p->listing);
        a.st = hub_listing_parse(&p->listing, (const char *)a.bytes.data, a.bytes.size, &a.why);
    }
    if (a.st != ST_OK) *err = a.why;
    buffer_free(&a.bytes);
    return a.st;
}

/* -- folders and links
 * ------------------------------------------------------------------------------ */

static status make_folders(pull *p, error *err)
{
    char *snapshots = path_join(p->model, "snapshots");
    mem_free(p->snapshot);
    p->snapshot = path_join(snapshots, p->listing.commit);
    mem_free(snapshots);
    status st = folders_make(p->blobs, err);
    return st == ST_OK ? folders_make(p->snapshot, err) : st;
}

static status lock(pull *p, error *err)
{
    if (p->lock >= 0) return ST_OK;
    status st = pull_lock_take(&p->lock, p->hub->cache, p->ref->name, false, err);
    if (st != ST_ABORTED) return st;
    progress_say(&p->progress, "another process pulls this model; waiting for it");
    return pull_lock_take(&p->lock, p->hub->cache, p->ref->name, true, err);
}

/* SNAPSHOT/a/b -> ../../../blobs/ETAG */
static status link_file(const pull *p, const hub_file *file, error *err)
{
    buffer target = {0};
    buffer_append(&target, "../../", 6);
    for (const char *c = file->path; *c != '\0'; c++)
        if (*c == '/') buffer_append(&target, "../", 3);
    buffer_append(&target, "blobs/", 6);
    buffer_append(&target, file->etag, strlen(file->etag) + 1);
    char *path = path_join(p->snapshot, file->path);
    status st = folders_make_for(path, err);
    if (st == ST_OK) st = link_make((const char *)target.data, path, err);
    mem_free(path);
    buffer_free(&target);
    return st;
}

/* Every file with this content. */
static status link_content(void *ctx, const hub_file *content, error *err)
{
    const pull *p = ctx;
    status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < p->needed_count; i++)
        if (strcmp(p->needed[i]->etag, content->etag) == 0) st = link_file(p, p->needed[i], err);
    return st;
}

static status write_ref(const pull *p, error *err)
{
    if (is_commit(p->ref->revision)) return ST_OK;
    char *refs = path_join(p->model, "refs"), *path = path_join(refs, p->ref->revision);
    status st = folders_make_for(path, err);
    if (st == ST_OK) st = text_write(path, p->listing.commit, err);
    mem_free(path);
    mem_free(refs);
    return st;
}

/* -- files
 * -------------------------------------------------------------------------------------------- */

/* Take the hash of a file that has its name; what is wrong goes. */
static status check_blob(pull *p, const hub_file *file, error *err)
{
    static const atomic_bool no;
    char *path = path_join(p->blobs, file->etag), hash[65];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    status st = fd < 0 ? disk_failed("read", path, err)
                       : blob_hash(hash, fd, file->size, file->is_lfs, &no, err);
    if (st == ST_OK && strcmp(hash, file->etag) != 0) {
        char sentence[LIMIT_HUB_PATH_BYTES + 128];
        snprintf(sentence, sizeof sentence, "%s is damaged; it is fetched anew", file->path);
        progress_say(&p->progress, sentence);
        if (unlink(path) != 0) st = disk_failed("remove", path, err);
    }
    if (fd >= 0) close(fd);
    mem_free(path);
    return st;
}

/* The files from needed[first] on. */
static status fetch_needed(pull *p, size_t first, error *err)
{
    size_t count = 0;
    const hub_file **files = mem_alloc((p->needed_count + 1) * sizeof *files);
    status st = ST_OK;
    uint64_t total = 0;
    for (size_t i = first; st == ST_OK && i < p->needed_count; i++) {
        const hub_file *file = p->needed[i];
        bool again = false;
        for (size_t k = 0; k < count && !again; k++)
            again = strcmp(files[k]->etag, file->etag) == 0;
        if (again) continue;
        files[count++] = file;
        total += file->size;
        if (p->options->check && blob_is_there(p->blobs, file)) st = check_blob(p, file, err);
    }
    uint64_t missing = fetch_missing_bytes(p->blobs, files, count);
    if (st == ST_OK) st = disk_check_space(p->blobs, missing, err);
    if (st == ST_OK) {
        progress_begin(&p->progress, p->options->command, p->ref->name, total - missing, total);
        const fetch_options o = {.http = p->http,
                                 .endpoint = p->hub->endpoint,
                                 .name = p->ref->name,
                                 .commit = p->listing.commit,
                                 .blobs = p->blobs,
                                 .piece_bytes = p->options->piece_bytes,
                                 .connections = p->options->connections,
                                 .progress = &p->progress,
                                 .stopped = p->options->stopped,
                                 .on_file = link_content,
                                 .ctx = p};
        for (size_t i = 0; st == ST_OK && i < count; i++)
            if (blob_is_there(p->blobs, files[i])) st = link_content(p, files[i], err);
        if (st == ST_OK) st = fetch_files(&o, files, count, &p->fetched, &p->head, err);
        progress_clear(&p->progress);
    }
    mem_free(files);
    return st;
}

static status need_shards(pull *p, error *err)
{
    char **names;
    size_t count;
    status st = model_index_read(&names, &count, p->snapshot, err);
    if (st != ST_OK) return st;
    for (size_t i = 0; st == ST_OK && i < count; i++) {
        const hub_file *file = hub_listing_find(&p->listing, names[i]);
        if (file == NULL)
            st = error_set(err, ST_NOT_FOUND,
                           "%s: its " MODEL_INDEX_NAME " names %.200s, which the hub does not have",
                           p->ref->name, names[i]);
        else
            p->needed[p->needed_count++] = file;
    }
    model_index_files_free(names, count);
    return st;
}

static status need_weights(pull *p, error *err)
{
    if (hub_listing_find(&p->listing, MODEL_INDEX_NAME) != NULL) return need_shards(p, err);
    const hub_file *file;
    status st = hub_listing_weights(&p->listing, &file, err);
    if (st != ST_OK) return error_prefix(err, st, "%s", p->ref->name);
    p->needed[p->needed_count++] = file;
    return ST_OK;
}

/* What a worker would only find out later. */
static status check_listing(const pull *p, error *err)
{
    static const char *const names[] = {"config.json", "tokenizer.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (hub_listing_find(&p->listing, names[i]) == NULL)
            return error_set(err, ST_UNIMPLEMENTED,
                             "%s has no %s; gaggle runs models that have one, as transformers "
                             "writes it",
                             p->ref->name, names[i]);
    if (hub_listing_find(&p->listing, MODEL_INDEX_NAME) != NULL) return ST_OK;
    const hub_file *file;
    status st = hub_listing_weights(&p->listing, &file, err);
    return st == ST_OK ? st : error_prefix(err, st, "%s", p->ref->name);
}

static status pull_listed(pull *p, error *err)
{
    status st = check_listing(p, err);
    if (st == ST_OK) st = lock(p, err);
    if (st == ST_OK) st = make_folders(p, err);
    if (st != ST_OK) return st;
    mem_free(p->needed);
    /* Every file once, and an index that names the small ones could name each again. */
    p->needed = mem_calloc(2 * p->listing.count, sizeof *p->needed);
    p->needed_count = 0;
    for (size_t i = 0; i < p->listing.count; i++)
        if (hub_file_is_small_part(p->listing.files[i].path))
            p->needed[p->needed_count++] = &p->listing.files[i];
    st = fetch_needed(p, 0, err);
    size_t small_count = p->needed_count;
    if (st == ST_OK) st = need_weights(p, err);
    if (st == ST_OK) st = fetch_needed(p, small_count, err);
    if (st == ST_OK) st = write_ref(p, err);
    return st;
}

/* A token without TLS, beyond this machine. */
static bool token_is_open(const hub_settings *hub)
{
    static const char *const here[] = {"https://", "http://127.", "http://localhost",
                                       "http://[::1]"};
    for (size_t i = 0; i < sizeof here / sizeof *here; i++)
        if (strncmp(hub->endpoint, here[i], strlen(here[i])) == 0) return false;
    return hub->token != NULL;
}

static status pull_online(pull *p, error *err)
{
    if (token_is_open(p->hub))
        progress_say(&p->progress, "HF_ENDPOINT is http://: HF_TOKEN goes there unencrypted");
    const http_options o = {.hub = p->hub,
                            .silent_ms = p->options->silent_ms,
                            .tries_max = p->options->tries_max,
                            .retry_ms = p->options->retry_ms,
                            .connections = p->options->connections,
                            .say = say,
                            .ctx = p};
    status st = hub_http_create(&p->http, &o, err);
    for (int i = 1; st == ST_OK; i++) {
        st = list(p, err);
        if (st == ST_OK) st = pull_listed(p, err);
        if (st != ST_ABORTED || i == LISTINGS_MAX) break;
        progress_say(&p->progress, err->text);
        st = ST_OK;
    }
    return st == ST_OK ? st : hub_words(st, &p->head, p->hub, p->ref, err);
}

/* -- the whole
 * ---------------------------------------------------------------------------------------- */

static status find_offline(char **dir, char commit[41], const pull *p, error *err)
{
    status st = hub_cache_commit(commit, p->hub->cache, p->ref, err);
    if (st != ST_OK) return st;
    char *snapshots = path_join(p->model, "snapshots");
    *dir = path_join(snapshots, commit);
    mem_free(snapshots);
    st = model_folder_check(*dir, err);
    if (st == ST_OK) return ST_OK;
    mem_free(*dir);
    *dir = NULL;
    return st;
}

status pull_model(pull_result *out, const model_ref *ref, const hub_settings *hub,
                  const pull_options *options, error *err)
{
    CHECK(err != NULL);
    *out = (pull_result){0};
    pull p = {.ref = ref, .hub = hub, .options = options, .lock = -1};
    p.progress.command = options->command;
    p.model = hub_cache_model(hub->cache, ref->name);
    p.blobs = path_join(p.model, "blobs");
    status st;
    if (hub->offline) {
        st = find_offline(&out->dir, out->commit, &p, err);
        if (st != ST_OK) error_prefix(err, st, "HF_HUB_OFFLINE is set");
    } else {
        st = pull_online(&p, err);
        if (st == ST_OK) {
            out->dir = mem_strdup(p.snapshot);
            memcpy(out->commit, p.listing.commit, sizeof out->commit);
        }
    }
    for (size_t i = 0; st == ST_OK && i < p.needed_count; i++)
        out->size += p.needed[i]->size;
    out->files = p.needed_count;
    out->fetched = p.fetched;
    hub_http_destroy(p.http);
    hub_listing_free(&p.listing);
    mem_free(p.needed);
    mem_free(p.model);
    mem_free(p.blobs);
    mem_free(p.snapshot);
    if (p.lock >= 0) close(p.lock);
    return st;
}
