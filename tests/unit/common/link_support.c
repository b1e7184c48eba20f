#include "link_support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/limits.h"

const char *const scheme_names[SCHEME_COUNT] = {"tcp", "tls+tcp", "ws", "ipc", "wss"};

unsigned slowness(void)
{
    static unsigned times;
    if (times == 0) {
        const char *text = getenv("GAGGLE_TEST_SLOWNESS");
        times = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 1;
        assert_in_range(times, 1, 50);
    }
    return times;
}

const link_limits *patient_limits(void)
{
    static link_limits limits;
    limits.connect_ms = LIMIT_HELLO_TIMEOUT_MS * slowness();
    return &limits;
}

scheme scheme_count(void)
{
    return slowness() > 1 ? WSS : SCHEME_COUNT;
}

void fail_at_once(void)
{
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    setvbuf(stdout, NULL, _IOLBF, 0); /* abort() would lose which test it was */
}

/* -- the loop -------------------------------------------------------------------- */

static void on_deadline(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static void on_handle_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

bool run_until(uv_loop_t *loop, condition holds, void *arg, uint64_t ms)
{
    bool late = false;
    bool closed = false;
    uv_timer_t deadline;
    uv_timer_init(loop, &deadline);
    uv_update_time(loop);
    deadline.data = &late;
    uv_timer_start(&deadline, on_deadline, ms, 0);
    while (!late && !holds(arg))
        uv_run(loop, UV_RUN_ONCE);
    deadline.data = &closed;
    uv_close((uv_handle_t *)&deadline, on_handle_closed);
    while (!closed)
        uv_run(loop, UV_RUN_NOWAIT);
    return holds(arg);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

void run_for(uv_loop_t *loop, uint64_t ms)
{
    run_until(loop, never, NULL, ms);
}

typedef struct counted {
    const unsigned *counter;
    unsigned value;
} counted;

static bool reached(void *arg)
{
    const counted *c = arg;
    return *c->counter >= c->value;
}

bool run_until_at_least(uv_loop_t *loop, const unsigned *counter, unsigned value)
{
    counted c = {counter, value};
    return run_until(loop, reached, &c, BUDGET_MS);
}

link_hub *open_hub(uv_loop_t *loop)
{
    link_hub *hub = NULL;
    error err;
    assert_int_equal(uv_loop_init(loop), 0);
    assert_int_equal(link_hub_create(&hub, loop, &err), ST_OK);
    return hub;
}

static void set_flag(void *arg)
{
    *(unsigned *)arg = 1;
}

void close_hub(uv_loop_t *loop, link_hub *hub)
{
    unsigned closed = 0;
    link_hub_close(hub, set_flag, &closed);
    assert_true(run_until_at_least(loop, &closed, 1));
    assert_int_equal(uv_run(loop, UV_RUN_NOWAIT), 0);
    assert_int_equal(uv_loop_close(loop), 0);
}

/* -- schemes ------------------------------------------------------------------------ */

static const char *scratch(void)
{
    const char *folder = getenv("GAGGLE_TEST_TMP");
    return folder != NULL ? folder : "/tmp";
}

/* Short, because the folder may leave few of the 107 bytes: the path is relative to it. */
static void socket_path(char *out, size_t size, const char *tag)
{
    snprintf(out, size, "%s/%s", scratch(), tag);
    if (strlen(out) < sizeof((struct sockaddr_un *)NULL)->sun_path) return;
    assert_int_equal(chdir(scratch()), 0);
    snprintf(out, size, "%s", tag);
}

static test_url make_url(scheme s, const char *tag, uint16_t port)
{
    test_url url;
    if (s == IPC) {
        char path[128];
        socket_path(path, sizeof path, tag);
        snprintf(url.text, sizeof url.text, "ipc://%s", path);
    } else {
        bool http = s == WS || s == WSS;
        snprintf(url.text, sizeof url.text, "%s://127.0.0.1:%u%s%s", scheme_names[s], port,
                 http ? "/" : "", http ? tag : "");
    }
    return url;
}

test_url listen_url(scheme s, const char *tag)
{
    return make_url(s, tag, 0);
}

test_url dial_url(scheme s, const char *tag, uint16_t port)
{
    return make_url(s, tag, port);
}

/* -- certificates --------------------------------------------------------------------- */

static char paths[8][300];
static link_tls server_config, client_config, foreign_config, none_config, name_config, ca_config;

/* In the scratch folder. Before any test runs, when cmocka's assertions say nothing. */
static void shell(const char *format, ...)
{
    char commands[1024], command[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(commands, sizeof commands, format, args);
    va_end(args);
    snprintf(command, sizeof command,
             "cd '%s' && { %s; } 2>openssl.log || { cat openssl.log >&2; exit 1; }", scratch(),
             commands);
    int result = system(command);
    if (result == 0) return;
    fprintf(stderr, "%s: ended with 0x%x\n", command, (unsigned)result);
    exit(1);
}

static const char *file(unsigned slot, const char *name)
{
    snprintf(paths[slot], sizeof paths[slot], "%s/%s", scratch(), name);
    return paths[slot];
}

static void make_ca(const char *name)
{
    shell("openssl ecparam -name prime256v1 -genkey -noout -out %s.key && "
          "openssl req -x509 -new -key %s.key -subj /CN=%s -days 2 -out %s.pem",
          name, name, name, name);
}

static void make_certificate(const char *name, const char *host, const char *ca)
{
    shell("openssl ecparam -name prime256v1 -genkey -noout -out %s.key && "
          "openssl req -new -key %s.key -subj /CN=%s -out %s.csr && "
          "printf 'subjectAltName=DNS:%s' > %s.ext && "
          "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days 2 "
          "-extfile %s.ext -out %s.pem",
          name, name, host, name, host, name, name, ca, ca, name, name);
}

void make_certificates(void)
{
    make_ca("ca");
    make_ca("foreign-ca");
    make_certificate("server", "gaggle.test", "ca");
    make_certificate("client", "worker-1", "ca");
    make_certificate("foreign", "worker-1", "foreign-ca");
    use_certificates();
}

void use_certificates(void)
{
    const char *ca = file(0, "ca.pem");
    server_config = (link_tls){.ca_file = ca,
                               .cert_file = file(1, "server.pem"),
                               .key_file = file(2, "server.key"),
                               .require_peer = true};
    client_config = (link_tls){.ca_file = ca,
                               .cert_file = file(3, "client.pem"),
                               .key_file = file(4, "client.key"),
                               .server_name = "gaggle.test"};
    foreign_config = (link_tls){.ca_file = ca,
                                .cert_file = file(5, "foreign.pem"),
                                .key_file = file(6, "foreign.key"),
                                .server_name = "gaggle.test"};
    none_config = (link_tls){.ca_file = ca, .server_name = "gaggle.test"};
    name_config = client_config;
    name_config.server_name = "other.test";
    ca_config = client_config;
    ca_config.ca_file = file(7, "foreign-ca.pem");
}

const link_tls *server_tls(scheme s)
{
    return scheme_has_tls(s) ? &server_config : NULL;
}

const link_tls *client_tls(scheme s)
{
    return scheme_has_tls(s) ? &client_config : NULL;
}

const link_tls *foreign_client_tls(void)
{
    return &foreign_config;
}

const link_tls *no_certificate_tls(void)
{
    return &none_config;
}

const link_tls *wrong_name_tls(void)
{
    return &name_config;
}

const link_tls *wrong_ca_tls(void)
{
    return &ca_config;
}

/* -- ends -------------------------------------------------------------------------------- */

static void *end_up(void *ctx, link_peer *l)
{
    end *e = ctx;
    assert_true(e->link == NULL || e->link == l);
    e->link = l;
    e->ups++;
    return e;
}

static void *server_up(void *ctx, link_peer *l)
{
    server *s = ctx;
    end *e = mem_calloc(1, sizeof *e);
    e->link = l;
    e->ups = 1;
    e->hook = s->hook;
    e->idle_hook = s->idle_hook;
    e->hook_arg = s->hook_arg;
    e->downs_total = &s->downs;
    e->next = s->ends;
    s->ends = e;
    s->ups++;
    return e;
}

static void end_message(void *ctx, link_peer *l, const uint8_t *bytes, size_t size)
{
    end *e = ctx;
    assert_ptr_equal(e->link, l);
    assert_int_equal(e->downs, 0);
    e->messages++;
    e->bytes += size;
    buffer_clear(&e->last);
    buffer_append(&e->last, bytes, size);
    if (e->hook != NULL) e->hook(e, bytes, size);
}

static void end_idle(void *ctx, link_peer *l)
{
    end *e = ctx;
    assert_true(link_is_idle(l));
    assert_int_equal(e->downs, 0);
    e->idles++;
    if (e->idle_hook != NULL) e->idle_hook(e);
}

static void end_refused(void *ctx, link_peer *l, const char *text)
{
    end *e = ctx;
    e->refusals++;
    link_send(l, (const uint8_t *)text, strlen(text));
}

static void end_down(void *ctx, link_peer *l, status why, const char *text)
{
    end *e = ctx;
    if (e->link != NULL) assert_ptr_equal(e->link, l);
    assert_int_equal(e->downs, 0);
    e->downs++;
    if (e->downs_total != NULL) ++*e->downs_total;
    e->why = why;
    snprintf(e->text, sizeof e->text, "%s", text);
    e->link = NULL;
}

const link_handlers end_handlers = {end_up, end_message, end_idle, end_refused, end_down};
const link_handlers server_handlers = {server_up, end_message, end_idle, end_refused, end_down};

void server_open(server *srv, link_hub *hub, scheme s, const char *tag, const link_limits *limits)
{
    error err;
    status st = link_listen(&srv->listener, hub, listen_url(s, tag).text, server_tls(s), limits,
                            &server_handlers, srv, &err);
    if (st != ST_OK) fail_msg("%s", err.text);
}

void end_free(end *e)
{
    buffer_free(&e->last);
}

void server_free(server *s)
{
    while (s->ends != NULL) {
        end *e = s->ends;
        s->ends = e->next;
        end_free(e);
        mem_free(e);
    }
}

void connect_end(uv_loop_t *loop, link_hub *hub, end *e, server *srv, scheme s, const char *tag)
{
    error err;
    unsigned ups = srv->ups;
    test_url url = dial_url(s, tag, link_listener_port(srv->listener));
    status st = link_dial(&e->link, hub, url.text, client_tls(s), NULL, &end_handlers, e, &err);
    if (st != ST_OK) fail_msg("%s", err.text);
    if (!run_until_at_least(loop, &e->ups, 1) || !run_until_at_least(loop, &srv->ups, ups + 1))
        fail_msg("%s did not come up: %s", url.text, e->text);
}

void echo(end *e, const uint8_t *bytes, size_t size)
{
    link_send(e->link, bytes, size);
}

/* -- raw sockets ---------------------------------------------------------------------------- */

int raw_connect(scheme s, const char *tag, uint16_t port)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in host = {.sin_family = AF_INET, .sin_port = htons(port)};
    host.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (s == IPC) socket_path(path.sun_path, sizeof path.sun_path, tag);
    const struct sockaddr *name = s == IPC ? (struct sockaddr *)&path : (struct sockaddr *)&host;
    socklen_t size = s == IPC ? sizeof path : sizeof host;
    int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, name, size) != 0) fail_msg("connect: %s", strerror(errno));
    return fd;
}

void raw_close_with_reset(int fd)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

void raw_write(int fd, const void *bytes, size_t size)
{
    ssize_t ignored = send(fd, bytes, size, MSG_NOSIGNAL);
    (void)ignored;
}

unsigned open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    unsigned count = 0;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count - 3; /* ".", ".." and the folder itself */
}
