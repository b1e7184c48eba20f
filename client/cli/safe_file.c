#include "client/cli/safe_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"

static status failed(const char *what, const char *path, error *err)
{
    status st = errno == EEXIST                     ? ST_ALREADY_EXISTS
                : errno == EACCES || errno == EPERM ? ST_PERMISSION_DENIED
                                                    : ST_UNAVAILABLE;
    return error_set(err, st, "cannot %s %s: %s", what, path, strerror(errno));
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t wrote = write(fd, bytes, size);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return false;
        bytes += wrote;
        size -= (size_t)wrote;
    }
    return true;
}

/* A rename is on the disk when its folder is. */
static bool sync_folder_of(const char *path)
{
    char *folder = mem_strdup(path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL) slash[slash == folder] = '\0';
    int fd = open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mem_free(folder);
    if (fd < 0) return false;
    bool synced = fsync(fd) == 0;
    close(fd);
    return synced;
}

/* As the file that `fd` will replace, if there is one. */
static bool take_over(int fd, const char *path, mode_t mode)
{
    struct stat old, fresh;
    if (fstat(fd, &fresh) != 0) return false;
    if (stat(path, &old) != 0) return errno == ENOENT && fchmod(fd, mode) == 0;
    bool same_owner = old.st_uid == fresh.st_uid && old.st_gid == fresh.st_gid;
    if (!same_owner && fchown(fd, old.st_uid, old.st_gid) != 0) return false;
    const mode_t others = S_IRWXO;
    bool opens = (old.st_mode & others & ~mode) != 0;
    return fchmod(fd, opens ? mode : old.st_mode & 07777) == 0;
}

status safe_file_write(const char *path, const void *bytes, size_t size, mode_t mode, bool replace,
                       error *err)
{
    size_t path_size = strlen(path);
    char *draft = mem_alloc(path_size + sizeof ".XXXXXX");
    snprintf(draft, path_size + sizeof ".XXXXXX", "%s.XXXXXX", path);
    status st = ST_OK;
    int fd = mkostemp(draft, O_CLOEXEC);
    if (fd < 0) {
        st = failed("write", path, err);
        mem_free(draft);
        return st;
    }
    if (!take_over(fd, path, mode))
        st = failed("keep the owner and mode of", path, err);
    else if (!write_all(fd, bytes, size) || fsync(fd) != 0)
        st = failed("write", path, err);
    else if (replace ? rename(draft, path) != 0 : link(draft, path) != 0)
        st = failed("make", path, err);
    else if (!sync_folder_of(path))
        st = failed("write the folder of", path, err);
    close(fd);
    unlink(draft); /* unless it was renamed */
    mem_free(draft);
    return st;
}
