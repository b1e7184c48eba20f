/* Goal: a model's name is enough: `gaggle up` pulls what is missing, a worker finds what was pulled
 * and says how to get what was not, and `gaggle ls`, `show` and `rm` speak of the same cache
 * without taking away what another revision uses. Method: the real programs, the bundled model on a
 * hub of our own, and caches made by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "common/mem.h"
#include "pull_fixture.h"
#include "tests/e2e/processes.h"

#define OTHER_COMMIT "fedcba9876543210fedcba9876543210fedcba98"

typedef struct model_file {
    const char *path;
    char *bytes;
    bool large;
} model_file;

/* The bundled model in place of the fixture's. */
static void put_gosling(fixture *f, model_file *files, size_t count)
{
    hub_stop(f->hub);
    f->hub = hub_start();
    setenv("HF_ENDPOINT", hub_url(f->hub), 1);
    for (size_t i = 0; i < count; i++) {
        char path[1024];
        size_t size;
        error err;
        snprintf(path, sizeof path, "%s/models/gosling/%s", getenv("GAGGLE_SOURCE_DIR"),
                 files[i].path);
        if (file_read(&files[i].bytes, &size, path, 64 << 20, &err) != ST_OK)
            fail_msg("%s", err.text);
        hub_put(f->hub, files[i].path, files[i].bytes, size, files[i].large);
    }
}

static void test_up_pulls_the_model_that_is_missing(void **state)
{
    fixture *f = *state;
    model_file files[] = {{"config.json", NULL, false},
                          {"generation_config.json", NULL, false},
                          {"tokenizer.json", NULL, false},
                          {"tokenizer_config.json", NULL, false},
                          {"model.safetensors", NULL, true}};
    const size_t count = sizeof files / sizeof *files;
    put_gosling(f, files, count);
    char port[8];
    snprintf(port, sizeof port, "%u", free_port());
    const char *const up[] = {"up", "-m", HUB_MODEL, "--oneshot", "--port", port, NULL};
    gaggle(f, up);
    if (f->code != 0) fail_msg("ended with %d: %s", f->code, program_err(&f->program));
    assert_said(f, "pulling the model of that name");
    assert_said(f, "model     " HUB_MODEL ", context");
    assert_non_null(strstr(program_out(&f->program), "Paris"));

    /* What is there is used without asking anybody. */
    hub_forget(f->hub);
    gaggle(f, up);
    assert_int_equal(f->code, 0);
    assert_int_equal(hub_count(f->hub, "", false), 0);

    const char *const generate[] = {GAGGLE_WORKER, "generate", "-m", HUB_MODEL,
                                    "--prompts",   "-",        NULL};
    program worker;
    assert_int_equal(
        program_run(&worker, generate, "{\"prompt\": \"The goose\", \"max_tokens\": 2}\n"), 0);
    assert_non_null(strstr(program_out(&worker), "\"finish\":\"length\""));

    gaggle(f, (const char *const[]){"show", HUB_MODEL, NULL});
    assert_int_equal(f->code, 0);
    const char *const shown[] = {("model         " HUB_MODEL ":main"),
                                 "LlamaForCausalLM: 5 layers",
                                 "context       1024 tokens",
                                 "parameters    3.72 M",
                                 "in 1 file, BF16",
                                 "GPU memory    about 1.01 GiB"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (strstr(program_out(&f->program), shown[i]) == NULL)
            fail_msg("'%s' is not in:\n%s", shown[i], program_out(&f->program));
    for (size_t i = 0; i < count; i++)
        mem_free(files[i].bytes);
}

static void test_a_worker_lets_gaggle_pull_what_is_missing(void **state)
{
    fixture *f = *state;
    model_file files[] = {{"config.json", NULL, false},
                          {"tokenizer.json", NULL, false},
                          {"model.safetensors", NULL, true}};
    const size_t count = sizeof files / sizeof *files;
    put_gosling(f, files, count);
    const char *const generate[] = {GAGGLE_WORKER, "generate", "-m", HUB_MODEL,
                                    "--prompts",   "-",        NULL};
    for (int time = 0; time < 2; time++) {
        hub_forget(f->hub);
        assert_int_equal(
            program_run(&f->program, generate, "{\"prompt\": \"The goose\", \"max_tokens\": 2}\n"),
            0);
        assert_int_equal(strncmp(program_out(&f->program), "{", 1), 0); /* answers alone */
        assert_int_equal(hub_count(f->hub, "", false) == 0, time > 0);
    }
    for (size_t i = 0; i < count; i++)
        mem_free(files[i].bytes);
}

/* It has no code for that itself. */
static void test_a_worker_alone_says_how_to_get_a_model_and_asks_nobody(void **state)
{
    fixture *f = *state;
    char alone[1100];
    snprintf(alone, sizeof alone, "%s/gaggle-worker", f->cache);
    mkdir(f->cache, 0777);
    assert_int_equal(link(GAGGLE_WORKER, alone), 0);
    char *usual = mem_strdup(getenv("PATH"));
    setenv("PATH", "/nowhere", 1);
    const char *const args[] = {alone, "-m", HUB_MODEL, NULL};
    assert_true(program_run(&f->program, args, NULL) != 0);
    assert_said(f, "gaggle pull " HUB_MODEL);
    assert_int_equal(hub_count(f->hub, "", false), 0);
    pull(f);
    unlink(in_model(f, "snapshots/" HUB_COMMIT "/" BIG));
    assert_true(program_run(&f->program, args, NULL) != 0);
    assert_said(f, "has no " BIG);
    assert_said(f, "gaggle pull " HUB_MODEL);
    setenv("PATH", usual, 1);
    mem_free(usual);
}

/* -- ls and rm
 * --------------------------------------------------------------------------------------------
 */

static void make_link(const fixture *f, const char *name, const char *etag)
{
    char target[256];
    snprintf(target, sizeof target, "../../blobs/%s", etag);
    assert_int_equal(symlink(target, in_model(f, name)), 0);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A second revision, "old": one file shared with the first, one of its own; not whole. */
static void add_revision(const fixture *f)
{
    mkdir(in_model(f, "snapshots/" OTHER_COMMIT), 0777);
    make_link(f, "snapshots/" OTHER_COMMIT "/config.json", hub_etag(f->hub, "config.json"));
    make_link(f, "snapshots/" OTHER_COMMIT "/own", "cafe");
    write_text(in_model(f, "blobs/cafe"), "own");
    write_text(in_model(f, "refs/old"), OTHER_COMMIT);
}

static json_t *list(fixture *f)
{
    assert_int_equal(gaggle(f, (const char *const[]){"ls", "--json", NULL}), 0);
    json_t *all;
    const char *text = program_out(&f->program);
    assert_int_equal(json_parse(&all, text, strlen(text), "ls", NULL), ST_OK);
    return all;
}

static void test_ls_shows_what_is_there_and_what_it_lacks(void **state)
{
    fixture *f = *state;
    assert_int_equal(gaggle(f, (const char *const[]){"ls", NULL}), 0);
    assert_said(f, "no models in");
    pull(f);
    add_revision(f);
    write_text(in_model(f, "blobs/beef.gaggle.incomplete"), "half");
    json_t *all = list(f);
    assert_int_equal(json_array_size(all), 1);
    const json_t *model = json_array_get(all, 0);
    assert_string_equal(json_string_value(json_object_get(model, "name")), HUB_MODEL);
    assert_true(json_integer_value(json_object_get(model, "unfinished_bytes")) > 0);
    const json_t *snapshots = json_object_get(model, "snapshots");
    assert_int_equal(json_array_size(snapshots), 2);
    unsigned whole = 0;
    for (size_t i = 0; i < 2; i++) {
        const json_t *s = json_array_get(snapshots, i);
        bool is_main = strcmp(json_string_value(json_object_get(s, "refs")), "main") == 0;
        assert_int_equal(json_is_true(json_object_get(s, "whole")), is_main);
        if (is_main)
            whole++;
        else
            assert_string_equal(json_string_value(json_object_get(s, "lacks")),
                                "no tokenizer.json");
    }
    assert_int_equal(whole, 1);
    json_decref(all);
    gaggle(f, (const char *const[]){"ls", NULL});
    assert_non_null(strstr(program_out(&f->program), HUB_MODEL "  main "));
    assert_non_null(strstr(program_out(&f->program), "no tokenizer.json\n"));
    assert_non_null(strstr(program_out(&f->program), "  unfinished\n"));
}

static void test_rm_keeps_what_another_revision_uses(void **state)
{
    fixture *f = *state;
    pull(f);
    add_revision(f);
    gaggle(f, (const char *const[]){"rm", HUB_MODEL ":nowhere", "--yes", NULL});
    assert_int_equal(f->code, 1);
    gaggle(f, (const char *const[]){"rm", HUB_MODEL ":old", NULL});
    assert_int_equal(f->code, 2); /* nobody there to be asked */
    assert_true(exists(in_model(f, "blobs/cafe")));
    gaggle(f, (const char *const[]){"rm", HUB_MODEL ":old", "--yes", NULL});
    assert_int_equal(f->code, 0);
    assert_false(exists(in_model(f, "blobs/cafe")));
    assert_false(exists(in_model(f, "refs/old")));
    assert_false(exists(in_model(f, "snapshots/" OTHER_COMMIT)));
    assert_whole(f);

    add_revision(f);
    gaggle(f, (const char *const[]){"rm", HUB_MODEL ":main", "--yes", NULL});
    assert_int_equal(f->code, 0);
    assert_false(exists(in_model(f, "refs/main")));
    assert_false(exists(blob_of(f, BIG)));
    assert_true(exists(blob_of(f, "config.json")));
    assert_true(exists(in_model(f, "blobs/cafe")));
    gaggle(f, (const char *const[]){"rm", HUB_MODEL, "--yes", NULL});
    assert_int_equal(f->code, 0);
    assert_false(exists(in_model(f, "")));
    gaggle(f, (const char *const[]){"rm", HUB_MODEL, "--yes", NULL});
    assert_int_equal(f->code, 1);
    assert_said(f, "is not in the cache");
}

static void test_rm_unfinished_keeps_the_rest(void **state)
{
    fixture *f = *state;
    pull(f);
    write_text(in_model(f, "blobs/beef.gaggle.incomplete"), "half");
    write_text(in_model(f, "blobs/beef.gaggle.ranges"), "ranges");
    write_text(in_model(f, "blobs/beef.12345678.incomplete"), "another program's");
    gaggle(f, (const char *const[]){"rm", HUB_MODEL, "--unfinished", "--yes", NULL});
    assert_int_equal(f->code, 0);
    assert_true(exists(in_model(f, "blobs/beef.12345678.incomplete")));
    unlink(in_model(f, "blobs/beef.12345678.incomplete"));
    assert_whole(f);
}

static void pause_store(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->at_store) r->pause_after = 0;
}

static void test_rm_does_not_disturb_a_pull(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, pause_store, NULL);
    program puller;
    gaggle_begin(f, &puller, (const char *const[]){PULL_ARGS, NULL});
    hub_wait_paused(f->hub, 4);
    gaggle(f, (const char *const[]){"rm", HUB_MODEL, "--yes", NULL});
    assert_int_equal(f->code, 1);
    assert_said(f, "another process is at work on " HUB_MODEL);
    hub_behave(f->hub, NULL, NULL);
    hub_release(f->hub);
    assert_int_equal(program_wait(&puller), 0);
    assert_whole(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_up_pulls_the_model_that_is_missing),
        TEST(test_a_worker_lets_gaggle_pull_what_is_missing),
        TEST(test_a_worker_alone_says_how_to_get_a_model_and_asks_nobody),
        TEST(test_ls_shows_what_is_there_and_what_it_lacks),
        TEST(test_rm_keeps_what_another_revision_uses),
        TEST(test_rm_unfinished_keeps_the_rest),
        TEST(test_rm_does_not_disturb_a_pull),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
