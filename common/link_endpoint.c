/* Where links come from: URLs, TLS configurations, listening and dialling.
 *
 * tcp and ipc are link_socket.c's from here on. nng_stream listeners accept one stream per
 * connection. Many accepts are kept posted, so that a burst of connections does not overflow the
 * kernel's queue while the loop is busy. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/link_internal.h"

#include <nng/supplemental/tls/tls.h> /* needs nng.h before it */

/* Of ws only; not in nng's public header, yet the same string in every version from 1.3 on. */
#define OPTION_WS_MESSAGE_MODE "ws:msgmode"
/* What nng's own PAIR0 sockets ask for, so that they and we are each other's peers. */
#define WS_SUBPROTOCOL "pair.sp.nanomsg.org"

#define SOCKETS(name, framing)                                                                     \
    {                                                                                              \
        name, framing, false, &link_socket_transport                                               \
    }
#define NNG(name, framing, tls)                                                                    \
    {                                                                                              \
        name, framing, tls, &link_nng_transport                                                    \
    }
static const link_scheme schemes[] = {
    SOCKETS("tcp", LINK_FRAMING_TCP),        SOCKETS("tcp4", LINK_FRAMING_TCP),
    SOCKETS("tcp6", LINK_FRAMING_TCP),       NNG("tls+tcp", LINK_FRAMING_TCP, true),
    NNG("tls+tcp4", LINK_FRAMING_TCP, true), NNG("tls+tcp6", LINK_FRAMING_TCP, true),
    NNG("ws", LINK_FRAMING_WS, false),       NNG("ws4", LINK_FRAMING_WS, false),
    NNG("ws6", LINK_FRAMING_WS, false),      NNG("wss", LINK_FRAMING_WS, true),
    NNG("wss4", LINK_FRAMING_WS, true),      NNG("wss6", LINK_FRAMING_WS, true),
    SOCKETS("ipc", LINK_FRAMING_IPC),        SOCKETS("unix", LINK_FRAMING_IPC),
};

static status fail_nng(error *err, int rv, const char *doing, const char *url)
{
    return error_set(err, link_nng_status(rv), "%s %s: %s", doing, url, nng_strerror(rv));
}

/* -- URLs ------------------------------------------------------------------------------ */

/* NULL with `err` filled when the URL has none that we speak. */
static const link_scheme *find_scheme(const char *url, error *err)
{
    const char *colon = strstr(url, "://");
    if (colon == NULL) {
        error_set(err, ST_INVALID_ARGUMENT,
                  "\"%s\" is no URL: tcp://host:port, tls+tcp://, ws://, wss:// or ipc:///path is "
                  "expected",
                  url);
        return NULL;
    }
    size_t size = (size_t)(colon - url);
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strlen(schemes[i].name) == size && memcmp(schemes[i].name, url, size) == 0)
            return &schemes[i];
    error_set(err, ST_INVALID_ARGUMENT,
              "\"%s\": the scheme must be tcp, tls+tcp, ws, wss or ipc, not %.*s", url, (int)size,
              url);
    return NULL;
}

static status check_ipc_path(const char *url, bool listening, error *err)
{
    const char *path = strstr(url, "://") + 3;
    size_t max = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;
    if (strlen(path) == 0) return error_set(err, ST_INVALID_ARGUMENT, "\"%s\" names no path", url);
    if (strlen(path) > max)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the socket path %s has %zu bytes; the system allows %zu", path,
                         strlen(path), max);
    struct stat info;
    if (listening && lstat(path, &info) == 0 && !S_ISSOCK(info.st_mode))
        return error_set(err, ST_ALREADY_EXISTS, "%s exists and is not a socket", path);
    return ST_OK;
}

static status check_url(const char *url, bool listening, const link_scheme **scheme, error *err)
{
    *scheme = find_scheme(url, err);
    if (*scheme == NULL) return ST_INVALID_ARGUMENT;
    if ((*scheme)->framing == LINK_FRAMING_IPC) return check_ipc_path(url, listening, err);
    return ST_OK;
}

/* -- TLS --------------------------------------------------------------------------------- */

/* The whole file as a string; mem_free() it. */
static status read_pem(const char *what, const char *path, char **out, error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, ST_INVALID_ARGUMENT, "%s %s: %s", what, path, strerror(errno));
    buffer text = {0};
    ssize_t got;
    do {
        buffer_reserve(&text, 4096);
        got = read(fd, text.data + text.size, 4096);
        if (got > 0) text.size += (size_t)got;
    } while (got > 0 && text.size <= LIMIT_CONFIG_FILE_BYTES);
    int saved = errno;
    close(fd);
    if (got != 0) {
        buffer_free(&text);
        if (got < 0)
            return error_set(err, ST_INVALID_ARGUMENT, "%s %s: %s", what, path, strerror(saved));
        return error_set(err, ST_INVALID_ARGUMENT, "%s %s is larger than %u bytes", what, path,
                         LIMIT_CONFIG_FILE_BYTES);
    }
    buffer_append(&text, "", 1);
    *out = (char *)text.data;
    return ST_OK;
}

static status load_ca(nng_tls_config *config, const link_tls *tls, error *err)
{
    char *ca = NULL;
    status st = read_pem("CA file", tls->ca_file, &ca, err);
    if (st != ST_OK) return st;
    if (nng_tls_config_ca_chain(config, ca, NULL) != 0)
        st = error_set(err, ST_INVALID_ARGUMENT, "CA file %s holds no PEM certificates",
                       tls->ca_file);
    mem_free(ca);
    return st;
}

static status load_certificate(nng_tls_config *config, const link_tls *tls, error *err)
{
    char *cert = NULL;
    char *key = NULL;
    status st = read_pem("certificate", tls->cert_file, &cert, err);
    if (st == ST_OK) st = read_pem("key", tls->key_file, &key, err);
    if (st == ST_OK && nng_tls_config_own_cert(config, cert, key, NULL) != 0)
        st = error_set(err, ST_INVALID_ARGUMENT,
                       "%s and %s are not a PEM certificate and its unencrypted key",
                       tls->cert_file, tls->key_file);
    mem_free(cert);
    mem_free(key);
    return st;
}

static status check_tls_files(const link_tls *tls, bool listening, error *err)
{
    if ((tls->cert_file == NULL) != (tls->key_file == NULL))
        return error_set(err, ST_INVALID_ARGUMENT, "a certificate needs its key and the reverse");
    if (listening && tls->cert_file == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "a TLS listener needs a certificate and a key");
    if (listening && tls->require_peer && tls->ca_file == NULL)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "demanding client certificates needs the CA that signs them");
    if (!listening && tls->ca_file == NULL && !tls->insecure)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "dialling with TLS needs the CA that signed the router's certificate");
    return ST_OK;
}

static nng_tls_auth_mode auth_mode(const link_tls *tls, bool listening)
{
    if (!listening) return tls->insecure ? NNG_TLS_AUTH_MODE_NONE : NNG_TLS_AUTH_MODE_REQUIRED;
    if (tls->require_peer) return NNG_TLS_AUTH_MODE_REQUIRED;
    return tls->ca_file != NULL ? NNG_TLS_AUTH_MODE_OPTIONAL : NNG_TLS_AUTH_MODE_NONE;
}

static status server_name_of(const char *url, const link_tls *tls, nng_tls_config *config,
                             error *err)
{
    nng_url *parsed;
    int rv = nng_url_parse(&parsed, url);
    if (rv != 0) return fail_nng(err, rv, "dialling", url);
    const char *name = tls->server_name != NULL ? tls->server_name : parsed->u_hostname;
    rv = nng_tls_config_server_name(config, name);
    nng_url_free(parsed);
    return rv == 0 ? ST_OK : fail_nng(err, rv, "server name for", url);
}

/* nng_tls_config_free() it; listeners and dialers hold their own reference. */
static status tls_config_create(nng_tls_config **out, const char *url, const link_tls *tls,
                                bool listening, error *err)
{
    static const link_tls none;
    if (tls == NULL) tls = &none;
    status st = check_tls_files(tls, listening, err);
    if (st != ST_OK) return st;

    nng_tls_config *config;
    int rv = nng_tls_config_alloc(&config, listening ? NNG_TLS_MODE_SERVER : NNG_TLS_MODE_CLIENT);
    if (rv != 0) return fail_nng(err, rv, "TLS for", url);
    if (tls->ca_file != NULL && (st = load_ca(config, tls, err)) != ST_OK) goto fail;
    if (tls->cert_file != NULL && (st = load_certificate(config, tls, err)) != ST_OK) goto fail;
    if (!listening && (st = server_name_of(url, tls, config, err)) != ST_OK) goto fail;
    if ((rv = nng_tls_config_auth_mode(config, auth_mode(tls, listening))) != 0) {
        st = fail_nng(err, rv, "TLS for", url);
        goto fail;
    }
    *out = config;
    return ST_OK;

fail:
    nng_tls_config_free(config);
    return st;
}

static link_limits fill_limits(const link_limits *given)
{
    link_limits limits = given != NULL ? *given : (link_limits){0};
    if (limits.message_bytes == 0) limits.message_bytes = LIMIT_MESSAGE_BYTES;
    if (limits.first_message_bytes == 0) limits.first_message_bytes = limits.message_bytes;
    if (limits.tx_stall_ms == 0) limits.tx_stall_ms = LIMIT_TX_STALL_MS;
    if (limits.connect_ms == 0) limits.connect_ms = LIMIT_HELLO_TIMEOUT_MS;
    return limits;
}

/* -- listening ------------------------------------------------------------------------------ */

static void post_accept(link_listener *listener, link_op *op)
{
    op->in_flight = true;
    listener->accepts_in_flight++;
    nng_stream_listener_accept(listener->nng, op->aio);
}

/* Once it is closed and every accept is back. */
static void listener_free(link_listener *listener)
{
    link_hub *hub = listener->hub;
    if (listener->prev != NULL)
        listener->prev->next = listener->next;
    else
        hub->listeners = listener->next;
    if (listener->next != NULL) listener->next->prev = listener->prev;
    for (size_t i = 0; i < LIMIT_ACCEPTS_POSTED; i++)
        link_op_fini(&listener->accepts[i]);
    if (listener->nng != NULL) nng_stream_listener_free(listener->nng);
    mem_free(listener);
}

static void refuse_stream(nng_stream *stream)
{
    nng_stream_close(stream);
    nng_stream_free(stream);
}

link_peer *link_listener_admit(link_listener *listener)
{
    link_hub *hub = listener->hub;
    if (listener->closed || hub->closing || hub->unproven >= LIMIT_UNAUTHENTICATED_LINKS ||
        hub->link_count >= LIMIT_LINKS)
        return NULL;
    link_peer *l = link_peer_create(hub, listener->scheme, &listener->limits, &listener->handlers,
                                    listener->ctx);
    l->listener = listener;
    l->unproven = true;
    hub->unproven++;
    return l;
}

static void take_stream(link_listener *listener, nng_stream *stream)
{
    link_peer *l = link_listener_admit(listener);
    if (l == NULL) {
        refuse_stream(stream);
        return;
    }
    if (link_nng_prepare(l) != ST_OK) {
        refuse_stream(stream);
        link_peer_fail(l, ST_RESOURCE_EXHAUSTED, "nng is out of memory");
        return;
    }
    l->stream = stream;
    if (l->scheme->framing == LINK_FRAMING_WS) l->remote = link_stream_remote(stream);
    link_peer_start(l);
}

static void accept_done(link_op *op)
{
    link_listener *listener = op->owner;
    listener->accepts_in_flight--;
    int rv = nng_aio_result(op->aio);
    /* Out of descriptors or the like: link_listener_tick() posts it again; at once would spin. */
    if (rv == 0) {
        nng_stream *stream = nng_aio_get_output(op->aio, 0);
        if (!listener->closed) post_accept(listener, op);
        take_stream(listener, stream);
    }
    if (listener->closed && listener->accepts_in_flight == 0) listener_free(listener);
}

void link_listener_tick(link_listener *listener)
{
    if (listener->nng == NULL) {
        link_socket_listener_tick(listener);
        return;
    }
    if (listener->closed || listener->accepts_in_flight == LIMIT_ACCEPTS_POSTED) return;
    for (size_t i = 0; i < LIMIT_ACCEPTS_POSTED; i++)
        if (!listener->accepts[i].in_flight) post_accept(listener, &listener->accepts[i]);
}

/* One of the two is given. What we send stays cut into nng's default frames of at most 1 MiB: a
 * peer with default settings takes no larger ones. */
static void set_ws_options(const link_scheme *scheme, const link_limits *limits,
                           nng_stream_listener *listener, nng_stream_dialer *dialer)
{
    if (scheme->framing != LINK_FRAMING_WS) return;
    size_t size = limits->message_bytes;
    int rv;
    if (listener != NULL) {
        rv = nng_stream_listener_set_bool(listener, OPTION_WS_MESSAGE_MODE, true);
        rv |= nng_stream_listener_set_string(listener, NNG_OPT_WS_PROTOCOL, WS_SUBPROTOCOL);
        rv |= nng_stream_listener_set_size(listener, NNG_OPT_RECVMAXSZ, size);
        rv |= nng_stream_listener_set_size(listener, NNG_OPT_WS_RECVMAXFRAME, size);
    } else {
        rv = nng_stream_dialer_set_bool(dialer, OPTION_WS_MESSAGE_MODE, true);
        rv |= nng_stream_dialer_set_string(dialer, NNG_OPT_WS_PROTOCOL, WS_SUBPROTOCOL);
        rv |= nng_stream_dialer_set_size(dialer, NNG_OPT_RECVMAXSZ, size);
        rv |= nng_stream_dialer_set_size(dialer, NNG_OPT_WS_RECVMAXFRAME, size);
    }
    CHECK(rv == 0);
}

static status listen_nng(link_listener *listener, const char *url, const link_tls *tls, error *err)
{
    int rv = nng_stream_listener_alloc(&listener->nng, url);
    if (rv != 0) return fail_nng(err, rv, "listening on", url);
    /* For the object, so that it covers the TLS and HTTP handshakes. */
    CHECK(nng_stream_listener_set_bool(listener->nng, NNG_OPT_TCP_NODELAY, true) == 0);
    set_ws_options(listener->scheme, &listener->limits, listener->nng, NULL);
    if (listener->scheme->tls) {
        nng_tls_config *config = NULL;
        status st = tls_config_create(&config, url, tls, true, err);
        if (st != ST_OK) return st;
        rv = nng_stream_listener_set_ptr(listener->nng, NNG_OPT_TLS_CONFIG, config);
        nng_tls_config_free(config);
        if (rv != 0) return fail_nng(err, rv, "TLS for", url);
    }
    for (size_t i = 0; i < LIMIT_ACCEPTS_POSTED; i++)
        if (link_op_init(&listener->accepts[i], listener->hub, listener, accept_done) != ST_OK)
            return error_set(err, ST_RESOURCE_EXHAUSTED, "listening on %s: out of memory", url);
    if ((rv = nng_stream_listener_listen(listener->nng)) != 0)
        return fail_nng(err, rv, "listening on", url);
    int port = 0;
    if (nng_stream_listener_get_int(listener->nng, NNG_OPT_TCP_BOUND_PORT, &port) == 0)
        listener->port = (uint16_t)port;
    return ST_OK;
}

status link_listen(link_listener **out, link_hub *hub, const char *url, const link_tls *tls,
                   const link_limits *limits, const link_handlers *handlers, void *ctx, error *err)
{
    const link_scheme *scheme;
    status st = check_url(url, true, &scheme, err);
    if (st != ST_OK) return st;
    if (hub->closing) return error_set(err, ST_FAILED_PRECONDITION, "%s: shutting down", url);
    if (!scheme->tls && tls != NULL)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "%s would not be encrypted, but certificates are given: use tls+tcp:// "
                         "or wss://",
                         url);

    link_listener *listener = mem_calloc(1, sizeof *listener);
    listener->hub = hub;
    listener->scheme = scheme;
    listener->limits = fill_limits(limits);
    listener->handlers = *handlers;
    listener->ctx = ctx;
    st = scheme->transport == &link_socket_transport ? link_socket_listen(listener, url, err)
                                                     : listen_nng(listener, url, tls, err);
    listener->next = hub->listeners;
    if (listener->next != NULL) listener->next->prev = listener;
    hub->listeners = listener;
    if (st != ST_OK) {
        listener_free(listener);
        return st;
    }
    link_listener_tick(listener);
    *out = listener;
    return ST_OK;
}

uint16_t link_listener_port(const link_listener *listener)
{
    return listener->port;
}

void link_listener_close(link_listener *listener)
{
    listener->closed = true;
    for (link_peer *l = listener->hub->links; l != NULL; l = l->next)
        if (l->listener == listener)
            link_peer_fail(l, ST_UNAVAILABLE, "the listener was closed before the link came up");
    if (listener->nng == NULL) {
        link_socket_listener_close(listener);
        listener_free(listener);
        return;
    }
    nng_stream_listener_close(listener->nng);
    /* nng's ws listener does not give its accepts back by itself. */
    for (size_t i = 0; i < LIMIT_ACCEPTS_POSTED; i++)
        nng_aio_cancel(listener->accepts[i].aio);
    if (listener->accepts_in_flight == 0) listener_free(listener);
}

/* -- dialling ------------------------------------------------------------------------------------
 */

static status dialer_create(nng_stream_dialer **out, const char *url, const link_scheme *scheme,
                            const link_tls *tls, const link_limits *limits, error *err)
{
    nng_stream_dialer *dialer;
    int rv = nng_stream_dialer_alloc(&dialer, url);
    if (rv != 0) return fail_nng(err, rv, "dialling", url);
    CHECK(nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true) == 0);
    set_ws_options(scheme, limits, NULL, dialer);
    if (scheme->tls) {
        nng_tls_config *config = NULL;
        status st = tls_config_create(&config, url, tls, false, err);
        if (st == ST_OK) {
            rv = nng_stream_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config);
            nng_tls_config_free(config);
            if (rv != 0) st = fail_nng(err, rv, "TLS for", url);
        }
        if (st != ST_OK) {
            nng_stream_dialer_free(dialer);
            return st;
        }
    }
    *out = dialer;
    return ST_OK;
}

status link_dial_check(const char *url, const link_tls *tls, error *err)
{
    const link_scheme *scheme;
    status st = check_url(url, false, &scheme, err);
    if (st != ST_OK) return st;
    if (scheme->transport == &link_socket_transport) return link_socket_check(url, scheme, err);
    link_limits limits = fill_limits(NULL);
    nng_stream_dialer *dialer = NULL;
    st = dialer_create(&dialer, url, scheme, tls, &limits, err);
    if (st == ST_OK) nng_stream_dialer_free(dialer);
    return st;
}

static status dial_nng(link_peer *l, const char *url, const link_tls *tls, error *err)
{
    nng_stream_dialer *dialer = NULL;
    status st = dialer_create(&dialer, url, l->scheme, tls, &l->limits, err);
    if (st != ST_OK) return st;
    if (link_nng_prepare(l) != ST_OK) {
        nng_stream_dialer_free(dialer);
        return error_set(err, ST_RESOURCE_EXHAUSTED, "dialling %s: out of memory", url);
    }
    link_nng_dial_start(l, dialer);
    return ST_OK;
}

status link_dial(link_peer **out, link_hub *hub, const char *url, const link_tls *tls,
                 const link_limits *limits, const link_handlers *handlers, void *ctx, error *err)
{
    const link_scheme *scheme;
    status st = check_url(url, false, &scheme, err);
    if (st != ST_OK) return st;
    if (hub->closing) return error_set(err, ST_FAILED_PRECONDITION, "%s: shutting down", url);
    bool by_socket = scheme->transport == &link_socket_transport;
    if (by_socket && (st = link_socket_check(url, scheme, err)) != ST_OK) return st;
    uv_update_time(hub->loop); /* it may be long since the loop last turned */
    link_limits filled = fill_limits(limits);
    link_peer *l = link_peer_create(hub, scheme, &filled, handlers, ctx);
    l->dialled = true;
    if (by_socket) {
        link_socket_dial_start(l, url);
    } else if ((st = dial_nng(l, url, tls, err)) != ST_OK) {
        link_peer_free(l);
        return st;
    }
    *out = l;
    return ST_OK;
}
