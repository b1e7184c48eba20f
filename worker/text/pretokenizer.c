#include "worker/text/pretokenizer.h"

#include <string.h>

#include "worker/text/byte_level.h"
#include "worker/text/fields.h"
#include "worker/text/utf8.h"

/* One step does one thing: ByteLevel and Metaspace become up to three of them. */
typedef enum step_kind {
    STEP_SPLIT,  /* at the matches of `find` */
    STEP_DIGITS, /* at numeric characters */
    STEP_PUNCTUATION,
    STEP_WHITE_SPACE,
    STEP_WORDS,        /* runs of word characters, runs of other signs */
    STEP_PREFIX_SPACE, /* a space in front, where there is none */
    STEP_BYTE_LETTERS, /* spell the bytes in letters (byte_level.h) */
    STEP_METASPACE,    /* replace spaces, and put a replacement in front */
} step_kind;

/* What becomes of the delimiter that a split finds. */
typedef enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS,
} split_behavior;

typedef enum prepend_scheme { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } prepend_scheme;

struct pretokenizer_step {
    step_kind kind;
    pattern *find; /* Split */
    split_behavior behavior;
    bool invert;            /* Split: what lies between the matches is the delimiter */
    prepend_scheme prepend; /* Metaspace */
    char replacement[4];    /* Metaspace */
    size_t replacement_size;
};

static const char *const behaviors[] = {
    [SPLIT_REMOVED] = "Removed",
    [SPLIT_ISOLATED] = "Isolated",
    [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
    [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
    [SPLIT_CONTIGUOUS] = "Contiguous",
};

/* GPT-2's words: contractions, letters, numbers and other signs, each with one space before it,
 * and runs of white space that leave their last space to the next word. */
static const char byte_level_words[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* -- parsing ------------------------------------------------------------------------ */

static status add_step(pretokenizer *out, step_kind kind, const char *where,
                       pretokenizer_step **step, error *err)
{
    if (out->count == LIMIT_TOKENIZER_STEPS)
        return error_set(err, ST_INVALID_ARGUMENT, "%s: more than %u steps of pre-tokenization",
                         where, LIMIT_TOKENIZER_STEPS);
    *step = &out->steps[out->count++];
    **step = (pretokenizer_step){.kind = kind, .behavior = SPLIT_ISOLATED};
    return ST_OK;
}

static status parse_behavior(pretokenizer_step *step, const json_t *spec, const char *where,
                             error *err)
{
    const char *name;
    size_t size;
    status st = field_string(spec, where, "behavior", &name, &size, err);
    if (st != ST_OK) return st;
    for (size_t i = 0; i < sizeof behaviors / sizeof *behaviors; i++)
        if (strcmp(behaviors[i], name) == 0) {
            step->behavior = (split_behavior)i;
            return ST_OK;
        }
    return error_set(err, ST_UNIMPLEMENTED, "%s.behavior: \"%.60s\" is not supported", where, name);
}

static status parse_byte_level(pretokenizer *out, const json_t *spec, const char *where, error *err)
{
    bool prefix_space, use_regex = true;
    pretokenizer_step *step = NULL;
    status st = field_bool(spec, where, "add_prefix_space", &prefix_space, err);
    if (st == ST_OK) st = field_optional_bool(spec, where, "use_regex", &use_regex, err);
    if (st == ST_OK && prefix_space) st = add_step(out, STEP_PREFIX_SPACE, where, &step, err);
    if (st == ST_OK && use_regex) st = add_step(out, STEP_SPLIT, where, &step, err);
    if (st == ST_OK && use_regex)
        st =
            pattern_compile(&step->find, byte_level_words, sizeof byte_level_words - 1, where, err);
    if (st == ST_OK) st = add_step(out, STEP_BYTE_LETTERS, where, &step, err);
    return st;
}

/* Older files say "add_prefix_space" where newer ones say "prepend_scheme". */
static status parse_metaspace(pretokenizer *out, const json_t *spec, const char *where, error *err)
{
    const char *text, *scheme;
    size_t size, scheme_size;
    bool prefix_space = true, split = true;
    pretokenizer_step *step = NULL;
    status st = field_character(spec, where, "replacement", &text, &size, err);
    if (st == ST_OK) st = field_optional_bool(spec, where, "add_prefix_space", &prefix_space, err);
    if (st == ST_OK) st = field_optional_bool(spec, where, "split", &split, err);
    if (st == ST_OK)
        st = field_optional_string(spec, where, "prepend_scheme", &scheme, &scheme_size, err);
    if (st == ST_OK) st = add_step(out, STEP_METASPACE, where, &step, err);
    if (st != ST_OK) return st;
    memcpy(step->replacement, text, size);
    step->replacement_size = size;
    if (scheme == NULL)
        step->prepend = prefix_space ? PREPEND_ALWAYS : PREPEND_NEVER;
    else if (strcmp(scheme, "always") == 0)
        step->prepend = PREPEND_ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        step->prepend = PREPEND_FIRST;
    else if (strcmp(scheme, "never") == 0)
        step->prepend = PREPEND_NEVER;
    else
        return error_set(err, ST_UNIMPLEMENTED, "%s.prepend_scheme: \"%.60s\" is not supported",
                         where, scheme);
    if (!split) return ST_OK;
    if ((st = add_step(out, STEP_SPLIT, where, &step, err)) != ST_OK) return st;
    step->behavior = SPLIT_MERGED_WITH_NEXT;
    step->find = pattern_literal(text, size);
    return ST_OK;
}

static status parse_split(pretokenizer *out, const json_t *spec, const char *where, error *err)
{
    pretokenizer_step *step = NULL;
    status st = add_step(out, STEP_SPLIT, where, &step, err);
    if (st == ST_OK) st = parse_behavior(step, spec, where, err);
    if (st == ST_OK) st = field_bool(spec, where, "invert", &step->invert, err);
    if (st == ST_OK) st = pattern_parse(&step->find, json_object_get(spec, "pattern"), where, err);
    return st;
}

static status parse_digits(pretokenizer *out, const json_t *spec, const char *where, error *err)
{
    pretokenizer_step *step = NULL;
    bool individual;
    status st = field_bool(spec, where, "individual_digits", &individual, err);
    if (st == ST_OK) st = add_step(out, STEP_DIGITS, where, &step, err);
    if (st == ST_OK && !individual) step->behavior = SPLIT_CONTIGUOUS;
    return st;
}

static status parse_punctuation(pretokenizer *out, const json_t *spec, const char *where,
                                error *err)
{
    pretokenizer_step *step = NULL;
    status st = add_step(out, STEP_PUNCTUATION, where, &step, err);
    if (st == ST_OK && json_object_get(spec, "behavior") != NULL)
        st = parse_behavior(step, spec, where, err);
    return st;
}

static status parse_whitespace(pretokenizer *out, const json_t *spec, const char *where, error *err)
{
    (void)spec;
    pretokenizer_step *step = NULL;
    status st = add_step(out, STEP_WORDS, where, &step, err);
    if (st == ST_OK) step->behavior = SPLIT_REMOVED;
    return st;
}

static status parse_whitespace_split(pretokenizer *out, const json_t *spec, const char *where,
                                     error *err)
{
    (void)spec;
    pretokenizer_step *step = NULL;
    status st = add_step(out, STEP_WHITE_SPACE, where, &step, err);
    if (st == ST_OK) step->behavior = SPLIT_REMOVED;
    return st;
}

static status parse_sequence(pretokenizer *out, const json_t *spec, const char *where, error *err);

static const struct {
    const char *type;
    status (*parse)(pretokenizer *, const json_t *, const char *, error *);
} types[] = {
    {"Sequence", parse_sequence},
    {"ByteLevel", parse_byte_level},
    {"Split", parse_split},
    {"Digits", parse_digits},
    {"Punctuation", parse_punctuation},
    {"Whitespace", parse_whitespace},
    {"WhitespaceSplit", parse_whitespace_split},
    {"Metaspace", parse_metaspace},
};

static status parse_component(pretokenizer *out, const json_t *spec, const char *where, error *err)
{
    const char *type;
    status st = field_type(spec, where, &type, err);
    if (st != ST_OK) return st;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].type, type) == 0) return types[i].parse(out, spec, where, err);
    return field_unknown_type(where, type, err);
}

static status parse_sequence(pretokenizer *out, const json_t *spec, const char *where, error *err)
{
    json_t *list;
    status st = field_array(spec, where, "pretokenizers", &list, err);
    for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++) {
        field_path path = field_path_item(where, "pretokenizers", i);
        st = parse_component(out, json_array_get(list, i), path.text, err);
    }
    return st;
}

status pretokenizer_parse(pretokenizer *out, const json_t *spec, error *err)
{
    *out = (pretokenizer){0};
    if (spec == NULL || json_is_null(spec)) return ST_OK;
    out->steps = mem_calloc(LIMIT_TOKENIZER_STEPS, sizeof *out->steps);
    return parse_component(out, spec, "pre_tokenizer", err);
}

void pretokenizer_free(pretokenizer *p)
{
    for (size_t i = 0; i < p->count; i++)
        pattern_destroy(p->steps[i].find);
    mem_free(p->steps);
    *p = (pretokenizer){0};
}

void pretokenizer_scratch_free(pretokenizer_scratch *s)
{
    for (size_t i = 0; i < LIMIT_TOKENIZER_STEPS; i++)
        buffer_free(&s->text[i]);
}

/* -- running ------------------------------------------------------------------------ */

typedef struct run {
    const pretokenizer *pretokenizer;
    pretokenizer_scratch *scratch;
    pretokenizer_emit *emit;
    void *context;
} run;

static void run_steps(const run *r, size_t index, const char *text, size_t size, size_t origin);

/* Turns spans (delimiter or not, covering the text in order) into pieces for the next step.
 * One span is kept back, because the one behind it may join it. */
typedef struct splitter {
    const run *run;
    size_t next_step;
    split_behavior behavior;
    const char *text;
    size_t origin;
    bool pending;
    size_t start, end;
    bool delimiter; /* of the span before */
} splitter;

static void splitter_flush(splitter *s)
{
    if (!s->pending) return;
    s->pending = false;
    size_t origin = s->origin > s->start ? s->origin - s->start : 0;
    size_t size = s->end - s->start;
    if (size > 0)
        run_steps(s->run, s->next_step, s->text + s->start, size, origin < size ? origin : size);
}

static void splitter_span(splitter *s, size_t start, size_t end, bool delimiter)
{
    bool joins = false;
    switch (s->behavior) {
    case SPLIT_REMOVED:
        if (delimiter) return;
        break;
    case SPLIT_ISOLATED:
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        joins = delimiter && !s->delimiter;
        break;
    case SPLIT_MERGED_WITH_NEXT:
        joins = !delimiter && s->delimiter;
        break;
    case SPLIT_CONTIGUOUS:
        joins = delimiter == s->delimiter;
        break;
    }
    s->delimiter = delimiter;
    if (joins && s->pending) {
        s->end = end;
        return;
    }
    splitter_flush(s);
    s->pending = true;
    s->start = start;
    s->end = end;
}

static void split_by_pattern(splitter *s, const pretokenizer_step *step, size_t size)
{
    pattern_cursor cursor = {0};
    size_t done = 0, start, end;
    while (
        pattern_next(step->find, s->run->scratch->search, s->text, size, &cursor, &start, &end)) {
        if (done != start) splitter_span(s, done, start, step->invert);
        splitter_span(s, start, end, !step->invert);
        done = end;
    }
    if (done != size) splitter_span(s, done, size, step->invert);
}

static void split_by_class(splitter *s, bool (*is_delimiter)(uint32_t), size_t size)
{
    size_t done = 0;
    for (size_t at = 0, length; at < size; at += length) {
        if (!is_delimiter(utf8_decode(s->text + at, &length))) continue;
        if (done != at) splitter_span(s, done, at, false);
        splitter_span(s, at, at + length, true);
        done = at + length;
    }
    if (done != size) splitter_span(s, done, size, false);
}

/* Runs of word characters and runs of other signs; white space goes. */
static void split_words(splitter *s, size_t size)
{
    enum { SPACE, WORD, SIGN } before = SPACE;
    size_t start = 0;
    for (size_t at = 0, length; at < size; at += length) {
        uint32_t c = utf8_decode(s->text + at, &length);
        int class = unicode_is_white_space(c) ? SPACE : unicode_is_word(c) ? WORD : SIGN;
        if (class == (int)before && at > 0) continue;
        if (at > 0) splitter_span(s, start, at, before == SPACE);
        start = at;
        before = class;
    }
    if (size > 0) splitter_span(s, start, size, before == SPACE);
}

/* The steps below rewrite their piece into `out`, and `origin` with it. */

static void rewrite_prefix_space(const char *text, size_t size, size_t *origin, buffer *out)
{
    if (text[0] != ' ') buffer_append(out, " ", 1);
    if (*origin > 0) *origin += out->size;
    buffer_append(out, text, size);
}

static void rewrite_letters(const char *text, size_t size, size_t *origin, buffer *out)
{
    byte_level_append_letters(out, text, *origin);
    text += *origin;
    size -= *origin;
    *origin = out->size;
    byte_level_append_letters(out, text, size);
}

static void rewrite_metaspace(const pretokenizer_step *step, const char *text, size_t size,
                              size_t *origin, buffer *out)
{
    bool starts = text[0] == ' ' || (size >= step->replacement_size &&
                                     memcmp(text, step->replacement, step->replacement_size) == 0);
    bool wanted =
        step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && *origin > 0);
    if (wanted && !starts) buffer_append(out, step->replacement, step->replacement_size);
    size_t new_origin = 0;
    for (size_t done = 0; done < size;) {
        const char *space = memchr(text + done, ' ', size - done);
        size_t end = space != NULL ? (size_t)(space - text) : size;
        if (*origin > done && *origin <= end) new_origin = out->size + *origin - done;
        buffer_append(out, text + done, end - done);
        done = end;
        if (space == NULL) break;
        buffer_append(out, step->replacement, step->replacement_size);
        done++;
        if (*origin == done) new_origin = out->size;
    }
    *origin = new_origin;
}

static void rewrite_and_go_on(const run *r, size_t index, const char *text, size_t size,
                              size_t origin)
{
    const pretokenizer_step *step = &r->pretokenizer->steps[index];
    buffer *out = &r->scratch->text[index];
    buffer_clear(out);
    if (step->kind == STEP_PREFIX_SPACE)
        rewrite_prefix_space(text, size, &origin, out);
    else if (step->kind == STEP_BYTE_LETTERS)
        rewrite_letters(text, size, &origin, out);
    else
        rewrite_metaspace(step, text, size, &origin, out);
    run_steps(r, index + 1, (const char *)out->data, out->size, origin);
}

static void run_steps(const run *r, size_t index, const char *text, size_t size, size_t origin)
{
    if (index == r->pretokenizer->count) {
        r->emit(r->context, text, size);
        return;
    }
    const pretokenizer_step *step = &r->pretokenizer->steps[index];
    splitter s = {
        .run = r,
        .next_step = index + 1,
        .behavior = step->behavior,
        .text = text,
        .origin = origin,
    };
    switch (step->kind) {
    case STEP_SPLIT:
        split_by_pattern(&s, step, size);
        break;
    case STEP_DIGITS:
        split_by_class(&s, unicode_is_numeric, size);
        break;
    case STEP_PUNCTUATION:
        split_by_class(&s, unicode_is_punctuation, size);
        break;
    case STEP_WHITE_SPACE:
        split_by_class(&s, unicode_is_white_space, size);
        break;
    case STEP_WORDS:
        split_words(&s, size);
        break;
    case STEP_PREFIX_SPACE:
    case STEP_BYTE_LETTERS:
    case STEP_METASPACE:
        rewrite_and_go_on(r, index, text, size, origin);
        break;
    }
    splitter_flush(&s);
}

void pretokenizer_run(const pretokenizer *p, pretokenizer_scratch *s, const char *text, size_t size,
                      size_t origin, pretokenizer_emit *emit, void *context)
{
    run r = {.pretokenizer = p, .scratch = s, .emit = emit, .context = context};
    if (size > 0) run_steps(&r, 0, text, size, origin);
}
