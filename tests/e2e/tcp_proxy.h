/* tcp_proxy: a cable that a test can cut. Listens on a loopback port and joins each connection to
 * another port; a thread of its own moves the bytes. */
#ifndef GAGGLE_TESTS_TCP_PROXY_H
#define GAGGLE_TESTS_TCP_PROXY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tcp_proxy tcp_proxy;

tcp_proxy *tcp_proxy_start(uint16_t to_port);
uint16_t tcp_proxy_port(const tcp_proxy *p);

/* Join to `address` (IPv4), not to this machine. Before anybody dials. */
void tcp_proxy_lead_to(tcp_proxy *p, const char *address);

/* Cut every connection that stands now, mid-byte (RST); returns once it is done. */
void tcp_proxy_cut(tcp_proxy *p);

/* The same, and no new one comes through until it is released. */
void tcp_proxy_hold(tcp_proxy *p);
void tcp_proxy_release(tcp_proxy *p);

/* Towards whoever dialled at most so many bytes a second from now on; 0: no limit. */
void tcp_proxy_throttle(tcp_proxy *p, uint32_t bytes_per_second);

/* Every byte takes `delay_ms` from now on, and one piece in `loss` (0: none) 200 ms more, as TCP
 * does that sends a lost packet again. */
void tcp_proxy_worsen(tcp_proxy *p, uint32_t delay_ms, uint32_t loss);

/* Add 1 to the eventfd(2) `event` whenever bytes have passed, either way, or a connection is over.
 * Before anybody dials. */
void tcp_proxy_tell(tcp_proxy *p, int event);

/* Connections made since the start. */
uint32_t tcp_proxy_connections(const tcp_proxy *p);

void tcp_proxy_stop(tcp_proxy *p);

#endif
