/* certificates: for routers on tls+tcp and wss, made once per test program by the openssl command.
 */
#ifndef GAGGLE_TESTS_CERTIFICATES_H
#define GAGGLE_TESTS_CERTIFICATES_H

typedef struct certificates {
    const char *ca_file;                    /* signed both */
    const char *router_cert, *router_key;   /* "localhost" */
    const char *dialler_cert, *dialler_key; /* a worker's or client's */
} certificates;

const certificates *certificates_made(void);

#endif
