#include "client/pull/partial.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/pull/disk.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/mem.h"

/* A file of a size that counts is on the disk before it gets its name. Waiting for each of many
 * small ones takes longer than fetching them: one that a loss of power emptied has another size
 * than the hub lists, and is fetched again. */
#define SYNC_BYTES (1u << 20)

static const char magic[8] = {'G', 'G', 'L', 'R', 'N', 'G', '0', '1'};

typedef struct ranges_head {
    char magic[8];
    uint64_t size, piece_size; /* little-endian, as all that follows */
} ranges_head;

static bool write_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
    const char *from = bytes;
    while (size > 0) {
        ssize_t wrote = pwrite(fd, from, size, (off_t)offset);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return false;
        from += wrote;
        offset += (uint64_t)wrote;
        size -= (size_t)wrote;
    }
    return true;
}

static bool read_at(int fd, void *bytes, size_t size, uint64_t offset)
{
    char *to = bytes;
    while (size > 0) {
        ssize_t got = pread(fd, to, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return true;
}

/* -- pieces --------------------------------------------------------------------------------- */

static void cut(partial *p, uint64_t piece_size)
{
    CHECK(piece_size > 0);
    uint64_t least = (p->size + LIMIT_HUB_PIECES - 1) / LIMIT_HUB_PIECES;
    p->piece_size = piece_size > least ? piece_size : least;
    p->piece_count = (size_t)((p->size + p->piece_size - 1) / p->piece_size);
    mem_free(p->piece_done);
    p->piece_done = mem_calloc(p->piece_count, sizeof *p->piece_done);
    p->done = 0;
}

uint64_t partial_piece_begin(const partial *p, size_t piece)
{
    return piece * p->piece_size;
}

uint64_t partial_piece_size(const partial *p, size_t piece)
{
    uint64_t left = p->size - partial_piece_begin(p, piece);
    return left < p->piece_size ? left : p->piece_size;
}

/* -- the journal ------------------------------------------------------------------------------ */

static bool write_ranges(const partial *p)
{
    ranges_head head = {.size = htole64(p->size), .piece_size = htole64(p->piece_size)};
    memcpy(head.magic, magic, sizeof magic);
    size_t size = sizeof head + p->piece_count * sizeof(uint64_t);
    return ftruncate(p->ranges_fd, 0) == 0 && write_at(p->ranges_fd, &head, sizeof head, 0) &&
           ftruncate(p->ranges_fd, (off_t)size) == 0;
}

/* False: it is not there, or not of this file, or says what cannot be. */
static bool read_ranges(partial *p)
{
    struct stat ranges, bytes;
    ranges_head head;
    if (fstat(p->ranges_fd, &ranges) != 0 || fstat(p->fd, &bytes) != 0) return false;
    if (!read_at(p->ranges_fd, &head, sizeof head, 0)) return false;
    uint64_t piece_size = le64toh(head.piece_size);
    if (memcmp(head.magic, magic, sizeof magic) != 0 || le64toh(head.size) != p->size ||
        piece_size == 0)
        return false;
    cut(p, piece_size);
    size_t size = p->piece_count * sizeof *p->piece_done;
    if (p->piece_size != piece_size || (uint64_t)ranges.st_size != sizeof head + size ||
        !read_at(p->ranges_fd, p->piece_done, size, sizeof head))
        return false;
    for (size_t i = 0; i < p->piece_count; i++) {
        uint64_t done = p->piece_done[i] = le64toh(p->piece_done[i]);
        if (done > partial_piece_size(p, i)) return false;
        if (done > 0 && partial_piece_begin(p, i) + done > (uint64_t)bytes.st_size) return false;
        p->done += done;
    }
    return true;
}

/* -- the file ---------------------------------------------------------------------------------- */

status partial_restart(partial *p, uint64_t piece_size, error *err)
{
    cut(p, piece_size);
    if (ftruncate(p->fd, 0) != 0 || !write_ranges(p)) return disk_failed("write", p->path, err);
    return ST_OK;
}

static char *blob_file(const char *blobs, const char *etag, const char *suffix)
{
    size_t size = strlen(blobs) + 1 + strlen(etag) + strlen(suffix) + 1;
    char *path = mem_alloc(size);
    snprintf(path, size, "%s/%s%s", blobs, etag, suffix);
    return path;
}

/* False: `errno` says why. */
static bool open_files(partial *p, const char *blobs, const char *etag, uint64_t size, int flags)
{
    flags |= O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    *p = (partial){.path = blob_file(blobs, etag, PARTIAL_SUFFIX),
                   .ranges_path = blob_file(blobs, etag, RANGES_SUFFIX),
                   .size = size,
                   .ranges_fd = -1};
    p->fd = open(p->path, flags, 0666);
    if (p->fd >= 0) p->ranges_fd = open(p->ranges_path, flags, 0666);
    return p->ranges_fd >= 0;
}

uint64_t partial_peek(const char *blobs, const char *etag, uint64_t size)
{
    partial p;
    bool there = open_files(&p, blobs, etag, size, 0) && read_ranges(&p);
    uint64_t done = there ? p.done : 0;
    partial_close(&p);
    return done;
}

status partial_open(partial *p, const char *blobs, const char *etag, uint64_t size,
                    uint64_t piece_size, error *err)
{
    status st = ST_OK;
    if (!open_files(p, blobs, etag, size, O_CREAT))
        st = disk_failed("write", p->path, err);
    else if (!read_ranges(p))
        st = partial_restart(p, piece_size, err);
    if (st != ST_OK) partial_close(p);
    return st;
}

status partial_write(partial *p, size_t piece, const void *bytes, size_t size, error *err)
{
    uint64_t *done = &p->piece_done[piece];
    CHECK(size <= partial_piece_size(p, piece) - *done);
    if (!write_at(p->fd, bytes, size, partial_piece_begin(p, piece) + *done))
        return disk_failed("write", p->path, err);
    uint64_t counted = htole64(*done + size);
    uint64_t place = sizeof(ranges_head) + piece * sizeof counted;
    if (!write_at(p->ranges_fd, &counted, sizeof counted, place))
        return disk_failed("write", p->ranges_path, err);
    *done += size;
    p->done += size;
    return ST_OK;
}

status partial_finish(partial *p, const char *blob_path, error *err)
{
    CHECK(p->done == p->size);
    if (ftruncate(p->fd, (off_t)p->size) != 0 || (p->size >= SYNC_BYTES && fdatasync(p->fd) != 0))
        return disk_failed("write", p->path, err);
    if (rename(p->path, blob_path) != 0) return disk_failed("make", blob_path, err);
    unlink(p->ranges_path); /* without its bytes it means nothing */
    partial_close(p);
    return ST_OK;
}

void partial_close(partial *p)
{
    if (p->path != NULL && p->fd >= 0) close(p->fd);
    if (p->path != NULL && p->ranges_fd >= 0) close(p->ranges_fd);
    mem_free(p->path);
    mem_free(p->ranges_path);
    mem_free(p->piece_done);
    *p = (partial){.fd = -1, .ranges_fd = -1};
}
