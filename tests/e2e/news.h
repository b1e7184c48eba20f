/* news: something was heard of the cluster, so that it is worth asking again how it is.
 *
 * A router's view of its fleet changes when bytes come or go on a worker's link, which the tests'
 * cables see (each link pings, so that they are never silent for long), or by its own clock, which
 * it logs. One thread waits; any thread tells. */
#ifndef GAGGLE_TESTS_NEWS_H
#define GAGGLE_TESTS_NEWS_H

#include <stdbool.h>
#include <stdint.h>

/* The eventfd(2) that news are told to: tcp_proxy_tell(). It lives as long as the process. */
int news_event(void);

/* What was told until now is known: before one asks, so that nothing is missed in between. */
void news_clear(void);

/* Until there is some, or a process of this test wrote to its log, since news_clear(). False: there
 * was none before `deadline_ms` of clock_now_ms(). */
bool news_wait(uint64_t deadline_ms);

#endif
