#include "client/doctor/reach.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"

enum { URL_BYTES = 1024, BODY_BYTES = 64 << 10 };

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* tcp://, tcp4:// -> http://; tls+tcp:// -> https://. False: a scheme that nobody knows. */
static bool as_http(char out[URL_BYTES], const char *url, bool *is_http)
{
    const char *rest = strstr(url, "://");
    if (rest == NULL) return false;
    *is_http = begins(url, "ws");
    bool tls = begins(url, "tls+") || begins(url, "wss");
    if (!tls && !*is_http && !begins(url, "tcp")) return false;
    int size = snprintf(out, URL_BYTES, "http%s%s", tls ? "s" : "", rest);
    return size > 0 && size < URL_BYTES;
}

static void host_of(char out[256], const char *url)
{
    const char *host = strstr(url, "://") + 3;
    if (*host == '[') {
        host++;
        snprintf(out, 256, "%.*s", (int)strcspn(host, "]"), host);
        return;
    }
    snprintf(out, 256, "%.*s", (int)strcspn(host, ":/"), host);
}

/* An answer's body is read and dropped; one that does not end is cut. */
static size_t on_body(char *bytes, size_t one, size_t size, void *ctx)
{
    (void)bytes;
    size_t *taken = ctx;
    *taken += one * size;
    return *taken <= BODY_BYTES ? one * size : CURL_WRITEFUNC_ERROR;
}

static size_t on_header(char *bytes, size_t one, size_t size, void *ctx)
{
    reach *r = ctx;
    char line[128];
    snprintf(line, sizeof line, "%.*s", (int)(size < sizeof line ? size : 0), bytes);
    if (strncasecmp(line, "date:", 5) == 0) {
        time_t date = curl_getdate(line + 5, NULL);
        r->date_s = date > 0 ? (int64_t)date : 0;
    }
    return one * size;
}

static reach_end end_of(CURL *curl, CURLcode code, const char *words, bool taken)
{
    long os_error = 0;
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_error);
    switch (code) {
    case CURLE_OK:
        return REACH_DONE;
    case CURLE_WRITE_ERROR: /* on_body() had enough */
        return taken ? REACH_DONE : REACH_NO_HTTP;
    case CURLE_COULDNT_RESOLVE_HOST:
        return REACH_NO_NAME;
    case CURLE_OPERATION_TIMEDOUT:
        return begins(words, "Resolving") ? REACH_NO_NAME : REACH_SILENT;
    case CURLE_COULDNT_CONNECT:
        return os_error == ENETUNREACH || os_error == EHOSTUNREACH ? REACH_NO_ROUTE
               : os_error == ETIMEDOUT                             ? REACH_SILENT
                                                                   : REACH_REFUSED;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
        return REACH_NO_TLS;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return REACH_NO_HTTP;
    default:
        return REACH_OTHER;
    }
}

static void take_chain(reach *r, CURL *curl)
{
    struct curl_certinfo *info = NULL;
    if (curl_easy_getinfo(curl, CURLINFO_CERTINFO, &info) != CURLE_OK || info == NULL) return;
    for (int i = 0; i < info->num_of_certs; i++)
        for (const struct curl_slist *field = info->certinfo[i]; field != NULL; field = field->next)
            if (begins(field->data, "Cert:")) {
                buffer_append(&r->chain, field->data + 5, strlen(field->data + 5));
                buffer_append(&r->chain, "\n", 1);
            }
    if (r->chain.size > 0) buffer_append(&r->chain, "", 1);
}

static void set_up(CURL *curl, const char *url, const link_tls *tls, uint32_t patience_ms)
{
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* links know none */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)patience_ms);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION,
                     CURL_SSLVERSION_TLSv1_2 | (long)CURL_SSLVERSION_MAX_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_CERTINFO, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    if (tls != NULL && tls->cert_file != NULL && tls->key_file != NULL) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, tls->cert_file);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, tls->key_file);
    }
}

void reach_try(reach *out, const char *url, const link_tls *tls, uint32_t patience_ms)
{
    *out = (reach){.end = REACH_OTHER};
    char http_url[URL_BYTES];
    bool is_http;
    if (!as_http(http_url, url, &is_http)) {
        snprintf(out->text, sizeof out->text, "it is no address of a router");
        return;
    }
    host_of(out->host, url);
    CURL *curl = curl_easy_init();
    CHECK(curl != NULL);
    char words[CURL_ERROR_SIZE] = "";
    size_t taken = 0;
    set_up(curl, http_url, tls, patience_ms);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words);
    curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, is_http ? 0L : 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &taken);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, out);
    CURLcode code = curl_easy_perform(curl);
    out->end = end_of(curl, code, words, taken > 0);
    snprintf(out->text, sizeof out->text, "%s",
             words[0] != '\0' ? words : curl_easy_strerror(code));
    char *address = NULL;
    if (curl_easy_getinfo(curl, CURLINFO_PRIMARY_IP, &address) == CURLE_OK && address != NULL)
        snprintf(out->address, sizeof out->address, "%s", address);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &out->http_status);
    take_chain(out, curl);
    curl_easy_cleanup(curl);
}

void reach_free(reach *r)
{
    buffer_free(&r->chain);
}
