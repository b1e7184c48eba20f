/* keys: the router's keys, as the keys file (keys_file.h) says, and who showed which.
 *
 * A token is judged in the same steps whether its key exists or not: the SHA-256 of all of it, one
 * look into a table by its id, which is no secret, and one comparison in constant time. What makes
 * a key worthless (revoked, expired, for another role) is said only to whoever holds its secret.
 *
 * Links outlive reloads, so a link keeps an `identity` and asks now and then whether it still
 * stands: that costs a comparison or two, and a look into the table after each reload.
 *
 * Times are given, in seconds since 1970. Tenants keep their number over reloads, as long as the
 * process lives. Loop thread. */
#ifndef GAGGLE_ROUTER_KEYS_H
#define GAGGLE_ROUTER_KEYS_H

#include "router/keys_file.h"

typedef struct keys keys;

/* Whom a link belongs to. Plain value. */
typedef struct identity {
    role what;       /* the door it came through */
    uint32_t tenant; /* of clients and admins */
    bool admin;
    char key_id[LIMIT_KEY_NAME_BYTES + 1]; /* for logs; "" = no key of a keys file */
    /* What a recheck compares. */
    uint64_t facts;
    uint32_t generation;
    int64_t expires_s;
} identity;

/* Read the keys file. Refused beyond what keys_file_parse() refuses: a file that others than its
 * owner may write (ST_FAILED_PRECONDITION), and one without any key, which would lock everybody
 * out (ST_INVALID_ARGUMENT). */
MUST_USE status keys_create(keys **out, const char *path, error *err);
void keys_destroy(keys *k); /* NULL is fine */

/* Read it again. On failure everything stays as it was. */
MUST_USE status keys_reload(keys *k, error *err);

/* Judge a token at the door for `what`. ROLE_CLIENT admits clients and admins. ST_UNAUTHENTICATED:
 * no such token, or one that is revoked or expired. ST_PERMISSION_DENIED: for the other door. */
MUST_USE status keys_judge(const keys *k, text_view token, role what, int64_t now_s, identity *out,
                           error *err);

/* Does `who`, whom keys_judge() let in, still stand? ST_UNAUTHENTICATED: its key expired, was
 * revoked or removed, or got another secret, role, tenant or worker; close its link. */
MUST_USE status keys_recheck(const keys *k, identity *who, int64_t now_s, error *err);

/* The only worker_id that `who` may register, NULL for any. Valid until the next reload. */
const char *keys_worker_id(const keys *k, const identity *who);

/* Tenants have numbers from 0; those that left the file keep theirs, and their last limits. */
uint32_t keys_tenant_count(const keys *k);
const char *keys_tenant_name(const keys *k, uint32_t tenant);
const tenant_limits *keys_tenant_limits(const keys *k, uint32_t tenant);

#endif
