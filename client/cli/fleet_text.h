/* fleet_text: how `gaggle ps` and `gaggle top` say things about a fleet.
 *
 * Names and devices are what workers called themselves: what could move a terminal's cursor in them
 * becomes '?'. Any thread. */
#ifndef GAGGLE_CLIENT_FLEET_TEXT_H
#define GAGGLE_CLIENT_FLEET_TEXT_H

#include "client/gaggle.h"
#include "common/mem.h"

#define FLEET_TEXT_SIZE 16

/* Append `text` as `width` columns of a terminal: cut, with '~' for what is missing, or filled up
 * with spaces. Width 0: all of it. */
void fleet_name(buffer *out, const char *text, size_t width);

/* "lost", "drain", "open" and "trial" (the breaker's), or "up". */
const char *fleet_state(const gaggle_worker_report *w);

/* Each writes to `out` and returns it. */
char *fleet_lease(char out[FLEET_TEXT_SIZE], uint32_t left_ms); /* "11h30m", "-" = none known */
char *fleet_rtt(char out[FLEET_TEXT_SIZE], uint32_t rtt_us);    /* "0.2ms" */
char *fleet_kv(char out[FLEET_TEXT_SIZE], const gaggle_worker_report *w);    /* "12%" */
char *fleet_rate(char out[FLEET_TEXT_SIZE], uint64_t per_s);                 /* "1.2k", "-" = 0 */
char *fleet_slots(char out[FLEET_TEXT_SIZE], const gaggle_worker_report *w); /* "3+1/64" */

#endif
