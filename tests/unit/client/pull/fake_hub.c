#include "fake_hub.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "common/mem.h"

enum { FILES_MAX = 32, REQUESTS_MAX = 4096, CONNECTIONS_MAX = 1024, SEND_BYTES = 4096 };

typedef struct hub_file {
    char path[256], etag[65];
    const char *bytes;
    size_t size;
    bool large;
} hub_file;

typedef struct server {
    fake_hub *hub;
    bool is_store;
    int listener;
    char url[64];
    pthread_t thread;
} server;

typedef struct connection {
    server *server;
    int fd;
    pthread_t thread;
} connection;

struct fake_hub {
    pthread_mutex_t lock;
    pthread_cond_t change;
    server hub, store;
    bool stopping;
    hub_file files[FILES_MAX];
    size_t file_count;
    hub_behaviour behaviour;
    void *behaviour_ctx;
    unsigned paused, releases;
    connection connections[CONNECTIONS_MAX];
    size_t connection_count;
    hub_request *requests; /* [REQUESTS_MAX] */
    size_t request_count, forgotten;
};

static void digest(char out[65], const EVP_MD *kind, const char *head, size_t head_size,
                   const char *bytes, size_t size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned hash_size;
    CHECK(EVP_DigestInit_ex(context, kind, NULL) == 1 &&
          EVP_DigestUpdate(context, head, head_size) == 1 &&
          EVP_DigestUpdate(context, bytes, size) == 1 &&
          EVP_DigestFinal_ex(context, hash, &hash_size) == 1);
    EVP_MD_CTX_free(context);
    for (unsigned i = 0; i < hash_size; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

void hub_put(fake_hub *h, const char *path, const void *bytes, size_t size, bool large)
{
    pthread_mutex_lock(&h->lock);
    size_t at = 0;
    while (at < h->file_count && strcmp(h->files[at].path, path) != 0)
        at++;
    CHECK(at < FILES_MAX);
    if (at == h->file_count) h->file_count++;
    hub_file *file = &h->files[at];
    *file = (hub_file){.bytes = bytes, .size = size, .large = large};
    snprintf(file->path, sizeof file->path, "%s", path);
    char head[32];
    size_t head_size = (size_t)snprintf(head, sizeof head, "blob %zu", size) + 1;
    digest(file->etag, large ? EVP_sha256() : EVP_sha1(), head, large ? 0 : head_size, bytes, size);
    pthread_mutex_unlock(&h->lock);
}

static const hub_file *find(const fake_hub *h, const char *path, size_t size)
{
    for (size_t i = 0; i < h->file_count; i++)
        if (strlen(h->files[i].path) == size && memcmp(h->files[i].path, path, size) == 0)
            return &h->files[i];
    return NULL;
}

const char *hub_etag(const fake_hub *h, const char *path)
{
    const hub_file *file = find(h, path, strlen(path));
    CHECK(file != NULL);
    return file->etag;
}

/* -- what an honest hub answers
 * --------------------------------------------------------------------
 */

static void answer_listing(const fake_hub *h, hub_request *r, buffer *scratch)
{
    char line[1024];
#define ADD(...) buffer_append(scratch, line, (size_t)snprintf(line, sizeof line, __VA_ARGS__))
    ADD("{\"id\": \"%s\", \"sha\": \"%s\", \"siblings\": [", HUB_MODEL, HUB_COMMIT);
    for (size_t i = 0; i < h->file_count; i++) {
        const hub_file *f = &h->files[i];
        ADD("%s{\"rfilename\": \"%s\", \"size\": %zu, ", i > 0 ? ", " : "", f->path, f->size);
        if (f->large)
            ADD("\"blobId\": \"%040d\", \"lfs\": {\"sha256\": \"%s\", \"size\": %zu, "
                "\"pointerSize\": 134}}",
                0, f->etag, f->size);
        else
            ADD("\"blobId\": \"%s\"}", f->etag);
    }
    ADD("]}");
#undef ADD
    r->answer = 200;
    r->body = (const char *)scratch->data;
    r->body_size = scratch->size;
}

static void answer_bytes(const hub_file *f, hub_request *r)
{
    r->answer = 200;
    r->body = f->bytes;
    r->body_size = f->size;
    if (!r->ranged) return;
    if (r->first >= f->size) {
        r->answer = 416;
        r->body_size = 0;
        return;
    }
    if (r->last >= f->size) r->last = f->size - 1;
    r->answer = 206;
    r->body += r->first;
    r->body_size = r->last - r->first + 1;
    snprintf(r->headers, sizeof r->headers, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%zu\r\n",
             r->first, r->last, f->size);
}

static void answer_honestly(const fake_hub *h, hub_request *r, buffer *scratch)
{
    static const char listing[] = "/api/models/" HUB_MODEL "/revision/";
    static const char resolve[] = "/" HUB_MODEL "/resolve/" HUB_COMMIT "/";
    r->answer = 404;
    if (!r->at_store && strncmp(r->target, listing, sizeof listing - 1) == 0) {
        answer_listing(h, r, scratch);
        return;
    }
    bool known = strncmp(r->target, resolve, sizeof resolve - 1) == 0;
    const char *path = r->target + sizeof resolve - 1;
    const hub_file *f = known ? find(h, path, strcspn(path, "?")) : NULL;
    if (f == NULL) return;
    r->file = f->path;
    if (r->at_store || !f->large) {
        answer_bytes(f, r);
        snprintf(r->etag, sizeof r->etag, "%s", r->at_store ? "of-the-store" : f->etag);
        return;
    }
    r->answer = 302;
    snprintf(r->headers, sizeof r->headers,
             "Location: %s%.1000s?signed=yes\r\nX-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\n",
             h->store.url, r->target, f->etag, f->size);
}

/* -- one connection
 * ---------------------------------------------------------------------------------
 */

/* false: it has gone */
static bool read_head(int fd, char *head, size_t size)
{
    size_t used = 0;
    while (used + 1 < size) {
        ssize_t got = recv(fd, head + used, 1, 0);
        if (got <= 0) return false;
        head[++used] = '\0';
        if (used >= 4 && memcmp(head + used - 4, "\r\n\r\n", 4) == 0) return true;
    }
    return false;
}

static void parse(const char *head, hub_request *r)
{
    CHECK(sscanf(head, "GET %2047s HTTP/1.1\r\n", r->target) == 1);
    for (const char *line = strchr(head, '\n') + 1; *line != '\r'; line = strchr(line, '\n') + 1) {
        if (strncasecmp(line, "authorization: ", 15) == 0)
            sscanf(line + 15, "%255[^\r]", r->authorization);
        if (sscanf(line, "Range: bytes=%" SCNu64 "-%" SCNu64, &r->first, &r->last) == 2)
            r->ranged = true;
    }
}

static bool send_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* Returns when released, or when everything ends; false: it ends. */
static bool pause_here(fake_hub *h)
{
    pthread_mutex_lock(&h->lock);
    unsigned releases = h->releases;
    h->paused++;
    pthread_cond_broadcast(&h->change);
    while (h->releases == releases && !h->stopping)
        pthread_cond_wait(&h->change, &h->lock);
    h->paused--;
    bool goes_on = !h->stopping;
    pthread_mutex_unlock(&h->lock);
    return goes_on;
}

static bool send_body(fake_hub *h, int fd, hub_request *r, hub_request *record)
{
    while (r->sent < r->body_size) {
        if (r->sent == r->pause_after && !pause_here(h)) return false;
        uint64_t end = r->body_size;
        if (r->sent < r->pause_after && r->pause_after < end) end = r->pause_after;
        if (r->cut_after < end) end = r->cut_after;
        if (r->sent >= end) return false; /* cut */
        size_t size = end - r->sent < SEND_BYTES ? (size_t)(end - r->sent) : SEND_BYTES;
        if (!send_all(fd, r->body + r->sent, size)) return false;
        r->sent += size;
        pthread_mutex_lock(&h->lock);
        record->sent = r->sent;
        pthread_mutex_unlock(&h->lock);
    }
    return r->promised == r->body_size;
}

/* false: the connection is not to be used any more */
static bool answer(connection *c, hub_request *r)
{
    fake_hub *h = c->server->hub;
    buffer scratch = {0};
    pthread_mutex_lock(&h->lock);
    for (size_t i = h->forgotten; i < h->request_count; i++)
        r->number += strcmp(h->requests[i].target, r->target) == 0;
    r->at_store = c->server->is_store;
    r->cut_after = r->pause_after = UINT64_MAX;
    answer_honestly(h, r, &scratch);
    r->promised = r->body_size;
    if (h->behaviour != NULL) {
        uint64_t honest_size = r->body_size;
        h->behaviour(h->behaviour_ctx, r);
        if (r->body_size != honest_size && r->promised == honest_size) r->promised = r->body_size;
    }
    CHECK(h->request_count < REQUESTS_MAX);
    hub_request *record = &h->requests[h->request_count++];
    *record = *r;
    pthread_cond_broadcast(&h->change);
    pthread_mutex_unlock(&h->lock);

    char head[4096], length[64] = "", etag[160] = "";
    if (r->promised != UINT64_MAX)
        snprintf(length, sizeof length, "Content-Length: %" PRIu64 "\r\n", r->promised);
    if (r->etag[0] != '\0') snprintf(etag, sizeof etag, "ETag: \"%s\"\r\n", r->etag);
    snprintf(head, sizeof head, "HTTP/1.1 %d Fine\r\n%s%s%s\r\n", r->answer, length, etag,
             r->headers);
    bool on = !r->silent || pause_here(h);
    on = on && send_all(c->fd, head, strlen(head)) && send_body(h, c->fd, r, record);
    buffer_free(&scratch);
    return on;
}

static void *serve(void *ctx)
{
    connection *c = ctx;
    char head[8192];
    for (bool on = true; on && read_head(c->fd, head, sizeof head);) {
        hub_request r = {0};
        parse(head, &r);
        on = answer(c, &r);
    }
    shutdown(c->fd, SHUT_RDWR);
    return NULL;
}

static void *accept_all(void *ctx)
{
    server *s = ctx;
    fake_hub *h = s->hub;
    for (int fd; (fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        pthread_mutex_lock(&h->lock);
        CHECK(h->connection_count < CONNECTIONS_MAX);
        connection *c = &h->connections[h->connection_count++];
        *c = (connection){.server = s, .fd = fd};
        CHECK(pthread_create(&c->thread, NULL, serve, c) == 0);
        pthread_mutex_unlock(&h->lock);
    }
    return NULL;
}

/* -- the whole
 * ---------------------------------------------------------------------------------------
 */

static void server_start(server *s, fake_hub *h, bool is_store)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    s->hub = h;
    s->is_store = is_store;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(s->listener >= 0 && bind(s->listener, (struct sockaddr *)&address, size) == 0 &&
          listen(s->listener, 64) == 0 &&
          getsockname(s->listener, (struct sockaddr *)&address, &size) == 0);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", ntohs(address.sin_port));
    CHECK(pthread_create(&s->thread, NULL, accept_all, s) == 0);
}

fake_hub *hub_start(void)
{
    fake_hub *h = mem_calloc(1, sizeof *h);
    h->requests = mem_calloc(REQUESTS_MAX, sizeof *h->requests);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->change, NULL);
    server_start(&h->hub, h, false);
    server_start(&h->store, h, true);
    return h;
}

void hub_stop(fake_hub *h)
{
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    pthread_cond_broadcast(&h->change);
    pthread_mutex_unlock(&h->lock);
    server *const servers[] = {&h->hub, &h->store};
    for (int i = 0; i < 2; i++) {
        shutdown(servers[i]->listener, SHUT_RDWR);
        pthread_join(servers[i]->thread, NULL);
        close(servers[i]->listener);
    }
    for (size_t i = 0; i < h->connection_count; i++) {
        shutdown(h->connections[i].fd, SHUT_RDWR);
        pthread_join(h->connections[i].thread, NULL);
        close(h->connections[i].fd);
    }
    pthread_cond_destroy(&h->change);
    pthread_mutex_destroy(&h->lock);
    mem_free(h->requests);
    mem_free(h);
}

const char *hub_url(const fake_hub *h)
{
    return h->hub.url;
}

void hub_behave(fake_hub *h, hub_behaviour behaviour, void *ctx)
{
    pthread_mutex_lock(&h->lock);
    h->behaviour = behaviour;
    h->behaviour_ctx = ctx;
    pthread_mutex_unlock(&h->lock);
}

void hub_release(fake_hub *h)
{
    pthread_mutex_lock(&h->lock);
    h->releases++;
    pthread_cond_broadcast(&h->change);
    pthread_mutex_unlock(&h->lock);
}

void hub_wait_paused(fake_hub *h, unsigned count)
{
    pthread_mutex_lock(&h->lock);
    while (h->paused < count)
        pthread_cond_wait(&h->change, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

void hub_forget(fake_hub *h)
{
    pthread_mutex_lock(&h->lock);
    h->forgotten = h->request_count;
    pthread_mutex_unlock(&h->lock);
}

unsigned hub_count(fake_hub *h, const char *part, bool at_store)
{
    unsigned count = 0;
    pthread_mutex_lock(&h->lock);
    for (size_t i = h->forgotten; i < h->request_count; i++)
        count += h->requests[i].at_store == at_store && strstr(h->requests[i].target, part) != NULL;
    pthread_mutex_unlock(&h->lock);
    return count;
}

uint64_t hub_sent(fake_hub *h, const char *part)
{
    uint64_t sum = 0;
    pthread_mutex_lock(&h->lock);
    for (size_t i = h->forgotten; i < h->request_count; i++)
        if (strstr(h->requests[i].target, part) != NULL) sum += h->requests[i].sent;
    pthread_mutex_unlock(&h->lock);
    return sum;
}

bool hub_store_saw_token(fake_hub *h)
{
    bool saw = false;
    pthread_mutex_lock(&h->lock);
    for (size_t i = h->forgotten; i < h->request_count; i++)
        saw |= h->requests[i].at_store && h->requests[i].authorization[0] != '\0';
    pthread_mutex_unlock(&h->lock);
    return saw;
}

bool hub_saw_token(fake_hub *h, const char *token)
{
    bool saw = true;
    char expected[300];
    snprintf(expected, sizeof expected, "Bearer %s", token);
    pthread_mutex_lock(&h->lock);
    for (size_t i = h->forgotten; i < h->request_count; i++)
        if (!h->requests[i].at_store) saw &= strcmp(h->requests[i].authorization, expected) == 0;
    pthread_mutex_unlock(&h->lock);
    return saw;
}
