/* make_certificate: P-256 keys and X.509 certificates for them, by OpenSSL. PEM in, PEM out. */
#ifndef GAGGLE_CLIENT_CLI_MAKE_CERTIFICATE_H
#define GAGGLE_CLIENT_CLI_MAKE_CERTIFICATE_H

#include <stdint.h>

#include "common/mem.h"

typedef enum certificate_kind {
    CERTIFICATE_CA,     /* signs others, but no further CA */
    CERTIFICATE_ROUTER, /* is dialled: proves its host names */
    CERTIFICATE_DIALLER /* a worker's or a client's */
} certificate_kind;

enum { CERTIFICATE_HOSTS_MAX = 40, CERTIFICATE_NAME_BYTES = 64 };

typedef struct certificate_wish {
    certificate_kind kind;
    const char *name;         /* who it is, at most CERTIFICATE_NAME_BYTES */
    const char *const *hosts; /* of a router: DNS names ("*.home" too) and IP addresses */
    size_t host_count;        /* at most CERTIFICATE_HOSTS_MAX */
    uint32_t days;
} certificate_wish;

/* What two files hold. */
typedef struct certificate_pem {
    buffer cert, key;
} certificate_pem;

/* Make a key and its certificate, valid from an hour before `now_s`, for clocks that are late.
 * `issuer` signs it; NULL: it signs itself. ST_INVALID_ARGUMENT: a host that is none, or an issuer
 * that is no CA with its own key; ST_OUT_OF_RANGE: it would outlive its issuer. On failure there is
 * nothing to free. */
MUST_USE status certificate_make(certificate_pem *out, const certificate_wish *wish,
                                 const certificate_pem *issuer, int64_t now_s, error *err);
void certificate_pem_free(certificate_pem *pem);

#endif
