#include "client/pull/disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/json.h"
#include "common/mem.h"

/* Beside the bytes themselves: folders, links, journals. */
#define SPACE_RESERVE_BYTES (1u << 20)

status disk_failed(const char *what, const char *path, error *err)
{
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return error_set(err, ST_RESOURCE_EXHAUSTED,
                         "the disk is full (%s: %s). What was fetched is kept: make room and "
                         "run it again, or set HF_HUB_CACHE to a folder on another disk",
                         path, strerror(errno));
    status st =
        errno == EACCES || errno == EPERM || errno == EROFS ? ST_PERMISSION_DENIED : ST_UNAVAILABLE;
    return error_set(err, st, "cannot %s %s: %s", what, path, strerror(errno));
}

char *path_join(const char *folder, const char *name)
{
    size_t size = strlen(folder) + 1 + strlen(name) + 1;
    char *path = mem_alloc(size);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

/* Every part of `path` that a slash ends. */
static status make_parents(char *path, error *err)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool made = mkdir(path, 0777) == 0 || errno == EEXIST;
        status st = made ? ST_OK : disk_failed("make", path, err);
        *slash = '/';
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

status folders_make_for(const char *path, error *err)
{
    char *parts = mem_strdup(path);
    status st = make_parents(parts, err);
    mem_free(parts);
    return st;
}

status folders_make(const char *path, error *err)
{
    char *parts = path_join(path, "");
    status st = make_parents(parts, err);
    mem_free(parts);
    return st;
}

status disk_check_space(const char *folder, uint64_t bytes, error *err)
{
    struct statvfs info;
    if (statvfs(folder, &info) != 0) return ST_OK; /* then writing will tell */
    uint64_t free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    if (bytes == 0 || bytes + SPACE_RESERVE_BYTES <= free_bytes) return ST_OK;
    char needed[BYTES_TEXT_SIZE], there[BYTES_TEXT_SIZE];
    return error_set(err, ST_RESOURCE_EXHAUSTED,
                     "%s more must be fetched, and the disk of %s has %s free. Make room, or set "
                     "HF_HUB_CACHE to a folder on another disk",
                     bytes_text(needed, bytes), folder, bytes_text(there, free_bytes));
}

/* A name beside `path`, of this process alone: who calls holds the model's lock, but programs of
 * others do not know it. */
static char *draft_of(const char *path)
{
    size_t size = strlen(path) + 32;
    char *draft = mem_alloc(size);
    snprintf(draft, size, "%s.%ld.tmp", path, (long)getpid());
    return draft;
}

status link_make(const char *target, const char *path, error *err)
{
    size_t size = strlen(target);
    char *now = mem_alloc(size + 1);
    bool same = readlink(path, now, size + 1) == (ssize_t)size && memcmp(now, target, size) == 0;
    mem_free(now);
    if (same) return ST_OK;
    char *draft = draft_of(path);
    unlink(draft);
    status st = ST_OK;
    if (symlink(target, draft) != 0 || rename(draft, path) != 0)
        st = disk_failed("make the link", path, err);
    if (st != ST_OK) unlink(draft);
    mem_free(draft);
    return st;
}

status text_write(const char *path, const char *text, error *err)
{
    char *now = NULL;
    size_t size;
    bool same = file_read(&now, &size, path, 4096, NULL) == ST_OK && strcmp(now, text) == 0;
    mem_free(now);
    if (same) return ST_OK;
    char *draft = draft_of(path);
    status st = ST_OK;
    FILE *file = fopen(draft, "we");
    bool wrote = file != NULL && fputs(text, file) >= 0;
    if (file != NULL && fclose(file) != 0) wrote = false;
    if (!wrote || rename(draft, path) != 0) st = disk_failed("write", path, err);
    if (st != ST_OK) unlink(draft);
    mem_free(draft);
    return st;
}

const char *bytes_text(char out[BYTES_TEXT_SIZE], uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    if (bytes < 1024) {
        snprintf(out, BYTES_TEXT_SIZE, "%" PRIu64 " B", bytes);
        return out;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    for (; value >= 1024 && unit < 3; unit++)
        value /= 1024;
    snprintf(out, BYTES_TEXT_SIZE,
             value < 10    ? "%.2f %s"
             : value < 100 ? "%.1f %s"
                           : "%.0f %s",
             value, units[unit]);
    return out;
}
