#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/doctor/checks.h"
#include "client/doctor/host_facts.h"

/* As a router would, on every address; 0 or errno. */
static int try_to_listen(uint16_t port)
{
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    int code =
        bind(fd, (const struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 1) == 0 ? 0 : errno;
    close(fd);
    return code;
}

static void say_taken(findings *f, const char *check, const char *root, uint16_t port)
{
    port_holder holder;
    bool found = host_port_holder(&holder, root, port);
    if (found && strcmp(holder.name, "gaggle-router") == 0) {
        finding_add(f, FINDING_OK, check, "gaggle-router (pid %" PRIu64 ") listens there",
                    holder.pid);
        return;
    }
    if (found && holder.pid != 0)
        finding_add(f, FINDING_WARN, check, "%s (pid %" PRIu64 ") listens there", holder.name,
                    holder.pid);
    else
        finding_add(f, FINDING_WARN, check, "somebody else's process holds it");
    finding_advise(f,
                   "stop it, or let the router take another port (--listen, --worker-listen, "
                   "--http-listen)%s",
                   found && holder.pid != 0 ? "" : "; as root this says whose it is");
}

void check_port(findings *f, const char *root, uint16_t port)
{
    char check[32];
    snprintf(check, sizeof check, "port %u", port);
    int code = try_to_listen(port);
    if (code == 0) {
        finding_add(f, FINDING_OK, check, "free");
    } else if (code == EADDRINUSE) {
        say_taken(f, check, root, port);
    } else {
        finding_add(f, FINDING_WARN, check, "cannot be listened on: %s", strerror(code));
        finding_advise(f, code == EACCES
                              ? "ports below 1024 want root or CAP_NET_BIND_SERVICE: take a higher "
                                "one, or set AmbientCapabilities= in the unit"
                              : "let the router take another port");
    }
}
