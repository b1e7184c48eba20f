#include "client/cli/make_certificate.h"

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

enum {
    CLOCK_SLACK_S = 3600,
    SERIAL_BITS = 127, /* more than 64 of chance, as browsers ask of CAs, and never negative */
    HOST_BYTES_MAX = 253,
};

static status openssl_failed(const char *what, error *err)
{
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return error_set(err, ST_INTERNAL, "OpenSSL cannot %s: %s", what,
                     why != NULL ? why : "it does not say why");
}

/* -- hosts ---------------------------------------------------------------------------------- */

static bool is_address(const char *host)
{
    struct in6_addr address;
    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static bool is_dns_name(const char *host)
{
    if (strncmp(host, "*.", 2) == 0) host += 2;
    size_t size = strlen(host);
    if (size == 0 || size > HOST_BYTES_MAX) return false;
    for (size_t i = 0; i < size; i++) {
        char c = host[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool inside = i > 0 && i + 1 < size;
        if (!letter && !((c == '-' || c == '.' || c == '_') && inside)) return false;
        if (c == '.' && host[i - 1] == '.') return false;
    }
    return true;
}

/* As OpenSSL reads a list of names. An address stands in it twice: as what it is, and as if it were
 * a DNS name, since mbedTLS 2.28 (nng's TLS) compares what was dialled with DNS names alone. */
static status add_host(buffer *names, const char *host, error *err)
{
    char text[2 * HOST_BYTES_MAX + 32];
    bool address = is_address(host);
    if (!address && !is_dns_name(host))
        return error_set(err, ST_INVALID_ARGUMENT, "'%s' is neither a DNS name nor an IP address",
                         host);
    int size = address ? snprintf(text, sizeof text, ",IP:%s,DNS:%s", host, host)
                       : snprintf(text, sizeof text, ",DNS:%s", host);
    buffer_append(names, text, (size_t)size);
    return ST_OK;
}

/* -- one certificate ------------------------------------------------------------------------ */

static bool add_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    if (extension == NULL) return false;
    bool added = X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool add_extensions(X509 *cert, X509 *issuer, certificate_kind kind, const char *hosts)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    bool ca = kind == CERTIFICATE_CA;
    return add_extension(cert, &ctx, NID_basic_constraints,
                         ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
           add_extension(cert, &ctx, NID_key_usage,
                         ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
           (ca || add_extension(cert, &ctx, NID_ext_key_usage,
                                kind == CERTIFICATE_ROUTER ? "serverAuth" : "clientAuth")) &&
           add_extension(cert, &ctx, NID_subject_key_identifier, "hash") &&
           add_extension(cert, &ctx, NID_authority_key_identifier, "keyid:always") &&
           (kind != CERTIFICATE_ROUTER || add_extension(cert, &ctx, NID_subject_alt_name, hosts));
}

static bool set_serial(X509 *cert)
{
    BIGNUM *serial = BN_new();
    bool set = serial != NULL &&
               BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
               BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) != NULL;
    BN_free(serial);
    return set;
}

/* `issuer` may be `cert` itself. */
static bool fill(X509 *cert, EVP_PKEY *key, X509 *issuer, const certificate_wish *wish,
                 const char *hosts, time_t now)
{
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
           X509_time_adj_ex(X509_getm_notBefore(cert), 0, -CLOCK_SLACK_S, &now) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(cert), (int)wish->days, 0, &now) != NULL &&
           X509_set_pubkey(cert, key) &&
           X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8,
                                      (const unsigned char *)"gaggle", -1, -1, 0) &&
           X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                      (const unsigned char *)wish->name, -1, -1, 0) &&
           X509_set_issuer_name(cert, X509_get_subject_name(issuer)) &&
           add_extensions(cert, issuer, wish->kind, hosts);
}

static bool take_bytes(buffer *out, BIO *bio)
{
    char *bytes;
    long size = BIO_get_mem_data(bio, &bytes);
    if (size <= 0) return false;
    buffer_append(out, bytes, (size_t)size);
    return true;
}

static bool write_pem(certificate_pem *out, X509 *cert, EVP_PKEY *key)
{
    BIO *cert_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_secmem());
    *out = (certificate_pem){0};
    bool written = cert_bio != NULL && key_bio != NULL && PEM_write_bio_X509(cert_bio, cert) &&
                   PEM_write_bio_PKCS8PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL) &&
                   take_bytes(&out->cert, cert_bio) && take_bytes(&out->key, key_bio);
    BIO_free(cert_bio);
    BIO_free(key_bio);
    if (!written) certificate_pem_free(out);
    return written;
}

/* -- the issuer ----------------------------------------------------------------------------- */

static status read_issuer(X509 **cert, EVP_PKEY **key, const certificate_pem *pem, error *err)
{
    BIO *cert_bio = BIO_new_mem_buf(pem->cert.data, (int)pem->cert.size);
    BIO *key_bio = BIO_new_mem_buf(pem->key.data, (int)pem->key.size);
    if (cert_bio != NULL) *cert = PEM_read_bio_X509(cert_bio, NULL, NULL, NULL);
    if (key_bio != NULL) *key = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
    BIO_free(cert_bio);
    BIO_free(key_bio);
    ERR_clear_error();
    if (*cert == NULL || *key == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "the CA's %s is not PEM",
                         *cert == NULL ? "certificate" : "key");
    if (X509_check_ca(*cert) != 1 || X509_check_private_key(*cert, *key) != 1) {
        ERR_clear_error();
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the CA's certificate is not a CA's, or its key is not the right one");
    }
    return ST_OK;
}

status certificate_make(certificate_pem *out, const certificate_wish *wish,
                        const certificate_pem *issuer, int64_t now_s, error *err)
{
    X509 *cert = NULL, *issuer_cert = NULL;
    EVP_PKEY *key = NULL, *issuer_key = NULL;
    buffer hosts = {0};
    status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < wish->host_count; i++)
        st = add_host(&hosts, wish->hosts[i], err);
    buffer_append(&hosts, "", 1);
    if (st == ST_OK && issuer != NULL) st = read_issuer(&issuer_cert, &issuer_key, issuer, err);
    if (st != ST_OK) goto done;

    cert = X509_new();
    key = EVP_EC_gen("P-256");
    X509 *signer = issuer != NULL ? issuer_cert : cert;
    const char *names = hosts.data[0] == ',' ? (char *)hosts.data + 1 : "";
    if (cert == NULL || key == NULL || !fill(cert, key, signer, wish, names, now_s) ||
        X509_sign(cert, issuer != NULL ? issuer_key : key, EVP_sha256()) == 0)
        st = openssl_failed("make a certificate", err);
    else if (ASN1_TIME_compare(X509_get0_notAfter(cert), X509_get0_notAfter(signer)) > 0)
        st = error_set(err, ST_OUT_OF_RANGE,
                       "a certificate of %u days would outlive its CA; take fewer, or make a new "
                       "CA",
                       wish->days);
    else if (!write_pem(out, cert, key))
        st = openssl_failed("write a certificate", err);

done:
    buffer_free(&hosts);
    EVP_PKEY_free(issuer_key);
    EVP_PKEY_free(key);
    X509_free(issuer_cert);
    X509_free(cert);
    return st;
}

void certificate_pem_free(certificate_pem *pem)
{
    buffer_free(&pem->cert);
    buffer_free(&pem->key);
}
