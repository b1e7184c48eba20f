/* service_notify: tells systemd how this service is (sd_notify(3); Type=notify).
 *
 * Where NOTIFY_SOCKET is not set, because nobody asked, it does nothing. A supervisor that does not
 * listen is no reason to fail: errors are silent. Any thread; one datagram, never blocks. */
#ifndef GAGGLE_COMMON_SERVICE_NOTIFY_H
#define GAGGLE_COMMON_SERVICE_NOTIFY_H

#include <stdbool.h>

/* `state`: lines of NAME=value, as "READY=1\nSTATUS=serving". True: the supervisor was told. */
bool service_notify(const char *state);

#endif
