/* keys_change: changing a router's keys file (router/keys_file.h) in place.
 *
 * Several programs may do it at once: each holds a lock on the file while it reads, changes and
 * replaces it. Routers and people who only read need no lock: the file is replaced as a whole. */
#ifndef GAGGLE_CLIENT_CLI_KEYS_CHANGE_H
#define GAGGLE_CLIENT_CLI_KEYS_CHANGE_H

#include "common/mem.h"
#include "router/keys_file.h"

enum { KEY_TOKEN_SIZE = 64 }; /* of a new token's text, with its NUL */

typedef struct keys_change {
    int lock;   /* the open file; -1: none */
    char *path; /* of the file itself, not of a link to it; NULL without a lock */
    char *text;
    size_t size;
    keys_file parsed;
} keys_change;

/* Read the file without a lock, to look at it. keys_change_close() it also when this fails. */
MUST_USE status keys_change_look(keys_change *k, const char *path, error *err);

/* Lock and read the file; with `make` it is made when it is not there. keys_change_close() it also
 * when this fails. */
MUST_USE status keys_change_open(keys_change *k, const char *path, bool make, error *err);
void keys_change_close(keys_change *k);

/* Add `key`, whose id and hash are made here, and write its token to `token`: the file never has
 * it. `tenant` is the key's; `limits` (NULL: none) is a tenant that gets a section of its own, and
 * must have none yet. On failure the file is as it was. */
MUST_USE status keys_change_add(keys_change *k, key_entry *key, const char *tenant,
                                const key_tenant *limits, char token[KEY_TOKEN_SIZE], error *err);

/* Revoke the key of this id; ST_OK as well when it was revoked before. */
MUST_USE status keys_change_revoke(keys_change *k, text_view id, error *err);

/* "12h", "30d", "2027-01-31T12:00:00Z" or "never", from now on; what is past is refused. */
MUST_USE status keys_change_expiry(int64_t *out, const char *text, error *err);

#endif
