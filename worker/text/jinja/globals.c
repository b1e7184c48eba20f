/* The functions and classes every template has. */
#include <string.h>
#include <time.h>

#include "common/limits.h"
#include "worker/text/jinja/number.h"
#include "worker/text/jinja/runtime.h"

/* -- range ------------------------------------------------------------------------------------- */

static value range_(interp *in, const arguments *given)
{
    value bound[PARAMETERS_MAX];
    int64_t part[3] = {0, 0, 1};
    arguments_bind(in, "range", "-start -stop -step", 1, given, bound);
    for (int i = 0; i < 3; i++)
        if (bound[i].kind != VALUE_MISSING) part[i] = value_need_int(in, "range", bound[i]);
    if (given->count == 1) {
        part[1] = part[0];
        part[0] = 0;
    }
    if (part[2] == 0) interp_fail(in, "range() arg 3 must not be zero");
    __int128 distance = part[2] > 0 ? (__int128)part[1] - part[0] : (__int128)part[0] - part[1];
    __int128 stride = part[2] > 0 ? part[2] : -(__int128)part[2];
    __int128 count = distance <= 0 ? 0 : (distance + stride - 1) / stride;
    if (count > LIMIT_CHAT_TEMPLATE_RANGE)
        interp_fail(in, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%u).",
                    LIMIT_CHAT_TEMPLATE_RANGE);
    __int128 end = (__int128)part[0] + count * part[2];
    if (end > INT64_MAX || end < INT64_MIN)
        interp_fail(in, "integer overflow: the end of a range does not fit 64 bits");
    range *r = interp_alloc(in, sizeof *r);
    *r = (range){.start = part[0], .stop = part[1], .step = part[2], .count = (int64_t)count};
    return (value){.kind = VALUE_RANGE, .as.range = r};
}

/* -- dict and namespace ------------------------------------------------------------------------ */

static void add_pairs(interp *in, dict *d, value pairs)
{
    iterator *it = iterate(in, pairs);
    for (value item; iterate_next(in, it, &item);) {
        sequence *pair = collect(in, item);
        if (pair->count != 2)
            interp_fail(in, "dictionary update sequence element has length %zu; 2 is required",
                        pair->count);
        dict_set(in, d, pair->items[0], pair->items[1]);
    }
}

/* dict(mapping or pairs, name=value ...) */
static dict *make_dict(interp *in, const arguments *given)
{
    dict *d = dict_new(in);
    if (given->count > 1)
        interp_fail(in, "dict expected at most 1 argument, got %zu", given->count);
    if (given->count == 1 && given->positional[0].kind == VALUE_DICT) {
        const dict *from = given->positional[0].as.dict;
        for (size_t i = 0; i < from->count; i++)
            dict_set(in, d, from->entries[i].key, from->entries[i].item);
    } else if (given->count == 1) {
        add_pairs(in, d, given->positional[0]);
    }
    for (size_t i = 0; i < given->named_count; i++) {
        const text *name = given->named[i].name;
        dict_set(in, d, value_text(text_new(in, name->bytes, name->size)), given->named[i].item);
    }
    return d;
}

static value dict_(interp *in, const arguments *given)
{
    return value_dict(make_dict(in, given));
}

static value namespace_(interp *in, const arguments *given)
{
    return (value){.kind = VALUE_NAMESPACE, .as.dict = make_dict(in, given)};
}

/* -- cycler and joiner ------------------------------------------------------------------------- */

static value cycler_(interp *in, const arguments *given)
{
    if (given->named_count > 0) interp_fail(in, "cycler() takes no keyword arguments");
    if (given->count == 0) interp_fail(in, "at least one item has to be provided");
    cycler *c = interp_alloc(in, sizeof *c);
    c->items = sequence_new(in, given->count);
    for (size_t i = 0; i < given->count; i++)
        sequence_push(in, c->items, given->positional[i]);
    return (value){.kind = VALUE_CYCLER, .as.cycler = c};
}

static value joiner_(interp *in, const arguments *given)
{
    value bound[PARAMETERS_MAX];
    arguments_bind(in, "joiner", "sep", 0, given, bound);
    joiner *j = interp_alloc(in, sizeof *j);
    j->separator = bound[0].kind == VALUE_MISSING ? value_literal(in, ", ") : bound[0];
    return (value){.kind = VALUE_JOINER, .as.joiner = j};
}

static value lipsum_(interp *in, const arguments *given)
{
    (void)given;
    interp_fail(in, "lipsum() is not supported: a prompt must not be random");
}

/* -- what transformers adds -------------------------------------------------------------------- */

static value raise_exception(interp *in, const arguments *given)
{
    value bound[PARAMETERS_MAX];
    arguments_bind(in, "raise_exception", "message", 1, given, bound);
    const text *message = value_str(in, bound[0]);
    interp_raise(in, message->bytes, message->size);
}

/* One directive of strftime(), `pattern` a '%' and what follows it. */
static void add_time(interp *in, builder *out, const struct tm *when, const char *pattern)
{
    char printed[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t size = strftime(printed, sizeof printed, pattern, when);
#pragma GCC diagnostic pop
    builder_add(in, out, printed, size);
}

/* datetime.now().strftime(): a time without a zone, so %z and %Z give nothing. */
static value strftime_now(interp *in, const arguments *given)
{
    value bound[PARAMETERS_MAX];
    arguments_bind(in, "strftime_now", "format", 1, given, bound);
    const text *format = value_need_text(in, "strftime_now", bound[0]);
    time_t seconds = (time_t)in->now;
    struct tm when;
    if (gmtime_r(&seconds, &when) == NULL) interp_fail(in, "the time is out of range");
    builder out = {0};
    for (size_t at = 0; at < format->size; at++) {
        char c = format->bytes[at];
        if (c != '%' || at + 1 >= format->size) {
            builder_add(in, &out, &c, 1);
            continue;
        }
        /* glibc's flags may stand before the letter. */
        char pattern[8] = "%";
        size_t size = 1;
        do {
            c = format->bytes[++at];
            pattern[size++] = c;
        } while (size < sizeof pattern - 1 && at + 1 < format->size && c != '\0' &&
                 strchr("_-0^#EO:", c) != NULL);
        pattern[size] = '\0';
        if (strcmp(pattern, "%f") == 0)
            builder_add_literal(in, &out, "000000");
        else if (c != 'z' && c != 'Z')
            add_time(in, &out, &when, pattern);
    }
    return value_text(builder_text(in, &out));
}

void globals_add(interp *in, dict *variables)
{
    static const builtin functions[] = {
        {"function range", range_},
        {"class 'dict'", dict_},
        {"class 'jinja2.utils.Namespace'", namespace_},
        {"class 'jinja2.utils.Cycler'", cycler_},
        {"class 'jinja2.utils.Joiner'", joiner_},
        {"function generate_lorem_ipsum", lipsum_},
        {"function raise_exception", raise_exception},
        {"function strftime_now", strftime_now},
    };
    static const char *const names[] = {"range",  "dict",   "namespace",       "cycler",
                                        "joiner", "lipsum", "raise_exception", "strftime_now"};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        dict_set_name(in, variables, names[i],
                      (value){.kind = VALUE_FUNCTION, .as.builtin = &functions[i]});
}
