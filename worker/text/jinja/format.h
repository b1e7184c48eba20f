/* format: the two ways Python puts values into a pattern, "%5.2f" % v and "{:>5}".format(v). */
#ifndef GAGGLE_WORKER_TEXT_JINJA_FORMAT_H
#define GAGGLE_WORKER_TEXT_JINJA_FORMAT_H

#include "worker/text/jinja/value.h"

/* pattern % items. `safe`: the pattern is Markup, so what goes in is escaped. */
value format_percent(interp *in, text *pattern, bool safe, value items);
/* pattern.format(...); `mapping` (may be VALUE_MISSING) instead of names is format_map's. */
value format_braces(interp *in, text *pattern, bool safe, const arguments *given, value mapping);
/* format(v, spec) */
text *format_value(interp *in, value v, text *spec);

#endif
