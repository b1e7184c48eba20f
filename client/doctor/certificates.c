#include "client/doctor/certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/mem.h"

/* -- reading -------------------------------------------------------------------------------- */

/* The certificates of a text; NULL: one of them cannot be read. */
static STACK_OF(X509) * read_all(const char *pem, size_t size)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *bio = size <= INT32_MAX ? BIO_new_mem_buf(pem, (int)size) : NULL;
    X509 *one = NULL;
    while (all != NULL && bio != NULL && sk_X509_num(all) < CERTIFICATES_MAX &&
           (one = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        sk_X509_push(all, one);
    unsigned long code = ERR_peek_last_error();
    /* "No start line" is how a text ends. */
    bool ended = one != NULL ||
                 (ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE);
    ERR_clear_error();
    BIO_free(bio);
    if (ended) return all;
    sk_X509_pop_free(all, X509_free);
    return NULL;
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm t;
    return ASN1_TIME_to_tm(time, &t) == 1 ? (int64_t)timegm(&t) : 0;
}

static void subject_text(char *out, size_t size, const X509 *cert)
{
    X509_NAME *name = X509_get_subject_name(cert);
    if (X509_NAME_get_text_by_NID(name, NID_commonName, out, (int)size) > 0) return;
    if (X509_NAME_oneline(name, out, (int)size) == NULL) out[0] = '\0';
}

static void name_text(char *out, size_t size, const GENERAL_NAME *name)
{
    out[0] = '\0';
    if (name->type == GEN_DNS) {
        snprintf(out, size, "%.*s", ASN1_STRING_length(name->d.dNSName),
                 (const char *)ASN1_STRING_get0_data(name->d.dNSName));
    } else if (name->type == GEN_IPADD && ASN1_STRING_length(name->d.iPAddress) == 4) {
        const unsigned char *ip = ASN1_STRING_get0_data(name->d.iPAddress);
        snprintf(out, size, "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
    }
}

/* An address often stands there twice, as what it is and as a DNS name. */
static bool has_name(const char *names, const char *one)
{
    char all[200], wanted[136];
    snprintf(all, sizeof all, " %s ", names);
    snprintf(wanted, sizeof wanted, " %s ", one);
    return strstr(all, wanted) != NULL;
}

static void names_text(char *out, size_t size, const X509 *cert)
{
    size_t used = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    out[0] = '\0';
    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        char one[128];
        name_text(one, sizeof one, sk_GENERAL_NAME_value(names, i));
        if (one[0] != '\0' && !has_name(out, one) && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? " " : "", one);
    }
    GENERAL_NAMES_free(names);
}

status certificates_read(certificate_facts **out, size_t *count, const char *pem, size_t size,
                         error *err)
{
    STACK_OF(X509) *all = read_all(pem, size);
    if (all == NULL || sk_X509_num(all) == 0) {
        sk_X509_pop_free(all, X509_free);
        return error_set(err, ST_INVALID_ARGUMENT, "there is no certificate (PEM) in it");
    }
    *count = (size_t)sk_X509_num(all);
    *out = mem_calloc(*count, sizeof **out);
    for (int i = 0; i < sk_X509_num(all); i++) {
        const X509 *cert = sk_X509_value(all, i);
        certificate_facts *facts = &(*out)[i];
        subject_text(facts->subject, sizeof facts->subject, cert);
        names_text(facts->names, sizeof facts->names, cert);
        facts->from_s = seconds_of(X509_get0_notBefore(cert));
        facts->until_s = seconds_of(X509_get0_notAfter(cert));
    }
    sk_X509_pop_free(all, X509_free);
    return ST_OK;
}

/* OpenSSL would ask on the terminal otherwise; the links know no passphrase either. */
static int no_passphrase(char *out, int size, int for_writing, void *ctx)
{
    (void)out;
    (void)size;
    (void)for_writing;
    (void)ctx;
    return 0;
}

bool certificate_has_key(const char *pem, size_t size, const char *key_pem, size_t key_size)
{
    BIO *bio = key_size <= INT32_MAX ? BIO_new_mem_buf(key_pem, (int)key_size) : NULL;
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    STACK_OF(X509) *all = read_all(pem, size);
    bool fits = key != NULL && all != NULL && sk_X509_num(all) > 0 &&
                X509_check_private_key(sk_X509_value(all, 0), key) == 1;
    ERR_clear_error();
    sk_X509_pop_free(all, X509_free);
    EVP_PKEY_free(key);
    BIO_free(bio);
    return fits;
}

/* -- judging -------------------------------------------------------------------------------- */

static chain_verdict verdict_of(int code)
{
    switch (code) {
    case X509_V_OK:
        return CHAIN_GOOD;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return CHAIN_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return CHAIN_NOT_YET;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return CHAIN_WRONG_NAME;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return CHAIN_UNKNOWN_CA;
    default:
        return CHAIN_BROKEN;
    }
}

/* The links' TLS compares the name with DNS names alone, also where it is an address. */
static int verify(STACK_OF(X509) * chain, STACK_OF(X509) * trusted, const char *host, int64_t now_s)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int code = X509_V_ERR_UNSPECIFIED;
    if (ctx != NULL && X509_STORE_CTX_init(ctx, NULL, sk_X509_value(chain, 0), chain) == 1) {
        X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
        X509_STORE_CTX_set0_trusted_stack(ctx, trusted);
        X509_STORE_CTX_set_default(ctx, "ssl_server");
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
        X509_VERIFY_PARAM_set_time(param, (time_t)now_s);
        X509_VERIFY_PARAM_set1_host(param, host, 0);
        code = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    }
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return code;
}

chain_verdict chain_judge(const char *chain_pem, size_t chain_size, const char *ca_pem,
                          size_t ca_size, const char *host, int64_t now_s, char text[128])
{
    STACK_OF(X509) *chain = read_all(chain_pem, chain_size), *trusted = read_all(ca_pem, ca_size);
    int code = X509_V_ERR_UNSPECIFIED;
    if (chain != NULL && sk_X509_num(chain) > 0 && trusted != NULL)
        code = verify(chain, trusted, host, now_s);
    snprintf(text, 128, "%s", X509_verify_cert_error_string(code));
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(trusted, X509_free);
    return verdict_of(code);
}
