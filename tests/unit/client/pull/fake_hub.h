/* fake_hub: a hub of models in the test's own process, and the store of large files that it sends
 * people to, at another port, as the real one does. It counts what it was asked and what it sent,
 * and misbehaves as a test says. */
#ifndef GAGGLE_TESTS_FAKE_HUB_H
#define GAGGLE_TESTS_FAKE_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HUB_MODEL  "geese/gosling"
#define HUB_COMMIT "0123456789abcdef0123456789abcdef01234567"

typedef struct fake_hub fake_hub;

/* One request, and how it is to be answered: the fields below `answer` are filled with what an
 * honest hub would do before the test's function sees them. */
typedef struct hub_request {
    char target[2048]; /* path and query */
    const char *file;  /* of the model; NULL: the listing, or nothing */
    bool at_store;     /* not at the hub itself */
    bool ranged;
    uint64_t first, last;
    char authorization[256]; /* empty: none */
    unsigned number;         /* of requests of this target before it */

    int answer; /* HTTP status */
    char headers[2048];
    char etag[128];
    const char *body;
    uint64_t body_size;
    uint64_t promised;    /* Content-Length; UINT64_MAX: none is sent */
    uint64_t cut_after;   /* bytes of the body, after which the connection is closed */
    uint64_t pause_after; /* bytes of the body, after which it waits for hub_release() */
    bool silent;          /* nothing is answered, ever */
    uint64_t sent;        /* bytes of the body, afterwards */
} hub_request;

typedef void (*hub_behaviour)(void *ctx, hub_request *request);

fake_hub *hub_start(void);
void hub_stop(fake_hub *hub);
const char *hub_url(const fake_hub *hub);

/* A file of the model; `bytes` must outlive the hub. A file of the same path is replaced. */
void hub_put(fake_hub *hub, const char *path, const void *bytes, size_t size, bool large);
/* Its name among the blobs. */
const char *hub_etag(const fake_hub *hub, const char *path);

/* From now on; NULL: an honest hub. Called with the hub's lock held. */
void hub_behave(fake_hub *hub, hub_behaviour behaviour, void *ctx);
/* Let everything go on that waits behind pause_after. */
void hub_release(fake_hub *hub);
/* Wait until `count` answers wait there. */
void hub_wait_paused(fake_hub *hub, unsigned count);

/* What happened since the last hub_forget(), for requests whose target holds `part`. */
void hub_forget(fake_hub *hub);
unsigned hub_count(fake_hub *hub, const char *part, bool at_store);
uint64_t hub_sent(fake_hub *hub, const char *part);
/* Did any request at the store come with a token? Did all at the hub come with this one? */
bool hub_store_saw_token(fake_hub *hub);
bool hub_saw_token(fake_hub *hub, const char *token);

#endif
