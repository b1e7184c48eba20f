/* keys_file: who may connect, as a file that people read, edit and keep under version control.
 *
 *   # twice the default share
 *   [tenant research]
 *   weight = 200
 *   tokens-per-minute = 100000
 *
 *   [key k3x9f2ma7q]
 *   role = client
 *   name = notebook of Ada
 *   tenant = research
 *   expires = 2027-01-31T12:00:00Z
 *   sha256 = 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
 *
 * A token, as users see it, is "gg_" role "_" id "_" secret: gg_c_k3x9f2ma7q_ and 43 letters and
 * digits. It is known by its beginning to people and to scanners for leaked secrets; the id finds
 * its entry; the file holds only the SHA-256 of all of it, so that whoever reads the file cannot
 * connect. No salt and no slow hash: those protect what people choose, and a secret of 256 random
 * bits is not guessed at any speed.
 *
 * Why INI and not JSON: an entry is added by appending and revoked by one line, so that comments,
 * order and everything else of the file stay; and each refusal knows its line.
 *
 * Pure: text in, structs out, and the other way. Any thread. */
#ifndef GAGGLE_ROUTER_KEYS_FILE_H
#define GAGGLE_ROUTER_KEYS_FILE_H

#include "router/name_table.h"
#include "router/tenant_limits.h"

typedef enum key_role { KEY_CLIENT, KEY_WORKER, KEY_ADMIN } key_role;
#define KEY_ROLES 3

enum { KEY_HASH_BYTES = 32 };
#define KEY_NEVER_EXPIRES INT64_MAX

typedef struct key_entry {
    const char *id;     /* letters a-z, digits and '-', at most LIMIT_KEY_NAME_BYTES */
    const char *name;   /* for people; "" = none */
    const char *worker; /* of a worker: the only worker_id it may use; NULL = any */
    uint32_t tenant;    /* of clients and admins */
    key_role role;
    bool revoked;
    int64_t expires_s; /* since 1970; KEY_NEVER_EXPIRES */
    uint8_t sha256[KEY_HASH_BYTES];
    uint32_t line;         /* of its section; 0: not from a file */
    uint32_t revoked_line; /* of its `revoked` setting; 0 = none */
} key_entry;

typedef struct key_tenant {
    const char *name; /* letters, digits and "._@-" */
    tenant_limits limits;
    uint32_t line; /* of its section; 0 = only keys name it */
} key_tenant;

#define KEY_TENANT_DEFAULT "default" /* of keys that name none */

typedef struct keys_file {
    key_entry *keys; /* [ids.count] */
    name_table ids;
    key_tenant *tenants; /* [tenant_names.count] */
    name_table tenant_names;
    char *text; /* what the names point into */
} keys_file;

/* Parse `text`; `file` names it in errors. A text without a key is fine. ST_INVALID_ARGUMENT names
 * line, setting, value and what was expected; ST_OUT_OF_RANGE names the limit on keys or tenants.
 * On failure there is nothing to free. */
MUST_USE status keys_file_parse(keys_file *out, const char *file, const char *text, size_t size,
                                error *err);
void keys_file_free(keys_file *f);

/* NULL: no such id. */
const key_entry *keys_file_find(const keys_file *f, text_view id);

/* Append a section as keys_file_parse() reads it; `id` or `name` new, values within limits. */
void keys_file_write_key(buffer *out, const key_entry *key, const char *tenant);
void keys_file_write_tenant(buffer *out, const key_tenant *tenant);

/* Write `text`, which `key` was parsed from, with the key revoked and all else as it stands. */
void keys_file_write_revoked(buffer *out, const char *text, size_t size, const key_entry *key);

/* -- values, as they stand in the file ------------------------------------------------------ */

const char *key_role_name(key_role which);
char key_role_letter(key_role which);
/* "client", "worker" or "admin". */
MUST_USE status key_role_parse(key_role *out, const char *text, error *err);
/* "interactive", "standard" or "batch". */
const char *class_name(int32_t class);
MUST_USE status class_parse(int32_t *out, const char *text, error *err);
/* "2027-01-31T12:00:00Z" or "never". */
enum { EXPIRY_TEXT_SIZE = 24 };
char *expiry_format(int64_t expires_s, char out[EXPIRY_TEXT_SIZE]);
MUST_USE status expiry_parse(int64_t *out, const char *text, error *err);
/* What the headers above say of their texts. */
MUST_USE status key_id_check(const char *id, error *err);
MUST_USE status tenant_name_check(const char *name, error *err);
MUST_USE status key_label_check(const char *label, error *err); /* name, worker */

/* -- tokens --------------------------------------------------------------------------------- */

/* The id in a token's text; the empty view when it does not look like a token. */
text_view token_id(text_view token);
void token_hash(uint8_t out[KEY_HASH_BYTES], text_view token);

#endif
