#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/mem.h"

/* jansson recurses a level for each bracket and has a fixed bound of its own (2048), so depth is
 * counted before it starts. Brackets inside strings do not count. */
static bool depth_within(const char *bytes, size_t size, uint32_t depth_max)
{
    uint32_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = bytes[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > depth_max) return false;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return true;
}

/* jansson refuses integers beyond 64 bits, and real tokenizer_config.json files hold 10^30. A copy
 * of the text in which such integers are written as reals ("10...0" as "10...0.0") reads them as
 * Python and JavaScript would use them. Called for a text jansson found a number too big in. */
static void widen_integers(const char *bytes, size_t size, buffer *out)
{
    enum { DIGITS_SAFE = 18 };
    bool in_string = false;
    size_t done = 0;
    for (size_t i = 0; i < size; i++) {
        if (in_string) {
            if (bytes[i] == '\\')
                i++;
            else if (bytes[i] == '"')
                in_string = false;
            continue;
        }
        if (bytes[i] == '"') in_string = true;
        if (!isdigit((unsigned char)bytes[i])) continue;
        size_t end = i;
        bool whole = true;
        for (; end < size && (isalnum((unsigned char)bytes[end]) || strchr(".+-", bytes[end]));
             end++)
            whole = whole && strchr(".eE", bytes[end]) == NULL;
        if (whole && end - i > DIGITS_SAFE) {
            buffer_append(out, bytes + done, end - done);
            buffer_append(out, ".0", 2);
            done = end;
        }
        i = end - 1;
    }
    buffer_append(out, bytes + done, size - done);
}

status json_parse(json_t **out, const char *bytes, size_t size, const char *what, error *err)
{
    /* jansson overlooks a NUL behind a number or a word. */
    const char *nul = size > 0 ? memchr(bytes, '\0', size) : NULL;
    if (nul != NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "%s: not valid JSON: byte %td is NUL", what,
                         nul - bytes);
    if (!depth_within(bytes, size, LIMIT_JSON_DEPTH))
        return error_set(err, ST_INVALID_ARGUMENT, "%s: nested deeper than %u levels", what,
                         LIMIT_JSON_DEPTH);
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
    json_error_t why;
    json_t *root = json_loadb(bytes, size, flags, &why);
    if (root == NULL && json_error_code(&why) == json_error_numeric_overflow) {
        buffer widened = {0};
        widen_integers(bytes, size, &widened);
        root = json_loadb((const char *)widened.data, widened.size, flags, &why);
        buffer_free(&widened);
    }
    if (root == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "%s: not valid JSON at line %d column %d: %s",
                         what, why.line, why.column, why.text);
    *out = root;
    return ST_OK;
}

status file_read(char **out, size_t *out_size, const char *path, size_t size_max, error *err)
{
    /* O_NONBLOCK: to open a pipe nobody writes to must not hang; it is refused below. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        status st = errno == ENOENT || errno == ENOTDIR ? ST_NOT_FOUND
                    : errno == EACCES                   ? ST_PERMISSION_DENIED
                                                        : ST_UNAVAILABLE;
        return error_set(err, st, "cannot open %s: %s", path, strerror(errno));
    }
    struct stat info;
    status st = ST_OK;
    char *bytes = NULL;
    size_t used = 0;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        st = error_set(err, ST_INVALID_ARGUMENT, "%s is not a regular file", path);
        goto done;
    }
    if ((uint64_t)info.st_size > size_max) {
        st = error_set(err, ST_OUT_OF_RANGE, "%s has %lld bytes; the limit is %zu", path,
                       (long long)info.st_size, size_max);
        goto done;
    }
    bytes = mem_alloc((size_t)info.st_size + 1);
    while (used < (size_t)info.st_size) {
        ssize_t got = read(fd, bytes + used, (size_t)info.st_size - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            st = error_set(err, ST_UNAVAILABLE, "cannot read %s: %s", path, strerror(errno));
            goto done;
        }
        if (got == 0) break; /* shrunk meanwhile: what is left decides */
        used += (size_t)got;
    }
    bytes[used] = '\0';
    *out = bytes;
    *out_size = used;
    bytes = NULL;
done:
    mem_free(bytes);
    close(fd);
    return st;
}

status json_load_path(json_t **out, const char *path, size_t size_max, error *err)
{
    char *bytes;
    size_t size;
    status st = file_read(&bytes, &size, path, size_max, err);
    if (st != ST_OK) return st;
    st = json_parse(out, bytes, size, path, err);
    mem_free(bytes);
    return st;
}
