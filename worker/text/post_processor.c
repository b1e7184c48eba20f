#include "worker/text/post_processor.h"

#include <string.h>

#include "common/limits.h"
#include "common/mem.h"
#include "worker/text/fields.h"

#define TEMPLATE_PARTS_MAX 64u

static void add_part(input_template *t, template_part_kind kind, uint32_t id)
{
    t->parts = mem_realloc(t->parts, (t->count + 1) * sizeof *t->parts);
    t->parts[t->count++] = (template_part){kind, id};
}

static void clear(input_template *t)
{
    mem_free(t->parts);
    *t = (input_template){0};
}

static void set_plain(post_processor *p)
{
    post_processor_set_bos_eos(p, TOKEN_NONE, TOKEN_NONE);
}

/* -- TemplateProcessing ------------------------------------------------------------- */

/* The ids that "special_tokens" gives for the token `name`. */
static status add_special(input_template *t, const json_t *specials, const char *name,
                          const char *where, error *err)
{
    const json_t *special = json_object_get(specials, name);
    if (special == NULL)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "%s: special token \"%.60s\" is not in special_tokens", where, name);
    json_t *ids;
    status st = field_array(special, where, "ids", &ids, err);
    for (size_t i = 0; st == ST_OK && i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        json_int_t number = json_integer_value(id);
        if (!json_is_integer(id) || number < 0 || number >= (json_int_t)LIMIT_VOCAB)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "%s: special token \"%.60s\": expected ids of 0..%u", where, name,
                             LIMIT_VOCAB - 1);
        if (t->count == TEMPLATE_PARTS_MAX)
            return error_set(err, ST_INVALID_ARGUMENT, "%s: more than %u parts", where,
                             TEMPLATE_PARTS_MAX);
        add_part(t, TEMPLATE_TOKEN, (uint32_t)number);
    }
    return st;
}

static status parse_part(input_template *t, const json_t *part, const json_t *specials,
                         const char *where, error *err)
{
    const char *name;
    size_t size;
    const json_t *special = json_object_get(part, "SpecialToken");
    const json_t *sequence = json_object_get(part, "Sequence");
    if (json_is_object(special)) {
        status st = field_string(special, where, "id", &name, &size, err);
        return st == ST_OK ? add_special(t, specials, name, where, err) : st;
    }
    if (!json_is_object(sequence))
        return field_wrong(where, "part", "a SpecialToken or a Sequence", part, err);
    status st = field_string(sequence, where, "id", &name, &size, err);
    if (st != ST_OK) return st;
    if (strcmp(name, "A") != 0 && strcmp(name, "B") != 0)
        return error_set(err, ST_INVALID_ARGUMENT, "%s.Sequence.id: expected A or B, found %.60s",
                         where, name);
    if (t->count == TEMPLATE_PARTS_MAX)
        return error_set(err, ST_INVALID_ARGUMENT, "%s: more than %u parts", where,
                         TEMPLATE_PARTS_MAX);
    add_part(t, *name == 'A' ? TEMPLATE_FIRST : TEMPLATE_SECOND, 0);
    return ST_OK;
}

static status parse_parts(input_template *t, const json_t *spec, const char *key, const char *where,
                          error *err)
{
    json_t *list;
    status st = field_array(spec, where, key, &list, err);
    for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++) {
        field_path path = field_path_item(where, key, i);
        st = parse_part(t, json_array_get(list, i), json_object_get(spec, "special_tokens"),
                        path.text, err);
    }
    return st;
}

static status parse_template(post_processor *out, const json_t *spec, const char *where, error *err)
{
    clear(&out->single);
    clear(&out->pair);
    status st = parse_parts(&out->single, spec, "single", where, err);
    return st == ST_OK ? parse_parts(&out->pair, spec, "pair", where, err) : st;
}

/* -- RobertaProcessing and BertProcessing -------------------------------------------- */

/* ["[SEP]", 102] */
static status parse_named_id(const json_t *spec, const char *where, const char *key, uint32_t *id,
                             error *err)
{
    const json_t *pair = json_object_get(spec, key);
    const json_t *number = json_array_get(pair, 1);
    if (!json_is_integer(number) || json_integer_value(number) < 0 ||
        json_integer_value(number) >= (json_int_t)LIMIT_VOCAB)
        return field_wrong(where, key, "[token, id]", pair, err);
    *id = (uint32_t)json_integer_value(number);
    return ST_OK;
}

/* "<s> A </s> </s> B </s>" or "[CLS] A [SEP] B [SEP]". */
static status parse_fixed(post_processor *out, const json_t *spec, const char *where,
                          bool separator_twice, error *err)
{
    uint32_t begin = 0, end = 0;
    status st = parse_named_id(spec, where, "cls", &begin, err);
    if (st == ST_OK) st = parse_named_id(spec, where, "sep", &end, err);
    if (st != ST_OK) return st;
    clear(&out->single);
    clear(&out->pair);
    input_template *both[] = {&out->single, &out->pair};
    for (int i = 0; i < 2; i++) {
        add_part(both[i], TEMPLATE_TOKEN, begin);
        add_part(both[i], TEMPLATE_FIRST, 0);
        add_part(both[i], TEMPLATE_TOKEN, end);
    }
    if (separator_twice) add_part(&out->pair, TEMPLATE_TOKEN, end);
    add_part(&out->pair, TEMPLATE_SECOND, 0);
    add_part(&out->pair, TEMPLATE_TOKEN, end);
    return ST_OK;
}

/* -- all of them -------------------------------------------------------------------- */

static status parse_component(post_processor *out, const json_t *spec, const char *where,
                              unsigned *adding, error *err)
{
    const char *type;
    status st = field_type(spec, where, &type, err);
    if (st != ST_OK) return st;
    if (strcmp(type, "ByteLevel") == 0) return ST_OK; /* only trims offsets */
    if (strcmp(type, "Sequence") == 0) {
        json_t *list;
        st = field_array(spec, where, "processors", &list, err);
        for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++) {
            field_path path = field_path_item(where, "processors", i);
            st = parse_component(out, json_array_get(list, i), path.text, adding, err);
        }
        return st;
    }
    bool template = strcmp(type, "TemplateProcessing") == 0;
    bool roberta = strcmp(type, "RobertaProcessing") == 0;
    if (!template && !roberta && strcmp(type, "BertProcessing") != 0)
        return field_unknown_type(where, type, err);
    if (++*adding > 1)
        return error_set(err, ST_UNIMPLEMENTED,
                         "%s: more than one post-processor that adds tokens is not supported",
                         where);
    return template ? parse_template(out, spec, where, err)
                    : parse_fixed(out, spec, where, roberta, err);
}

status post_processor_parse(post_processor *out, const json_t *spec, error *err)
{
    unsigned adding = 0;
    *out = (post_processor){0};
    set_plain(out);
    if (spec == NULL || json_is_null(spec)) return ST_OK;
    return parse_component(out, spec, "post_processor", &adding, err);
}

void post_processor_set_bos_eos(post_processor *p, uint32_t bos, uint32_t eos)
{
    clear(&p->single);
    clear(&p->pair);
    input_template *both[] = {&p->single, &p->pair};
    for (int i = 0; i < 2; i++) {
        if (bos != TOKEN_NONE) add_part(both[i], TEMPLATE_TOKEN, bos);
        add_part(both[i], TEMPLATE_FIRST, 0);
        if (eos != TOKEN_NONE) add_part(both[i], TEMPLATE_TOKEN, eos);
    }
    if (bos != TOKEN_NONE) add_part(&p->pair, TEMPLATE_TOKEN, bos);
    add_part(&p->pair, TEMPLATE_SECOND, 0);
    if (eos != TOKEN_NONE) add_part(&p->pair, TEMPLATE_TOKEN, eos);
}

void post_processor_free(post_processor *p)
{
    clear(&p->single);
    clear(&p->pair);
}
