/* Goal: every line that the tree logs is an object without a name twice, whatever its values are.
 * Method: the formats of all calls of log_error() to log_debug() are read from the sources. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <fts.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT_SIZE = 512, KEYS_MAX = 32, KEY_SIZE = 40 };

/* The adjacent literals at `at`, which a macro like PRIu64 may stand between, as one; false when
 * the format is no literal. */
static bool read_format(const char *at, char out[FORMAT_SIZE])
{
    size_t used = 0;
    for (;;) {
        at += strspn(at, " \n");
        if (*at == '"') {
            for (at++; *at != '"'; at++) {
                if (*at == '\\') at++;
                assert_in_range(used, 0, FORMAT_SIZE - 2);
                out[used++] = *at;
            }
            at++;
        } else if (strncmp(at, "PRI", 3) == 0) {
            out[used++] = 'u';
            while (isalnum((unsigned char)*at))
                at++;
        } else {
            out[used] = '\0';
            return used > 0;
        }
    }
}

static void check_format(const char *file, const char *format)
{
    char keys[KEYS_MAX][KEY_SIZE] = {"time", "level", "program", "event", "cut"};
    size_t count = 5;
    bool quoted = false;
    for (const char *word = format; *word != '\0';) {
        size_t size = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_");
        bool begins = !quoted && (word == format || word[-1] == ' ');
        if (begins && size > 0 && word[size] == '=') {
            assert_in_range(size, 1, KEY_SIZE - 1);
            assert_in_range(count, 0, KEYS_MAX - 1);
            snprintf(keys[count], KEY_SIZE, "%.*s", (int)size, word);
            for (size_t i = 0; i < count; i++)
                if (strcmp(keys[i], keys[count]) == 0)
                    fail_msg("%s: \"%s\" has %s= twice, or as a name of every line", file, format,
                             keys[i]);
            count++;
            word += size + 1;
            quoted = *word == '"';
            if (quoted) word++;
        } else {
            if (*word == '"') quoted = false;
            word++;
        }
    }
    if (quoted) fail_msg("%s: \"%s\" never ends its quote", file, format);
}

static size_t check_file(const char *path)
{
    static const char *const calls[] = {"log_error(", "log_warn(", "log_info(", "log_debug("};
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    static char text[1 << 20];
    size_t size = fread(text, 1, sizeof text - 1, f), found = 0;
    fclose(f);
    text[size] = '\0';
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (const char *at = text; (at = strstr(at, calls[i])) != NULL;) {
            char format[FORMAT_SIZE];
            at += strlen(calls[i]);
            if (!read_format(at, format)) continue;
            check_format(path, format);
            found++;
        }
    return found;
}

static void test_no_line_has_a_name_twice(void **state)
{
    (void)state;
    static const char *const folders[] = {"client", "common", "proto", "router", "worker"};
    size_t found = 0;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", getenv("GAGGLE_SOURCE_DIR"), folders[i]);
        char *const roots[] = {path, NULL};
        FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
        assert_non_null(tree);
        for (FTSENT *e; (e = fts_read(tree)) != NULL;)
            if (e->fts_info == FTS_F && e->fts_namelen > 2 &&
                strcmp(e->fts_name + e->fts_namelen - 2, ".c") == 0)
                found += check_file(e->fts_path);
        fts_close(tree);
    }
    assert_true(found > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_line_has_a_name_twice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
