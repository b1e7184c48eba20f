#include "client/doctor/certificate_checks.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "client/doctor/checks.h"
#include "common/json.h"
#include "common/mem.h"

enum { DAY_S = 86400, SOON_DAYS = 14, CHAIN_MAX = 8 };

#define RENEW "make it anew and start what uses it again (gaggle certs, or who signed it)"

static const char *day_text(char out[16], int64_t seconds)
{
    struct tm t;
    time_t time = (time_t)seconds;
    if (gmtime_r(&time, &t) == NULL || strftime(out, 16, "%Y-%m-%d", &t) == 0)
        snprintf(out, 16, "no day");
    return out;
}

void check_certificate_dates(findings *f, const char *check, const char *where,
                             const certificate_facts *facts, int64_t now_s, const char *renew)
{
    char day[16];
    int64_t days = (facts->until_s - now_s) / DAY_S;
    if (now_s > facts->until_s) {
        finding_add(f, FINDING_FAIL, check, "%s: '%s' expired on %s", where, facts->subject,
                    day_text(day, facts->until_s));
        finding_advise(f, "%s", renew);
    } else if (now_s < facts->from_s) {
        finding_add(f, FINDING_FAIL, check, "%s: '%s' begins to be valid on %s", where,
                    facts->subject, day_text(day, facts->from_s));
        finding_advise(f, "set this machine's clock, if it is late; otherwise wait, or %s", renew);
    } else if (days < SOON_DAYS) {
        finding_add(f, FINDING_WARN, check, "%s: '%s' expires on %s, in %" PRId64 " days", where,
                    facts->subject, day_text(day, facts->until_s), days);
        finding_advise(f, "%s", renew);
    } else {
        finding_add(f, FINDING_OK, check, "%s: '%s' is valid until %s", where, facts->subject,
                    day_text(day, facts->until_s));
    }
}

/* The file's bytes, to be freed; NULL: a finding says why not. */
static char *read_file(findings *f, const char *check, const char *path, size_t *size)
{
    error err;
    char *bytes = NULL;
    if (file_read(&bytes, size, path, LIMIT_CONFIG_FILE_BYTES, &err) == ST_OK) return bytes;
    finding_add(f, FINDING_FAIL, check, "%s", err.text);
    finding_advise(f, "name the file that gaggle certs made, or make it readable for this user");
    return NULL;
}

static char *check_file(findings *f, const char *check, const char *path, int64_t now_s,
                        size_t *size)
{
    error err;
    certificate_facts *facts;
    size_t count;
    char *bytes = read_file(f, check, path, size);
    if (bytes == NULL) return NULL;
    if (certificates_read(&facts, &count, bytes, *size, &err) != ST_OK) {
        finding_add(f, FINDING_FAIL, check, "%s: %s", path, err.text);
        finding_advise(f, "it must be PEM: lines from BEGIN CERTIFICATE to END CERTIFICATE");
        mem_free(bytes);
        return NULL;
    }
    /* A bundle of the world's CAs always has some that are over, and nobody minds. */
    if (count > CHAIN_MAX) finding_add(f, FINDING_OK, check, "%s: %zu certificates", path, count);
    for (size_t i = 0; count <= CHAIN_MAX && i < count; i++)
        check_certificate_dates(f, check, path, &facts[i], now_s, RENEW);
    mem_free(facts);
    return bytes;
}

static void check_key(findings *f, const char *path, const char *cert_path, const char *cert,
                      size_t cert_size)
{
    struct stat info;
    size_t size;
    char *key = read_file(f, "key", path, &size);
    if (key == NULL) return;
    if (cert != NULL && !certificate_has_key(cert, cert_size, key, size)) {
        finding_add(f, FINDING_FAIL, "key", "%s is not the key of %s", path, cert_path);
        finding_advise(f, "name the two files of one pair, as gaggle certs made them");
    } else if (stat(path, &info) == 0 && (info.st_mode & (S_IRGRP | S_IROTH)) != 0) {
        finding_add(f, FINDING_WARN, "key", "%s can be read by others", path);
        finding_advise(f, "chmod 600 %s", path);
    } else {
        finding_add(f, FINDING_OK, "key", "%s%s%s", path, cert != NULL ? " is that of " : "",
                    cert != NULL ? cert_path : "");
    }
    mem_free(key);
}

void check_certificates(findings *f, const link_tls *tls, int64_t now_s)
{
    size_t size = 0;
    if (tls->ca_file != NULL) mem_free(check_file(f, "tls-ca", tls->ca_file, now_s, &size));
    char *cert =
        tls->cert_file != NULL ? check_file(f, "tls-cert", tls->cert_file, now_s, &size) : NULL;
    if (tls->key_file != NULL) check_key(f, tls->key_file, tls->cert_file, cert, size);
    mem_free(cert);
}
