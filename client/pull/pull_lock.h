/* pull_lock: who may change a model's folder in the cache: one process at a time. A lock of the
 * system on ROOT/.locks/models--ORG--NAME/gaggle.lock, which ends with its process. */
#ifndef GAGGLE_PULL_PULL_LOCK_H
#define GAGGLE_PULL_PULL_LOCK_H

#include <stdbool.h>

#include "common/status.h"

/* The lock's descriptor, to be closed. ST_ABORTED: another process has it; with `wait` that does
 * not happen. ST_UNAVAILABLE: the file system knows no locks, and others of disk_failed(). */
MUST_USE status pull_lock_take(int *fd, const char *root, const char *name, bool wait, error *err);

#endif
