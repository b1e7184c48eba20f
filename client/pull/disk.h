/* disk: what pulling does to folders and files, with words for what goes wrong. */
#ifndef GAGGLE_PULL_DISK_H
#define GAGGLE_PULL_DISK_H

#include <stdint.h>

#include "common/status.h"

/* "cannot WHAT PATH: reason" by errno. ST_RESOURCE_EXHAUSTED when the disk or a quota is full, and
 * what to do then; ST_PERMISSION_DENIED; otherwise ST_UNAVAILABLE. */
status disk_failed(const char *what, const char *path, error *err);

/* "FOLDER/NAME"; mem_free(). */
char *path_join(const char *folder, const char *name);

/* Make the folders of `path` that are missing, all of them or all but the last name. */
MUST_USE status folders_make(const char *path, error *err);
MUST_USE status folders_make_for(const char *path, error *err);

/* ST_RESOURCE_EXHAUSTED when the file system of `folder` has less than `bytes` free. */
MUST_USE status disk_check_space(const char *folder, uint64_t bytes, error *err);

/* Make `path` a symbolic link to `target`, or let it become one in a single step. */
MUST_USE status link_make(const char *target, const char *path, error *err);

/* Write a small file in a single step; nothing happens when it holds `text` already. */
MUST_USE status text_write(const char *path, const char *text, error *err);

/* "3.2 GiB", "14 KiB", "512 B". */
#define BYTES_TEXT_SIZE 24
const char *bytes_text(char out[BYTES_TEXT_SIZE], uint64_t bytes);

#endif
