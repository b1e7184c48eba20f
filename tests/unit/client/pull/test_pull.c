/* Goal: `gaggle pull` leaves a whole model, laid out as Hugging Face's tools lay it out, and gives
 * its token to the hub alone. Method: the real binary against a hub of our own that sends people to
 * a store at another port; what was asked and sent is counted there. What happens when a pull is
 * interrupted, over bad connections and by servers that say wrong things stands in test_pull_*.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pull_fixture.h"

static void test_a_model_is_laid_out_as_others_expect_it(void **state)
{
    fixture *f = *state;
    setenv("HF_TOKEN", "hf_secret", 1);
    pull(f);
    assert_pulled(f);
    char expected[1100];
    snprintf(expected, sizeof expected, "%s\n", in_model(f, "snapshots/" HUB_COMMIT));
    assert_string_equal(program_out(&f->program), expected);
    assert_true(hub_saw_token(f->hub, "hf_secret"));
    assert_false(hub_store_saw_token(f->hub));
    assert_null(strstr(program_err(&f->program), "hf_secret"));
}

static void test_what_is_there_is_not_fetched_again(void **state)
{
    fixture *f = *state;
    pull(f);
    assert_pulled(f);
    hub_forget(f->hub);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_count(f->hub, "/resolve/", false), 0);
    assert_int_equal(hub_count(f->hub, "/resolve/", true), 0);
    assert_said(f, "everything is there");
}

static void test_a_hub_is_asked_only_for_what_is_missing_where_that_is_wanted(void **state)
{
    fixture *f = *state;
    gaggle(f, (const char *const[]){PULL_ARGS, "--if-missing", NULL});
    assert_pulled(f);
    char expected[1100];
    snprintf(expected, sizeof expected, "%s\n", in_model(f, "snapshots/" HUB_COMMIT));
    hub_forget(f->hub);
    gaggle(f, (const char *const[]){PULL_ARGS, "--if-missing", NULL});
    assert_pulled(f);
    assert_string_equal(program_out(&f->program), expected);
    assert_int_equal(hub_count(f->hub, "", false), 0);
    assert_int_equal(unlink(in_model(f, "snapshots/" HUB_COMMIT "/" SMALL)), 0);
    gaggle(f, (const char *const[]){PULL_ARGS, "--if-missing", NULL});
    assert_pulled(f);
    assert_true(hub_count(f->hub, "", false) > 0);
}

static void test_a_damaged_file_is_found_by_check(void **state)
{
    fixture *f = *state;
    pull(f);
    FILE *blob = fopen(blob_of(f, SMALL), "r+");
    assert_non_null(blob);
    fputs("damage", blob);
    fclose(blob);
    hub_forget(f->hub);
    gaggle(f, (const char *const[]){PULL_ARGS, "--check", NULL});
    assert_pulled(f);
    assert_said(f, SMALL " is damaged");
    assert_int_equal(hub_sent(f->hub, "/resolve/"), SMALL_BYTES);
}

static void test_one_file_of_weights_does_without_an_index(void **state)
{
    fixture *f = *state;
    hub_stop(f->hub);
    f->hub = hub_start();
    setenv("HF_ENDPOINT", hub_url(f->hub), 1);
    hub_put(f->hub, "config.json", "{}", 2, false);
    hub_put(f->hub, "tokenizer.json", "{ }", 3, false);
    hub_put(f->hub, "model.safetensors", small, sizeof small, true);
    hub_put(f->hub, "empty", "", 0, false);
    hub_put(f->hub, "tokenizer.empty", "", 0, false);
    assert_int_equal(pull(f), 0);
    assert_file(in_model(f, "snapshots/" HUB_COMMIT "/model.safetensors"), small, sizeof small);
    assert_file(in_model(f, "snapshots/" HUB_COMMIT "/tokenizer.empty"), "", 0);
    assert_false(exists(in_model(f, "snapshots/" HUB_COMMIT "/empty")));
}

static void test_a_commit_gets_no_ref(void **state)
{
    fixture *f = *state;
    gaggle(f, (const char *const[]){"pull", HUB_MODEL ":" HUB_COMMIT, NULL});
    assert_int_equal(f->code, 0);
    assert_false(exists(in_model(f, "refs")));
    gaggle(f, (const char *const[]){"pull", HUB_MODEL ":refs/pr/1", NULL});
    assert_int_equal(f->code, 0);
    assert_int_equal(hub_count(f->hub, "/revision/refs%2Fpr%2F1?", false), 1);
    assert_file(in_model(f, "refs/refs/pr/1"), HUB_COMMIT, 40);
}

static void test_offline_asks_nobody(void **state)
{
    fixture *f = *state;
    setenv("HF_HUB_OFFLINE", "1", 1);
    pull(f);
    assert_failed(f, "HF_HUB_OFFLINE is set");
    unsetenv("HF_HUB_OFFLINE");
    pull(f);
    hub_forget(f->hub);
    setenv("HF_HUB_OFFLINE", "1", 1);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_count(f->hub, "", false), 0);
    unlink(in_model(f, "snapshots/" HUB_COMMIT "/" SMALL));
    pull(f);
    assert_int_equal(f->code, 1);
    assert_said(f, "has no " SMALL);
}

static void test_the_token_file_counts(void **state)
{
    fixture *f = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/token", getenv("GAGGLE_TEST_TMP"));
    FILE *file = fopen(path, "w");
    fputs("hf_from_file\n", file);
    fclose(file);
    setenv("HF_TOKEN_PATH", path, 1);
    pull(f);
    assert_pulled(f);
    assert_true(hub_saw_token(f->hub, "hf_from_file"));
}

static void test_names_are_checked_before_anybody_is_asked(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"a/b/c",   "../x",  "a--b/c", "a/b:", "a/b:../main", "-a/b",
                                        "a/b.git", "a b/c", "",       "/a",   "a/b:x y"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(gaggle(f, (const char *const[]){"pull", "--", names[i], NULL}), 2);
        assert_said(f, "is not");
    }
    assert_int_equal(gaggle(f, (const char *const[]){"pull", NULL}), 2);
    assert_int_equal(hub_count(f->hub, "", false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PULL_TEST(test_a_model_is_laid_out_as_others_expect_it),
        PULL_TEST(test_what_is_there_is_not_fetched_again),
        PULL_TEST(test_a_hub_is_asked_only_for_what_is_missing_where_that_is_wanted),
        PULL_TEST(test_a_damaged_file_is_found_by_check),
        PULL_TEST(test_one_file_of_weights_does_without_an_index),
        PULL_TEST(test_a_commit_gets_no_ref),
        PULL_TEST(test_offline_asks_nobody),
        PULL_TEST(test_the_token_file_counts),
        PULL_TEST(test_names_are_checked_before_anybody_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
