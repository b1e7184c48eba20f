#include "client/pull/pull_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "client/pull/disk.h"
#include "common/hub_cache.h"
#include "common/mem.h"

status pull_lock_take(int *fd, const char *root, const char *name, bool wait, error *err)
{
    char *locks = path_join(root, ".locks"), *folder = hub_cache_model(locks, name);
    char *path = path_join(folder, "gaggle.lock");
    status st = folders_make_for(path, err);
    *fd = -1;
    if (st == ST_OK) {
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*fd < 0) st = disk_failed("make", path, err);
    }
    while (st == ST_OK && flock(*fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            st = error_set(err, ST_ABORTED, "another process is at work on %s", name);
        else if (errno != EINTR)
            st = disk_failed("lock", path, err);
        else if (wait)
            st = error_set(err, ST_CANCELLED, "stopped while waiting for another process");
    }
    if (st != ST_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    mem_free(path);
    mem_free(folder);
    mem_free(locks);
    return st;
}
