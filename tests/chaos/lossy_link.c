/* gaggle-lossy-link: real packets late and lost, where the kernel has no netem.
 *
 *     gaggle-lossy-link --delay-ms 25 --loss 100
 *
 * Makes the tun device gaggle0 with the address 10.77.0.1, here: run it in a network namespace.
 * What is sent to 10.77.0.2 comes to 10.77.0.1 as if from there, --delay-ms later, but for one
 * packet in
 * --loss. So a connection to 10.77.0.2 reaches a listener of this same namespace over a long, bad
 * line, and the kernel's TCP has to cope. Both addresses trade places in each packet, which leaves
 * all checksums as they are: they are sums.
 *
 * Says "ready" on stdout, and in the end (SIGTERM) what it carried and lost. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/options.h"

enum { MTU = 1500, QUEUE_PACKETS = 65536, SOURCE_AT = 12, DESTINATION_AT = 16, IPV4_HEADER = 20 };

typedef struct packet {
    uint64_t due_ns;
    uint32_t size;
    uint8_t bytes[MTU];
} packet;

/* All are equally late, so they leave in the order of their coming. */
static packet queue[QUEUE_PACKETS];
static uint64_t put, taken; /* packets ever; the queue holds put - taken */
static uint64_t lost;

static uint32_t delay_ms = 25, loss = 100;
static uint64_t seed = 1;

static const option_row rows[] = {
    {"delay-ms", 0, OPTION_U32, &delay_ms, "MS", .help = "of every packet [25]", .max = 10000},
    {"loss", 0, OPTION_U32, &loss, "N", .help = "one packet in N is lost; 0: none [100]",
     .max = 1000000},
    {"seed", 0, OPTION_U64, &seed, "N", .help = "of which are lost [1]", .min = 1, .max = 1e18},
};

static uint32_t random_below(uint32_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 16) % bound);
}

static void fail(const char *what)
{
    fprintf(stderr, "gaggle-lossy-link: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void set_address(int control, struct ifreq *device, unsigned long what, const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    inet_pton(AF_INET, text, &address.sin_addr);
    memcpy(&device->ifr_addr, &address, sizeof address);
    if (ioctl(control, what, device) != 0) fail(text);
}

static int open_device(void)
{
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0) fail("/dev/net/tun");
    struct ifreq device = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(device.ifr_name, sizeof device.ifr_name, "gaggle0");
    if (ioctl(tun, TUNSETIFF, &device) != 0) fail("making gaggle0");
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0) fail("socket");
    set_address(control, &device, SIOCSIFADDR, "10.77.0.1");
    set_address(control, &device, SIOCSIFNETMASK, "255.255.255.0");
    device.ifr_mtu = MTU;
    if (ioctl(control, SIOCSIFMTU, &device) != 0) fail("its MTU");
    device.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(control, SIOCSIFFLAGS, &device) != 0) fail("bringing gaggle0 up");
    close(control);
    return tun;
}

/* Whatever else this host says on its devices (IPv6's neighbours) goes nowhere. */
static void take_in(int tun)
{
    while (put - taken < QUEUE_PACKETS) {
        packet *p = &queue[put % QUEUE_PACKETS];
        ssize_t size = read(tun, p->bytes, sizeof p->bytes);
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (size < 0) fail("reading gaggle0");
        if (size < IPV4_HEADER || p->bytes[0] >> 4 != 4) continue;
        if (loss > 0 && random_below(loss) == 0) {
            lost++;
            continue;
        }
        uint8_t source[4];
        memcpy(source, p->bytes + SOURCE_AT, sizeof source);
        memcpy(p->bytes + SOURCE_AT, p->bytes + DESTINATION_AT, sizeof source);
        memcpy(p->bytes + DESTINATION_AT, source, sizeof source);
        p->size = (uint32_t)size;
        p->due_ns = clock_now_ns() + (uint64_t)delay_ms * 1000000;
        put++;
    }
}

/* Returns in how many ms the next is due; -1: there is none. */
static int give_out(int tun)
{
    while (taken < put) {
        const packet *p = &queue[taken % QUEUE_PACKETS];
        uint64_t now_ns = clock_now_ns();
        if (p->due_ns > now_ns) return (int)((p->due_ns - now_ns + 999999) / 1000000);
        /* A device that takes no more loses it, as a full line would. */
        if (write(tun, p->bytes, p->size) < 0) lost++;
        taken++;
    }
    return -1;
}

int main(int argc, char **argv)
{
    const option_table table = {.usage = "gaggle-lossy-link [options]",
                                .about = "Carries what is sent to 10.77.0.2 to 10.77.0.1, late.",
                                .rows = rows,
                                .row_count = sizeof rows / sizeof *rows};
    error err;
    if (options_parse(&table, argc, argv, NULL, &err) != ST_OK) {
        fprintf(stderr, "gaggle-lossy-link: %s\n", err.text);
        return 2;
    }
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int ended = signalfd(-1, &ends, SFD_CLOEXEC);
    if (ended < 0) fail("signalfd");
    int tun = open_device();
    puts("ready");
    fflush(stdout);
    struct pollfd watched[2] = {{.fd = tun, .events = POLLIN}, {.fd = ended, .events = POLLIN}};
    while (watched[1].revents == 0) {
        if (poll(watched, 2, give_out(tun)) < 0 && errno != EINTR) fail("poll");
        take_in(tun);
    }
    fprintf(stderr, "gaggle-lossy-link: %llu packets carried, %llu lost\n",
            (unsigned long long)taken, (unsigned long long)lost);
    return 0;
}
