/* Goal: a model folder's template and token spellings are found wherever models keep them.
 * Method: small folders are written under GAGGLE_TEST_TMP, one for each way, and loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "render_support.h"

enum { PATH_SIZE = 1024 };

typedef struct folder {
    char path[PATH_SIZE];
} folder;

static folder folder_make(const char *name)
{
    const char *base = getenv("GAGGLE_TEST_TMP");
    folder f;
    snprintf(f.path, sizeof f.path, "%s/%s", base != NULL ? base : "/tmp", name);
    mkdir(f.path, 0700);
    return f;
}

static void folder_remove(const folder *f, const char *file)
{
    char path[2 * PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", f->path, file);
    unlink(path);
}

static void folder_write(const folder *f, const char *file, const char *content)
{
    char path[2 * PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", f->path, file);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(content, 1, strlen(content), out), strlen(content));
    fclose(out);
}

/* A folder with these files; NULL: without. */
static folder folder_with(const char *name, const char *template, const char *config)
{
    folder f = folder_make(name);
    folder_remove(&f, "chat_template.jinja");
    folder_remove(&f, "tokenizer_config.json");
    if (template != NULL) folder_write(&f, "chat_template.jinja", template);
    if (config != NULL) folder_write(&f, "tokenizer_config.json", config);
    return f;
}

static void assert_renders(const folder *f, const char *context, const char *expected)
{
    chat_template *t;
    error err = {0};
    buffer out = {0};
    if (chat_template_load(&t, f->path, &err) != ST_OK) fail_msg("%s", err.text);
    assert_int_equal(err.code, ST_OK);
    json_t *parsed = json_loads(context, 0, NULL);
    assert_int_equal(chat_template_render(t, parsed, RENDER_NOW, &out, &err), ST_OK);
    buffer_append(&out, "", 1);
    assert_string_equal((const char *)out.data, expected);
    json_decref(parsed);
    buffer_free(&out);
    chat_template_destroy(t);
}

static void assert_refused(const folder *f, status expected, const char *part)
{
    chat_template *t = NULL;
    error err = {0};
    assert_int_equal(chat_template_load(&t, f->path, &err), expected);
    assert_int_equal(err.code, expected);
    if (strstr(err.text, part) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.text, part);
}

static void test_template_comes_from_its_own_file_first(void **state)
{
    (void)state;
    folder f = folder_with("both", "file {{ bos_token }}{{ eos_token }}",
                           "{\"chat_template\": \"config\", \"bos_token\": \"<b>\", "
                           "\"eos_token\": {\"content\": \"<e>\", \"lstrip\": false}}");
    assert_renders(&f, "{}", "file <b><e>");
    assert_renders(&f, "{\"bos_token\": \"own\"}", "file own<e>");
    f = folder_with("alone", "file {{ bos_token }}|{{ tools }}", NULL);
    assert_renders(&f, "{}", "file |None");
}

static void test_template_comes_from_the_config_else(void **state)
{
    (void)state;
    folder f = folder_with("config", NULL,
                           "{\"chat_template\": \"config {{ bos_token }}\", \"bos_token\": null}");
    assert_renders(&f, "{}", "config ");
    f = folder_with("several", NULL,
                    "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"T\"}, "
                    "{\"name\": \"default\", \"template\": \"D\"}]}");
    assert_renders(&f, "{}", "D");
}

static void test_template_for_tools_takes_the_place_where_there_are_tools(void **state)
{
    (void)state;
    folder f =
        folder_with("two", NULL,
                    "{\"bos_token\": \"<b>\", \"chat_template\": ["
                    "{\"name\": \"default\", \"template\": \"D{{ bos_token }}\"}, "
                    "{\"name\": \"tool_use\", \"template\": \"T{{ bos_token }}{{ tools }}\"}]}");
    assert_renders(&f, "{}", "D<b>");
    assert_renders(&f, "{\"tools\": null}", "D<b>");
    assert_renders(&f, "{\"tools\": [1]}", "T<b>[1]");
    f = folder_with("two_files", "file", NULL);
    folder beside = folder_make("two_files/additional_chat_templates");
    folder_write(&beside, "tool_use.jinja", "tools {{ tools }}");
    assert_renders(&f, "{}", "file");
    assert_renders(&f, "{\"tools\": [1]}", "tools [1]");
    folder_write(&beside, "tool_use.jinja", "{% if %}");
    assert_refused(&f, ST_INVALID_ARGUMENT, "tool_use.jinja: line 1");
    f = folder_with("one", NULL,
                    "{\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"}]}");
    assert_renders(&f, "{\"tools\": [1]}", "D");
    f = folder_with("broken_for_tools", NULL,
                    "{\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"}, "
                    "{\"name\": \"tool_use\", \"template\": \"{{\"}]}");
    assert_refused(&f, ST_INVALID_ARGUMENT, "tokenizer_config.json chat_template: line 1");
}

static void test_model_without_a_template_is_not_found(void **state)
{
    (void)state;
    folder f = folder_with("neither", NULL, NULL);
    assert_refused(&f, ST_NOT_FOUND, "no chat template");
    f = folder_with("without", NULL, "{\"bos_token\": \"x\"}");
    assert_refused(&f, ST_NOT_FOUND, "no chat template");
    f = folder_with("no_default", NULL,
                    "{\"chat_template\": [{\"name\": \"a\", \"template\": \"T\"}]}");
    assert_refused(&f, ST_NOT_FOUND, "no chat template");
    f = folder_with("odd_list", NULL,
                    "{\"chat_template\": [1, {\"name\": 2}, {\"name\": \"default\"}]}");
    assert_refused(&f, ST_NOT_FOUND, "no chat template");
    snprintf(f.path, sizeof f.path, "/nonexistent/folder");
    assert_refused(&f, ST_NOT_FOUND, "no chat template");
}

static void test_broken_files_are_refused_by_name_and_line(void **state)
{
    (void)state;
    folder f = folder_with("broken_template", "a\n{% if %}", NULL);
    assert_refused(&f, ST_INVALID_ARGUMENT, "chat_template.jinja: line 2");
    f = folder_with("broken_config_template", NULL, "{\"chat_template\": \"{{ x\"}");
    assert_refused(&f, ST_INVALID_ARGUMENT, "tokenizer_config.json chat_template: line 1");
    f = folder_with("broken_config", "fine", "{\"chat_template\": ");
    assert_refused(&f, ST_INVALID_ARGUMENT, "tokenizer_config.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_template_comes_from_its_own_file_first),
        cmocka_unit_test(test_template_comes_from_the_config_else),
        cmocka_unit_test(test_template_for_tools_takes_the_place_where_there_are_tools),
        cmocka_unit_test(test_model_without_a_template_is_not_found),
        cmocka_unit_test(test_broken_files_are_refused_by_name_and_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
