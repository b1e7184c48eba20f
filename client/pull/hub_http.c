#include "client/pull/hub_http.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "client/pull/http_head.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/mem.h"

enum {
    REDIRECTS_MAX = 10,
    PROGRESS_BYTES = 64 << 10,
    REFUSAL_BYTES = 1 << 20, /* of the body of an error, which nobody reads */
    RETRY_MS_MAX = 30000,
    RETRY_AFTER_MS_MAX = 120000, /* longer is the user's to wait */
    SAY_EVERY_MS = 1000,
};

struct http_request {
    hub_http *http;
    http_request *next;
    char *url, *what;
    const http_sink *sink;
    void *ctx;

    CURL *easy;
    struct curl_slist *headers;
    char *now_url; /* of this hop */
    bool running;  /* in the multi handle; otherwise it waits until resume_ms */
    bool ended;    /* on_end came, or it was aborted: to be freed */
    uint64_t resume_ms;
    uint32_t fruitless, redirects;
    bool on_shortcut, shortcut_refused;

    uint64_t heard_ms, try_bytes, refusal_bytes;
    bool left_hub;
    http_head head;
    bool head_given;
    status sink_status; /* what a callback of this try said */
    error why;
    char curl_text[CURL_ERROR_SIZE];
};

struct hub_http {
    http_options options;
    CURLM *multi;
    http_request *requests;
    char *origin; /* "https://huggingface.co:443" */
    uint64_t said_ms;
};

/* -- urls ----------------------------------------------------------------------------------------
 */

typedef struct url_parts {
    char *scheme, *host, *port;
} url_parts;

static void url_parts_free(url_parts *p)
{
    curl_free(p->scheme);
    curl_free(p->host);
    curl_free(p->port);
}

static bool url_split(url_parts *out, const char *url)
{
    *out = (url_parts){0};
    CURLU *parsed = curl_url();
    CHECK(parsed != NULL);
    bool ok = curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(parsed, CURLUPART_SCHEME, &out->scheme, 0) == CURLUE_OK &&
              curl_url_get(parsed, CURLUPART_HOST, &out->host, 0) == CURLUE_OK &&
              curl_url_get(parsed, CURLUPART_PORT, &out->port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              (strcmp(out->scheme, "http") == 0 || strcmp(out->scheme, "https") == 0);
    curl_url_cleanup(parsed);
    if (!ok) {
        url_parts_free(out);
        *out = (url_parts){0};
    }
    return ok;
}

/* Scheme, host and port; NULL for what is no http URL. mem_free(). */
static char *url_origin(const char *url)
{
    url_parts p;
    if (!url_split(&p, url)) return NULL;
    size_t size = strlen(p.scheme) + strlen(p.host) + strlen(p.port) + sizeof "://:";
    char *origin = mem_alloc(size);
    snprintf(origin, size, "%s://%s:%s", p.scheme, p.host, p.port);
    url_parts_free(&p);
    return origin;
}

/* Whom a sentence blames. */
static const char *host_of(const http_request *r)
{
    static char text[128];
    url_parts p;
    if (!url_split(&p, r->now_url)) return "the hub";
    snprintf(text, sizeof text, "%s", p.host);
    url_parts_free(&p);
    return text;
}

static bool is_hub(const hub_http *h, const char *url)
{
    char *origin = url_origin(url);
    bool same = origin != NULL && strcasecmp(origin, h->origin) == 0;
    mem_free(origin);
    return same;
}

/* -- one try --------------------------------------------------------------------------------------
 */

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
    http_request *r = ctx;
    r->heard_ms = clock_now_ms();
    http_head_line(&r->head, line, size * count);
    return size * count;
}

static bool is_success(const http_request *r)
{
    return r->head.code >= 200 && r->head.code < 300;
}

static bool give_head(http_request *r)
{
    if (r->head_given) return true;
    r->head_given = true;
    r->head.from_hub = !r->left_hub;
    r->sink_status = r->sink->on_head(r->ctx, &r->head, r->now_url, &r->why);
    return r->sink_status == ST_OK;
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *ctx)
{
    http_request *r = ctx;
    size *= count;
    r->heard_ms = clock_now_ms();
    if (!is_success(r)) {
        r->refusal_bytes += size;
        return r->refusal_bytes <= REFUSAL_BYTES ? size : 0;
    }
    if (!give_head(r)) return 0;
    r->sink_status = r->sink->on_body(r->ctx, bytes, size, &r->why);
    if (r->sink_status != ST_OK) return 0;
    r->try_bytes += size;
    return size;
}

static void set_headers(http_request *r)
{
    curl_slist_free_all(r->headers);
    r->headers = curl_slist_append(NULL, "Accept-Encoding: identity");
    const char *token = r->http->options.hub->token;
    if (token == NULL || r->left_hub) return;
    size_t size = strlen(token) + sizeof "Authorization: Bearer ";
    char *line = mem_alloc(size);
    snprintf(line, size, "Authorization: Bearer %s", token);
    r->headers = curl_slist_append(r->headers, line);
    mem_free(line);
}

/* From here on the handle is the multi handle's until its message comes. */
static void run_hop(http_request *r, const char *url)
{
    char *now_url = mem_strdup(url);
    mem_free(r->now_url);
    r->now_url = now_url;
    r->left_hub = !is_hub(r->http, url);
    set_headers(r);
    curl_easy_setopt(r->easy, CURLOPT_URL, url);
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
    r->head.code = 0;
    r->head_given = false;
    r->refusal_bytes = 0;
    r->curl_text[0] = '\0';
    r->heard_ms = clock_now_ms();
    r->running = true;
    CHECK(curl_multi_add_handle(r->http->multi, r->easy) == CURLM_OK);
}

static void end(http_request *r, status st)
{
    r->ended = true;
    r->sink->on_end(r->ctx, st, &r->why, &r->head);
}

static void begin_try(http_request *r)
{
    http_try next = {0};
    if (!r->sink->on_try(r->ctx, &next)) {
        end(r, ST_OK);
        return;
    }
    char range[64];
    snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, next.first, next.last);
    curl_easy_setopt(r->easy, CURLOPT_RANGE, next.ranged ? range : NULL);
    r->on_shortcut = next.shortcut != NULL && !r->shortcut_refused;
    r->redirects = 0;
    r->try_bytes = 0;
    r->sink_status = ST_OK;
    r->why = (error){0};
    /* A shortcut leaves out the hub's own answer, and with it what it says of the file. */
    r->head = (http_head){0};
    run_hop(r, r->on_shortcut ? next.shortcut : r->url);
}

static uint64_t random_below(uint64_t bound)
{
    uint64_t value = 0;
    CHECK(getrandom(&value, sizeof value, 0) == sizeof value);
    return value % (bound + 1);
}

/* r->why says what was wrong with this try. */
static void try_again(http_request *r)
{
    hub_http *h = r->http;
    const http_options *o = &h->options;
    if (r->try_bytes >= PROGRESS_BYTES) r->fruitless = 0;
    if (r->try_bytes == 0) r->shortcut_refused = true;
    uint64_t asked_ms = r->head.code >= 300 ? r->head.retry_after_ms : 0;
    if (++r->fruitless >= o->tries_max || asked_ms > RETRY_AFTER_MS_MAX) {
        if (asked_ms > 0) {
            char reason[ERROR_TEXT_SIZE];
            memcpy(reason, r->why.text, sizeof reason);
            error_set(&r->why, ST_UNAVAILABLE, "%.300s; it asks to come back in %" PRIu64 " s",
                      reason, asked_ms / 1000);
            r->why.retry_after_ms = (uint32_t)asked_ms;
        }
        end(r, r->why.code);
        return;
    }
    uint64_t bound_ms = o->retry_ms;
    for (uint32_t i = 1; i < r->fruitless && bound_ms < RETRY_MS_MAX; i++)
        bound_ms *= 2;
    if (bound_ms > RETRY_MS_MAX) bound_ms = RETRY_MS_MAX;
    uint64_t wait_ms = asked_ms + random_below(bound_ms);
    uint64_t now_ms = clock_now_ms();
    r->resume_ms = now_ms + wait_ms;
    if (h->said_ms != 0 && now_ms - h->said_ms < SAY_EVERY_MS) return;
    h->said_ms = now_ms;
    char sentence[ERROR_TEXT_SIZE + 128];
    snprintf(sentence, sizeof sentence, "%.300s; trying again in %.1f s (%u of %u)", r->why.text,
             (double)wait_ms / 1000, r->fruitless, o->tries_max - 1);
    o->say(o->ctx, sentence);
}

/* -- the end of a hop
 * ------------------------------------------------------------------------------
 */

static void follow(http_request *r)
{
    char *to = NULL;
    curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &to);
    url_parts p;
    bool valid = to != NULL && url_split(&p, to);
    bool weaker = false;
    if (valid) {
        weaker = strncmp(r->now_url, "https:", 6) == 0 && strcmp(p.scheme, "https") != 0;
        url_parts_free(&p);
    }
    if (!valid || weaker) {
        error_set(&r->why, ST_UNAVAILABLE, "%s: %s sends us to %s", r->what, host_of(r),
                  weaker ? "a place without encryption" : "a place that is no http URL");
        end(r, ST_UNAVAILABLE);
    } else if (++r->redirects > REDIRECTS_MAX) {
        error_set(&r->why, ST_UNAVAILABLE,
                  "%s: too many redirects: %s is number %d of them and sends us on", r->what,
                  host_of(r), REDIRECTS_MAX + 1);
        end(r, ST_UNAVAILABLE);
    } else {
        char *url = mem_strdup(to);
        run_hop(r, url);
        mem_free(url);
    }
}

static bool passes_by_itself(long code)
{
    return code == 408 || code == 429 || code == 500 || code == 502 || code == 503 || code == 504 ||
           (code >= 520 && code <= 529);
}

static status status_of(long code)
{
    if (code == 401) return ST_UNAUTHENTICATED;
    if (code == 403) return ST_PERMISSION_DENIED;
    if (code == 404 || code == 410) return ST_NOT_FOUND;
    if (code == 416) return ST_OUT_OF_RANGE;
    return ST_UNAVAILABLE;
}

static void refused(http_request *r)
{
    long code = r->head.code;
    status st = status_of(code);
    r->head.from_hub = !r->left_hub;
    if (r->on_shortcut && !passes_by_itself(code)) {
        r->shortcut_refused = true;
        if (r->sink->on_shortcut_refused != NULL) r->sink->on_shortcut_refused(r->ctx);
        r->resume_ms = 0; /* the plain way, at once */
        return;
    }
    bool has_text = r->head.error_text[0] != '\0';
    error_set(&r->why, st, "%s: %s answers %ld%s%s", r->what, host_of(r), code,
              has_text ? ": " : "", r->head.error_text);
    if (passes_by_itself(code))
        try_again(r);
    else
        end(r, st);
}

static bool is_hopeless(CURLcode rc)
{
    return rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE ||
           rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL ||
           rc == CURLE_SSL_CERTPROBLEM || rc == CURLE_OUT_OF_MEMORY;
}

static void lost(http_request *r, CURLcode rc)
{
    const char *text = r->curl_text[0] != '\0' ? r->curl_text : curl_easy_strerror(rc);
    const char *advice = rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE
                             ? " (SSL_CERT_FILE names another set of certificates)"
                             : "";
    error_set(&r->why, ST_UNAVAILABLE, "%s: %s: %.200s%s", r->what, host_of(r), text, advice);
    if (is_hopeless(rc))
        end(r, ST_UNAVAILABLE);
    else
        try_again(r);
}

/* What a callback of the sink had against this try. */
static void objected(http_request *r)
{
    error_prefix(&r->why, r->sink_status, "%s", r->what);
    if (r->sink_status == ST_UNAVAILABLE)
        try_again(r);
    else
        end(r, r->sink_status);
}

static void hop_ended(http_request *r, CURLcode rc)
{
    curl_multi_remove_handle(r->http->multi, r->easy);
    r->running = false;
    r->resume_ms = UINT64_MAX;
    bool redirects = r->head.code >= 300 && r->head.code < 400 && r->head.code != 304;
    if (r->sink_status != ST_OK) {
        objected(r);
    } else if (redirects) {
        follow(r); /* even when the body of the redirect was cut */
    } else if (r->head.code >= 300) {
        refused(r);
    } else if (rc != CURLE_OK) {
        lost(r, rc);
    } else {
        if (give_head(r)) r->sink_status = r->sink->on_complete(r->ctx, &r->why);
        if (r->sink_status != ST_OK)
            objected(r);
        else
            end(r, ST_OK);
    }
}

/* -- requests ------------------------------------------------------------------------------------
 */

http_request *http_start(hub_http *h, const char *url, const char *what, const http_sink *sink,
                         void *ctx)
{
    http_request *r = mem_calloc(1, sizeof *r);
    *r = (http_request){.http = h,
                        .next = h->requests,
                        .url = mem_strdup(url),
                        .what = mem_strdup(what),
                        .sink = sink,
                        .ctx = ctx};
    h->requests = r;
    r->easy = curl_easy_init();
    CHECK(r->easy != NULL);
    const http_options *o = &h->options;
    curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
    curl_easy_setopt(r->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(r->easy, CURLOPT_USERAGENT, "gaggle/" GAGGLE_VERSION);
    curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->curl_text);
    curl_easy_setopt(r->easy, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(r->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)o->silent_ms);
    /* Several ranges of one file want a connection each: HTTP/2 would put them all on one. */
    curl_easy_setopt(r->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (o->hub->ca_file != NULL) curl_easy_setopt(r->easy, CURLOPT_CAINFO, o->hub->ca_file);
    return r; /* resume_ms is 0: the next turn begins it */
}

void http_abort(http_request *r)
{
    if (r->running) curl_multi_remove_handle(r->http->multi, r->easy);
    r->running = false;
    r->ended = true;
}

static void request_free(http_request *r)
{
    if (r->running) curl_multi_remove_handle(r->http->multi, r->easy);
    curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->headers);
    mem_free(r->now_url);
    mem_free(r->url);
    mem_free(r->what);
    mem_free(r);
}

bool hub_http_is_busy(const hub_http *h)
{
    for (const http_request *r = h->requests; r != NULL; r = r->next)
        if (!r->ended) return true;
    return false;
}

/* -- turns
 * -----------------------------------------------------------------------------------------
 */

static void begin_due(hub_http *h)
{
    uint64_t now_ms = clock_now_ms();
    for (http_request *r = h->requests; r != NULL; r = r->next)
        if (!r->ended && !r->running && r->resume_ms <= now_ms) begin_try(r);
}

/* Whether there was any. */
static bool take_messages(hub_http *h)
{
    bool any = false;
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &left)) != NULL;) {
        http_request *r;
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode rc = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        hop_ended(r, rc);
        any = true;
    }
    return any;
}

static void end_silent(hub_http *h)
{
    uint64_t now_ms = clock_now_ms();
    for (http_request *r = h->requests; r != NULL; r = r->next) {
        if (r->ended || !r->running || now_ms - r->heard_ms < h->options.silent_ms) continue;
        curl_multi_remove_handle(h->multi, r->easy);
        r->running = false;
        r->resume_ms = UINT64_MAX;
        error_set(&r->why, ST_DEADLINE_EXCEEDED, "%s: %s was silent for %.1f s", r->what,
                  host_of(r), h->options.silent_ms / 1000.0);
        try_again(r);
    }
}

/* Requests end in the middle of loops over them; here they go. */
static void sweep(hub_http *h)
{
    for (http_request **at = &h->requests; *at != NULL;) {
        http_request *r = *at;
        if (!r->ended) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        request_free(r);
    }
}

/* How long nothing will happen by itself, `wait_ms` at most. */
static int patience_ms(const hub_http *h, int wait_ms)
{
    uint64_t now_ms = clock_now_ms(), until_ms = now_ms + (uint64_t)wait_ms;
    for (const http_request *r = h->requests; r != NULL; r = r->next) {
        if (r->ended) continue;
        uint64_t due_ms = r->running ? r->heard_ms + h->options.silent_ms : r->resume_ms;
        if (due_ms < until_ms) until_ms = due_ms;
    }
    return until_ms > now_ms ? (int)(until_ms - now_ms) : 0;
}

void hub_http_turn(hub_http *h, int wait_ms)
{
    begin_due(h);
    int running;
    CHECK(curl_multi_perform(h->multi, &running) == CURLM_OK);
    bool moved = take_messages(h);
    end_silent(h);
    sweep(h);
    /* Who ended may have more to ask for: its owner first. */
    int patience = moved ? 0 : patience_ms(h, wait_ms);
    if (patience > 0) CHECK(curl_multi_poll(h->multi, NULL, 0, patience, NULL) == CURLM_OK);
}

void hub_http_wake(hub_http *h)
{
    curl_multi_wakeup(h->multi);
}

status hub_http_create(hub_http **out, const http_options *options, error *err)
{
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    hub_http *h = mem_calloc(1, sizeof *h);
    h->options = *options;
    h->origin = url_origin(options->hub->endpoint);
    h->multi = curl_multi_init();
    CHECK(h->multi != NULL);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)options->connections + 2);
    *out = h;
    if (h->origin != NULL) return ST_OK;
    error_set(err, ST_INVALID_ARGUMENT, "HF_ENDPOINT is '%.200s', which is no http URL",
              options->hub->endpoint);
    hub_http_destroy(h);
    *out = NULL;
    return ST_INVALID_ARGUMENT;
}

void hub_http_destroy(hub_http *h)
{
    if (h == NULL) return;
    while (h->requests != NULL) {
        http_request *r = h->requests;
        h->requests = r->next;
        request_free(r);
    }
    curl_multi_cleanup(h->multi);
    mem_free(h->origin);
    mem_free(h);
    curl_global_cleanup();
}
