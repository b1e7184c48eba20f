/* tcp_proxy: a cable that a test can cut. Listens on a loopback port and joins each connection to
 * another port; a thread of its own moves the bytes. */
#ifndef GAGGLE_TESTS_TCP_PROXY_H
#define GAGGLE_TESTS_TCP_PROXY_H

#include <stdint.h>

typedef struct tcp_proxy tcp_proxy;

tcp_proxy *tcp_proxy_start(uint16_t to_port);
uint16_t tcp_proxy_port(const tcp_proxy *p);

/* Cut every connection that stands now, mid-byte (RST); returns once it is done. */
void tcp_proxy_cut(tcp_proxy *p);

/* Connections made since the start. */
uint32_t tcp_proxy_connections(const tcp_proxy *p);

void tcp_proxy_stop(tcp_proxy *p);

#endif
