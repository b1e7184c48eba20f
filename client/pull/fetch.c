/* One thread runs all transfers; another one takes hashes, a file at a time, so that neither waits
 * for the other. A file goes
 *
 *   WAITING -> FETCHING -> HASHING -> DONE
 *                 ^          |
 *                 +----------+  another hash: once anew, from nothing
 *
 * Pieces are given out in the order of the files, so that few files are open at once. */
#include "client/pull/fetch.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "client/pull/blob_hash.h"
#include "client/pull/disk.h"
#include "client/pull/partial.h"
#include "common/check.h"
#include "common/limits.h"

enum {
    TURN_MS = 100,
    SHORTCUTS_REFUSED_MAX = 2,
    LOST_WHOLES_MAX = 5, /* of a file that cannot go on where it was */
};

typedef enum file_state { WAITING, FETCHING, HASHING, DONE } file_state;

typedef struct fetch fetch;

typedef struct fetch_file {
    fetch *fetch;
    const hub_file *file;
    char *url;
    file_state state;
    partial partial;    /* open while FETCHING and HASHING */
    uint64_t left_over; /* what is there before FETCHING */
    size_t next_piece;  /* the first that was not given out */
    size_t running;
    bool whole_only;      /* the server knows no ranges */
    uint32_t lost_wholes; /* so often what had come was of no use */
    bool anew;            /* begun again from nothing since it was wrong, which happens once */
    char *shortcut;       /* where the hub sent us last */
    uint32_t shortcuts_refused;
} fetch_file;

typedef struct transfer {
    fetch_file *file;
    size_t piece;
    bool ranged;
    http_request *request; /* NULL: this slot is free */
} transfer;

typedef struct hasher {
    pthread_t thread;
    fetch_file *file; /* NULL: idle */
    hub_http *http;
    char *blob_path;
    atomic_bool stop, done;
    status st;
    error why;
} hasher;

struct fetch {
    const fetch_options *options;
    fetch_file *files;
    size_t count, done_count;
    transfer transfers[LIMIT_HUB_CONNECTIONS];
    hasher hasher;
    uint64_t bytes;
    status st; /* the first failure */
    error why;
    http_head head;
};

void url_append(buffer *url, const char *text, bool slashes)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text != '\0'; text++) {
        char code[4];
        if (strchr(plain, *text) != NULL || (slashes && *text == '/'))
            buffer_append(url, text, 1);
        else
            buffer_append(url, code,
                          (size_t)snprintf(code, sizeof code, "%%%02X", (unsigned char)*text));
    }
}

static char *file_url(const fetch_options *o, const hub_file *file)
{
    buffer url = {0};
    buffer_append(&url, o->endpoint, strlen(o->endpoint));
    buffer_append(&url, "/", 1);
    url_append(&url, o->name, true);
    buffer_append(&url, "/resolve/", 9);
    url_append(&url, o->commit, false);
    buffer_append(&url, "/", 1);
    url_append(&url, file->path, true);
    buffer_append(&url, "", 1);
    return (char *)url.data;
}

bool blob_is_there(const char *blobs, const hub_file *file)
{
    char *path = path_join(blobs, file->etag);
    struct stat info;
    bool there =
        stat(path, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size == file->size;
    mem_free(path);
    return there;
}

uint64_t fetch_missing_bytes(const char *blobs, const hub_file *const *files, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        if (!blob_is_there(blobs, files[i]))
            bytes += files[i]->size - partial_peek(blobs, files[i]->etag, files[i]->size);
    return bytes;
}

/* -- failing -------------------------------------------------------------------------------------
 */

static void abort_transfers(fetch *f, const fetch_file *only)
{
    for (uint32_t i = 0; i < f->options->connections; i++) {
        transfer *t = &f->transfers[i];
        if (t->request == NULL || (only != NULL && t->file != only)) continue;
        http_abort(t->request);
        t->request = NULL;
        t->file->running--;
    }
}

static void fail(fetch *f, status st, const error *why)
{
    if (f->st != ST_OK) return;
    f->st = st;
    f->why = *why;
    abort_transfers(f, NULL);
}

/* From nothing, in one piece when the server knows no ranges. */
static void begin_anew(fetch_file *file)
{
    fetch *f = file->fetch;
    abort_transfers(f, file);
    uint64_t piece = file->whole_only ? file->file->size : f->options->piece_bytes;
    error why;
    status st = partial_restart(&file->partial, piece, &why);
    file->next_piece = 0;
    file->state = FETCHING;
    if (st != ST_OK) fail(f, st, &why);
}

/* -- one piece
 * --------------------------------------------------------------------------------------
 */

static uint64_t piece_left(const transfer *t)
{
    const partial *p = &t->file->partial;
    return partial_piece_size(p, t->piece) - p->piece_done[t->piece];
}

static bool on_try(void *ctx, http_try *next)
{
    transfer *t = ctx;
    partial *p = &t->file->partial;
    if (piece_left(t) == 0) return false;
    next->first = partial_piece_begin(p, t->piece) + p->piece_done[t->piece];
    next->last = next->first + piece_left(t) - 1;
    t->ranged = next->first > 0 || next->last + 1 < p->size;
    next->ranged = t->ranged;
    next->shortcut = t->file->shortcut;
    return true;
}

static bool is_hash(const char *text)
{
    size_t digits = strspn(text, "0123456789abcdef");
    return text[digits] == '\0' && (digits == 40 || digits == 64);
}

static status changed(const transfer *t, error *err)
{
    return error_set(err, ST_ABORTED, "%s changed on the hub while it was fetched",
                     t->file->file->path);
}

/* The whole file, where a part was asked for. Of a file in one piece it is taken as it comes. */
static status take_whole(transfer *t, error *err)
{
    fetch_file *file = t->file;
    file->whole_only = true;
    if (file->partial.piece_count > 1)
        return error_set(err, ST_UNIMPLEMENTED, "the server knows no ranges");
    if (++file->lost_wholes > LOST_WHOLES_MAX)
        return error_set(err, ST_FAILED_PRECONDITION,
                         "the server knows no ranges, and its answers were cut %d times",
                         LOST_WHOLES_MAX);
    t->ranged = false;
    return partial_restart(&file->partial, file->file->size, err);
}

static status check_head(transfer *t, const http_head *head, error *err)
{
    const hub_file *file = t->file->file;
    const char *etag = head->linked_etag[0] != '\0' ? head->linked_etag
                       : head->from_hub             ? head->etag
                                                    : "";
    if (is_hash(etag) && strcmp(etag, file->etag) != 0) return changed(t, err);
    if (head->code == 200 && head->length != UINT64_MAX && head->length != file->size)
        return changed(t, err);
    if (head->code == 200) return t->ranged ? take_whole(t, err) : ST_OK;
    if (head->code != 206 || !head->has_range)
        return error_set(err, ST_UNAVAILABLE, "the server answers %ld without saying which range",
                         head->code);
    if (head->range_total != UINT64_MAX && head->range_total != file->size) return changed(t, err);
    const partial *p = &t->file->partial;
    if (head->range_first != partial_piece_begin(p, t->piece) + p->piece_done[t->piece])
        return error_set(err, ST_UNAVAILABLE, "the server answers with another range");
    return ST_OK;
}

static status on_head(void *ctx, const http_head *head, const char *url, error *err)
{
    transfer *t = ctx;
    fetch_file *file = t->file;
    status st = check_head(t, head, err);
    if (st != ST_OK || head->from_hub || file->shortcut != NULL ||
        file->shortcuts_refused >= SHORTCUTS_REFUSED_MAX)
        return st;
    file->shortcut = mem_strdup(url);
    return ST_OK;
}

static status on_body(void *ctx, const void *bytes, size_t size, error *err)
{
    transfer *t = ctx;
    if (size > piece_left(t))
        return error_set(err, ST_DATA_LOSS, "the server sends more bytes than it was asked for");
    t->file->fetch->bytes += size;
    return partial_write(&t->file->partial, t->piece, bytes, size, err);
}

static status on_complete(void *ctx, error *err)
{
    transfer *t = ctx;
    uint64_t left = piece_left(t);
    if (left == 0) return ST_OK;
    char text[BYTES_TEXT_SIZE];
    return error_set(err, ST_UNAVAILABLE, "the answer ended %s too early", bytes_text(text, left));
}

static void on_shortcut_refused(void *ctx)
{
    fetch_file *file = ((transfer *)ctx)->file;
    file->shortcuts_refused++;
    mem_free(file->shortcut);
    file->shortcut = NULL;
}

static void on_end(void *ctx, status st, const error *why, const http_head *head)
{
    transfer *t = ctx;
    fetch_file *file = t->file;
    fetch *f = file->fetch;
    t->request = NULL;
    file->running--;
    bool no_ranges = st == ST_UNIMPLEMENTED && file->whole_only;
    if (st == ST_OK) {
        if (file->partial.done == file->partial.size && file->running == 0) file->state = HASHING;
    } else if (no_ranges || (st == ST_OUT_OF_RANGE && !file->anew)) {
        if (!no_ranges) file->anew = true;
        begin_anew(file);
    } else {
        f->head = *head;
        fail(f, st, why);
    }
}

static const http_sink sink = {on_try, on_head, on_body, on_complete, on_end, on_shortcut_refused};

/* -- giving out
 * ---------------------------------------------------------------------------------------
 */

static void begin_file(fetch_file *file)
{
    const fetch_options *o = file->fetch->options;
    error why;
    status st = partial_open(&file->partial, o->blobs, file->file->etag, file->file->size,
                             o->piece_bytes, &why);
    if (st != ST_OK) {
        fail(file->fetch, st, &why);
        return;
    }
    file->state = file->partial.done == file->partial.size ? HASHING : FETCHING;
}

/* The next piece of this file that lacks something. */
static bool take_piece(fetch_file *file, size_t *piece)
{
    partial *p = &file->partial;
    while (file->next_piece < p->piece_count) {
        *piece = file->next_piece++;
        if (p->piece_done[*piece] < partial_piece_size(p, *piece)) return true;
    }
    return false;
}

static bool next_piece(fetch *f, fetch_file **file, size_t *piece)
{
    for (size_t i = 0; i < f->count && f->st == ST_OK; i++) {
        *file = &f->files[i];
        if ((*file)->state == WAITING) begin_file(*file);
        if ((*file)->state == FETCHING && take_piece(*file, piece)) return true;
    }
    return false;
}

static void start_transfers(fetch *f)
{
    for (uint32_t i = 0; i < f->options->connections; i++) {
        transfer *t = &f->transfers[i];
        if (t->request != NULL) continue;
        fetch_file *file;
        size_t piece;
        if (!next_piece(f, &file, &piece)) return;
        *t = (transfer){.file = file, .piece = piece};
        file->running++;
        t->request = http_start(f->options->http, file->url, file->file->path, &sink, t);
    }
}

/* -- hashes
 * ---------------------------------------------------------------------------------------------
 */

static void *hash_thread(void *ctx)
{
    hasher *h = ctx;
    const hub_file *file = h->file->file;
    char hash[65] = "";
    h->st = blob_hash(hash, h->file->partial.fd, file->size, file->is_lfs, &h->stop, &h->why);
    if (h->st == ST_OK && strcmp(hash, file->etag) != 0)
        h->st = error_set(&h->why, ST_DATA_LOSS, "its %s is %s and should be %s",
                          file->is_lfs ? "SHA-256" : "SHA-1 as a git blob", hash, file->etag);
    if (h->st == ST_OK) h->st = partial_finish(&h->file->partial, h->blob_path, &h->why);
    atomic_store(&h->done, true);
    hub_http_wake(h->http);
    return NULL;
}

static void start_hash(fetch *f)
{
    hasher *h = &f->hasher;
    for (size_t i = 0; i < f->count && h->file == NULL && f->st == ST_OK; i++) {
        if (f->files[i].state != HASHING) continue;
        h->file = &f->files[i];
        h->http = f->options->http;
        h->blob_path = path_join(f->options->blobs, h->file->file->etag);
        atomic_store(&h->stop, false);
        atomic_store(&h->done, false);
        CHECK(pthread_create(&h->thread, NULL, hash_thread, h) == 0);
    }
}

static void join_hash(fetch *f)
{
    hasher *h = &f->hasher;
    CHECK(pthread_join(h->thread, NULL) == 0);
    mem_free(h->blob_path);
    h->blob_path = NULL;
    h->file = NULL;
}

static void take_hash(fetch *f)
{
    hasher *h = &f->hasher;
    fetch_file *file = h->file;
    if (file == NULL || !atomic_load(&h->done)) return;
    join_hash(f);
    if (h->st == ST_OK) {
        file->state = DONE;
        f->done_count++;
        error why;
        status st = f->options->on_file(f->options->ctx, file->file, &why);
        if (st != ST_OK) fail(f, st, &why);
    } else if (h->st == ST_DATA_LOSS && !file->anew) {
        char sentence[ERROR_TEXT_SIZE + LIMIT_HUB_PATH_BYTES];
        snprintf(sentence, sizeof sentence, "%s: %s; it is fetched anew", file->file->path,
                 h->why.text);
        progress_say(f->options->progress, sentence);
        file->anew = true;
        begin_anew(file);
    } else {
        error_prefix(&h->why, h->st, "%.200s", file->file->path);
        fail(f, h->st, &h->why);
    }
}

/* -- the whole
 * ---------------------------------------------------------------------------------------------
 */

static uint64_t bytes_there(const fetch *f)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < f->count; i++) {
        const fetch_file *file = &f->files[i];
        sum += file->state == WAITING    ? file->left_over
               : file->state == FETCHING ? file->partial.done
                                         : file->file->size; /* HASHING: the other thread's */
    }
    return sum;
}

static void run(fetch *f)
{
    const fetch_options *o = f->options;
    while (f->st == ST_OK && f->done_count < f->count) {
        start_transfers(f);
        start_hash(f);
        if (f->st == ST_OK) hub_http_turn(o->http, TURN_MS);
        take_hash(f);
        progress_show(o->progress, bytes_there(f), f->hasher.file != NULL);
        if (o->stopped()) {
            error why;
            error_set(&why, ST_CANCELLED, "stopped; the same command goes on where it was");
            fail(f, ST_CANCELLED, &why);
        }
    }
}

static void prepare(fetch *f, const hub_file *const *files, size_t count)
{
    const fetch_options *o = f->options;
    f->files = mem_calloc(count, sizeof *f->files);
    for (size_t i = 0; i < count; i++) {
        fetch_file *file = &f->files[f->count++];
        *file = (fetch_file){.fetch = f,
                             .file = files[i],
                             .url = file_url(o, files[i]),
                             .partial = {.fd = -1, .ranges_fd = -1}};
        if (blob_is_there(o->blobs, files[i])) {
            file->state = DONE;
            f->done_count++;
        } else {
            file->left_over = partial_peek(o->blobs, files[i]->etag, files[i]->size);
        }
    }
}

static void clean_up(fetch *f)
{
    if (f->hasher.file != NULL) {
        atomic_store(&f->hasher.stop, true);
        join_hash(f);
    }
    abort_transfers(f, NULL);
    for (size_t i = 0; i < f->count; i++) {
        partial_close(&f->files[i].partial);
        mem_free(f->files[i].url);
        mem_free(f->files[i].shortcut);
    }
    mem_free(f->files);
}

status fetch_files(const fetch_options *o, const hub_file *const *files, size_t count,
                   uint64_t *bytes_out, http_head *head, error *err)
{
    CHECK(o->connections > 0 && o->connections <= LIMIT_HUB_CONNECTIONS);
    fetch f = {.options = o};
    prepare(&f, files, count);
    run(&f);
    clean_up(&f);
    *bytes_out += f.bytes;
    *head = f.head;
    if (f.st != ST_OK && err != NULL) *err = f.why;
    return f.st;
}
