/* gaggle show: what a model is, and what it takes to run it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/pull/disk.h"
#include "common/hub_cache.h"
#include "worker/model/config.h"
#include "worker/model/safetensors.h"

/* On a GPU weights, keys and values have two bytes an element. */
enum { DEVICE_ELEMENT_BYTES = 2, CONTEXT_SHOWN = 8192 };

/* What a step needs beside weights and KV cache, and CUDA itself; generous for 8B models. */
#define WORKSPACE_BYTES (1ull << 30)

static const option_table table = {
    "gaggle show MODEL [options]",
    "What a model is: architecture, size, context, and the memory it needs.",
    NULL,
    0,
    "MODEL is ORG/NAME, ORG/NAME:REVISION or a folder.",
};

typedef struct weight_files {
    uint64_t bytes, parameters;
    uint64_t by_type[DTYPE_OTHER + 1]; /* elements */
    const char *other;                 /* the name of one that is DTYPE_OTHER */
    size_t count;
} weight_files;

static status add_weights(weight_files *w, const char *dir, const char *name, error *err)
{
    char *path = path_join(dir, name);
    safetensors *file;
    struct stat info;
    status st = safetensors_open(&file, path, err);
    if (st == ST_OK && stat(path, &info) == 0) w->bytes += (uint64_t)info.st_size;
    mem_free(path);
    if (st != ST_OK) return st;
    w->count++;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const tensor *t = safetensors_at(file, i);
        uint64_t elements = 1;
        for (uint32_t d = 0; d < t->dim_count; d++)
            elements *= t->dims[d];
        w->parameters += elements;
        w->by_type[t->type] += elements;
        if (t->type == DTYPE_OTHER) w->other = t->type_name;
    }
    safetensors_close(file);
    return ST_OK;
}

static status read_weights(weight_files *w, const char *dir, error *err)
{
    *w = (weight_files){0};
    char *path = path_join(dir, MODEL_WEIGHTS_NAME);
    bool single = access(path, F_OK) == 0;
    mem_free(path);
    if (single) return add_weights(w, dir, MODEL_WEIGHTS_NAME, err);
    char **names;
    size_t count;
    status st = model_index_read(&names, &count, dir, err);
    if (st != ST_OK) return st;
    for (size_t i = 0; st == ST_OK && i < count; i++)
        st = add_weights(w, dir, names[i], err);
    model_index_files_free(names, count);
    return st;
}

/* "8.03 B" */
static void print_count(uint64_t count)
{
    static const struct {
        double size;
        const char *unit;
    } units[] = {{1e12, " T"}, {1e9, " B"}, {1e6, " M"}, {1e3, " k"}};
    for (size_t i = 0; i < CLI_COUNT(units); i++)
        if ((double)count >= units[i].size) {
            double value = (double)count / units[i].size;
            printf(value < 10 ? "%.2f%s" : value < 100 ? "%.1f%s" : "%.0f%s", value, units[i].unit);
            return;
        }
    printf("%" PRIu64, count);
}

static void print_weights(const weight_files *w)
{
    char size[BYTES_TEXT_SIZE];
    printf("parameters    ");
    print_count(w->parameters);
    printf("\nweights       %s in %zu %s, ", bytes_text(size, w->bytes), w->count,
           w->count == 1 ? "file" : "files");
    dtype most = DTYPE_F32;
    for (int type = DTYPE_F32; type <= DTYPE_OTHER; type++)
        if (w->by_type[type] > w->by_type[most]) most = (dtype)type;
    puts(most == DTYPE_OTHER ? w->other : dtype_name(most));
    if (w->other != NULL) printf("              %s tensors are not computed with\n", w->other);
}

static void print_config(const model_config *c, const generation_defaults *d)
{
    printf("architecture  %s: %u layers of %u, %u heads of %u", c->architecture, c->layer_count,
           c->hidden_size, c->head_count, c->head_dim);
    if (c->kv_head_count != c->head_count) printf(" (%u for keys and values)", c->kv_head_count);
    printf(", vocabulary %u\n", c->vocab_size);
    printf("context       %u tokens\n", c->context_max);
    printf("sampling      temperature %g", d->greedy ? 0.0 : (double)d->temperature);
    if (d->has_top_k) printf(", top-k %u", d->top_k);
    if (d->has_top_p) printf(", top-p %g", (double)d->top_p);
    if (d->has_min_p) printf(", min-p %g", (double)d->min_p);
    if (d->has_repetition_penalty) printf(", repetition penalty %g", (double)d->repetition_penalty);
    putchar('\n');
}

/* Roughly: `gaggle-worker --dry-run` has the plan for the GPU that is there. */
static void print_memory(const model_config *c)
{
    uint64_t token = model_config_kv_elements(c) * DEVICE_ELEMENT_BYTES;
    uint64_t fixed = model_config_parameters(c) * DEVICE_ELEMENT_BYTES + WORKSPACE_BYTES;
    char kv[BYTES_TEXT_SIZE], some[BYTES_TEXT_SIZE], all[BYTES_TEXT_SIZE];
    uint32_t shown = c->context_max < CONTEXT_SHOWN ? c->context_max : CONTEXT_SHOWN;
    printf("KV cache      %s a token\n", bytes_text(kv, token));
    printf("GPU memory    about %s with %u tokens of KV cache",
           bytes_text(some, fixed + token * shown), shown);
    if (shown < c->context_max)
        printf(", %s with its whole context", bytes_text(all, fixed + token * c->context_max));
    putchar('\n');
}

static int show(const char *dir, const model_ref *ref)
{
    if (ref->name[0] != '\0') printf("model         %s:%s\n", ref->name, ref->revision);
    printf("folder        %s\n", dir);
    error err;
    model_config config;
    generation_defaults defaults;
    status runs = model_config_load(&config, &defaults, dir, &err);
    if (runs == ST_OK)
        print_config(&config, &defaults);
    else
        printf("              gaggle does not run it: %s\n", err.text);
    weight_files weights;
    status st = read_weights(&weights, dir, &err);
    if (st == ST_OK) print_weights(&weights);
    if (runs == ST_OK) print_memory(&config);
    if (st == ST_OK) return EXIT_DONE;
    fflush(stdout);
    cli_say("show", "%s", err.text);
    return EXIT_FAILED;
}

int cli_show(int argc, char **argv)
{
    int rest;
    if (!cli_parse("show", &table, argc, argv, &rest)) return EXIT_USAGE;
    if (rest != 1) {
        cli_say("show", "name one model: ORG/NAME, or a folder");
        return EXIT_USAGE;
    }
    char *dir;
    model_ref ref;
    error err;
    if (model_find(&dir, &ref, argv[1], &err) != ST_OK) {
        cli_say("show", "%s", err.text);
        return EXIT_FAILED;
    }
    int result = show(dir, &ref);
    mem_free(dir);
    return result;
}
