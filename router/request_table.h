/* request_table: every request the router knows, found by id or by its client's stream number.
 *
 * Two open-addressing hash tables of pointers and one dense array to walk; 24 bytes a request
 * beside the request itself. Hashes are keyed by a seed, since ids come from clients. Loop thread.
 */
#ifndef GAGGLE_ROUTER_REQUEST_TABLE_H
#define GAGGLE_ROUTER_REQUEST_TABLE_H

#include "router/request.h"

typedef struct request_table request_table;

request_table *request_table_create(uint64_t seed);
void request_table_destroy(request_table *t); /* frees the requests too; NULL is fine */

/* A new zeroed request with this id, or NULL when LIMIT_REQUESTS are known. The id is not in it. */
request *request_table_add(request_table *t, const id128 *id);

/* Free the request and what it owns. It is in nobody's list any more. */
void request_table_remove(request_table *t, request *r);

request *request_table_find(const request_table *t, const id128 *id);

/* By the client's number. */
request *request_table_find_stream(const request_table *t, const struct core_link *client,
                                   uint32_t stream);

/* Give the request to a client under a number that is free, or take it away (client NULL). */
void request_table_attach(request_table *t, request *r, struct core_link *client, uint32_t stream);

/* Walk: indices 0 .. count-1; removing the one at hand puts another in its place, so walk
 * downwards. */
size_t request_table_count(const request_table *t);
request *request_table_at(const request_table *t, size_t index);

#endif
