#include "worker/text/jinja/filters.h"

value filter_pprint(interp *in, value subject, const value *given)
{
    (void)given;
    return value_text(value_repr(in, subject));
}
