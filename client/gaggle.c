/* gaggle.c: the public functions, and where threads meet.
 *
 * A public function writes what it wants into the stream or client under the mutex, lists it as
 * mail and wakes the loop; on_wake() detaches the whole list, unlocks, and then acts, so that
 * callbacks run without the mutex and may call anything. */
#include "client/gaggle.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "client/client_internal.h"
#include "common/check.h"
#include "common/clock.h"

const char *gaggle_code_name(gaggle_code code)
{
    return status_name((status)code);
}

const char *gaggle_version(void)
{
    return GAGGLE_VERSION;
}

const char *gaggle_finish_reason_name(gaggle_finish_reason reason)
{
    return finish_reason_name((finish_reason)reason);
}

/* -- mail ------------------------------------------------------------------------------ */

/* With the mutex held. */
static void post(gaggle_stream *s, unsigned mail)
{
    gaggle_client *client = s->client;
    s->mail |= mail;
    if (!s->mail_listed) {
        s->mail_listed = true;
        s->mail_next = client->mail;
        client->mail = s;
    }
    if (!client->mail_closed) uv_async_send(&client->wake);
}

void client_mail_closed(gaggle_client *client)
{
    pthread_mutex_lock(&client->mutex);
    client->mail_closed = true;
    pthread_mutex_unlock(&client->mutex);
}

/* With the mutex held. True: nobody has it any more; free it after unlocking. */
static bool disown(gaggle_stream *s)
{
    if (--s->owners > 0) return false;
    if (s->previous != NULL) s->previous->next = s->next;
    if (s->next != NULL) s->next->previous = s->previous;
    if (s->client->streams == s) s->client->streams = s->next;
    return true;
}

static void stream_free(gaggle_stream *s)
{
    while (s->head != NULL) {
        queued_event *next = s->head->next;
        mem_free(s->head);
        s->head = next;
    }
    mem_free(s->held);
    pthread_cond_destroy(&s->changed);
    stream_core_fini(&s->core);
    arena_free(&s->memory);
    mem_free(s);
}

static void mail_deliver(gaggle_client *client, gaggle_stream *s)
{
    pthread_mutex_lock(&client->mutex);
    unsigned mail = s->mail;
    uint32_t taken = s->taken;
    s->mail = 0;
    s->mail_listed = false;
    s->owners++; /* it may end under our hands */
    pthread_mutex_unlock(&client->mutex);

    if (mail & MAIL_SUBMIT) conversation_submit(s);
    if (mail & MAIL_READ) conversation_read(s, taken);
    if (mail & MAIL_CANCEL) conversation_cancel(s);
    if (mail & MAIL_CLOSE) conversation_close(s);

    pthread_mutex_lock(&client->mutex);
    if (mail & MAIL_CLOSE) s->owners--;
    bool last = disown(s);
    pthread_mutex_unlock(&client->mutex);
    if (last) stream_free(s);
}

static void on_wake(uv_async_t *wake)
{
    gaggle_client *client = wake->data;
    pthread_mutex_lock(&client->mutex);
    gaggle_stream *mail = client->mail, *ordered = NULL;
    client->mail = NULL;
    query *queries = client->new_queries;
    client->new_queries = NULL;
    bool close_wanted = client->close_wanted;
    /* Oldest first. The links are ours until a stream's mail is delivered: a stream that is listed
     * is not listed again. */
    while (mail != NULL) {
        gaggle_stream *next = mail->mail_next;
        mail->mail_next = ordered;
        ordered = mail;
        mail = next;
    }
    pthread_mutex_unlock(&client->mutex);

    while (ordered != NULL) {
        gaggle_stream *next = ordered->mail_next;
        mail_deliver(client, ordered);
        ordered = next;
    }
    while (queries != NULL) {
        query *next = queries->next;
        conversation_query(client, queries);
        queries = next;
    }
    conversation_flush(client);
    if (close_wanted) conversation_stop(client);
}

/* -- what the conversation tells --------------------------------------------------------- */

uint32_t client_deliver(gaggle_stream *s, const gaggle_event *event)
{
    pthread_mutex_lock(&s->client->mutex);
    bool wanted = !s->closed;
    if (wanted && s->on_event == NULL) {
        queued_event *q = event_copy(event);
        *s->tail = q;
        s->tail = &q->next;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->client->mutex);
    if (wanted && s->on_event == NULL) return 0;
    if (wanted) s->on_event(s->ctx, s, event);
    return event->count;
}

uint32_t client_taken(gaggle_stream *s)
{
    pthread_mutex_lock(&s->client->mutex);
    uint32_t taken = s->taken;
    pthread_mutex_unlock(&s->client->mutex);
    return taken;
}

void client_stream_ended(gaggle_stream *s)
{
    gaggle_client *client = s->client;
    pthread_mutex_lock(&client->mutex);
    client->stream_count--;
    bool last = disown(s);
    pthread_mutex_unlock(&client->mutex);
    if (last) stream_free(s);
}

void client_query_done(gaggle_client *client, query *q, const gaggle_report *report,
                       const error *err)
{
    pthread_mutex_lock(&client->mutex);
    client->query_count--;
    pthread_mutex_unlock(&client->mutex);
    gaggle_error why;
    if (err != NULL) client_error(&why, err);
    q->on_report(q->ctx, report, err != NULL ? &why : NULL);
    mem_free(q->drain);
    mem_free(q);
}

/* The loop has let go of it, and so have all threads. */
static void client_free(gaggle_client *client)
{
    while (client->streams != NULL) {
        gaggle_stream *next = client->streams->next;
        stream_free(client->streams);
        client->streams = next;
    }
    pthread_mutex_destroy(&client->mutex);
    mem_free(client);
}

void client_conversation_ended(gaggle_client *client)
{
    if (client->own_thread) return; /* the loop has nothing left and the thread returns */
    void (*on_closed)(void *ctx) = client->on_closed;
    void *ctx = client->on_closed_ctx;
    client_free(client);
    if (on_closed != NULL) on_closed(ctx);
}

/* -- client ------------------------------------------------------------------------------- */

static void *thread_main(void *arg)
{
    gaggle_client *client = arg;
    uv_run(&client->own_loop, UV_RUN_DEFAULT);
    return NULL;
}

static status text_check(const char *field, const char *text, size_t limit, error *err)
{
    text_view view = text_of(text);
    if (view.size > limit)
        return error_set(err, ST_INVALID_ARGUMENT, "%s has %zu bytes; at most %zu are allowed",
                         field, view.size, limit);
    if (text_valid_size(view) != view.size)
        return error_set(err, ST_INVALID_ARGUMENT, "%s is not UTF-8", field);
    return ST_OK;
}

static status options_check(const gaggle_options *o, error *err)
{
    status st;
    if ((st = text_check("token", o->token, LIMIT_TOKEN_BYTES, err)) ||
        (st = text_check("name", o->name, LIMIT_NAME_BYTES, err)))
        return st;
    if (o->url_count > CLIENT_URLS_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "%zu router URLs; at most %d are allowed",
                         o->url_count, CLIENT_URLS_MAX);
    for (size_t i = 0; i < o->url_count; i++)
        if (o->urls[i] == NULL)
            return error_set(err, ST_INVALID_ARGUMENT, "router URL %zu is NULL", i);
    return ST_OK;
}

/* The application's signals are for its own threads. */
static int thread_start(gaggle_client *client)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&client->thread, NULL, thread_main, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* The own loop has run dry. */
static void client_thread_gone(gaggle_client *client)
{
    int busy = uv_loop_close(&client->own_loop);
    CHECK(busy == 0);
    client_free(client);
}

gaggle_code gaggle_client_create(gaggle_client **out, const gaggle_options *options,
                                 gaggle_error *err)
{
    static const gaggle_options defaults;
    const gaggle_options *o = options != NULL ? options : &defaults;
    error why = {0};
    if (options_check(o, &why) != ST_OK) return client_error(err, &why);

    gaggle_client *client = mem_calloc(1, sizeof *client);
    client->own_thread = o->uv_loop == NULL;
    client->loop = client->own_thread ? &client->own_loop : o->uv_loop;
    client->loop_thread = pthread_self();
    client->offline_ms = o->offline_ms > 0 ? o->offline_ms : LIMIT_CLIENT_GRACE_MS_DEFAULT;
    client->on_link = o->on_link;
    client->ctx = o->ctx;
    client->handles_open = 2;
    pthread_mutex_init(&client->mutex, NULL);

    int failed = client->own_thread ? uv_loop_init(&client->own_loop) : 0;
    bool loop_made = client->own_thread && failed == 0;
    if (failed == 0) failed = uv_async_init(client->loop, &client->wake, on_wake);
    if (failed != 0) {
        error_set(&why, ST_RESOURCE_EXHAUSTED, "cannot set up an event loop: %s",
                  uv_strerror(failed));
        if (loop_made) uv_loop_close(&client->own_loop);
        client_free(client);
        return client_error(err, &why);
    }
    client->wake.data = client;
    status st = conversation_start(client, o, &why);
    if (st == ST_OK && client->own_thread && (failed = thread_start(client)) != 0)
        st = error_set(&why, ST_RESOURCE_EXHAUSTED, "cannot start a thread: %s", strerror(failed));
    if (st == ST_OK) {
        *out = client;
        return GAGGLE_OK;
    }

    conversation_stop(client); /* on the caller's loop, the client frees itself when that runs */
    if (client->own_thread) {
        uv_run(&client->own_loop, UV_RUN_DEFAULT);
        client_thread_gone(client);
    }
    return client_error(err, &why);
}

void gaggle_client_close(gaggle_client *client, void (*on_closed)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&client->mutex);
    client->on_closed = on_closed;
    client->on_closed_ctx = ctx;
    client->close_wanted = true;
    client->closing = true;
    if (!client->mail_closed) uv_async_send(&client->wake);
    pthread_mutex_unlock(&client->mutex);
}

void gaggle_client_destroy(gaggle_client *client)
{
    if (client == NULL) return;
    CHECK(client->own_thread);
    gaggle_client_close(client, NULL, NULL);
    pthread_join(client->thread, NULL);
    client_thread_gone(client);
}

/* -- streams ------------------------------------------------------------------------------- */

gaggle_code gaggle_submit(gaggle_stream **out, gaggle_client *client, const gaggle_request *request,
                          gaggle_error *err)
{
    gaggle_stream *s = mem_calloc(1, sizeof *s);
    s->client = client;
    s->on_event = request->on_event;
    s->ctx = request->ctx;
    s->tail = &s->head;
    s->owners = 2;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);

    error why = {0};
    if (request_copy(s, request, &why) != ST_OK) {
        stream_free(s);
        return client_error(err, &why);
    }
    pthread_mutex_lock(&client->mutex);
    if (client->closing)
        error_set(&why, ST_FAILED_PRECONDITION, "the client is closing");
    else if (client->stream_count == LIMIT_STREAMS_PER_LINK)
        error_set(&why, ST_RESOURCE_EXHAUSTED, "%u streams are open; no more are allowed",
                  LIMIT_STREAMS_PER_LINK);
    if (why.code == ST_OK) {
        client->stream_count++;
        s->next = client->streams;
        if (s->next != NULL) s->next->previous = s;
        client->streams = s;
        *out = s;
        post(s, MAIL_SUBMIT);
    }
    pthread_mutex_unlock(&client->mutex);
    if (why.code == ST_OK) return GAGGLE_OK;
    stream_free(s);
    return client_error(err, &why);
}

/* With the mutex held: until an event waits, at most `timeout_ms`. */
static bool event_wait(gaggle_stream *s, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms > 0) {
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
    }
    int waited = 0;
    while (s->head == NULL && waited != ETIMEDOUT && timeout_ms != 0) {
        waited = timeout_ms < 0 ? pthread_cond_wait(&s->changed, &s->client->mutex)
                                : pthread_cond_timedwait(&s->changed, &s->client->mutex, &until);
    }
    return s->head != NULL;
}

gaggle_code gaggle_stream_next(gaggle_stream *s, int timeout_ms, gaggle_event *event)
{
    gaggle_client *client = s->client;
    if (s->on_event != NULL) return GAGGLE_FAILED_PRECONDITION;
    if (timeout_ms != 0 && !client->own_thread &&
        pthread_equal(client->loop_thread, pthread_self()))
        return GAGGLE_FAILED_PRECONDITION;

    gaggle_code code = GAGGLE_OK;
    pthread_mutex_lock(&client->mutex);
    if (s->finish_taken) {
        code = GAGGLE_NOT_FOUND;
    } else if (!event_wait(s, timeout_ms)) {
        code = GAGGLE_DEADLINE_EXCEEDED;
    } else {
        mem_free(s->held);
        s->held = s->head;
        s->head = s->held->next;
        if (s->head == NULL) s->tail = &s->head;
        *event = s->held->event;
        s->finish_taken = event->type == GAGGLE_FINISH;
        s->taken += event->count;
        if (s->taken - s->taken_told >= s->submit.window / 4) {
            s->taken_told = s->taken;
            post(s, MAIL_READ);
        }
    }
    pthread_mutex_unlock(&client->mutex);
    return code;
}

void gaggle_cancel(gaggle_stream *s)
{
    pthread_mutex_lock(&s->client->mutex);
    post(s, MAIL_CANCEL);
    pthread_mutex_unlock(&s->client->mutex);
}

void gaggle_stream_close(gaggle_stream *s)
{
    if (s == NULL) return;
    gaggle_client *client = s->client;
    pthread_mutex_lock(&client->mutex);
    s->closed = true;
    post(s, MAIL_CLOSE); /* on_wake() gives up the handle's share */
    pthread_mutex_unlock(&client->mutex);
}

void gaggle_stream_id(const gaggle_stream *s, char out[33])
{
    id128_hex(&s->submit.request_id, out);
}

uint64_t gaggle_stream_seed(const gaggle_stream *s)
{
    return s->submit.sampling.seed;
}

/* -- queries -------------------------------------------------------------------------------- */

/* `drain` is the query's own from here on. */
static gaggle_code query_post(gaggle_client *client, uint32_t timeout_ms, char *drain,
                              uint32_t drain_ms,
                              void (*on_report)(void *ctx, const gaggle_report *report,
                                                const gaggle_error *err),
                              void *ctx, gaggle_error *err)
{
    error why = {0};
    pthread_mutex_lock(&client->mutex);
    if (client->closing)
        error_set(&why, ST_FAILED_PRECONDITION, "the client is closing");
    else if (client->query_count == CLIENT_QUERIES_MAX)
        error_set(&why, ST_RESOURCE_EXHAUSTED, "%d queries are under way; no more are allowed",
                  CLIENT_QUERIES_MAX);
    if (why.code == ST_OK) {
        client->query_count++;
        query *q = mem_calloc(1, sizeof *q);
        *q = (query){.next = client->new_queries,
                     .until_ms = clock_now_ms() + timeout_ms,
                     .drain = drain,
                     .drain_ms = drain_ms,
                     .on_report = on_report,
                     .ctx = ctx};
        client->new_queries = q;
        uv_async_send(&client->wake);
    }
    pthread_mutex_unlock(&client->mutex);
    if (why.code == ST_OK) return GAGGLE_OK;
    mem_free(drain);
    return client_error(err, &why);
}

gaggle_code gaggle_query(gaggle_client *client, uint32_t timeout_ms,
                         void (*on_report)(void *ctx, const gaggle_report *report,
                                           const gaggle_error *err),
                         void *ctx, gaggle_error *err)
{
    return query_post(client, timeout_ms, NULL, 0, on_report, ctx, err);
}

/* A report that outlives its callback: the arena is its first and only owner. */
typedef struct kept_report {
    gaggle_report report; /* first: gaggle_report_free() is given its address */
    arena memory;
} kept_report;

typedef struct query_waiter {
    pthread_mutex_t mutex;
    pthread_cond_t done;
    bool answered;
    kept_report *kept;
    gaggle_error error;
} query_waiter;

static const char *keep_text(const char *text, arena *a)
{
    return arena_strndup(a, text, strlen(text));
}

static kept_report *report_keep(const gaggle_report *report)
{
    kept_report *kept = mem_calloc(1, sizeof *kept);
    arena *a = &kept->memory;
    kept->report = *report;
    kept->report.router_build = keep_text(report->router_build, a);
    gaggle_worker_report *workers =
        arena_copy(a, report->workers, report->worker_count * sizeof *workers);
    kept->report.workers = workers;
    for (size_t i = 0; i < report->worker_count; i++) {
        workers[i].worker_id = keep_text(workers[i].worker_id, a);
        workers[i].device = keep_text(workers[i].device, a);
        gaggle_model_report *models =
            arena_copy(a, workers[i].models, workers[i].model_count * sizeof *models);
        workers[i].models = models;
        for (size_t k = 0; k < workers[i].model_count; k++) {
            models[k].name = keep_text(models[k].name, a);
            models[k].revision = keep_text(models[k].revision, a);
        }
    }
    return kept;
}

static void on_waited_report(void *ctx, const gaggle_report *report, const gaggle_error *err)
{
    query_waiter *waiter = ctx;
    kept_report *kept = report != NULL ? report_keep(report) : NULL;
    pthread_mutex_lock(&waiter->mutex);
    waiter->kept = kept;
    if (err != NULL) waiter->error = *err;
    waiter->answered = true;
    pthread_cond_signal(&waiter->done);
    pthread_mutex_unlock(&waiter->mutex);
}

static gaggle_code query_wait(gaggle_report **out, gaggle_client *client, uint32_t timeout_ms,
                              char *drain, uint32_t drain_ms, gaggle_error *err)
{
    if (!client->own_thread && pthread_equal(client->loop_thread, pthread_self())) {
        mem_free(drain);
        error why;
        error_set(&why, ST_FAILED_PRECONDITION, "waiting would block the client's loop");
        return client_error(err, &why);
    }
    query_waiter waiter = {.answered = false};
    pthread_mutex_init(&waiter.mutex, NULL);
    pthread_cond_init(&waiter.done, NULL);
    gaggle_code code =
        query_post(client, timeout_ms, drain, drain_ms, on_waited_report, &waiter, err);
    if (code == GAGGLE_OK) {
        pthread_mutex_lock(&waiter.mutex);
        while (!waiter.answered)
            pthread_cond_wait(&waiter.done, &waiter.mutex);
        pthread_mutex_unlock(&waiter.mutex);
        code = waiter.kept != NULL ? GAGGLE_OK : waiter.error.code;
        if (waiter.kept != NULL) *out = &waiter.kept->report;
        if (waiter.kept == NULL && err != NULL) *err = waiter.error;
    }
    pthread_cond_destroy(&waiter.done);
    pthread_mutex_destroy(&waiter.mutex);
    return code;
}

gaggle_code gaggle_query_wait(gaggle_report **out, gaggle_client *client, uint32_t timeout_ms,
                              gaggle_error *err)
{
    return query_wait(out, client, timeout_ms, NULL, 0, err);
}

gaggle_code gaggle_drain_wait(gaggle_report **out, gaggle_client *client, const char *worker_id,
                              uint32_t limit_ms, uint32_t timeout_ms, gaggle_error *err)
{
    size_t size = strlen(worker_id);
    if (size == 0 || size > LIMIT_NAME_BYTES) {
        error why;
        error_set(&why, ST_INVALID_ARGUMENT, "worker_id has %zu bytes; it must have 1 to %u", size,
                  LIMIT_NAME_BYTES);
        return client_error(err, &why);
    }
    return query_wait(out, client, timeout_ms, mem_strdup(worker_id), limit_ms, err);
}

void gaggle_report_free(gaggle_report *report)
{
    if (report == NULL) return;
    kept_report *kept = (kept_report *)report;
    arena_free(&kept->memory);
    mem_free(kept);
}
