/* members: the attributes and methods that Python's types have. */
#ifndef GAGGLE_WORKER_TEXT_JINJA_MEMBERS_H
#define GAGGLE_WORKER_TEXT_JINJA_MEMBERS_H

#include "worker/text/jinja/value.h"

/* Rows end with one whose name is NULL. */
extern const method_row text_methods[];   /* methods_text.c */
extern const method_row text_questions[]; /* methods_text_is.c */
extern const method_row list_methods[];   /* methods_data.c */
extern const method_row tuple_methods[];
extern const method_row dict_methods[];
extern const method_row integer_methods[];
extern const method_row float_methods[];
extern const method_row markup_methods[];
extern const method_row cycler_methods[];
extern const method_row loop_methods[];

/* str.split() and str.splitlines() with Python's arguments; parts keep `safe`. */
sequence *text_split(interp *in, value self, const text *separator, int64_t limit);
sequence *text_lines(interp *in, value self, bool keep_ends);
/* One text between each two items, all of which must be text. */
value text_join(interp *in, value separator, value items);
/* Markup.unescape() and Markup.striptags() */
text *markup_unescape(interp *in, text *t);
text *markup_strip_tags(interp *in, text *t);

#endif
