#include "worker/load_model.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/hub_cache.h"
#include "common/log.h"
#include "worker/device.h"
#include "worker/find_model.h"

/* On a CPU a sequence more than this in the batch costs every other one more than it gains; a GPU
 * backend knows its own number. */
enum { CPU_SEQUENCES_DEFAULT = 64 };

model_settings model_settings_default(void)
{
    return (model_settings){
        .load_format = "auto", .device = "auto", .prefix_cache = true, .memory_utilization = 0.90};
}

void model_option_rows(model_settings *s, option_row *rows)
{
    const option_row all[MODEL_OPTION_ROWS] = {
        {"model", 'm', OPTION_TEXT, &s->dir, "MODEL",
         .help = "Hugging Face model folder, or ORG/NAME, pulled when missing"},
        {"load-format", 0, OPTION_TEXT, &s->load_format, "FORMAT",
         .help = "auto, safetensors or dummy (random weights) [auto]", .rare = true},
        {"device", 0, OPTION_TEXT, &s->device, "DEVICE", .help = "auto, cpu or cuda:N [auto]"},
        {"threads", 't', OPTION_U32, &s->threads, "N", .help = "CPU threads [all]", .min = 0,
         .max = 1024},
        {"max-num-seqs", 0, OPTION_U32, &s->sequences_max, "N",
         .help = "answers at once [by device]", .min = 1, .max = LIMIT_STEP_SEQUENCES},
        {"max-model-len", 0, OPTION_U32, &s->context_max, "TOKENS",
         .help = "prompt and answer together [the model's]", .min = 1, .max = LIMIT_CONTEXT_TOKENS},
        {"max-num-batched-tokens", 0, OPTION_U32, &s->step_tokens, "N",
         .help = "tokens a step runs at most [the device's]", .min = 1, .max = LIMIT_STEP_TOKENS,
         .rare = true},
        {"kv-cache-memory", 0, OPTION_U64, &s->kv_bytes, "SIZE",
         .help = "for keys and values [from free memory]"},
        {"prefix-cache", 0, OPTION_FLAG, &s->prefix_cache, NULL,
         .help = "reuse equal beginnings of prompts [on; --no-prefix-cache]", .rare = true},
        {"gpu-memory-utilization", 0, OPTION_F64, &s->memory_utilization, "X",
         .help = "share of a GPU's memory [0.90]", .min = 0.05, .max = 1.0},
        {"batch-invariant", 0, OPTION_FLAG, &s->batch_invariant, NULL,
         .help = "GPU: the same bits whatever else runs; slower", .rare = true},
        {"enforce-eager", 0, OPTION_FLAG, &s->enforce_eager, NULL, .help = "GPU: no CUDA graphs",
         .rare = true},
        {"dry-run", 0, OPTION_FLAG, &s->dry_run, NULL,
         .help = "print the GPU's memory plan and stop", .rare = true},
        {"debug-fail-device-call", 0, OPTION_U64, &s->debug_fail_device_call, "N",
         .help = "for tests: the GPU's Nth call fails", .rare = true},
    };
    memcpy(rows, all, sizeof all);
}

/* -- progress ------------------------------------------------------------------------ */

typedef struct progress {
    uint64_t shown_ms;
    bool is_terminal;
} progress;

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    progress *p = ctx;
    uint64_t now_ms = clock_now_ms();
    bool last = done == total;
    if (!last && now_ms - p->shown_ms < (p->is_terminal ? 100u : 5000u)) return;
    p->shown_ms = now_ms;
    double gib = 1024.0 * 1024 * 1024;
    int percent = total > 0 ? (int)(done * 100 / total) : 100;
    if (!p->is_terminal) {
        log_info("loading percent=%d gib=%.2f of=%.2f", percent, (double)done / gib,
                 (double)total / gib);
        return;
    }
    static const char bar[] = "########################################";
    fprintf(stderr, "\rloading weights [%-40.*s] %3d %%  %.2f of %.2f GiB%s", percent * 40 / 100,
            bar, percent, (double)done / gib, (double)total / gib, last ? "\n" : "");
}

/* -- loading ------------------------------------------------------------------------- */

static void describe_defaults(loaded_model *loaded)
{
    const generation_defaults *d = &loaded->model->defaults;
    char *out = loaded->defaults_text;
    size_t size = sizeof loaded->defaults_text;
    int used = snprintf(out, size, "temperature=%g",
                        d->greedy            ? 0.0
                        : d->has_temperature ? (double)d->temperature
                                             : 1.0);
    if (d->has_top_k) used += snprintf(out + used, size - (size_t)used, " top_k=%u", d->top_k);
    if (d->has_top_p)
        used += snprintf(out + used, size - (size_t)used, " top_p=%g", (double)d->top_p);
    if (d->has_min_p)
        used += snprintf(out + used, size - (size_t)used, " min_p=%g", (double)d->min_p);
    if (d->has_repetition_penalty)
        snprintf(out + used, size - (size_t)used, " repetition_penalty=%g",
                 (double)d->repetition_penalty);
}

static status parse_choices(const model_settings *s, device_choice *device, load_format *format,
                            error *err)
{
    bool dummy = strcmp(s->load_format, "dummy") == 0;
    if (!dummy && strcmp(s->load_format, "auto") != 0 && strcmp(s->load_format, "safetensors") != 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--load-format is '%s'; it must be auto, safetensors or dummy",
                         s->load_format);
    status st = device_choose(device, s->device, err);
    if (st == ST_OK) *format = device_load_format(device, dummy);
    return st;
}

static status load_template(loaded_model *out, error *err)
{
    error why = {0};
    status st = chat_template_load(&out->chat_template, out->dir, &why);
    if (st == ST_OK || st == ST_NOT_FOUND) return ST_OK;
    if (err != NULL) *err = why;
    return st;
}

static status size_engine(loaded_model *out, const model_settings *s, bool on_cpu, error *err)
{
    const backend_capacity *c = &out->backend->capacity;
    uint32_t sequences = s->sequences_max;
    if (sequences == 0) sequences = on_cpu ? CPU_SEQUENCES_DEFAULT : c->step_sequences;
    out->engine = engine_options_default();
    out->engine.sequences_max = sequences < c->step_sequences ? sequences : c->step_sequences;
    out->engine.step_tokens = c->step_tokens;
    out->engine.prefix_cache = s->prefix_cache;
    uint64_t kv_tokens = (uint64_t)c->kv_blocks * LIMIT_KV_BLOCK_TOKENS;
    uint32_t context = out->model->config.context_max;
    if (s->context_max > 0 && s->context_max < context) context = s->context_max;
    if (context > kv_tokens && s->context_max > 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--max-model-len is %u; the KV memory holds %llu tokens "
                         "(--kv-cache-memory gives it more)",
                         s->context_max, (unsigned long long)kv_tokens);
    if (context > kv_tokens) {
        log_warn("context cut to what the KV memory holds tokens=%llu model=%u",
                 (unsigned long long)kv_tokens, context);
        context = (uint32_t)kv_tokens;
    }
    out->engine.context_max = out->context_max = context;
    return ST_OK;
}

/* As asked for on stdout, otherwise for whoever reads the log, line by line. */
static void show_plan(const model_settings *s, char *plan)
{
    if (s->dry_run) {
        fputs(plan[0] != '\0' ? plan : "the CPU backend maps weights and needs no plan\n", stdout);
        return;
    }
    for (char *rest, *line = strtok_r(plan, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        log_info("%s", line);
}

status load_model(loaded_model *out, const model_settings *s, error *err)
{
    *out = (loaded_model){0};
    load_format format = LOAD_SAFETENSORS;
    device_choice device;
    status st = parse_choices(s, &device, &format, err);
    if (st != ST_OK) return st;
    st = find_model(&out->dir, s->dir, err);
    if (st != ST_OK) return st;
    out->name = model_name_of(out->dir);
    progress shown = {.shown_ms = clock_now_ms(), .is_terminal = isatty(STDERR_FILENO) != 0};
    st = model_load(&out->model, out->dir, format, show_progress, &shown, err);
    if (st != ST_OK) return st;
    if (s->context_max > out->model->config.context_max)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--max-model-len is %u; the model's context has %u tokens", s->context_max,
                         out->model->config.context_max);
    if (s->context_max > 0) model_limit_context(out->model, s->context_max);
    st = tokenizer_load(&out->tokenizer, out->dir, err);
    if (st != ST_OK) return st;
    st = load_template(out, err);
    if (st != ST_OK) return st;
    backend_options options = {
        .threads = s->threads,
        .kv_bytes = s->kv_bytes,
        .step_tokens = s->step_tokens,
        .step_sequences = s->sequences_max,
        .vocab_used = tokenizer_vocab_size(out->tokenizer) < out->model->config.vocab_size
                          ? tokenizer_vocab_size(out->tokenizer)
                          : out->model->config.vocab_size,
        .memory_utilization = s->memory_utilization,
        .batch_invariant = s->batch_invariant,
        .eager = s->enforce_eager,
        .plan_only = s->dry_run,
        .fail_device_call = s->debug_fail_device_call,
    };
    char plan[CUDA_PLAN_TEXT];
    st = device_create_backend(&out->backend, &device, out->model, &options, show_progress, &shown,
                               plan, err);
    if (st != ST_OK) return st;
    show_plan(s, plan);
    if (s->dry_run) return ST_OK;
    st = size_engine(out, s, device.cuda == NULL, err);
    if (st != ST_OK) return st;
    describe_defaults(out);
    return ST_OK;
}

void loaded_model_destroy(loaded_model *loaded)
{
    backend_destroy(loaded->backend);
    chat_template_destroy(loaded->chat_template);
    tokenizer_destroy(loaded->tokenizer);
    model_destroy(loaded->model);
    mem_free(loaded->name);
    mem_free(loaded->dir);
    *loaded = (loaded_model){0};
}
