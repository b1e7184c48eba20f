#include "fake_root.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/pull/disk.h"
#include "common/check.h"

static char root[512];

const char *fake_root(void)
{
    char command[1200];
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    CHECK(scratch != NULL);
    snprintf(root, sizeof root, "%s/root", scratch);
    snprintf(command, sizeof command, "rm -rf '%s' && mkdir -p '%s'", root, root);
    CHECK(system(command) == 0);
    return root;
}

static const char *path_for(const char *path)
{
    static char whole[1024];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    CHECK(folders_make_for(whole, NULL) == ST_OK);
    return whole;
}

void fake_file(const char *path, const char *text)
{
    FILE *file = fopen(path_for(path), "w");
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

void fake_link(const char *path, const char *target)
{
    CHECK(symlink(target, path_for(path)) == 0);
}

const finding *finding_of(const findings *f, const char *check)
{
    for (size_t i = f->count; i-- > 0;)
        if (strcmp(f->items[i].check, check) == 0) return &f->items[i];
    fail_msg("nothing was found about %s", check);
    return NULL;
}

void assert_finding(const findings *f, const char *check, finding_level level, const char *text,
                    const char *advice)
{
    const finding *x = finding_of(f, check);
    if (x->level != level || strstr(x->text, text) == NULL ||
        (advice == NULL) != (x->advice[0] == '\0') ||
        (advice != NULL && strstr(x->advice, advice) == NULL))
        fail_msg("%s: %s '%s' -> '%s'", check, finding_level_name(x->level), x->text, x->advice);
}
