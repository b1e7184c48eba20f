/* auth: who may connect, by bearer token.
 *
 * Two kinds side by side. Plain tokens (--api-token for clients, --join-token for workers) are
 * texts that people choose, compared in constant time against every configured one: convenient on
 * a laptop. A keys file (keys.h) has one key a client or worker, with tenant, limits, expiry and
 * revocation. A keys file locks both doors; without any lock for a role only listeners on loopback
 * and ipc may be opened for it. Loop thread. */
#ifndef GAGGLE_ROUTER_AUTH_H
#define GAGGLE_ROUTER_AUTH_H

#include "common/options.h"
#include "proto/envelope.h"
#include "router/keys.h"

typedef struct auth {
    option_list api_tokens;  /* clients; the index is the tenant */
    option_list join_tokens; /* workers */
    keys *keys;              /* NULL: no keys file. Its tenants follow AUTH_TENANTS_PLAIN */
} auth;

#define AUTH_TENANTS_PLAIN OPTION_LIST_MAX
_Static_assert(AUTH_TENANTS_PLAIN + LIMIT_TENANTS <= LIMIT_TENANT_NUMBERS, "all have a number");

/* Add the tokens of a file, one a line; '#' begins a comment. The strings live as long as the
 * process. ST_INVALID_ARGUMENT names file and line of a token that is too short or too long; a
 * file without a token is refused, too. */
MUST_USE status auth_load_file(option_list *tokens, const char *path, error *err);

/* Are the given tokens long enough to be secrets (at least AUTH_TOKEN_BYTES_MIN)? */
MUST_USE status auth_check(const auth *a, error *err);
#define AUTH_TOKEN_BYTES_MIN 16

/* May a listener at `url` be opened? Without a lock for its role it must be loopback (127.x.y.z,
 * [::1], localhost) or ipc. */
MUST_USE status auth_check_listener(const auth *a, const char *url, role what, error *err);

/* Judge a Hello. ST_UNAUTHENTICATED: missing, wrong, revoked or expired token;
 * ST_PERMISSION_DENIED: a key for the other door. Without a keys file every client is an admin;
 * with one, only its admins are. Tenant 0 without tokens. */
MUST_USE status auth_judge(const auth *a, const msg_hello *hello, int64_t now_s, identity *out,
                           error *err);

/* auth_judge() for a bearer token from elsewhere, which must be an admin's of the keys file. */
MUST_USE status auth_judge_admin(const auth *a, text_view token, int64_t now_s, error *err);

/* Does who was let in still stand, after a reload or a while (keys_recheck())? A plain token does
 * as long as it is given at the same place of its list, and whoever came without one as long as
 * none is needed. ST_UNAUTHENTICATED: close the link. */
MUST_USE status auth_recheck(const auth *a, identity *who, int64_t now_s, error *err);

/* May `who` send this? ST_PERMISSION_DENIED: a Register as another worker than its key is for; a
 * Drain of a worker by a client that is no admin. */
MUST_USE status auth_check_envelope(const auth *a, const identity *who, const envelope *e,
                                    error *err);

/* What a tenant may take, and what it is called in logs and metrics ("api-token-1" for plain
 * tokens, "default" without any). Returns `out`. */
tenant_limits auth_tenant_limits(const auth *a, uint32_t tenant);
enum { AUTH_TENANT_NAME_SIZE = LIMIT_KEY_NAME_BYTES + 1 };
char *auth_tenant_name(const auth *a, uint32_t tenant, char out[AUTH_TENANT_NAME_SIZE]);

#endif
