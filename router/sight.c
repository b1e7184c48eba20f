#include "router/sight.h"

#include <time.h>

#include "common/clock.h"
#include "router/metrics_page.h"
#include "router/page.h"

enum { FRESH_MS = 200, MODELS_LISTED = 64, STARTING_MS = 10000 };

/* A page that anybody may read, as it was made last. */
typedef struct kept_page {
    http_body *body; /* NULL: never */
    int status;
    uint64_t made_ms;
} kept_page;

struct sight {
    sight_source source;
    http_server *server;
    const char *url;
    uint64_t started_ms; /* since 1970 */
    kept_page ready, metrics;
};

static void json_field(buffer *out, const char *name, uint64_t value)
{
    page_text(out, ", \"");
    page_text(out, name);
    page_text(out, "\": ");
    page_number(out, value);
}

static void json_text(buffer *out, const char *name, text_view value)
{
    page_text(out, "\"");
    page_text(out, name);
    page_text(out, "\": \"");
    page_json(out, value.data, value.size);
    page_text(out, "\"");
}

/* -- /readyz ------------------------------------------------------------------------------- */

typedef struct model_count {
    text_view name;
    uint32_t workers; /* that take new requests for it */
} model_count;

static bool takes_requests(const msg_worker_report *w)
{
    return w->connected && !w->draining;
}

/* Returns how many of `counts` are used. */
static size_t count_models(const msg_report *r, model_count counts[MODELS_LISTED])
{
    size_t used = 0;
    for (size_t i = 0; i < r->worker_count; i++) {
        const msg_worker_report *w = &r->workers[i];
        for (size_t m = 0; m < w->model_count; m++) {
            size_t at = 0;
            while (at < used && !text_equal(counts[at].name, w->models[m].name))
                at++;
            if (at == MODELS_LISTED) continue;
            if (at == used) counts[used++] = (model_count){w->models[m].name, 0};
            counts[at].workers += takes_requests(w);
        }
    }
    return used;
}

static int ready_page(const msg_report *r, buffer *out)
{
    model_count models[MODELS_LISTED];
    size_t count = count_models(r, models);
    bool serves = false;
    for (size_t i = 0; i < count; i++)
        serves |= models[i].workers > 0;
    const char *phase = "ready";
    if (r->draining)
        phase = "draining";
    else if (!serves)
        phase = r->uptime_ms < STARTING_MS ? "starting" : "no_workers";
    page_text(out, "{");
    json_text(out, "phase", text_of(phase));
    page_text(out, ", \"models\": [");
    for (size_t i = 0; i < count; i++) {
        page_text(out, i > 0 ? ", {" : "{");
        json_text(out, "name", models[i].name);
        json_field(out, "workers", models[i].workers);
        page_text(out, "}");
    }
    page_text(out, "]}\n");
    return serves && !r->draining ? 200 : 503;
}

/* -- /metrics ------------------------------------------------------------------------------ */

static char *tenant_name(const void *ctx, uint32_t tenant, char out[LIMIT_KEY_NAME_BYTES + 1])
{
    return auth_tenant_name(ctx, tenant, out);
}

static int prometheus_page(sight *s, const msg_report *report, buffer *out)
{
    const metrics_source source = {.metrics = core_read_metrics(s->source.core),
                                   .report = report,
                                   .clients = session_hub_traffic(s->source.hub, ROLE_CLIENT),
                                   .workers = session_hub_traffic(s->source.hub, ROLE_WORKER),
                                   .started_ms = s->started_ms,
                                   .vllm = s->source.vllm,
                                   .tenant_name = tenant_name,
                                   .tenant_ctx = s->source.auth};
    metrics_page(&source, out);
    return 200;
}

/* -- /admin/workers ------------------------------------------------------------------------ */

/* May whoever shows this token (or none) see it? */
static status judge_admin(const sight *s, text_view bearer, error *err)
{
    const auth *a = s->source.auth;
    if (a->keys != NULL) return auth_judge_admin(a, bearer, time(NULL), err);
    if (a->api_tokens.count > 0) {
        const msg_hello hello = {.role = ROLE_CLIENT, .token = bearer};
        identity who;
        return auth_judge(a, &hello, time(NULL), &who, err);
    }
    if (auth_check_listener(a, s->url, ROLE_CLIENT, err) == ST_OK) return ST_OK;
    return error_set(err, ST_PERMISSION_DENIED,
                     "admins need a token where others can knock: give the router --keys");
}

static const char *breaker_names[] = {"closed", "open", "on trial"};

static void worker_object(buffer *out, const msg_worker_report *w)
{
    page_text(out, "{");
    json_text(out, "worker_id", w->worker_id);
    page_text(out, ", ");
    json_text(out, "device", w->device);
    page_text(out, ", \"models\": [");
    for (size_t i = 0; i < w->model_count; i++) {
        page_text(out, i > 0 ? ", {" : "{");
        json_text(out, "name", w->models[i].name);
        page_text(out, ", ");
        json_text(out, "revision", w->models[i].revision);
        json_field(out, "context_max", w->models[i].context_max);
        page_text(out, "}");
    }
    page_text(out, w->connected ? "], \"connected\": true" : "], \"connected\": false");
    page_text(out, w->draining ? ", \"draining\": true, " : ", \"draining\": false, ");
    json_text(out, "breaker", text_of(breaker_names[w->breaker]));
    json_field(out, "slots", w->slots);
    json_field(out, "running", w->load.running);
    json_field(out, "waiting", w->load.waiting);
    json_field(out, "streams", w->streams);
    json_field(out, "outstanding_tokens", w->outstanding_tokens);
    json_field(out, "kv_blocks", w->kv_blocks);
    json_field(out, "kv_blocks_free", w->load.kv_blocks_free);
    json_field(out, "step_us", w->load.step_us);
    json_field(out, "prompt_tokens", w->load.prompt_tokens);
    json_field(out, "cached_tokens", w->load.cached_tokens);
    json_field(out, "output_tokens", w->load.output_tokens);
    json_field(out, "preemptions", w->load.preemptions);
    json_field(out, "prefill_rate", w->load.prefill_rate);
    json_field(out, "decode_rate", w->load.decode_rate);
    json_field(out, "rtt_us", w->rtt_us);
    json_field(out, "lease_left_ms", w->lease_left_ms);
    page_text(out, "}");
}

static void workers_page(const msg_report *r, buffer *out)
{
    page_text(out, "{\"workers\": [");
    for (size_t i = 0; i < r->worker_count; i++) {
        page_text(out, i > 0 ? ",\n  " : "\n  ");
        worker_object(out, &r->workers[i]);
    }
    page_text(out, "]}\n");
}

static void answer_workers(sight *s, const http_request *request, http_answer *answer)
{
    error why;
    status st = judge_admin(s, request->bearer, &why);
    if (st == ST_UNAUTHENTICATED) {
        *answer = http_refusal(401, why.text);
        answer->headers = "WWW-Authenticate: Bearer\r\n";
    } else if (st != ST_OK) {
        *answer = http_refusal(403, why.text);
    } else {
        const msg_report report = core_report(s->source.core);
        *answer = (http_answer){200, "application/json", NULL, http_body_create()};
        workers_page(&report, &answer->body->bytes);
    }
}

/* -- requests ------------------------------------------------------------------------------ */

static http_answer fresh_page(sight *s, kept_page *kept, const char *type)
{
    uint64_t now_ms = clock_now_ms();
    if (kept->body == NULL || now_ms - kept->made_ms >= FRESH_MS) {
        const msg_report report = core_report(s->source.core);
        http_body_release(kept->body);
        kept->body = http_body_create();
        kept->made_ms = now_ms;
        kept->status = kept == &s->ready ? ready_page(&report, &kept->body->bytes)
                                         : prometheus_page(s, &report, &kept->body->bytes);
    }
    return (http_answer){kept->status, type, NULL, http_body_take(kept->body)};
}

static void on_request(void *ctx, const http_request *request, http_answer *answer)
{
    sight *s = ctx;
    text_view path = request->path;
    if (text_equal(path, text_of("/livez"))) {
        *answer = (http_answer){200, "text/plain", NULL, http_body_create()};
        page_text(&answer->body->bytes, "ok\n");
    } else if (text_equal(path, text_of("/readyz"))) {
        *answer = fresh_page(s, &s->ready, "application/json");
    } else if (text_equal(path, text_of("/metrics"))) {
        *answer = fresh_page(s, &s->metrics, "text/plain; version=0.0.4; charset=utf-8");
    } else if (text_equal(path, text_of("/admin/workers"))) {
        answer_workers(s, request, answer);
    } else {
        *answer = http_refusal(
            404, "there are /livez, /readyz, /metrics and /admin/workers, and nothing else");
    }
}

/* -- life ------------------------------------------------------------------------------------ */

status sight_open(sight **out, uv_loop_t *loop, const char *url, const sight_source *source,
                  error *err)
{
    sight *s = mem_calloc(1, sizeof *s);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    s->started_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    s->source = *source;
    s->url = url;
    status st = http_listen(&s->server, loop, url, on_request, s, err);
    if (st != ST_OK) {
        mem_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

uint16_t sight_port(const sight *s)
{
    return http_port(s->server);
}

void sight_close(sight *s)
{
    if (s == NULL) return;
    http_close(s->server);
    http_body_release(s->ready.body);
    http_body_release(s->metrics.body);
    mem_free(s);
}
