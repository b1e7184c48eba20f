/* hub_words: what a hub's refusal means, and what to do about it. */
#ifndef GAGGLE_PULL_HUB_WORDS_H
#define GAGGLE_PULL_HUB_WORDS_H

#include "client/pull/hub_http.h"
#include "common/hub_cache.h"

/* Say it in `err` in place of the plain code when the hub's answer was 401, 403 or 404; leave
 * anything else. Returns the status, which is `st` for anything else. */
status hub_words(status st, const http_head *head, const hub_settings *hub, const model_ref *ref,
                 error *err);

#endif
