/* auth: who may connect, by bearer token.
 *
 * Clients show an API token, workers a join token. Tokens are compared in constant time against
 * every configured one. Without configured tokens only listeners on loopback and ipc may be opened.
 * Immutable after init; loop thread. */
#ifndef GAGGLE_ROUTER_AUTH_H
#define GAGGLE_ROUTER_AUTH_H

#include "common/options.h"
#include "proto/envelope.h"

typedef struct auth {
    option_list api_tokens;  /* clients; the index is the tenant */
    option_list join_tokens; /* workers */
} auth;

/* Add the tokens of a file, one a line; '#' begins a comment. The strings live as long as the
 * process. ST_INVALID_ARGUMENT names file and line of a token that is too short or too long; a
 * file without a token is refused, too. */
MUST_USE status auth_load_file(option_list *tokens, const char *path, error *err);

/* Are the given tokens long enough to be secrets (at least AUTH_TOKEN_BYTES_MIN)? */
MUST_USE status auth_check(const auth *a, error *err);
#define AUTH_TOKEN_BYTES_MIN 16

/* May a listener at `url` be opened? Without tokens for its role it must be loopback (127.x.y.z,
 * [::1], localhost) or ipc. */
MUST_USE status auth_check_listener(const auth *a, const char *url, role what, error *err);

/* Judge a Hello. ST_UNAUTHENTICATED: missing or wrong token. *tenant is 0 without tokens. */
MUST_USE status auth_check_hello(const auth *a, const msg_hello *hello, uint32_t *tenant,
                                 error *err);

#endif
