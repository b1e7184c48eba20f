/* filters: what may stand behind '|'. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_FILTERS_H
#define GAGGLE_WORKER_TEXT_JINJA_FILTERS_H

#include "worker/text/jinja/value.h"

typedef struct filter_row {
    const char *name;
    value (*run)(interp *in, value subject, const value *given);
    const char *parameters; /* as for arguments_bind(), without the subject */
    uint8_t required;
    /* Instead of run(): takes what was given as it is. */
    value (*run_open)(interp *in, value subject, const arguments *given);
} filter_row;

/* NULL when there is no such filter. */
const filter_row *filter_find(const text *name);
value filter_run(interp *in, const filter_row *row, value subject, const arguments *given);

/* Rows end with one whose name is NULL. */
extern const filter_row text_filters[];     /* filters_text.c */
extern const filter_row number_filters[];   /* filters_number.c */
extern const filter_row sequence_filters[]; /* filters_sequence.c */
extern const filter_row stream_filters[];   /* filters_stream.c */

/* How a filter's `attribute` names what it looks at: "a.b.0", a number, or nothing. */
typedef struct attribute_path {
    value *parts;
    size_t count;
    value otherwise; /* for an undefined part; VALUE_MISSING: none */
    bool ignore_case;
} attribute_path;
attribute_path attribute_path_read(interp *in, value attribute, value otherwise, bool ignore_case);
value attribute_path_follow(interp *in, const attribute_path *path, value item);

/* An argument that is true only when given and true. */
static inline bool given_truth(interp *in, value v)
{
    return v.kind != VALUE_MISSING && value_truth(in, v);
}

/* sorted(s) */
sequence *sequence_sorted(interp *in, const sequence *s);

/* filters_json.c */
value filter_tojson(interp *in, value subject, const value *given);
/* filters_pprint.c */
value filter_pprint(interp *in, value subject, const value *given);

#endif
