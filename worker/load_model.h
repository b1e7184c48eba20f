/* load_model: everything that one model folder becomes in a worker: weights, tokenizer, chat
 * template, backend, engine. Shared by serving and by `generate`. */
#ifndef GAGGLE_WORKER_LOAD_MODEL_H
#define GAGGLE_WORKER_LOAD_MODEL_H

#include "common/options.h"
#include "worker/engine/engine.h"
#include "worker/text/chat_template.h"

typedef struct model_settings {
    const char *dir;                                  /* -m: required; see find_model.h */
    const char *load_format;                          /* "auto", "safetensors" or "dummy" */
    const char *device;                               /* device.h */
    uint32_t threads;                                 /* 0 = all */
    uint32_t sequences_max, context_max, step_tokens; /* 0 = chosen */
    uint64_t kv_bytes;                                /* 0 = chosen */
    bool prefix_cache;
    double memory_utilization; /* of a GPU */
    bool batch_invariant, enforce_eager, dry_run;
    uint64_t debug_fail_device_call;
} model_settings;

model_settings model_settings_default(void);

/* Fill rows[MODEL_OPTION_ROWS] with the flags for `settings`. */
#define MODEL_OPTION_ROWS 14
void model_option_rows(model_settings *settings, option_row *rows);

typedef struct loaded_model {
    char *dir, *name; /* the model's folder, and what people call it: model_name_of() */
    model *model;
    tokenizer *tokenizer;
    chat_template *chat_template; /* NULL: the model has none */
    backend *backend;
    engine_options engine;   /* for engine_create() or engine_thread_start() */
    uint32_t context_max;    /* tokens of prompt and answer together */
    char defaults_text[256]; /* sampling defaults for people: "temperature=0.6 top_p=0.9" */
} loaded_model;              /* {0} is nothing loaded */

/* Load it all; progress on stderr when that is a terminal. On failure what was loaded is in *out,
 * for loaded_model_destroy(). ST_INVALID_ARGUMENT and others: a sentence for people. With
 * settings->dry_run the memory plan goes to stdout, and out->backend is NULL. */
MUST_USE status load_model(loaded_model *out, const model_settings *settings, error *err);
void loaded_model_destroy(loaded_model *loaded);

#endif
