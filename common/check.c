#include "common/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "bug: %s:%d: CHECK(%s) failed; please report this line\n", file, line,
            condition);
    abort();
}
