#include "client/cli/keys_change.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/safe_file.h"
#include "common/check.h"
#include "common/json.h"

enum {
    ID_LETTERS = 10,     /* 51 bits: two keys of a file hardly ever meet */
    SECRET_LETTERS = 43, /* of 62: 256.03 bits */
};
_Static_assert(KEY_TOKEN_SIZE > 5 + ID_LETTERS + 1 + SECRET_LETTERS, "a token fits");

/* -- the file ------------------------------------------------------------------------------ */

void keys_change_close(keys_change *k)
{
    keys_file_free(&k->parsed);
    mem_free(k->text);
    free(k->path);
    if (k->lock >= 0) close(k->lock);
}

/* Lock the file that has this name: while we waited for the lock, another may have taken its
 * place. */
static status lock_file(keys_change *k, const char *path, bool make, error *err)
{
    for (;;) {
        k->lock = open(path, O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0600);
        if (k->lock < 0)
            return error_set(err, errno == ENOENT ? ST_NOT_FOUND : ST_PERMISSION_DENIED,
                             "cannot open %s: %s", path, strerror(errno));
        struct stat locked, named;
        while (flock(k->lock, LOCK_EX) != 0)
            if (errno != EINTR)
                return error_set(err, ST_UNAVAILABLE, "cannot lock %s: %s", path, strerror(errno));
        if (fstat(k->lock, &locked) == 0 && stat(path, &named) == 0 &&
            locked.st_dev == named.st_dev && locked.st_ino == named.st_ino)
            break;
        close(k->lock);
    }
    k->path = realpath(path, NULL);
    if (k->path != NULL) return ST_OK;
    return error_set(err, ST_UNAVAILABLE, "cannot find %s: %s", path, strerror(errno));
}

static status read_file(keys_change *k, const char *path, error *err)
{
    status st = file_read(&k->text, &k->size, path, LIMIT_KEYS_FILE_BYTES, err);
    return st == ST_OK ? keys_file_parse(&k->parsed, path, k->text, k->size, err) : st;
}

status keys_change_look(keys_change *k, const char *path, error *err)
{
    *k = (keys_change){.lock = -1};
    return read_file(k, path, err);
}

status keys_change_open(keys_change *k, const char *path, bool make, error *err)
{
    *k = (keys_change){.lock = -1};
    status st = lock_file(k, path, make, err);
    return st == ST_OK ? read_file(k, path, err) : st;
}

/* Replace the file, if a router will take it. */
static status replace_file(const keys_change *k, const buffer *text, error *err)
{
    keys_file again;
    if (text->size > LIMIT_KEYS_FILE_BYTES)
        return error_set(err, ST_OUT_OF_RANGE, "%s would have %zu bytes; the limit is %u", k->path,
                         text->size, LIMIT_KEYS_FILE_BYTES);
    status st = keys_file_parse(&again, k->path, (const char *)text->data, text->size, err);
    if (st != ST_OK) return st;
    keys_file_free(&again);
    return safe_file_write(k->path, text->data, text->size, 0600, true, err);
}

/* -- a new key ----------------------------------------------------------------------------- */

/* Letters that nobody can guess: each of `count` ones with the same chance. */
static void random_letters(char *out, size_t size, size_t count)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint8_t bytes[64];
    for (size_t used = 0; used < size;) {
        CHECK(getrandom(bytes, sizeof bytes, 0) == sizeof bytes);
        for (size_t i = 0; i < sizeof bytes && used < size; i++)
            if (bytes[i] < 256 / count * count) out[used++] = letters[bytes[i] % count];
    }
    out[size] = '\0';
}

static status add_limits(buffer *text, const keys_change *k, const key_tenant *limits, error *err)
{
    const keys_file *f = &k->parsed;
    uint32_t number = name_table_find(&f->tenant_names, text_of(limits->name));
    if (number != NAME_NONE && f->tenants[number].line != 0)
        return error_set(err, ST_ALREADY_EXISTS,
                         "the limits of tenant %s stand in %s, line %u: change them there",
                         limits->name, k->path, f->tenants[number].line);
    keys_file_write_tenant(text, limits);
    return ST_OK;
}

status keys_change_add(keys_change *k, key_entry *key, const char *tenant, const key_tenant *limits,
                       char token[KEY_TOKEN_SIZE], error *err)
{
    static char id[ID_LETTERS + 1];
    char secret[SECRET_LETTERS + 1];
    if (k->parsed.ids.count == LIMIT_KEYS)
        return error_set(err, ST_OUT_OF_RANGE, "%s has %u keys, and may not have more", k->path,
                         LIMIT_KEYS);
    do
        random_letters(id, ID_LETTERS, 36);
    while (keys_file_find(&k->parsed, text_of(id)) != NULL);
    random_letters(secret, SECRET_LETTERS, 62);
    snprintf(token, KEY_TOKEN_SIZE, "gg_%c_%s_%s", key_role_letter(key->role), id, secret);
    key->id = id;
    token_hash(key->sha256, text_of(token));

    static const char head[] =
        "# Who may connect: gaggle-router --keys. Edit it as you like, and make\n"
        "# the router read it by kill -HUP.\n";
    buffer text = {0};
    if (k->size == 0) buffer_append(&text, head, sizeof head - 1);
    buffer_append(&text, k->text, k->size);
    status st = limits != NULL ? add_limits(&text, k, limits, err) : ST_OK;
    if (st == ST_OK) {
        keys_file_write_key(&text, key, tenant);
        st = replace_file(k, &text, err);
    }
    buffer_free(&text);
    return st;
}

status keys_change_revoke(keys_change *k, text_view id, error *err)
{
    const key_entry *key = keys_file_find(&k->parsed, id);
    if (key == NULL)
        return error_set(err, ST_NOT_FOUND, "%s has no key %.*s; gaggle token ls lists them",
                         k->path, (int)id.size, id.data);
    if (key->revoked) return ST_OK;
    buffer text = {0};
    keys_file_write_revoked(&text, k->text, k->size, key);
    status st = replace_file(k, &text, err);
    buffer_free(&text);
    return st;
}

/* -- when it expires ------------------------------------------------------------------------- */

static status parse_span(int64_t *out, const char *text, int64_t now_s, error *err)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'m', 60}, {'h', 3600}, {'d', 86400}};
    char *end;
    errno = 0;
    long count = strtol(text, &end, 10);
    bool good = text[0] >= '0' && text[0] <= '9' && end[0] != '\0' && end[1] == '\0';
    for (size_t i = 0; good && i < sizeof units / sizeof *units; i++) {
        if (*end != units[i].unit) continue;
        const long days = 36500;
        if (errno != 0 || count < 1 || count > days * 86400 / units[i].seconds)
            return error_set(err, ST_INVALID_ARGUMENT, "'%s' must be 1m to %ldd", text, days);
        *out = now_s + count * units[i].seconds;
        return ST_OK;
    }
    return error_set(err, ST_INVALID_ARGUMENT,
                     "'%s' is no span like 90m, 12h or 30d, no time in UTC like "
                     "2027-01-31T12:00:00Z, and not never",
                     text);
}

status keys_change_expiry(int64_t *out, const char *text, error *err)
{
    int64_t now_s = time(NULL);
    char now[EXPIRY_TEXT_SIZE];
    if (expiry_parse(out, text, NULL) != ST_OK) return parse_span(out, text, now_s, err);
    if (*out > now_s) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "'%s' is past: it is %s", text,
                     expiry_format(now_s, now));
}
