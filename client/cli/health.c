/* gaggle health: is the router or the worker here well? For a container's health check and a
 * Kubernetes exec probe: no shell, no token, one question over a local socket, one line, an exit
 * status. A router is asked by HTTP (router/sight.h), a worker by worker/health_socket.h. Both
 * answer from their loop at that moment, so that one which hangs does not count as well. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "common/clock.h"
#include "common/limits.h"

static const char *http_listen, *health_name;
static bool ready;
static uint32_t timeout_ms = 2000;

static const option_row rows[] = {
    {"http-listen", 0, OPTION_TEXT, &http_listen, "URL",
     .help = "ask the router that has this --http-listen"},
    {"health-name", 0, OPTION_TEXT, &health_name, "NAME",
     .help = "ask the worker here that has this --health-name"},
    {"ready", 0, OPTION_FLAG, &ready, NULL,
     .help = "does it serve? A router needs a worker, a worker a router"},
    {"timeout-ms", 0, OPTION_MS, &timeout_ms, "TIME", .help = "wait so long for an answer [2s]",
     .min = 1, .max = 60000},
};

static const option_table table = {
    "gaggle health [options]",
    "Asks a router or a worker how it is. Exit status: 0 well, 1 not well or no answer, 2 wrong "
    "use.",
    rows,
    CLI_COUNT(rows),
    "  gaggle health --http-listen http://127.0.0.1:7480   # is the router alive?\n"
    "  gaggle health --health-name gaggle-worker --ready   # is it at a router?\n"
    "\n"
    "Both read the settings that the router and the worker read (GAGGLE_HTTP_LISTEN,\n"
    "GAGGLE_HEALTH_NAME): a container's check is `gaggle health` alone. A worker is\n"
    "well while it is registered or tries to be, and no step of its engine has taken\n"
    "2 minutes. While it loads its model it does not answer.",
};

/* -- one question, one answer, until a deadline ---------------------------------------------- */

static bool wait_for(int fd, short event, uint64_t deadline_ms)
{
    uint64_t now_ms = clock_now_ms();
    struct pollfd wanted = {.fd = fd, .events = event};
    return now_ms < deadline_ms && poll(&wanted, 1, (int)(deadline_ms - now_ms)) == 1;
}

/* A connection of a nonblocking socket; -1 with errno. */
static int dial(int family, const struct sockaddr *address, socklen_t size, uint64_t deadline_ms)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    int failure = connect(fd, address, size) == 0 ? 0 : errno;
    if (failure == EINPROGRESS) {
        socklen_t length = sizeof failure;
        if (!wait_for(fd, POLLOUT, deadline_ms))
            failure = ETIMEDOUT;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &length);
    }
    if (failure == 0) return fd;
    close(fd);
    errno = failure;
    return -1;
}

/* What the other side says until it closes, as far as `out` holds it; closes fd. False with errno
 * where it did not close in time. */
static bool hear(int fd, char *out, size_t size, uint64_t deadline_ms)
{
    size_t heard = 0;
    ssize_t part = -1;
    errno = ETIMEDOUT;
    while (heard + 1 < size && wait_for(fd, POLLIN, deadline_ms)) {
        part = read(fd, out + heard, size - 1 - heard);
        if (part <= 0) break;
        heard += (size_t)part;
    }
    out[heard] = '\0';
    close(fd);
    return part == 0 || heard + 1 == size;
}

static int say(const char *who, bool well, const char *what)
{
    printf("%s %s: %s\n", who, well ? "is well" : "is not well", what);
    return well ? EXIT_DONE : EXIT_FAILED;
}

/* -- a router ---------------------------------------------------------------------------------- */

/* "http://HOST:PORT" with HOST an address, one in brackets, or a name; false: it is not. */
static bool split_url(const char *url, char host[256], char port[8])
{
    int used = 0;
    if (sscanf(url, "http://[%255[^]/]]:%5[0-9]%n", host, port, &used) != 2 &&
        sscanf(url, "http://%255[^][:/]:%5[0-9]%n", host, port, &used) != 2)
        return false;
    return url[used] == '\0' || strcmp(url + used, "/") == 0;
}

static int ask_router(uint64_t deadline_ms)
{
    char host[256], port[8];
    if (!split_url(http_listen, host, port)) {
        cli_say("health", "%s is not http://HOST:PORT", http_listen);
        return EXIT_USAGE;
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *address;
    int failure = getaddrinfo(host, port, &hints, &address);
    if (failure != 0) return say("router", false, gai_strerror(failure));
    int fd = dial(address->ai_family, address->ai_addr, address->ai_addrlen, deadline_ms);
    freeaddrinfo(address);
    if (fd < 0) return say("router", false, strerror(errno));
    char text[LIMIT_HTTP_HEAD_BYTES];
    int size = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                        ready ? "/readyz" : "/livez");
    ssize_t sent = send(fd, text, (size_t)size, MSG_NOSIGNAL);
    if (sent != size || !hear(fd, text, sizeof text, deadline_ms))
        return say("router", false, strerror(errno));
    int code = 0;
    char *body = strstr(text, "\r\n\r\n");
    if (sscanf(text, "HTTP/1.1 %3d", &code) != 1 || body == NULL)
        return say("router", false, "its answer is not HTTP's");
    body += 4;
    body[strcspn(body, "\n")] = '\0';
    return say("router", code == 200, body);
}

/* -- a worker ---------------------------------------------------------------------------------- */

static int ask_worker(uint64_t deadline_ms)
{
    size_t size = strlen(health_name);
    if (size == 0 || size > LIMIT_HEALTH_NAME_BYTES) {
        cli_say("health", "--health-name has %zu bytes; it must have 1 to %u", size,
                LIMIT_HEALTH_NAME_BYTES);
        return EXIT_USAGE;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX}; /* abstract: its first byte is 0 */
    memcpy(address.sun_path + 1, health_name, size);
    int fd = dial(AF_UNIX, (const struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size), deadline_ms);
    if (fd < 0) return say("worker", false, strerror(errno));
    char line[LIMIT_HEALTH_LINE_BYTES + 2];
    if (!hear(fd, line, sizeof line, deadline_ms)) return say("worker", false, strerror(errno));
    line[strcspn(line, "\n")] = '\0';
    char word[16] = "";
    sscanf(line, "%15[a-z]", word);
    bool serves = strcmp(word, "serving") == 0;
    bool tries = strcmp(word, "connecting") == 0 || strcmp(word, "draining") == 0;
    return say("worker", serves || (tries && !ready), line);
}

int cli_health(int argc, char **argv)
{
    if (!cli_parse("health", &table, argc, argv, NULL)) return EXIT_USAGE;
    if (http_listen == NULL && health_name == NULL) {
        cli_say("health",
                "whom to ask? --http-listen URL is a router, --health-name NAME a worker");
        return EXIT_USAGE;
    }
    uint64_t deadline_ms = clock_now_ms() + timeout_ms;
    int result = EXIT_DONE;
    if (http_listen != NULL) result = ask_router(deadline_ms);
    if (health_name != NULL && result == EXIT_DONE) result = ask_worker(deadline_ms);
    return result;
}
