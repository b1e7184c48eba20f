#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "client/doctor/admission.h"
#include "client/doctor/certificate_checks.h"
#include "client/doctor/checks.h"
#include "client/doctor/reach.h"
#include "common/json.h"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static const char *role_text(role r)
{
    return r == ROLE_WORKER ? "worker" : "client";
}

static const char *listen_flag(role r)
{
    return r == ROLE_WORKER ? "--worker-listen" : "--listen";
}

static void fail(findings *f, const router_wish *w, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void fail(findings *f, const router_wish *w, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    finding_add(f, FINDING_FAIL, "router", "%s: %s", w->url, text);
}

/* -- is anybody there? --------------------------------------------------------------------------
 */

/* Nobody was met, or nobody who speaks as the URL says. */
static void say_unreachable(findings *f, const router_wish *w, const reach *r)
{
    switch (r->end) {
    case REACH_NO_NAME:
        fail(f, w, "the name %s is not known", r->host);
        finding_advise(f, "look at its spelling and at DNS (getent hosts %s)", r->host);
        break;
    case REACH_REFUSED:
        fail(f, w, "nobody listens there");
        finding_advise(f,
                       "start gaggle-router there with %s on this port; 127.0.0.1 in its listener "
                       "serves its own machine alone",
                       listen_flag(w->role));
        break;
    case REACH_SILENT:
        fail(f, w, "no answer within %u ms", w->patience_ms);
        finding_advise(f, "something drops the packets, or listens and says nothing: open the port "
                          "in the firewall or the cloud's security group, and look that address "
                          "and port are right");
        break;
    case REACH_NO_ROUTE:
        fail(f, w, "there is no way to this address");
        finding_advise(f, "look at this machine's network, VPN, or the notebook's internet switch");
        break;
    case REACH_NO_TLS:
        fail(f, w, "the TLS handshake fails: %s", r->text);
        finding_advise(f, "the listener must speak TLS 1.2 at this port (a plain one is tcp:// or "
                          "ws://); one that demands certificates wants --tls-cert and --tls-key");
        break;
    case REACH_NO_HTTP:
        fail(f, w, "who listens there speaks no HTTP, so no WebSocket");
        finding_advise(f, "a router's tcp:// listener is dialled as tcp://, one with TLS as "
                          "tls+tcp:// or wss://");
        break;
    case REACH_DONE:
    case REACH_OTHER:
        fail(f, w, "%s", r->text);
        finding_advise(f, "look at the address: tcp://HOST:PORT, tls+tcp://, ws://, wss:// or "
                          "ipc:///PATH");
        break;
    }
}

/* A proxy in front answers for a router that it cannot find; false: it is not that. */
static bool say_proxy_is_alone(findings *f, const router_wish *w, const reach *r)
{
    if (r->http_status < 500 && r->http_status != 404) return false;
    fail(f, w, "no WebSocket, but HTTP %ld", r->http_status);
    if (r->http_status == 404)
        finding_advise(f, "a WebSocket listener answers to its own path and, unless it listens at "
                          "0.0.0.0, to its own host alone: dial it so, let a proxy in front send "
                          "that Host, or --listen ws://0.0.0.0:PORT/PATH");
    else
        finding_advise(f, "the proxy is there and its router is not: start the router, or mend the "
                          "address that the proxy forwards to");
    return true;
}

static bool check_socket(findings *f, const router_wish *w)
{
    struct stat info;
    const char *path = w->url + strlen("ipc://");
    errno = 0;
    if (stat(path, &info) == 0 && S_ISSOCK(info.st_mode)) return true;
    fail(f, w, "%s: %s", path, errno != 0 ? strerror(errno) : "it is no socket");
    finding_advise(f, "start gaggle-router with %s %s", listen_flag(w->role), w->url);
    return false;
}

/* -- TLS -------------------------------------------------------------------------------------- */

/* The certificate that he showed; false: it was said that its time is over. */
static bool check_peer_dates(findings *f, const router_wish *w, const reach *r, int64_t now_s)
{
    error err;
    certificate_facts *facts;
    size_t count, before = f->count;
    if (r->chain.size == 0 || certificates_read(&facts, &count, (const char *)r->chain.data,
                                                r->chain.size - 1, &err) != ST_OK)
        return true;
    check_certificate_dates(f, "router tls", w->url, &facts[0], now_s,
                            "make the router's certificate anew (gaggle certs router) and start "
                            "the router again");
    mem_free(facts);
    return f->items[before].level != FINDING_FAIL;
}

static chain_verdict judge(const router_wish *w, const reach *r, int64_t now_s, char text[128])
{
    char *ca;
    size_t size;
    const link_tls *tls = w->tls;
    if (r->chain.size == 0 || tls == NULL || tls->insecure || tls->ca_file == NULL)
        return CHAIN_GOOD;
    if (file_read(&ca, &size, tls->ca_file, LIMIT_CONFIG_FILE_BYTES, NULL) != ST_OK)
        return CHAIN_GOOD;
    const char *host = tls->server_name != NULL ? tls->server_name : r->host;
    chain_verdict verdict =
        chain_judge((const char *)r->chain.data, r->chain.size - 1, ca, size, host, now_s, text);
    mem_free(ca);
    return verdict;
}

static void say_names(findings *f, const router_wish *w, const reach *r)
{
    error err;
    certificate_facts *facts;
    size_t count;
    if (certificates_read(&facts, &count, (const char *)r->chain.data, r->chain.size - 1, &err) !=
        ST_OK)
        return;
    fail(f, w, "its certificate is for %s",
         facts[0].names[0] != '\0' ? facts[0].names : facts[0].subject);
    mem_free(facts);
    finding_advise(f,
                   "dial it by one of these names, give --tls-server-name, or make the "
                   "certificate anew: gaggle certs router DIR --host %s",
                   r->host);
}

/* False: the certificate is not why it failed. */
static bool say_why_not_believed(findings *f, const router_wish *w, const reach *r, int64_t now_s)
{
    char text[128];
    switch (judge(w, r, now_s, text)) {
    case CHAIN_GOOD:
        return false;
    case CHAIN_WRONG_NAME:
        say_names(f, w, r);
        return true;
    case CHAIN_UNKNOWN_CA:
        fail(f, w, "its certificate is not signed by the CA in --tls-ca");
        finding_advise(f, "take the ca.pem of the folder where the router's certificate was made; "
                          "for a public name /etc/ssl/certs/ca-certificates.crt");
        return true;
    case CHAIN_EXPIRED:
    case CHAIN_NOT_YET:
    case CHAIN_BROKEN:
        fail(f, w, "%s", text);
        finding_advise(f, "make the CA and the certificates anew (gaggle certs init)");
        return true;
    }
    return false;
}

/* -- admission ----------------------------------------------------------------------------------
 */

static const char *advice_for(const router_wish *w, status code)
{
    switch (code) {
    case ST_UNAUTHENTICATED:
        return w->token == NULL ? "who runs the router makes one (gaggle token new)"
                                : "the token is not this router's, or no longer good: look at its "
                                  "keys file (gaggle token ls) or token files; kill -HUP lets "
                                  "the router read them again";
    case ST_PERMISSION_DENIED:
        return "clients dial --listen's address with a client's key, workers --worker-listen's "
               "with "
               "a worker's; --role client|worker says as what to knock";
    case ST_FAILED_PRECONDITION:
        return "router and this program are of different versions: update the older one";
    case ST_DEADLINE_EXCEEDED:
        return "who listens there says nothing that a router would: look at the scheme and port";
    case ST_RESOURCE_EXHAUSTED:
        return "the router has as many links as it takes: try again, or give it company";
    default:
        return "look at the scheme (tcp://, tls+tcp://, ws://, wss://, ipc://) and the port, and "
               "at the router's log";
    }
}

static void say_admitted(findings *f, const router_wish *w, const admission *a)
{
    if (!a->has_fleet) {
        finding_add(f, FINDING_OK, "router", "%s: %s admits us as a %s", w->url, a->build,
                    role_text(w->role));
        return;
    }
    bool useless = a->ready == 0 || a->draining;
    finding_add(f, useless ? FINDING_WARN : FINDING_OK, "router",
                "%s: %s admits us as a client and answers in %.1f ms; %u of %u workers ready%s%s%s",
                w->url, a->build, (double)a->answer_us / 1e3, a->ready, a->workers,
                a->models[0] != '\0' ? ": " : "", a->models, a->draining ? "; it is draining" : "");
    if (!useless) return;
    finding_advise(f, "%s",
                   a->draining ? "it ends when its answers have: use another router, or wait for "
                                 "the next"
                               : "start a worker: gaggle-worker -m MODEL --router URL, with the "
                                 "URL of the router's --worker-listen");
}

static void check_admission(findings *f, const router_wish *w, const reach *r, int64_t now_s)
{
    error err;
    admission a;
    const admission_wish wish = {.url = w->url,
                                 .tls = w->tls,
                                 .role = w->role,
                                 .token = w->token,
                                 .patience_ms = w->patience_ms};
    if (admission_try(&a, &wish, &err) != ST_OK) a.why = err;
    if (a.why.code == ST_OK) {
        say_admitted(f, w, &a);
    } else if (!say_why_not_believed(f, w, r, now_s) && !say_proxy_is_alone(f, w, r)) {
        fail(f, w, "%s", a.why.text);
        finding_advise(f, "%s", advice_for(w, a.why.code));
    }
}

void check_router(findings *f, const router_wish *w)
{
    error err;
    if (link_dial_check(w->url, w->tls, &err) != ST_OK) {
        fail(f, w, "%s", err.text);
        finding_advise(f, "give a URL like tls+tcp://HOST:7400, with --tls-ca FILE where it is TLS "
                          "(for a public name /etc/ssl/certs/ca-certificates.crt)");
        return;
    }
    const int64_t now_s = (int64_t)time(NULL);
    reach r = {0};
    if (begins(w->url, "ipc://")) {
        if (check_socket(f, w)) check_admission(f, w, &r, now_s);
        return;
    }
    reach_try(&r, w->url, w->tls, w->patience_ms);
    if (r.end == REACH_REFUSED && !w->named)
        finding_add(f, FINDING_OK, "router", "none was named, and nobody listens at %s", w->url);
    else if (r.end != REACH_DONE)
        say_unreachable(f, w, &r);
    else if (check_peer_dates(f, w, &r, now_s))
        check_admission(f, w, &r, now_s);
    if (r.date_s > 0) check_clock_against(f, w->url, r.date_s, now_s);
    reach_free(&r);
}
