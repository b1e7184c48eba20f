/* Goal: real chat templates render byte for byte as Python's Jinja2 renders them.
 * Method: the recorded renderings of GAGGLE_SHARED_DATA: 94 templates by 12 conversations, the
 * expectations of another engine's authors, small templates for single features, and malformed
 * ones. Where the record is a refusal, ours must be one too, at the same stage; a template's own
 * sentence (raise_exception) must come back word for word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/limits.h"
#include "render_support.h"

enum { LINE_FILE_BYTES_MAX = 4 * 1024 * 1024, PATH_SIZE = 4096 };

/* Where the data is; NULL, and the reason printed, when it is not there. */
static const char *data_folder(void)
{
    const char *folder = getenv("GAGGLE_SHARED_DATA");
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/jinja/engine-units.jsonl", folder != NULL ? folder : "");
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        printf("skipped: no chat template data at GAGGLE_SHARED_DATA\n");
        return NULL;
    }
    fclose(file);
    return folder;
}

static char *read_shared(const char *name, size_t *size)
{
    char path[PATH_SIZE], *bytes;
    error err;
    int length = snprintf(path, sizeof path, "%s/%s", data_folder(), name);
    assert_true(length > 0 && length < PATH_SIZE);
    assert_int_equal(file_read(&bytes, size, path, LINE_FILE_BYTES_MAX, &err), ST_OK);
    return bytes;
}

static bool matches(const json_t *wanted, const rendered *r)
{
    const json_t *expected = json_object_get(wanted, "expected");
    if (expected != NULL)
        return r->parsed == ST_OK && r->code == ST_OK &&
               r->text.size == json_string_length(expected) &&
               memcmp(r->text.data, json_string_value(expected), r->text.size) == 0;
    const char *kind = json_string_value(json_object_get(wanted, "error"));
    const char *message = json_string_value(json_object_get(wanted, "message"));
    if (strcmp(kind, "compile") == 0) return r->parsed == ST_INVALID_ARGUMENT;
    if (r->parsed != ST_OK || r->code != ST_INVALID_ARGUMENT) return false;
    return strcmp(kind, "raise_exception") != 0 || strcmp(r->err.text, message) == 0;
}

static bool check(const char *name, const char *source, size_t size, const json_t *context,
                  const json_t *wanted)
{
    rendered r = render_bytes(source, size, context);
    bool good = matches(wanted, &r);
    if (!good) {
        char *text = json_dumps(wanted, JSON_COMPACT);
        print_error("%s\nwanted: %.600s\nfound:  %.600s (%s)\n", name, text,
                    (const char *)r.text.data, r.err.text);
        free(text);
    }
    rendered_free(&r);
    return good;
}

/* Calls visit() for each line of a JSON lines file; returns how many lines failed. */
static int each_line(const char *name, bool (*visit)(const json_t *line, void *state), void *state)
{
    size_t size;
    int failed = 0, lines = 0;
    char *bytes = read_shared(name, &size);
    for (char *at = bytes; at < bytes + size;) {
        char *end = memchr(at, '\n', (size_t)(bytes + size - at));
        if (end == NULL) end = bytes + size;
        json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
        assert_non_null(line);
        failed += !visit(line, state);
        lines++;
        json_decref(line);
        at = end + 1;
    }
    mem_free(bytes);
    printf("%s: %d of %d as recorded\n", name, lines - failed, lines);
    return failed;
}

static bool visit_rendering(const json_t *line, void *scenarios)
{
    const char *template = json_string_value(json_object_get(line, "template"));
    const char *scenario = json_string_value(json_object_get(line, "case"));
    char name[PATH_SIZE], shown[PATH_SIZE];
    size_t size;
    snprintf(name, sizeof name, "chat-templates/%s", template);
    snprintf(shown, sizeof shown, "%s with %s", template, scenario);
    char *source = read_shared(name, &size);
    bool good = check(shown, source, size, json_object_get(scenarios, scenario), line);
    mem_free(source);
    return good;
}

static void test_real_templates_render_as_recorded(void **state)
{
    (void)state;
    if (data_folder() == NULL) return;
    size_t size;
    char *bytes = read_shared("chat-renderings/scenarios.json", &size);
    json_t *scenarios = json_loadb(bytes, size, 0, NULL);
    assert_non_null(scenarios);
    int failed = each_line("chat-renderings/jinja2-expected.jsonl", visit_rendering, scenarios);
    json_decref(scenarios);
    mem_free(bytes);
    assert_int_equal(failed, 0);
}

/* `jinja2` says what plain Jinja2 gives; the other expectation in the line is for an engine that
 * moves system messages by itself. */
static bool visit_peer(const json_t *line, void *unused)
{
    (void)unused;
    json_t *context = json_copy((json_t *)line);
    const json_t *source = json_object_get(line, "template");
    json_object_del(context, "template");
    bool good = check(json_string_value(json_object_get(line, "name")), json_string_value(source),
                      json_string_length(source), context, json_object_get(line, "jinja2"));
    json_decref(context);
    return good;
}

static void test_another_engines_expectations_hold(void **state)
{
    (void)state;
    if (data_folder() == NULL) return;
    assert_int_equal(
        each_line("chat-renderings/llama.cpp-test-chat-template.jsonl", visit_peer, NULL), 0);
}

/* These two were recorded with a sandbox that lets a template change its lists. Ours is the
 * immutable one that chat templates meet in transformers, which denies it. */
static bool needs_mutable_sandbox(const char *source)
{
    return strstr(source, ".pop()") != NULL || strstr(source, ".append(") != NULL;
}

static bool visit_unit(const json_t *line, void *unused)
{
    (void)unused;
    const json_t *source = json_object_get(line, "template");
    const char *text = json_string_value(source);
    json_t *denied = json_pack("{s:s}", "error", "runtime");
    bool good =
        check(json_string_value(json_object_get(line, "name")), text, json_string_length(source),
              json_object_get(line, "vars"), needs_mutable_sandbox(text) ? denied : line);
    json_decref(denied);
    return good;
}

static void test_single_features_render_as_recorded(void **state)
{
    (void)state;
    if (data_folder() == NULL) return;
    assert_int_equal(each_line("jinja/engine-units.jsonl", visit_unit, NULL), 0);
}

static bool visit_malformed(const json_t *line, void *empty)
{
    const json_t *source = json_object_get(line, "template");
    const char *text = json_string_value(source);
    return check(text, text, json_string_length(source), empty, line);
}

static void test_malformed_templates_are_refused(void **state)
{
    (void)state;
    if (data_folder() == NULL) return;
    json_t *empty = json_object();
    assert_int_equal(each_line("jinja/malformed.jsonl", visit_malformed, empty), 0);
    json_decref(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_templates_render_as_recorded),
        cmocka_unit_test(test_another_engines_expectations_hold),
        cmocka_unit_test(test_single_features_render_as_recorded),
        cmocka_unit_test(test_malformed_templates_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
