/* reach: is there somebody at a router's address, and what does he show? By libcurl: name, TCP,
 * TLS (as the links speak it: 1.2) and, for WebSocket addresses, the head of an HTTP answer.
 * Nothing is believed or refused here; the links themselves do that afterwards. */
#ifndef GAGGLE_DOCTOR_REACH_H
#define GAGGLE_DOCTOR_REACH_H

#include "common/link.h"
#include "common/mem.h"

typedef enum reach_end {
    REACH_DONE,
    REACH_NO_NAME,
    REACH_REFUSED,
    REACH_SILENT, /* no answer in time */
    REACH_NO_ROUTE,
    REACH_NO_TLS, /* he is there, but the handshake failed */
    REACH_NO_HTTP,
    REACH_OTHER
} reach_end;

typedef struct reach {
    reach_end end;
    char text[256];   /* libcurl's words, where it is not DONE */
    char address[64]; /* that was connected to */
    char host[256];   /* of the URL */
    buffer chain;     /* PEM, his own certificate first, with a NUL behind; empty without TLS */
    long http_status; /* of ws and wss */
    int64_t date_s;   /* his clock's, by the Date of that answer; 0 = not said */
} reach;

/* `url` is one that link_dial_check() took, and no ipc. `tls` may be NULL. */
void reach_try(reach *out, const char *url, const link_tls *tls, uint32_t patience_ms);
void reach_free(reach *r);

#endif
