#include "router/metrics_page.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "router/page.h"
#include "router/prometheus.h"

/* -- models -------------------------------------------------------------------------------- */

/* What its workers say of a model, together. */
typedef struct model_load {
    uint64_t kv_blocks, kv_blocks_free, preemptions;
} model_load;

typedef struct page {
    const metrics_source *source;
    const core_metrics *metrics;
    buffer *out;
    label_sets models;      /* model="..." */
    label_sets vllm_models; /* model_name="...",engine="0" */
    model_load *loads;      /* [metrics->model_count] */
} page;

/* "other" is shown when something is counted there. */
static bool is_shown(const core_metrics *m, uint32_t model)
{
    uint64_t seen = m->models[model].output_tokens;
    for (uint32_t i = 0; i < METRICS_OUTCOMES; i++)
        seen += m->models[model].ended[i];
    return model > 0 || seen > 0;
}

#define EACH_MODEL(p, i)                                                                           \
    for (uint32_t i = 0; i < (p)->metrics->model_count; i++)                                       \
        if (is_shown((p)->metrics, i))

static void add_model_loads(page *p)
{
    const msg_report *r = p->source->report;
    for (size_t w = 0; w < r->worker_count; w++) {
        const msg_worker_report *worker = &r->workers[w];
        if (worker->model_count == 0 || !worker->connected) continue;
        uint32_t i = 0; /* of several models, its memory counts as the first one's */
        for (uint32_t k = 1; k < p->metrics->model_count && i == 0; k++)
            if (text_equal(worker->models[0].name, text_of(p->metrics->models[k].name))) i = k;
        p->loads[i].kv_blocks += worker->kv_blocks;
        p->loads[i].kv_blocks_free += worker->load.kv_blocks_free;
        p->loads[i].preemptions += worker->load.preemptions;
    }
}

typedef struct model_histogram {
    const char *name, *vllm, *help;
    size_t offset; /* in model_metrics */
    const histogram_bounds *bounds;
} model_histogram;

#define OF_MODEL(member) offsetof(model_metrics, member)
static const model_histogram model_histograms[] = {
    {"gaggle_time_to_first_token_seconds", "vllm:time_to_first_token_seconds",
     "From Submit to the first relayed token.", OF_MODEL(first_token), &bounds_first_token},
    {"gaggle_inter_token_seconds", "vllm:inter_token_latency_seconds",
     "Between two relayed tokens of an answer.", OF_MODEL(between_tokens), &bounds_between_tokens},
    {"gaggle_request_seconds", "vllm:e2e_request_latency_seconds",
     "From Submit to Finish, of answers with tokens.", OF_MODEL(whole), &bounds_whole},
    {"gaggle_queue_seconds", "vllm:request_queue_time_seconds",
     "From Submit until a worker was chosen.", OF_MODEL(queued), &bounds_whole},
    {"gaggle_prefill_seconds", "vllm:request_prefill_time_seconds",
     "Reading the prompt, as the worker says.", OF_MODEL(prefill), &bounds_whole},
    {"gaggle_decode_seconds", "vllm:request_decode_time_seconds",
     "First token to last, as the worker says.", OF_MODEL(decode), &bounds_whole},
    {"gaggle_prompt_length_tokens", "vllm:request_prompt_tokens", "Tokens of a prompt.",
     OF_MODEL(prompt_length), &bounds_tokens},
    {"gaggle_output_length_tokens", "vllm:request_generation_tokens", "Tokens of an answer.",
     OF_MODEL(output_length), &bounds_tokens},
};

static const histogram *histogram_of(const page *p, uint32_t model, const model_histogram *kind)
{
    const char *base = (const char *)&p->metrics->models[model];
    return (const histogram *)(const void *)(base + kind->offset);
}

static void model_histogram_pages(const page *p)
{
    for (size_t k = 0; k < sizeof model_histograms / sizeof *model_histograms; k++) {
        const model_histogram *kind = &model_histograms[k];
        prometheus_family(p->out, kind->name, "histogram", kind->help);
        EACH_MODEL(p, i)
        prometheus_histogram(p->out, kind->name, label_set(&p->models, i), histogram_of(p, i, kind),
                             kind->bounds, 0);
        if (!p->source->vllm) continue;
        prometheus_family(p->out, kind->vllm, "histogram", kind->help);
        EACH_MODEL(p, i)
        prometheus_histogram(p->out, kind->vllm, label_set(&p->vllm_models, i),
                             histogram_of(p, i, kind), kind->bounds, kind->bounds->ours);
    }
}

typedef struct model_series {
    const char *name, *vllm, *type, *help;
    uint64_t (*value)(const model_metrics *m, const model_load *load);
    uint64_t unit;
} model_series;

static uint64_t model_running(const model_metrics *m, const model_load *load)
{
    (void)load;
    return m->running;
}

static uint64_t model_waiting(const model_metrics *m, const model_load *load)
{
    (void)load;
    return m->waiting;
}

static uint64_t model_kv(const model_metrics *m, const model_load *load)
{
    (void)m;
    if (load->kv_blocks <= load->kv_blocks_free) return 0;
    return (load->kv_blocks - load->kv_blocks_free) * 10000 / load->kv_blocks;
}

static uint64_t model_prompt(const model_metrics *m, const model_load *load)
{
    (void)load;
    return m->prompt_tokens;
}

static uint64_t model_cached(const model_metrics *m, const model_load *load)
{
    (void)load;
    return m->cached_tokens;
}

static uint64_t model_output(const model_metrics *m, const model_load *load)
{
    (void)load;
    return m->output_tokens;
}

static const model_series model_table[] = {
    {"gaggle_requests_running", "vllm:num_requests_running", "gauge", "Requests at a worker.",
     model_running, 1},
    {"gaggle_requests_waiting", "vllm:num_requests_waiting", "gauge",
     "Requests that wait for a worker.", model_waiting, 1},
    {"gaggle_kv_usage_ratio", "vllm:kv_cache_usage_perc", "gauge",
     "Part of the workers' KV blocks that is in use; 1 is all.", model_kv, 10000},
    {"gaggle_prompt_tokens_total", "vllm:prompt_tokens_total", "counter",
     "Tokens of the prompts of finished requests.", model_prompt, 1},
    {NULL, "vllm:prefix_cache_queries_total", "counter",
     "Tokens of the prompts of finished requests.", model_prompt, 1},
    {"gaggle_cached_tokens_total", "vllm:prefix_cache_hits_total", "counter",
     "Those of them that were in the worker's prefix cache.", model_cached, 1},
    {"gaggle_output_tokens_total", "vllm:generation_tokens_total", "counter",
     "Tokens relayed to clients.", model_output, 1},
};

static void model_series_pages(const page *p)
{
    for (size_t k = 0; k < sizeof model_table / sizeof *model_table; k++) {
        const model_series *kind = &model_table[k];
        if (kind->name != NULL) {
            prometheus_family(p->out, kind->name, kind->type, kind->help);
            EACH_MODEL(p, i)
            prometheus_sample(p->out, kind->name, label_set(&p->models, i),
                              kind->value(&p->metrics->models[i], &p->loads[i]), kind->unit);
        }
        if (!p->source->vllm) continue;
        prometheus_family(p->out, kind->vllm, kind->type, kind->help);
        EACH_MODEL(p, i)
        prometheus_sample(p->out, kind->vllm, label_set(&p->vllm_models, i),
                          kind->value(&p->metrics->models[i], &p->loads[i]), kind->unit);
    }
}

static void model_outcome_pages(const page *p)
{
    static const char name[] = "gaggle_model_requests_total";
    prometheus_family(p->out, name, "counter", "Requests of a model by how they ended.");
    EACH_MODEL(p, i)
    for (uint32_t o = METRICS_STOP; o < METRICS_OUTCOMES; o++) {
        if (o == METRICS_REFUSED && p->metrics->models[i].ended[o] == 0) continue;
        prometheus_open(p->out, name, label_set(&p->models, i), "outcome");
        page_text(p->out, metrics_outcome_name((metrics_outcome)o));
        page_text(p->out, "\"} ");
        page_number(p->out, p->metrics->models[i].ended[o]);
        page_text(p->out, "\n");
    }
}

static void vllm_only_pages(const page *p)
{
    static const struct {
        metrics_outcome outcome;
        const char *reason;
    } reasons[] = {
        {METRICS_STOP, "stop"}, {METRICS_LENGTH, "length"}, {METRICS_CANCELLED, "abort"}};
    prometheus_family(p->out, "vllm:request_success_total", "counter",
                      "Finished requests by reason.");
    EACH_MODEL(p, i)
    for (size_t k = 0; k < sizeof reasons / sizeof *reasons; k++) {
        prometheus_open(p->out, "vllm:request_success_total", label_set(&p->vllm_models, i),
                        "finished_reason");
        page_text(p->out, reasons[k].reason);
        page_text(p->out, "\"} ");
        page_number(p->out, p->metrics->models[i].ended[reasons[k].outcome]);
        page_text(p->out, "\n");
    }
    prometheus_family(p->out, "vllm:num_preemptions_total", "counter",
                      "Sequences that gave up their blocks.");
    EACH_MODEL(p, i)
    prometheus_sample(p->out, "vllm:num_preemptions_total", label_set(&p->vllm_models, i),
                      p->loads[i].preemptions, 1);
    prometheus_family(p->out, "vllm:cache_config_info", "gauge",
                      "KV blocks of all workers of the model.");
    EACH_MODEL(p, i)
    {
        prometheus_open(p->out, "vllm:cache_config_info", label_set(&p->vllm_models, i),
                        "block_size");
        page_number(p->out, LIMIT_KV_BLOCK_TOKENS);
        page_text(p->out, "\",num_gpu_blocks=\"");
        page_number(p->out, p->loads[i].kv_blocks);
        page_text(p->out, "\"} 1\n");
    }
}

/* -- the router ---------------------------------------------------------------------------- */

static const char *const class_names[QUEUE_CLASSES] = {
    [QUEUE_INTERACTIVE] = "interactive", [QUEUE_STANDARD] = "standard", [QUEUE_BATCH] = "batch"};

static void router_pages(const page *p)
{
    const msg_report *r = p->source->report;
    const core_metrics *m = p->metrics;
    buffer *out = p->out;
    prometheus_family(out, "gaggle_build_info", "gauge", "1, with the version.");
    prometheus_labelled(out, "gaggle_build_info", "version", GAGGLE_VERSION, 1);
    prometheus_single(out, "gaggle_uptime_seconds", "gauge", "Since the router started.",
                      r->uptime_ms, 1000);
    prometheus_single(out, "gaggle_draining", "gauge", "1 while no new requests are taken.",
                      r->draining, 1);
    prometheus_single(out, "gaggle_clients", "gauge", "Connected clients.", r->clients, 1);

    uint64_t up = 0, draining = 0, lost = 0;
    for (size_t i = 0; i < r->worker_count; i++) {
        const msg_worker_report *w = &r->workers[i];
        lost += !w->connected;
        draining += w->connected && w->draining;
        up += w->connected && !w->draining;
    }
    prometheus_family(out, "gaggle_workers", "gauge",
                      "Known workers; lost ones are in their grace.");
    prometheus_labelled(out, "gaggle_workers", "state", "up", up);
    prometheus_labelled(out, "gaggle_workers", "state", "draining", draining);
    prometheus_labelled(out, "gaggle_workers", "state", "lost", lost);

    prometheus_family(out, "gaggle_queue_requests", "gauge", "Requests that wait for a worker.");
    prometheus_labelled(out, "gaggle_queue_requests", "class", "interactive",
                        r->queued_interactive);
    prometheus_labelled(out, "gaggle_queue_requests", "class", "standard", r->queued_standard);
    prometheus_labelled(out, "gaggle_queue_requests", "class", "batch", r->queued_batch);

    prometheus_family(out, "gaggle_requests_total", "counter", "Requests by how they ended.");
    for (uint32_t c = 0; c < QUEUE_CLASSES; c++)
        for (uint32_t o = METRICS_STOP; o < METRICS_OUTCOMES; o++) {
            page_text(out, "gaggle_requests_total{class=\"");
            page_text(out, class_names[c]);
            page_text(out, "\",outcome=\"");
            page_text(out, metrics_outcome_name((metrics_outcome)o));
            page_text(out, "\"} ");
            page_number(out, m->ended[c][o]);
            page_text(out, "\n");
        }
    prometheus_family(out, "gaggle_errors_total", "counter",
                      "Errors that clients were told, by code.");
    for (uint32_t code = ST_CANCELLED; code < STATUS_COUNT; code++)
        prometheus_labelled(out, "gaggle_errors_total", "code", status_name((status)code),
                            m->errors[code]);
    prometheus_family(out, "gaggle_placements_total", "counter",
                      "Requests sent to a worker, by the reason.");
    prometheus_labelled(out, "gaggle_placements_total", "reason", "load",
                        m->placements[METRICS_BY_LOAD]);
    prometheus_labelled(out, "gaggle_placements_total", "reason", "prefix",
                        m->placements[METRICS_BY_PREFIX]);
    prometheus_labelled(out, "gaggle_placements_total", "reason", "continuation",
                        m->placements[METRICS_BY_CONTINUATION]);
    prometheus_single(out, "gaggle_continuations_total", "counter",
                      "How often an answer had to go on at another worker.", m->continuations, 1);
    prometheus_single(out, "gaggle_approximate_answers_total", "counter",
                      "Answers made by workers that may compute other bits.", m->approximate, 1);
    prometheus_single(out, "gaggle_workers_lost_total", "counter",
                      "Workers that did not come back within their grace.", m->workers_lost, 1);
    prometheus_family(out, "gaggle_cancel_seconds", "histogram",
                      "From when a request was ended early until what it held is free.");
    prometheus_histogram(out, "gaggle_cancel_seconds", (text_view){0}, &m->cancel, &bounds_cancel,
                         0);
}

static void traffic_samples(buffer *out, const char *name, const char *peers, uint64_t received,
                            uint64_t sent)
{
    char labels[48];
    snprintf(labels, sizeof labels, "%s\",direction=\"received", peers);
    prometheus_labelled(out, name, "role", labels, received);
    snprintf(labels, sizeof labels, "%s\",direction=\"sent", peers);
    prometheus_labelled(out, name, "role", labels, sent);
}

static void traffic_pages(const page *p)
{
    const session_traffic *c = &p->source->clients, *w = &p->source->workers;
    prometheus_family(p->out, "gaggle_link_bytes_total", "counter",
                      "Bytes of messages, without framing.");
    traffic_samples(p->out, "gaggle_link_bytes_total", "client", c->received_bytes, c->sent_bytes);
    traffic_samples(p->out, "gaggle_link_bytes_total", "worker", w->received_bytes, w->sent_bytes);
    prometheus_family(p->out, "gaggle_link_messages_total", "counter", "Messages.");
    traffic_samples(p->out, "gaggle_link_messages_total", "client", c->received_messages,
                    c->sent_messages);
    traffic_samples(p->out, "gaggle_link_messages_total", "worker", w->received_messages,
                    w->sent_messages);
}

/* -- tenants --------------------------------------------------------------------------------- */

/* Names are people's, and may be equal, or like the one that stands for the rest. */
static void add_tenant_labels(const page *p, label_sets *sets,
                              char (*names)[2 * LIMIT_KEY_NAME_BYTES])
{
    const core_metrics *m = p->metrics;
    for (uint32_t i = 0; i < m->tenant_count; i++) {
        char name[LIMIT_KEY_NAME_BYTES + 1];
        p->source->tenant_name(p->source->tenant_ctx, m->tenants[i].tenant, name);
        bool taken = strcmp(name, "other") == 0;
        for (uint32_t k = 0; k < i && !taken; k++)
            taken = strcmp(names[k], name) == 0;
        if (taken)
            snprintf(names[i], sizeof names[i], "%s#%u", name, m->tenants[i].tenant);
        else
            snprintf(names[i], sizeof names[i], "%s", name);
        label_sets_add(sets, "tenant", names[i], strlen(names[i]), "");
    }
    label_sets_add(sets, "tenant", "other", 5, "");
}

static void tenant_pages(const page *p)
{
    static const char requests[] = "gaggle_tenant_requests_total";
    char names[METRICS_TENANTS][2 * LIMIT_KEY_NAME_BYTES];
    label_sets sets;
    label_sets_init(&sets, METRICS_TENANTS + 1);
    add_tenant_labels(p, &sets, names);
    prometheus_family(p->out, requests, "counter", "Requests of a tenant by how they ended.");
    for (uint32_t i = 0; i < sets.count; i++) {
        const tenant_metrics *t =
            &p->metrics->tenants[i < p->metrics->tenant_count ? i : METRICS_TENANTS];
        for (uint32_t o = METRICS_STOP; o < METRICS_OUTCOMES; o++) {
            if (t->ended[o] == 0) continue;
            prometheus_open(p->out, requests, label_set(&sets, i), "outcome");
            page_text(p->out, metrics_outcome_name((metrics_outcome)o));
            page_text(p->out, "\"} ");
            page_number(p->out, t->ended[o]);
            page_text(p->out, "\n");
        }
    }
    prometheus_family(p->out, "gaggle_tenant_prompt_tokens_total", "counter",
                      "Tokens of a tenant's prompts, of finished requests.");
    for (uint32_t i = 0; i < p->metrics->tenant_count; i++)
        prometheus_sample(p->out, "gaggle_tenant_prompt_tokens_total", label_set(&sets, i),
                          p->metrics->tenants[i].prompt_tokens, 1);
    prometheus_family(p->out, "gaggle_tenant_output_tokens_total", "counter",
                      "Tokens of a tenant's answers, of requests that ended.");
    for (uint32_t i = 0; i < p->metrics->tenant_count; i++)
        prometheus_sample(p->out, "gaggle_tenant_output_tokens_total", label_set(&sets, i),
                          p->metrics->tenants[i].output_tokens, 1);
    label_sets_free(&sets);
}

/* -- workers --------------------------------------------------------------------------------- */

/* What there is one number of for each worker: X(name, type, unit, help, expression over w). */
#define WORKER_SERIES(X)                                                                           \
    X("up", "gauge", 1, "1 while it is connected.", w->connected)                                  \
    X("draining", "gauge", 1, "1 while it gets no new requests.", w->draining)                     \
    X("breaker_state", "gauge", 1, "0 closed, 1 open after its failures, 2 on trial.", w->breaker) \
    X("slots", "gauge", 1, "Sequences it runs at once.", w->slots)                                 \
    X("running", "gauge", 1, "Sequences in its batch.", w->load.running)                           \
    X("waiting", "gauge", 1, "Sequences it has accepted and not begun.", w->load.waiting)          \
    X("streams", "gauge", 1, "Requests that this router has placed there.", w->streams)            \
    X("outstanding_tokens", "gauge", 1, "Tokens it has to read and write for them, probably.",     \
      w->outstanding_tokens)                                                                       \
    X("kv_blocks", "gauge", 1, "KV blocks in all.", w->kv_blocks)                                  \
    X("kv_free_blocks", "gauge", 1, "KV blocks free or evictable.", w->load.kv_blocks_free)        \
    X("step_seconds", "gauge", 1000000, "Duration of a recent step.", w->load.step_us)             \
    X("prefill_tokens_per_second", "gauge", 1, "While it reads prompts; 0 = not measured.",        \
      w->load.prefill_rate)                                                                        \
    X("decode_tokens_per_second", "gauge", 1, "Of all its answers; 0 = not measured.",             \
      w->load.decode_rate)                                                                         \
    X("prompt_tokens_total", "counter", 1, "Prompt tokens computed since it started.",             \
      w->load.prompt_tokens)                                                                       \
    X("cached_tokens_total", "counter", 1, "Prompt tokens found in its prefix cache.",             \
      w->load.cached_tokens)                                                                       \
    X("output_tokens_total", "counter", 1, "Tokens sampled since it started.",                     \
      w->load.output_tokens)                                                                       \
    X("preemptions_total", "counter", 1, "Sequences that gave up their blocks.",                   \
      w->load.preemptions)

#define WORKER_PAGE(name, type, unit, help, expression)                                            \
    prometheus_family(out, "gaggle_worker_" name, type, help);                                     \
    for (size_t i = 0; i < r->worker_count; i++) {                                                 \
        const msg_worker_report *w = &r->workers[i];                                               \
        prometheus_sample(out, "gaggle_worker_" name, label_set(&sets, i), expression, unit);      \
    }

/* Times that are not known for every worker. */
static void worker_time_page(buffer *out, const msg_report *r, const label_sets *sets,
                             const char *name, const char *help, size_t offset, uint64_t unit)
{
    prometheus_family(out, name, "gauge", help);
    for (size_t i = 0; i < r->worker_count; i++) {
        uint32_t value;
        memcpy(&value, (const char *)&r->workers[i] + offset, sizeof value);
        if (value != 0) prometheus_sample(out, name, label_set(sets, i), value, unit);
    }
}

static void worker_pages(const page *p)
{
    const msg_report *r = p->source->report;
    buffer *out = p->out;
    label_sets sets;
    label_sets_init(&sets, r->worker_count);
    for (size_t i = 0; i < r->worker_count; i++)
        label_sets_add(&sets, "worker", r->workers[i].worker_id.data, r->workers[i].worker_id.size,
                       "");
    prometheus_family(out, "gaggle_worker_info", "gauge",
                      "1, with the worker's device and first model.");
    for (size_t i = 0; i < r->worker_count; i++) {
        const msg_worker_report *w = &r->workers[i];
        prometheus_open(out, "gaggle_worker_info", label_set(&sets, i), "device");
        page_label(out, w->device.data, w->device.size);
        page_text(out, "\",model=\"");
        if (w->model_count > 0) page_label(out, w->models[0].name.data, w->models[0].name.size);
        page_text(out, "\"} 1\n");
    }
    WORKER_SERIES(WORKER_PAGE)
    worker_time_page(out, r, &sets, "gaggle_worker_rtt_seconds", "Round trip of a recent Ping.",
                     offsetof(msg_worker_report, rtt_us), 1000000);
    worker_time_page(out, r, &sets, "gaggle_worker_lease_left_seconds",
                     "Until it will stop, where that is known.",
                     offsetof(msg_worker_report, lease_left_ms), 1000);
    label_sets_free(&sets);
}

/* -- this process ---------------------------------------------------------------------------- */

static void process_pages(const page *p)
{
    buffer *out = p->out;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        uint64_t seconds = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec);
        uint64_t micros = (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
        prometheus_single(out, "process_cpu_seconds_total", "counter", "User and system time.",
                          seconds * 1000000 + micros, 1000000);
    }
    unsigned long virtual_pages = 0, resident_pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm != NULL && fscanf(statm, "%lu %lu", &virtual_pages, &resident_pages) == 2) {
        uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
        prometheus_single(out, "process_resident_memory_bytes", "gauge", "Resident memory.",
                          resident_pages * page_bytes, 1);
        prometheus_single(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.",
                          virtual_pages * page_bytes, 1);
    }
    if (statm != NULL) fclose(statm);
    struct stat fds; /* newer kernels say how many; to list thousands would take milliseconds */
    if (stat("/proc/self/fd", &fds) == 0 && fds.st_size > 0)
        prometheus_single(out, "process_open_fds", "gauge", "Open file descriptors.",
                          (uint64_t)fds.st_size, 1);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        prometheus_single(out, "process_max_fds", "gauge", "How many may be open.", limit.rlim_cur,
                          1);
    prometheus_single(out, "process_start_time_seconds", "gauge", "Start, since 1970.",
                      p->source->started_ms, 1000);
}

void metrics_page(const metrics_source *source, buffer *out)
{
    page p = {.source = source, .metrics = source->metrics, .out = out};
    uint32_t models = p.metrics->model_count;
    p.loads = mem_calloc(models, sizeof *p.loads);
    label_sets_init(&p.models, models);
    label_sets_init(&p.vllm_models, models);
    for (uint32_t i = 0; i < models; i++) {
        const char *name = p.metrics->models[i].name;
        label_sets_add(&p.models, "model", name, strlen(name), "");
        label_sets_add(&p.vllm_models, "model_name", name, strlen(name), ",engine=\"0\"");
    }
    add_model_loads(&p);
    router_pages(&p);
    model_series_pages(&p);
    model_outcome_pages(&p);
    model_histogram_pages(&p);
    if (source->vllm) vllm_only_pages(&p);
    tenant_pages(&p);
    traffic_pages(&p);
    worker_pages(&p);
    process_pages(&p);
    label_sets_free(&p.models);
    label_sets_free(&p.vllm_models);
    mem_free(p.loads);
}
