/* http_head: the lines of an answer that pulling reads. Foreign bytes. Private to client/pull. */
#ifndef GAGGLE_PULL_HTTP_HEAD_H
#define GAGGLE_PULL_HTTP_HEAD_H

#include "client/pull/hub_http.h"

/* One line, with or without its end. "HTTP/..." begins a head anew, but what a hub said of the
 * linked file stays. */
void http_head_line(http_head *head, const char *line, size_t size);

#endif
