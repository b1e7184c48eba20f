/* request_table: every request the router knows, found by id, by its client's stream number, or by
 * its number here; and the times at which each wants to be looked at.
 *
 * Requests lie in one array and never move; the memory of an ended one serves the next and is not
 * given back (at LIMIT_REQUESTS it is 7 MiB). Two open-addressing hash tables hold their numbers, 8
 * bytes each and a quarter empty. Hashes are keyed by a seed, since ids come from clients.
 *
 * The times are an array, too, read from end to end each tick: 3 us for 4096 of them, and nothing
 * to keep in order. Loop thread. */
#ifndef GAGGLE_ROUTER_REQUEST_TABLE_H
#define GAGGLE_ROUTER_REQUEST_TABLE_H

#include "router/request.h"

typedef struct request_table request_table;

request_table *request_table_create(uint64_t seed);
void request_table_destroy(request_table *t); /* frees the requests too; NULL is fine */

/* A new zeroed request with this id, or NULL when LIMIT_REQUESTS are known. The id is not in it.
 * It is looked at first at the next tick. */
request *request_table_add(request_table *t, const id128 *id);

/* Free the request and what it owns. It is in nobody's list any more. */
void request_table_remove(request_table *t, request *r);

request *request_table_find(const request_table *t, const id128 *id);

/* By the client's number. */
request *request_table_find_stream(const request_table *t, const struct core_link *client,
                                   uint32_t stream);

/* Give the request to a client under a number that is free, or take it away (client NULL). */
void request_table_attach(request_table *t, request *r, struct core_link *client, uint32_t stream);

size_t request_table_count(const request_table *t);

/* Walk: numbers 0 .. end-1; NULL where nobody has that number. Removing any of them is fine. */
uint32_t request_table_end(const request_table *t);
request *request_table_at(const request_table *t, uint32_t number);

/* It wants to be looked at from `time_ms` on. */
void request_table_wake_at(request_table *t, const request *r, uint64_t time_ms);

/* The first one from `number` on whose time has come, or NULL. */
request *request_table_due(const request_table *t, uint32_t number, uint64_t now_ms);

#endif
