/* Goal: what `gaggle connect` prints works where it is pasted, whatever is in the names, and shows
 * a token only where it belongs. Method: the real binary; a notebook is read as JSON, and commands
 * are run by a shell that finds programs of ours under the names docker, ssh and modal, which write
 * down what they are given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/json.h"
#include "router/keys_file.h"
#include "run_program.h"

#define URL       "wss://gaggle.example.org/worker"
#define ODD_MODEL "it's/a \"model\" $HOME \\n"
#define CA_TEXT   "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

enum { ARGS_MAX = 32 };

/* The working directory becomes an empty one with this name; "keys" and "ca.pem" lie in it. */
static void fresh_folder(const char *name)
{
    char command[256];
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    CHECK(scratch != NULL && chdir(scratch) == 0);
    snprintf(command, sizeof command, "rm -rf %s && mkdir -p '%s/my fakes'", name, name);
    assert_int_equal(system(command), 0);
    assert_int_equal(chdir(name), 0);
    FILE *file = fopen("my ca.pem", "wb");
    assert_non_null(file);
    fputs(CA_TEXT, file);
    fclose(file);
}

static char *read_all(const char *path)
{
    char *text;
    size_t size;
    error err;
    if (file_read(&text, &size, path, 1 << 20, &err) != ST_OK) fail_msg("%s", err.text);
    return text;
}

static int connect_to(program *p, const char *place, const char *const *more)
{
    const char *args[ARGS_MAX] = {GAGGLE_CLI, "connect", place};
    size_t count = 3;
    while (*more != NULL && count < ARGS_MAX - 1)
        args[count++] = *more++;
    args[count] = NULL;
    return program_run(p, args, NULL);
}

#define CONNECT(p, place, ...) connect_to(p, place, (const char *const[]){__VA_ARGS__, NULL})

static void assert_says(const char *where, const char *what)
{
    if (strstr(where, what) == NULL) fail_msg("'%s' is not in '%s'", what, where);
}

static void assert_silent_about(const char *where, const char *what)
{
    if (strstr(where, what) != NULL) fail_msg("'%s' is in '%s'", what, where);
}

/* The last line of a text, without its end. */
static const char *last_line(const char *text)
{
    static char line[256];
    size_t size = strlen(text);
    while (size > 0 && text[size - 1] == '\n')
        size--;
    size_t start = size;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    snprintf(line, sizeof line, "%.*s", (int)(size - start), text + start);
    return line;
}

/* -- notebooks ------------------------------------------------------------------------------- */

static void test_a_cell_has_the_settings_and_the_token_is_apart(void **state)
{
    (void)state;
    fresh_folder("cell");
    program p;
    int64_t before_s = time(NULL);
    assert_int_equal(CONNECT(&p, "kaggle", "-r", URL, "-r", "wss://b/worker", "-m", "ORG/NAME",
                             "--keys", "keys"),
                     0);
    const char *cell = program_out(&p);
    assert_says(cell, "ROUTERS = \"" URL " wss://b/worker\"  # ");
    assert_says(cell, "\nMODEL = \"ORG/NAME\"  # ");
    assert_says(cell, "UserSecretsClient");
    assert_says(cell, "\nworkers = [");
    assert_silent_about(cell, "gg_w_");

    const char *token = last_line(program_err(&p));
    char *text = read_all("keys");
    keys_file keys;
    error err;
    assert_int_equal(keys_file_parse(&keys, "keys", text, strlen(text), &err), ST_OK);
    const key_entry *key = keys_file_find(&keys, token_id(text_of(token)));
    assert_non_null(key);
    uint8_t hash[KEY_HASH_BYTES];
    token_hash(hash, text_of(token));
    assert_memory_equal(key->sha256, hash, sizeof hash);
    assert_int_equal(key->role, KEY_WORKER);
    assert_true(key->expires_s >= before_s + 86400 && key->expires_s <= time(NULL) + 86400);
    keys_file_free(&keys);
    mem_free(text);
}

/* Of `book`, the source of code cell `number` as one text; NULL: there are not so many. */
static char *code_of(const json_t *book, size_t number)
{
    size_t at, line_at;
    json_t *cell, *line;
    json_array_foreach(json_object_get(book, "cells"), at, cell)
    {
        if (strcmp(json_string_value(json_object_get(cell, "cell_type")), "code") != 0) continue;
        if (number-- > 0) continue;
        buffer text = {0};
        json_array_foreach(json_object_get(cell, "source"), line_at, line)
            buffer_append(&text, json_string_value(line), json_string_length(line));
        buffer_append(&text, "", 1);
        return (char *)text.data;
    }
    return NULL;
}

static json_t *deployed(const char *place)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/deploy/%s/gaggle.ipynb", getenv("GAGGLE_SOURCE_DIR"), place);
    json_t *book = json_load_file(path, 0, NULL);
    assert_non_null(book);
    return book;
}

static void test_a_whole_notebook_is_the_one_in_deploy_with_its_settings(void **state)
{
    (void)state;
    fresh_folder("whole");
    static const char *const places[] = {"kaggle", "colab"};
    for (size_t i = 0; i < 2; i++) {
        program p;
        assert_int_equal(CONNECT(&p, places[i], "-r", URL, "-m", ODD_MODEL, "--join-token",
                                 "a-token-of-before", "--tls-ca", "my ca.pem", "--notebook"),
                         0);
        json_t *made = json_loads(program_out(&p), 0, NULL), *ours = deployed(places[i]);
        assert_non_null(made);
        assert_int_equal(json_array_size(json_object_get(made, "cells")),
                         json_array_size(json_object_get(ours, "cells")));
        char *settings = code_of(made, 0);
        assert_says(settings, "MODEL = \"it's/a \\\"model\\\" $HOME \\\\n\"  # ");
        assert_says(settings, "CA = \"-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END");
        assert_silent_about(settings, "a-token-of-before");
        mem_free(settings);
        for (size_t cell = 1;; cell++) {
            char *a = code_of(made, cell), *b = code_of(ours, cell);
            if (a == NULL && b == NULL) break;
            assert_non_null(a);
            assert_non_null(b);
            assert_string_equal(a, b);
            mem_free(a);
            mem_free(b);
        }
        assert_string_equal(last_line(program_err(&p)), "a-token-of-before");
        json_decref(made);
        json_decref(ours);
    }
}

/* So that a mistake that is mended in one is mended in both. */
static void test_both_notebooks_have_the_same_code(void **state)
{
    (void)state;
    json_t *kaggle = deployed("kaggle"), *colab = deployed("colab");
    enum { SETTINGS_AND_PLACE = 2 };
    size_t cell = SETTINGS_AND_PLACE;
    for (;; cell++) {
        char *a = code_of(kaggle, cell), *b = code_of(colab, cell);
        assert_true((a == NULL) == (b == NULL));
        if (a == NULL) break;
        assert_string_equal(a, b);
        mem_free(a);
        mem_free(b);
    }
    assert_true(cell > SETTINGS_AND_PLACE);
    json_decref(kaggle);
    json_decref(colab);
}

/* -- commands -------------------------------------------------------------------------------- */

/* A program of this name that writes its arguments, a line each, to NAME.args, and then `more`. */
static void fake(const char *name, const char *more)
{
    char path[64];
    snprintf(path, sizeof path, "my fakes/%s", name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\nprintf '%%s\\n' \"$@\" >>%s.args\n%s\n", name, more);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
}

/* Run what was printed, as a person would who pastes it. */
static void paste(const char *commands)
{
    FILE *shell = popen("PATH=\"$PWD/my fakes:$PATH\" HOME=$PWD sh -eu", "w");
    assert_non_null(shell);
    fputs(commands, shell);
    assert_int_equal(pclose(shell), 0);
}

static void test_dockers_command_hands_over_odd_names_and_hides_the_token(void **state)
{
    (void)state;
    fresh_folder("docker");
    fake("docker", "echo \"${GAGGLE_JOIN_TOKEN-none}\" >docker.token");
    program p;
    assert_int_equal(CONNECT(&p, "docker", "-r", URL, "-m", ODD_MODEL, "--keys", "keys", "--tls-ca",
                             "my ca.pem", "--gpu", "1"),
                     0);
    paste(program_out(&p));
    char *args = read_all("docker.args"), *token = read_all("docker.token");
    assert_says(args, "pull\n" ODD_MODEL "\n");
    assert_says(args, "\n-m\n" ODD_MODEL "\n--router\n" URL "\n--tls-ca\n/ca.pem\n");
    assert_says(args, "\n--gpus\ndevice=1\n");
    assert_says(args, "/docker/my ca.pem:/ca.pem:ro\n");
    assert_says(args, "\nlocalhost/gaggle-worker-cuda\n");
    assert_silent_about(args, "gg_w_");
    assert_memory_equal(token, "gg_w_", 5);
    mem_free(args);
    mem_free(token);
}

static void test_a_folder_is_mounted_and_not_pulled(void **state)
{
    (void)state;
    fresh_folder("folder");
    fake("docker", "");
    program p;
    assert_int_equal(
        CONNECT(&p, "docker", "-r", URL, "-m", "./my fakes", "--keys", "keys", "--gpu", "none"), 0);
    paste(program_out(&p));
    char *args = read_all("docker.args");
    assert_silent_about(args, "pull");
    assert_silent_about(args, "--gpus");
    assert_says(args, "/folder/my fakes:/model:ro\nlocalhost/gaggle-worker-cpu\n-m\n/model\n");
    assert_says(args, "--tls-ca\n/etc/ssl/certs/ca-certificates.crt\n");
    mem_free(args);
}

static void test_sshs_command_starts_one_worker_for_each_gpu(void **state)
{
    (void)state;
    fresh_folder("ssh");
    fake("ssh", "exec sh -c \"$2\nwait\""); /* for what it leaves running */
    fake("gaggle", "");
    fake("gaggle-worker", "[ \"$1\" != devices ] || { printf 'cuda:0\\ncuda:1\\ncpu\\n'; exit; }\n"
                          "echo \"$GAGGLE_JOIN_TOKEN\" >token-of-$2");
    program p;
    assert_int_equal(CONNECT(&p, "ssh", "-r", URL, "-m", ODD_MODEL, "--keys", "keys", "--tls-ca",
                             "my ca.pem", "me@host"),
                     0);
    paste(program_out(&p));
    char *args = read_all("ssh.args"), *pull = read_all("gaggle.args");
    assert_memory_equal(args, "me@host\n", 8);
    assert_silent_about(args, "gg_w_");
    assert_string_equal(pull, "pull\n--if-missing\n" ODD_MODEL "\n");
    mem_free(args);
    mem_free(pull);
    args = read_all("gaggle-worker.args");
    assert_says(args, "--device\ncuda:0\n-m\n" ODD_MODEL "\n--router\n" URL "\n--tls-ca\n");
    assert_says(args, "--device\ncuda:1\n");
    assert_silent_about(args, "--device\ncpu\n");
    mem_free(args);
    char *ca = read_all("gaggle-ca.pem"), *token = read_all("token-of-cuda:1");
    assert_string_equal(ca, CA_TEXT);
    assert_memory_equal(token, "gg_w_", 5);
    mem_free(ca);
    mem_free(token);
}

static void test_modals_commands_make_the_secret_and_the_workers(void **state)
{
    (void)state;
    fresh_folder("modal");
    fake("modal", "[ $1 = secret ] || printf '%s|%s|%s|%s' \"$ROUTERS\" \"$MODEL\" \"$WORKERS\" "
                  "\"$GPU\" >settings");
    program p;
    assert_int_equal(CONNECT(&p, "modal", "-r", URL, "-r", "wss://b/worker", "-m", ODD_MODEL,
                             "--keys", "keys", "--tls-ca", "my ca.pem", "--workers", "4", "--gpu",
                             "T4"),
                     0);
    paste(program_out(&p));
    char *args = read_all("modal.args"), *settings = read_all("settings");
    assert_says(args, "secret\ncreate\n--force\ngaggle-worker\nGAGGLE_JOIN_TOKEN=gg_w_");
    assert_says(args, "\nGAGGLE_CA=-----BEGIN CERTIFICATE-----\n");
    assert_says(args, "deploy\ndeploy/modal/app.py\n");
    assert_string_equal(settings, URL " wss://b/worker|" ODD_MODEL "|4|T4");
    mem_free(args);
    mem_free(settings);
}

/* -- refusals -------------------------------------------------------------------------------- */

static void test_no_key_is_made_for_what_cannot_be(void **state)
{
    (void)state;
    fresh_folder("refused");
    static const struct {
        const char *args[10];
        const char *says;
    } cases[] = {
        {{"-m", "M"}, "--router-url is needed"},
        {{"-r", "https://gaggle.example.org", "-m", "M"}, "must be wss://"},
        {{"-r", "wss://", "-m", "M"}, "must be wss://"},
        {{"-r", "wss://a b", "-m", "M"}, "is no URL"},
        {{"-r", "ipc:///tmp/x", "-m", "M"}, "must be wss://"},
        {{"-r", URL}, "--model is needed"},
        {{"-r", URL, "-m", "a\nb"}, "--model must be one line"},
        {{"-r", URL, "-m", "M", "--tls-ca", "keys"}, "keys"},
        {{"-r", URL, "-m", "M", "--expires", "yesterday"}, "--expires"},
        {{"-r", URL, "-m", "M", "--join-token", "t"}, "one of --keys"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *args[ARGS_MAX] = {"--keys", "keys"};
        memcpy(args + 2, cases[i].args, sizeof cases[i].args);
        program p;
        int code = connect_to(&p, "kaggle", args);
        if (code == 0) fail_msg("case %zu was taken", i);
        assert_says(program_err(&p), cases[i].says);
        assert_string_equal(program_out(&p), "");
        assert_int_not_equal(access("keys", F_OK), 0);
    }
}

static void test_what_travels_readable_is_said(void **state)
{
    (void)state;
    fresh_folder("plain");
    program p;
    assert_int_equal(
        CONNECT(&p, "docker", "-r", "ws://10.0.0.1:7410", "-m", "O/N", "--keys", "keys"), 0);
    assert_says(program_err(&p), "readable");
    assert_silent_about(program_out(&p), "--tls-ca");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cell_has_the_settings_and_the_token_is_apart),
        cmocka_unit_test(test_a_whole_notebook_is_the_one_in_deploy_with_its_settings),
        cmocka_unit_test(test_both_notebooks_have_the_same_code),
        cmocka_unit_test(test_dockers_command_hands_over_odd_names_and_hides_the_token),
        cmocka_unit_test(test_a_folder_is_mounted_and_not_pulled),
        cmocka_unit_test(test_sshs_command_starts_one_worker_for_each_gpu),
        cmocka_unit_test(test_modals_commands_make_the_secret_and_the_workers),
        cmocka_unit_test(test_no_key_is_made_for_what_cannot_be),
        cmocka_unit_test(test_what_travels_readable_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
