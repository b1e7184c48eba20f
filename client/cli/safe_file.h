/* safe_file: files that are there whole or not at all. */
#ifndef GAGGLE_CLIENT_CLI_SAFE_FILE_H
#define GAGGLE_CLIENT_CLI_SAFE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/status.h"

/* Write `path` under another name in its folder, down to the disk, and then give it its name: a
 * reader sees the old file or the new one, whenever the machine stops. A new file gets `mode`; one
 * that is replaced passes on its owner, and its mode, unless that opens to others what `mode`
 * keeps from them. Without `replace` a file that is there is ST_ALREADY_EXISTS. ST_UNAVAILABLE and
 * ST_PERMISSION_DENIED name the step that failed, and leave everything as it was. */
MUST_USE status safe_file_write(const char *path, const void *bytes, size_t size, mode_t mode,
                                bool replace, error *err);

#endif
