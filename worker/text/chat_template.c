#include "worker/text/chat_template.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/limits.h"
#include "worker/text/jinja/lexer.h"
#include "worker/text/jinja/parser.h"
#include "worker/text/jinja/runtime.h"
#include "worker/text/jinja/scope.h"

struct chat_template {
    arena memory; /* of the program */
    program *program;
    char *bos_token; /* the model's own spellings, or NULL */
    char *eos_token;
    chat_template *for_tools; /* takes its place where there are tools; NULL: it does both */
};

static void start(interp *in, uint32_t depth_max, error *err)
{
    *in = (interp){.err = err,
                   .memory_max = LIMIT_CHAT_TEMPLATE_MEMORY_BYTES,
                   .steps_left = LIMIT_CHAT_TEMPLATE_STEPS,
                   .depth_max = depth_max,
                   .line = 1};
}

/* -- parse ------------------------------------------------------------------------------------- */

static void parse(interp *in, chat_template *t, const char *source, size_t size)
{
    size_t broken = text_well_formed(source, size);
    if (broken < size) interp_fail(in, "the template is not UTF-8 at byte %zu", broken);
    token_list tokens = lexer_run(in, source, size);
    t->program = parser_run(in, &tokens);
    scope_resolve(in, t->program);
}

status chat_template_parse(chat_template **out, const char *source, size_t size, error *err)
{
    if (size > LIMIT_CHAT_TEMPLATE_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "the chat template has %zu bytes, which is over the limit of %u", size,
                         LIMIT_CHAT_TEMPLATE_BYTES);
    chat_template *t = mem_calloc(1, sizeof *t);
    interp *in = mem_alloc(sizeof *in);
    status st = ST_OK;
    /* Two levels of recursion for one level of parentheses. */
    start(in, 2 * LIMIT_CHAT_TEMPLATE_HEIGHT, err);
    if (setjmp(in->escape) == 0)
        parse(in, t, source, size);
    else
        st = in->code;
    t->memory = in->memory;
    mem_free(in);
    if (st == ST_OK)
        *out = t;
    else
        chat_template_destroy(t);
    return st;
}

void chat_template_destroy(chat_template *t)
{
    if (t == NULL) return;
    chat_template_destroy(t->for_tools);
    arena_free(&t->memory);
    mem_free(t->bos_token);
    mem_free(t->eos_token);
    mem_free(t);
}

/* -- render ------------------------------------------------------------------------------------ */

static value from_json(interp *in, const json_t *json);

static value text_from_json(interp *in, const char *bytes, size_t size)
{
    if (text_well_formed(bytes, size) < size)
        interp_fail(in, "a string of the context is not UTF-8");
    return value_text(text_new(in, bytes, size));
}

static value dict_from_json(interp *in, const json_t *json)
{
    dict *d = dict_new(in);
    /* jansson's iterators want a pointer to mutable; they change nothing. */
    json_t *object = (json_t *)json;
    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it)) {
        const char *key = json_object_iter_key(it);
        dict_set(in, d, text_from_json(in, key, strlen(key)),
                 from_json(in, json_object_iter_value(it)));
    }
    return value_dict(d);
}

static value list_from_json(interp *in, const json_t *json)
{
    sequence *s = sequence_new(in, json_array_size(json));
    for (size_t i = 0; i < json_array_size(json); i++)
        sequence_push(in, s, from_json(in, json_array_get(json, i)));
    return value_sequence(VALUE_LIST, s);
}

/* Texts borrow the JSON's bytes. */
static value from_json(interp *in, const json_t *json)
{
    value v = value_none();
    interp_enter(in);
    interp_spend(in, 1);
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        v = dict_from_json(in, json);
        break;
    case JSON_ARRAY:
        v = list_from_json(in, json);
        break;
    case JSON_STRING:
        v = text_from_json(in, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        v = value_int(json_integer_value(json));
        break;
    case JSON_REAL:
        v = value_float(json_real_value(json));
        break;
    case JSON_TRUE:
        v = value_bool(true);
        break;
    case JSON_FALSE:
        v = value_bool(false);
        break;
    case JSON_NULL:
        break;
    }
    interp_leave(in);
    return v;
}

/* What a template sees: the built-in names, the model's tokens, then the caller's own. */
static dict *make_variables(interp *in, const chat_template *t, const json_t *context)
{
    dict *variables = dict_new(in);
    globals_add(in, variables);
    if (t->bos_token != NULL)
        dict_set_name(in, variables, "bos_token", value_literal(in, t->bos_token));
    if (t->eos_token != NULL)
        dict_set_name(in, variables, "eos_token", value_literal(in, t->eos_token));
    dict_set_name(in, variables, "tools", value_none());
    dict_set_name(in, variables, "documents", value_none());
    const dict *own = from_json(in, context).as.dict;
    for (size_t i = 0; i < own->count; i++)
        dict_set(in, variables, own->entries[i].key, own->entries[i].item);
    return variables;
}

static void render(interp *in, const chat_template *t, const json_t *context, builder *written)
{
    const json_t *tools = json_object_get(context, "tools");
    if (t->for_tools != NULL && tools != NULL && !json_is_null(tools))
        in->program = t->for_tools->program;
    else
        in->program = t->program;
    in->variables = make_variables(in, t, context);
    in->exported = dict_new(in);
    in->out = written;
    program_run(in, in->program);
    if (text_well_formed(written->bytes, written->size) < written->size)
        interp_fail(in, "the output has a surrogate, which UTF-8 cannot carry");
}

status chat_template_render(const chat_template *t, const json_t *context, int64_t now, buffer *out,
                            error *err)
{
    if (!json_is_object(context))
        return error_set(err, ST_INVALID_ARGUMENT, "the chat template's context is no object");
    interp *in = mem_alloc(sizeof *in);
    builder written = {0};
    status st = ST_OK;
    start(in, LIMIT_CHAT_TEMPLATE_DEPTH, err);
    in->now = now;
    if (setjmp(in->escape) == 0) {
        render(in, t, context, &written);
        buffer_append(out, written.bytes, written.size);
    } else {
        st = in->code;
    }
    arena_free(&in->memory);
    mem_free(in);
    return st;
}

/* -- load -------------------------------------------------------------------------------------- */

static status load_file(char **out, size_t *size, const char *dir, const char *name,
                        size_t size_max, error *err)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(err, ST_INVALID_ARGUMENT, "the model's path is too long");
    return file_read(out, size, path, size_max, err);
}

/* A token is a string or an object with its "content". NULL when there is none. */
static char *token_spelling(const json_t *config, const char *key)
{
    const json_t *spelled = json_object_get(config, key);
    if (json_is_object(spelled)) spelled = json_object_get(spelled, "content");
    return json_is_string(spelled) ? mem_strdup(json_string_value(spelled)) : NULL;
}

/* One of several templates with names. */
static const json_t *named_template(const json_t *list, const char *wanted)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *each = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(each, "name"));
        if (name != NULL && strcmp(name, wanted) == 0) return json_object_get(each, "template");
    }
    return NULL;
}

/* *out stays NULL when there is no such file. */
static status load_config(json_t **out, const char *dir, error *err)
{
    char *bytes;
    size_t size;
    error why;
    status st =
        load_file(&bytes, &size, dir, "tokenizer_config.json", LIMIT_TOKENIZER_FILE_BYTES, &why);
    if (st == ST_NOT_FOUND) return ST_OK;
    if (st != ST_OK) return error_set(err, st, "%s", why.text);
    st = json_parse(out, bytes, size, "tokenizer_config.json", err);
    mem_free(bytes);
    return st;
}

/* ST_NOT_FOUND, `err` untouched: no such file. */
static status load_template_file(chat_template **out, const char *dir, const char *name, error *err)
{
    char *bytes;
    size_t size;
    error why;
    status st = load_file(&bytes, &size, dir, name, LIMIT_CHAT_TEMPLATE_BYTES, &why);
    if (st == ST_NOT_FOUND) return st;
    if (st != ST_OK) return error_set(err, st, "%s", why.text);
    st = chat_template_parse(out, bytes, size, err);
    mem_free(bytes);
    return st == ST_OK ? st : error_prefix(err, st, "%s", name);
}

/* ST_NOT_FOUND, `err` untouched: `source` is no string. */
static status load_template_field(chat_template **out, const json_t *source, error *err)
{
    if (!json_is_string(source)) return ST_NOT_FOUND;
    status st =
        chat_template_parse(out, json_string_value(source), json_string_length(source), err);
    return st == ST_OK ? st : error_prefix(err, st, "tokenizer_config.json chat_template");
}

static status load_templates(chat_template **out, const char *dir, const json_t *config, error *err)
{
    const json_t *field = json_object_get(config, "chat_template");
    bool several = json_is_array(field);
    chat_template *t;
    status st = load_template_file(&t, dir, "chat_template.jinja", err);
    bool file = st != ST_NOT_FOUND;
    if (!file) {
        st = load_template_field(&t, several ? named_template(field, "default") : field, err);
        if (st == ST_NOT_FOUND)
            return error_set(err, st, "the model in %s has no chat template", dir);
    }
    if (st != ST_OK) return st;
    st = file ? load_template_file(&t->for_tools, dir, "additional_chat_templates/tool_use.jinja",
                                   err)
              : load_template_field(&t->for_tools, named_template(field, "tool_use"), err);
    if (st != ST_OK && st != ST_NOT_FOUND) {
        chat_template_destroy(t);
        return st;
    }
    *out = t;
    return ST_OK;
}

status chat_template_load(chat_template **out, const char *dir, error *err)
{
    json_t *config = NULL;
    chat_template *t = NULL;
    status st = load_config(&config, dir, err);
    if (st != ST_OK) return st;
    st = load_templates(&t, dir, config, err);
    if (st == ST_OK) {
        t->bos_token = token_spelling(config, "bos_token");
        t->eos_token = token_spelling(config, "eos_token");
        *out = t;
    }
    json_decref(config);
    return st;
}
