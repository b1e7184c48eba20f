/* Goal: whatever a server answers, a pull ends with the right bytes or with a sentence that says
 * what is wrong: ranges, sizes and contents that are not what was asked for, redirects, refusals,
 * listings. Method: the hub's answers are changed as each test says.
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

/* -- servers that know less, or say wrong things ----------------------------------------------- */

static void no_ranges(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->answer != 206) return;
    r->answer = 200;
    r->body -= r->first;
    r->body_size = strstr(r->target, BIG) != NULL ? sizeof big : sizeof small;
    r->headers[0] = '\0';
}

static void test_a_server_without_ranges_will_do(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, no_ranges, NULL);
    pull(f);
    assert_pulled(f);
}

static void no_ranges_and_cuts(void *ctx, hub_request *r)
{
    no_ranges(ctx, r);
    unsigned *cuts = ctx;
    if (strstr(r->target, SMALL) == NULL || !r->at_store || *cuts == 0) return;
    --*cuts;
    r->cut_after = 20000;
}

static void test_a_server_without_ranges_is_asked_anew_but_not_for_ever(void **state)
{
    fixture *f = *state;
    static unsigned twice = 2, always = 1000;
    hub_behave(f->hub, no_ranges_and_cuts, &twice);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, SMALL), 2 * 20000 + SMALL_BYTES);
    unlink(blob_of(f, SMALL));
    unlink(in_model(f, "refs/main"));
    hub_behave(f->hub, no_ranges_and_cuts, &always);
    pull(f);
    assert_failed(f, "knows no ranges");
}

static void out_of_range_once(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->answer != 206 || r->number > 0) return;
    r->answer = 416;
    r->body_size = 0;
}

static void test_a_range_that_is_refused_begins_anew(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, out_of_range_once, NULL);
    pull(f);
    assert_pulled(f);
}

static void change_once(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->file == NULL || strcmp(r->file, SMALL) != 0 || r->answer != 302 || r->number > 0) return;
    char *etag = strstr(r->headers, "X-Linked-Etag: \"");
    memset(etag + strlen("X-Linked-Etag: \""), 'a', 64);
}

static void change_always(void *ctx, hub_request *r)
{
    r->number = 0;
    change_once(ctx, r);
}

static void test_a_file_that_changed_is_listed_again(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, change_once, NULL);
    pull(f);
    assert_pulled(f);
    assert_said(f, SMALL " changed on the hub");
    assert_int_equal(hub_count(f->hub, "/api/models/", false), 2);
    unlink(blob_of(f, SMALL));
    unlink(in_model(f, "refs/main"));
    hub_forget(f->hub);
    hub_behave(f->hub, change_always, NULL);
    pull(f);
    assert_failed(f, SMALL " changed on the hub");
    assert_int_equal(hub_count(f->hub, "/api/models/", false), 3);
}

static void wrong_bytes(void *ctx, hub_request *r)
{
    unsigned *times = ctx;
    if (r->file == NULL || strcmp(r->file, SMALL) != 0 || !r->at_store || *times == 0) return;
    --*times;
    r->body = big;
}

static void test_wrong_bytes_are_fetched_again_once(void **state)
{
    fixture *f = *state;
    static unsigned once = 1, always = 1000;
    hub_behave(f->hub, wrong_bytes, &once);
    pull(f);
    assert_pulled(f);
    assert_said(f, "it is fetched anew");
    unlink(blob_of(f, SMALL));
    unlink(in_model(f, "refs/main"));
    hub_behave(f->hub, wrong_bytes, &always);
    hub_forget(f->hub);
    pull(f);
    assert_failed(f, SMALL ": its SHA-256 is ");
    assert_int_equal(hub_sent(f->hub, SMALL), 2 * SMALL_BYTES);
    assert_false(exists(blob_of(f, SMALL)));
}

static void wrong_small_file(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->file != NULL && strcmp(r->file, "config.json") == 0) r->body = small;
}

static void test_small_files_are_checked_as_git_does(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, wrong_small_file, NULL);
    pull(f);
    assert_failed(f, "config.json: its SHA-1 as a git blob is ");
}

static void too_many_bytes(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->answer != 206) return;
    r->body_size += 10;
    r->body -= r->first > 0 ? 10 : 0;
}

static void test_more_bytes_than_asked_for_are_refused(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, too_many_bytes, NULL);
    pull(f);
    assert_failed(f, "sends more bytes than it was asked for");
}

static void another_range(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->answer == 206)
        snprintf(r->headers, sizeof r->headers, "Content-Range: bytes 7-65542/%d\r\n", BIG_BYTES);
}

static void test_another_range_is_refused(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, another_range, NULL);
    pull(f);
    assert_failed(f, "answers with another range");
}

/* -- redirects --------------------------------------------------------------------------------- */

static void send_in_circles(void *ctx, hub_request *r)
{
    (void)ctx;
    if (!r->at_store) return;
    r->answer = 302;
    r->body_size = 0;
    snprintf(r->headers, sizeof r->headers, "Location: %.1000s\r\n", r->target);
}

static void test_redirects_are_bounded(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, send_in_circles, NULL);
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--connections", "1", NULL});
    assert_failed(f, "too many redirects");
    assert_int_equal(hub_count(f->hub, BIG, true), 10);
}

static void send_to_a_file(void *ctx, hub_request *r)
{
    if (r->answer == 302)
        snprintf(r->headers, sizeof r->headers, "Location: %s\r\n", (const char *)ctx);
}

static void test_redirects_lead_to_http_only(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, send_to_a_file, "file:///etc/hostname");
    pull(f);
    assert_failed(f, "a place that is no http URL");
}

static void refuse_shortcuts(void *ctx, hub_request *r)
{
    unsigned *signatures = ctx;
    if (r->answer == 302) {
        char *yes = strstr(r->headers, "signed=yes");
        if (yes != NULL) snprintf(yes, 32, "signed=%u\r\n", ++*signatures);
        return;
    }
    unsigned used;
    const char *signature = strstr(r->target, "signed=");
    if (!r->at_store || signature == NULL || sscanf(signature, "signed=%u", &used) != 1) return;
    if (r->number == 0) return; /* each is good for one request */
    r->answer = 403;
    r->body_size = 0;
}

static void test_a_signature_that_has_expired_is_renewed(void **state)
{
    fixture *f = *state;
    static unsigned signatures;
    hub_behave(f->hub, refuse_shortcuts, &signatures);
    pull(f);
    assert_pulled(f);
    assert_int_equal(hub_sent(f->hub, BIG), BIG_BYTES);
}

static void test_the_hub_is_asked_once_where_a_file_lies(void **state)
{
    fixture *f = *state;
    gaggle(f, (const char *const[]){"pull", HUB_MODEL, "--piece-size", "64K", "--connections", "1",
                                    NULL});
    assert_pulled(f);
    assert_int_equal(hub_count(f->hub, BIG, false), 1);
    assert_int_equal(hub_count(f->hub, BIG, true), 17);
}

static void rename_model(void *ctx, hub_request *r)
{
    (void)ctx;
    if (r->at_store || strstr(r->target, "?blobs=true&new") != NULL || r->file != NULL) return;
    r->answer = 307;
    r->body_size = 0;
    snprintf(r->headers, sizeof r->headers, "Location: %.1000s&new\r\n", r->target);
}

static void test_a_redirect_within_the_hub_keeps_the_token(void **state)
{
    fixture *f = *state;
    setenv("HF_TOKEN", "hf_secret", 1);
    hub_behave(f->hub, rename_model, NULL);
    pull(f);
    assert_pulled(f);
    assert_true(hub_saw_token(f->hub, "hf_secret"));
}

/* -- refusals ---------------------------------------------------------------------------------- */

typedef struct refusal {
    int code;
    const char *error_code, *words_without_token, *words_with_token;
} refusal;

static void refuse(void *ctx, hub_request *r)
{
    const refusal *how = ctx;
    r->answer = how->code;
    r->body_size = 0;
    snprintf(r->headers, sizeof r->headers,
             "X-Error-Code: %s\r\nX-Error-Message: The hub's \x1b own words\r\n", how->error_code);
}

static void test_each_refusal_says_what_to_do(void **state)
{
    fixture *f = *state;
    static refusal cases[] = {
        {401, "GatedRepo", "geese/gosling is gated: accept its licence at http://127.0.0.1:",
         "the account of HF_TOKEN has no access"},
        {403, "GatedRepo", "make a token at", "the account of HF_TOKEN has no access"},
        {401, "RepoNotFound", "knows no public model geese/gosling: is the name right?",
         "knows no model geese/gosling that the account of HF_TOKEN may see"},
        {401, "", "knows no public model", "does not accept HF_TOKEN"},
        {403, "", "The hub's ? own words", "The hub's ? own words"},
        {404, "RevisionNotFound", "geese/gosling has no revision main", "has no revision main"},
        {404, "", "knows no public model", "may see: is the name right?"},
        {418, "", "127.0.0.1 answers 418: The hub's ? own words", "answers 418"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hub_behave(f->hub, refuse, &cases[i]);
        hub_forget(f->hub);
        unsetenv("HF_TOKEN");
        pull(f);
        assert_failed(f, cases[i].words_without_token);
        setenv("HF_TOKEN", "hf_secret", 1);
        pull(f);
        assert_failed(f, cases[i].words_with_token);
        assert_int_equal(hub_count(f->hub, "", false), 2); /* none is tried again */
        assert_false(exists(f->cache));
    }
}

static void refuse_files(void *ctx, hub_request *r)
{
    if (r->file != NULL) refuse(ctx, r);
}

static void test_a_gated_file_is_explained_too(void **state)
{
    fixture *f = *state;
    static refusal gated = {401, "GatedRepo", NULL, NULL};
    hub_behave(f->hub, refuse_files, &gated);
    pull(f);
    assert_failed(f, "geese/gosling is gated");
}

static void other_listing(void *ctx, hub_request *r)
{
    if (r->file != NULL || r->at_store) return;
    r->body = ctx;
    r->body_size = strlen(ctx);
}

static void test_a_listing_that_leads_out_is_refused(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, other_listing,
               "{\"sha\": \"" HUB_COMMIT "\", \"siblings\": [{\"rfilename\": \"../../x\", "
               "\"size\": 3, \"blobId\": \"" HUB_COMMIT "\"}]}");
    pull(f);
    assert_failed(f, "file 0: rfilename: not a path inside the model's folder");
    hub_behave(f->hub, other_listing, "<html>maintenance</html>");
    pull(f);
    assert_failed(f, "the hub's listing: not valid JSON");
    assert_false(exists(f->cache));
}

static void test_a_model_in_other_formats_is_refused_before_anything_is_fetched(void **state)
{
    fixture *f = *state;
    hub_behave(f->hub, other_listing,
               "{\"sha\": \"" HUB_COMMIT "\", \"siblings\": ["
               "{\"rfilename\": \"config.json\", \"size\": 3, \"blobId\": \"" HUB_COMMIT "\"},"
               "{\"rfilename\": \"tokenizer.json\", \"size\": 3, \"blobId\": \"" HUB_COMMIT "\"},"
               "{\"rfilename\": \"model-Q4.gguf\", \"size\": 3, \"blobId\": \"" HUB_COMMIT "\"}]}");
    pull(f);
    assert_failed(f, "it has model-Q4.gguf");
    assert_int_equal(hub_count(f->hub, "/resolve/", false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PULL_TEST(test_a_server_without_ranges_will_do),
        PULL_TEST(test_a_server_without_ranges_is_asked_anew_but_not_for_ever),
        PULL_TEST(test_a_range_that_is_refused_begins_anew),
        PULL_TEST(test_a_file_that_changed_is_listed_again),
        PULL_TEST(test_wrong_bytes_are_fetched_again_once),
        PULL_TEST(test_small_files_are_checked_as_git_does),
        PULL_TEST(test_more_bytes_than_asked_for_are_refused),
        PULL_TEST(test_another_range_is_refused),
        PULL_TEST(test_redirects_are_bounded),
        PULL_TEST(test_redirects_lead_to_http_only),
        PULL_TEST(test_a_signature_that_has_expired_is_renewed),
        PULL_TEST(test_the_hub_is_asked_once_where_a_file_lies),
        PULL_TEST(test_a_redirect_within_the_hub_keeps_the_token),
        PULL_TEST(test_each_refusal_says_what_to_do),
        PULL_TEST(test_a_gated_file_is_explained_too),
        PULL_TEST(test_a_listing_that_leads_out_is_refused),
        PULL_TEST(test_a_model_in_other_formats_is_refused_before_anything_is_fetched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
