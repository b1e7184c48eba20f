/* cache_salt: whose cached prompts a request may find at a worker.
 *
 * Workers share the KV of equal beginnings between requests of equal salt. The router makes the
 * salt, from the tenant's name and from what the client sent:
 *
 *   - tenants share nothing, so that nobody learns from the time of a first token, or from
 *     cached_tokens, what another one's prompts begin with;
 *   - a client can keep its own users apart in the same way, and never reaches what is another
 *     tenant's, since the two go into one SHA-256;
 *   - nothing in it is a secret or a state: routers with the same keys make the same salts, also
 *     after a restart, and what a worker has cached is found again.
 *
 * Without keys and tokens there are no tenants: then the cache is everybody's, but for those who
 * send a salt. Pure: any thread. */
#ifndef GAGGLE_ROUTER_CACHE_SALT_H
#define GAGGLE_ROUTER_CACHE_SALT_H

#include "proto/envelope.h"

/* Never zero, which stands for "no tenants". */
id128 cache_salt_of_tenant(const char *name);

/* What a worker is told for a client of `tenant` that sent `own` (empty: nothing). Zero: everybody
 * shares. */
id128 cache_salt_join(const id128 *tenant, text_view own);

#endif
