/* certificates: what PEM texts say, and whether a chain would be believed. By OpenSSL, which reads
 * what comes from outside. */
#ifndef GAGGLE_DOCTOR_CERTIFICATES_H
#define GAGGLE_DOCTOR_CERTIFICATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum { CERTIFICATES_MAX = 256 }; /* of one file; more are left out */

typedef struct certificate_facts {
    char subject[96]; /* its common name, or else all of its name */
    char names[192];  /* DNS names and addresses that it is for, "" = none; a long list is cut */
    int64_t from_s, until_s;
} certificate_facts;

/* Those in `pem`, in its order; mem_free(*out). ST_INVALID_ARGUMENT: there is none, or one of them
 * cannot be read. */
MUST_USE status certificates_read(certificate_facts **out, size_t *count, const char *pem,
                                  size_t size, error *err);

/* Is `key_pem` the key of the first certificate of `pem`? */
bool certificate_has_key(const char *pem, size_t size, const char *key_pem, size_t key_size);

typedef enum chain_verdict {
    CHAIN_GOOD,
    CHAIN_UNKNOWN_CA, /* nobody in `ca_pem` signed it */
    CHAIN_WRONG_NAME, /* it is for other hosts */
    CHAIN_EXPIRED,
    CHAIN_NOT_YET,
    CHAIN_BROKEN /* something else: `text` says it */
} chain_verdict;

/* Would who trusts `ca_pem` believe that the first certificate of `chain_pem` is that of `host`, at
 * `now_s`? */
chain_verdict chain_judge(const char *chain_pem, size_t chain_size, const char *ca_pem,
                          size_t ca_size, const char *host, int64_t now_s, char text[128]);

#endif
