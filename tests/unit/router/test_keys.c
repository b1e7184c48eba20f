/* Goal: nobody gets in without the whole token of a key that stands, a link does not outlive its
 * key, and a reload neither mixes up tenants nor leaves half a file behind.
 * Method: tokens that are almost right in every way; the file is written anew for each reload, with
 * one thing changed, and the clock is a number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "router/keys.h"

enum { NOW_S = 1800000000 };

#define ADA  "gg_c_ada_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
#define BOB  "gg_c_bob_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
#define GPU  "gg_w_gpu_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
#define BOSS "gg_a_boss_0123456789abcdefghijklmnopqrstuvwxyzABCDEF"

static error err;
static char path[1024];

static void write_file(const char *text)
{
    snprintf(path, sizeof path, "%s/keys.ini", getenv("GAGGLE_TEST_TMP"));
    remove(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

/* A section of the token's key, with `lines` in it. */
static const char *section(const char *token, const char *lines)
{
    static char texts[8][1024];
    static int next;
    char *text = texts[next++ % 8];
    text_view id = token_id(text_of(token));
    uint8_t hash[KEY_HASH_BYTES];
    token_hash(hash, text_of(token));
    int used =
        snprintf(text, sizeof texts[0], "[key %.*s]\n%ssha256 = ", (int)id.size, id.data, lines);
    for (size_t i = 0; i < sizeof hash; i++)
        used += snprintf(text + used, sizeof texts[0] - (size_t)used, "%02x", hash[i]);
    snprintf(text + used, sizeof texts[0] - (size_t)used, "\n");
    return text;
}

#define ADA_LINES  "role = client\ntenant = research\nexpires = 2027-02-01T00:00:00Z\n"
#define BOB_LINES  "role = client\ntenant = teaching\n"
#define GPU_LINES  "role = worker\nworker = gpu-7\n"
#define BOSS_LINES "role = admin\n"

static void write_all(const char *ada, const char *bob, const char *gpu, const char *boss,
                      const char *more)
{
    char text[8192];
    snprintf(text, sizeof text, "%s%s%s%s%s", section(ADA, ada), section(BOB, bob),
             section(GPU, gpu), section(BOSS, boss), more);
    write_file(text);
}

static keys *all_keys(void)
{
    keys *k;
    write_all(ADA_LINES, BOB_LINES, GPU_LINES, BOSS_LINES, "[tenant research]\nweight = 7\n");
    if (keys_create(&k, path, &err) != ST_OK) fail_msg("%s", err.text);
    return k;
}

static status judge(const keys *k, const char *token, role what, identity *who)
{
    err = (error){0};
    return keys_judge(k, text_of(token), what, NOW_S, who, &err);
}

static void reload(keys *k)
{
    if (keys_reload(k, &err) != ST_OK) fail_msg("%s", err.text);
}

/* -- getting in --------------------------------------------------------------------------- */

static void test_the_right_token_gets_in_and_says_who(void **state)
{
    (void)state;
    keys *k = all_keys();
    identity who;
    assert_int_equal(judge(k, ADA, ROLE_CLIENT, &who), ST_OK);
    assert_string_equal(who.key_id, "ada");
    assert_false(who.admin);
    assert_string_equal(keys_tenant_name(k, who.tenant), "research");
    assert_int_equal(keys_tenant_limits(k, who.tenant)->weight, 7);
    assert_int_equal(judge(k, BOB, ROLE_CLIENT, &who), ST_OK);
    assert_string_equal(keys_tenant_name(k, who.tenant), "teaching");
    assert_int_equal(keys_tenant_limits(k, who.tenant)->weight, LIMIT_TENANT_WEIGHT_DEFAULT);
    assert_int_equal(judge(k, GPU, ROLE_WORKER, &who), ST_OK);
    assert_string_equal(keys_worker_id(k, &who), "gpu-7");
    assert_int_equal(judge(k, BOSS, ROLE_CLIENT, &who), ST_OK);
    assert_true(who.admin);
    assert_string_equal(keys_tenant_name(k, who.tenant), "default");
    assert_null(keys_worker_id(k, &who));
    assert_int_equal(keys_tenant_count(k), 3);
    keys_destroy(k);
}

static void test_keys_do_not_open_the_other_door(void **state)
{
    (void)state;
    keys *k = all_keys();
    identity who;
    assert_int_equal(judge(k, ADA, ROLE_WORKER, &who), ST_PERMISSION_DENIED);
    assert_non_null(strstr(err.text, "key ada is for clients, this address for workers"));
    assert_int_equal(judge(k, GPU, ROLE_CLIENT, &who), ST_PERMISSION_DENIED);
    assert_int_equal(judge(k, BOSS, ROLE_WORKER, &who), ST_PERMISSION_DENIED);
    keys_destroy(k);
}

static void assert_stays_out(const keys *k, const char *token, size_t size)
{
    identity who;
    char *exact = mem_copy(token, size); /* so that a sanitizer sees a read behind it */
    err = (error){0};
    assert_int_equal(keys_judge(k, (text_view){exact, size}, ROLE_CLIENT, NOW_S, &who, &err),
                     ST_UNAUTHENTICATED);
    mem_free(exact);
    /* The same sentence, whatever is wrong: nothing is said of ids or secrets. */
    assert_string_equal(err.text, "the token is not valid");
}

static void test_almost_right_tokens_stay_out(void **state)
{
    (void)state;
    keys *k = all_keys();
    const size_t size = strlen(ADA);
    char wrong[256] = {0};
    for (size_t cut = 0; cut < size; cut++)
        assert_stays_out(k, ADA, cut);
    for (size_t cut = 1; cut <= size; cut++)
        assert_stays_out(k, &ADA[cut], size - cut);
    for (size_t i = 0; i < size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(wrong, ADA, size);
            wrong[i] = (char)(wrong[i] ^ 1 << bit);
            assert_stays_out(k, wrong, size);
        }
    }
    memcpy(wrong, ADA, size + 1);
    assert_stays_out(k, wrong, size + 1); /* its own NUL */
    assert_stays_out(k, ADA " ", size + 1);
    assert_stays_out(k, "gg_c_bob_0123456789abcdefghijklmnopqrstuvwxyzABCDEFH", size);
    assert_stays_out(k, "gg_c_eve_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", size);
    assert_stays_out(k, "gg_w_ada_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", size);
    assert_stays_out(k, "ada", 3);
    static char longest[LIMIT_TOKEN_BYTES];
    memset(longest, 'x', sizeof longest);
    assert_stays_out(k, longest, sizeof longest);
    identity who;
    assert_int_equal(judge(k, ADA, ROLE_CLIENT, &who), ST_OK);
    keys_destroy(k);
}

static void test_expired_and_revoked_keys_stay_out_and_their_holders_read_why(void **state)
{
    (void)state;
    keys *k = all_keys();
    identity who;
    const int64_t end_s = 1801440000; /* 2027-02-01 */
    assert_int_equal(keys_judge(k, text_of(ADA), ROLE_CLIENT, end_s - 1, &who, &err), ST_OK);
    assert_int_equal(keys_judge(k, text_of(ADA), ROLE_CLIENT, end_s, &who, &err),
                     ST_UNAUTHENTICATED);
    assert_string_equal(err.text, "key ada expired at 2027-02-01T00:00:00Z");
    write_all(ADA_LINES "revoked = yes\n", BOB_LINES, GPU_LINES, BOSS_LINES, "");
    reload(k);
    assert_int_equal(judge(k, ADA, ROLE_CLIENT, &who), ST_UNAUTHENTICATED);
    assert_string_equal(err.text, "key ada was revoked");
    assert_stays_out(k, "gg_c_ada_wrong", 14);
    keys_destroy(k);
}

/* -- staying in --------------------------------------------------------------------------- */

static void test_links_stand_as_long_as_their_keys(void **state)
{
    (void)state;
    static const struct {
        const char *ada, *bob, *gpu, *boss;
        int stays; /* as bits: ada, bob, gpu, boss */
    } steps[] = {
        {ADA_LINES, BOB_LINES, GPU_LINES, BOSS_LINES, 15},
        {ADA_LINES "name = x\n", "role = client\nexpires = never\ntenant = teaching\n", GPU_LINES,
         "role = admin\ntenant = default\n", 15},
        {ADA_LINES "revoked = yes\n", BOB_LINES, GPU_LINES, BOSS_LINES, 14},
        {ADA_LINES, "role = client\ntenant = research\n", GPU_LINES, BOSS_LINES, 13},
        {ADA_LINES, BOB_LINES, "role = worker\nworker = gpu-8\n", BOSS_LINES, 11},
        {ADA_LINES, BOB_LINES, "role = worker\n", BOSS_LINES, 11},
        {ADA_LINES, BOB_LINES, GPU_LINES, "role = client\n", 7},
        {ADA_LINES, "role = admin\ntenant = teaching\n", GPU_LINES, BOSS_LINES, 13},
        {ADA_LINES, "expires = 2027-01-01T00:00:00Z\n" BOB_LINES, GPU_LINES, BOSS_LINES, 13},
    };
    keys *k = all_keys();
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        static const char *const tokens[] = {ADA, BOB, GPU, BOSS};
        identity who[4];
        write_all(ADA_LINES, BOB_LINES, GPU_LINES, BOSS_LINES, "");
        reload(k);
        for (int p = 0; p < 4; p++)
            assert_int_equal(judge(k, tokens[p], p == 2 ? ROLE_WORKER : ROLE_CLIENT, &who[p]),
                             ST_OK);
        write_all(steps[i].ada, steps[i].bob, steps[i].gpu, steps[i].boss, "");
        reload(k);
        for (int p = 0; p < 4; p++) {
            bool stays = (steps[i].stays & 1 << p) != 0;
            for (int again = 0; again < 2; again++)
                if ((keys_recheck(k, &who[p], NOW_S, &err) == ST_OK) != stays)
                    fail_msg("step %zu, key %d: %s", i, p, err.text);
        }
    }
    keys_destroy(k);
}

static void test_links_end_when_their_key_expires_or_vanishes(void **state)
{
    (void)state;
    keys *k = all_keys();
    identity ada, bob;
    assert_int_equal(judge(k, ADA, ROLE_CLIENT, &ada), ST_OK);
    assert_int_equal(judge(k, BOB, ROLE_CLIENT, &bob), ST_OK);
    assert_int_equal(keys_recheck(k, &ada, 1801439999, &err), ST_OK);
    assert_int_equal(keys_recheck(k, &ada, 1801440000, &err), ST_UNAUTHENTICATED);
    assert_non_null(strstr(err.text, "key ada expired at"));
    assert_int_equal(keys_recheck(k, &bob, INT64_MAX - 1, &err), ST_OK);

    /* A reload can move the end, in both directions. */
    write_all("role = client\ntenant = research\nexpires = 2030-01-01T00:00:00Z\n", BOB_LINES,
              GPU_LINES, BOSS_LINES, "");
    reload(k);
    assert_int_equal(keys_recheck(k, &ada, 1801440000, &err), ST_OK);
    write_file(section(ADA, ADA_LINES));
    reload(k);
    assert_int_equal(keys_recheck(k, &ada, NOW_S, &err), ST_OK);
    assert_int_equal(keys_recheck(k, &ada, 1801440000, &err), ST_UNAUTHENTICATED);
    assert_int_equal(keys_recheck(k, &bob, NOW_S, &err), ST_UNAUTHENTICATED);
    assert_string_equal(err.text, "key bob was removed");
    assert_null(keys_worker_id(k, &bob));

    /* Another secret under the same id is another key. */
    char other[sizeof ADA] = ADA;
    other[sizeof other - 2] = '0';
    write_file(section(other, ADA_LINES));
    reload(k);
    assert_int_equal(keys_recheck(k, &ada, NOW_S, &err), ST_UNAUTHENTICATED);
    assert_string_equal(err.text, "key ada was changed");
    keys_destroy(k);
}

/* -- reloading ---------------------------------------------------------------------------- */

static void test_tenants_keep_their_numbers_and_get_new_limits(void **state)
{
    (void)state;
    keys *k = all_keys();
    identity ada, bob, again;
    assert_int_equal(judge(k, ADA, ROLE_CLIENT, &ada), ST_OK);
    assert_int_equal(judge(k, BOB, ROLE_CLIENT, &bob), ST_OK);
    write_all(ADA_LINES, BOB_LINES, GPU_LINES, BOSS_LINES,
              "[tenant new]\n[tenant teaching]\nqueued = 3\n[tenant research]\nqueued = 5\n");
    reload(k);
    assert_int_equal(judge(k, ADA, ROLE_CLIENT, &again), ST_OK);
    assert_int_equal(again.tenant, ada.tenant);
    assert_int_equal(keys_tenant_limits(k, ada.tenant)->queued, 5);
    assert_int_equal(keys_tenant_limits(k, ada.tenant)->weight, LIMIT_TENANT_WEIGHT_DEFAULT);
    assert_int_equal(keys_tenant_limits(k, bob.tenant)->queued, 3);
    assert_int_equal(keys_tenant_count(k), 4);

    /* One that left the file and comes back is the same. */
    write_file(section(ADA, ADA_LINES));
    reload(k);
    assert_string_equal(keys_tenant_name(k, bob.tenant), "teaching");
    assert_int_equal(keys_tenant_limits(k, bob.tenant)->queued, 3);
    write_all(ADA_LINES, BOB_LINES, GPU_LINES, BOSS_LINES, "");
    reload(k);
    assert_int_equal(judge(k, BOB, ROLE_CLIENT, &again), ST_OK);
    assert_int_equal(again.tenant, bob.tenant);
    assert_int_equal(keys_tenant_limits(k, bob.tenant)->queued, 0);
    keys_destroy(k);
}

static void test_a_failed_reload_changes_nothing(void **state)
{
    (void)state;
    keys *k = all_keys();
    identity ada, again;
    assert_int_equal(judge(k, ADA, ROLE_CLIENT, &ada), ST_OK);
    static const char *const bad[] = {"", "# all gone\n", "[key x]\nrole = client\n", "garbage\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(bad[i]);
        assert_int_equal(keys_reload(k, &err), ST_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, "keys.ini"));
    }
    assert_int_equal(remove(path), 0);
    assert_int_equal(keys_reload(k, &err), ST_NOT_FOUND);

    buffer text = {0}; /* more tenants than one process may know: those of before are known, too */
    char line[32];
    for (uint32_t i = 0; i < LIMIT_TENANTS - 2; i++)
        buffer_append(&text, line, (size_t)snprintf(line, sizeof line, "[tenant t%u]\n", i));
    const char *key = section(GPU, GPU_LINES);
    buffer_append(&text, key, strlen(key) + 1);
    write_file((char *)text.data);
    buffer_free(&text);
    assert_int_equal(keys_reload(k, &err), ST_OUT_OF_RANGE);
    assert_non_null(strstr(err.text, "4094 new tenants"));

    assert_int_equal(keys_tenant_count(k), 3);
    assert_int_equal(keys_recheck(k, &ada, NOW_S, &err), ST_OK);
    assert_int_equal(judge(k, ADA, ROLE_CLIENT, &again), ST_OK);
    assert_int_equal(again.tenant, ada.tenant);
    assert_int_equal(keys_tenant_limits(k, ada.tenant)->weight, 7);
    keys_destroy(k);
}

static void test_a_file_that_others_may_write_is_refused(void **state)
{
    (void)state;
    keys *k = all_keys();
    static const mode_t bad[] = {0620, 0602, 0666, 0662};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(chmod(path, bad[i]), 0);
        assert_int_equal(keys_reload(k, &err), ST_FAILED_PRECONDITION);
        assert_non_null(strstr(err.text, "chmod go-w"));
    }
    assert_int_equal(chmod(path, 0644), 0); /* hashes are no secret */
    assert_int_equal(keys_reload(k, &err), ST_OK);
    keys_destroy(k);
}

static void test_a_file_that_is_not_there_or_empty_is_no_lock(void **state)
{
    (void)state;
    keys *k;
    assert_int_equal(keys_create(&k, "/nowhere/keys", &err), ST_NOT_FOUND);
    write_file("[tenant t]\n");
    assert_int_equal(keys_create(&k, path, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "no key in it"));
    keys_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_right_token_gets_in_and_says_who),
        cmocka_unit_test(test_keys_do_not_open_the_other_door),
        cmocka_unit_test(test_almost_right_tokens_stay_out),
        cmocka_unit_test(test_expired_and_revoked_keys_stay_out_and_their_holders_read_why),
        cmocka_unit_test(test_links_stand_as_long_as_their_keys),
        cmocka_unit_test(test_links_end_when_their_key_expires_or_vanishes),
        cmocka_unit_test(test_tenants_keep_their_numbers_and_get_new_limits),
        cmocka_unit_test(test_a_failed_reload_changes_nothing),
        cmocka_unit_test(test_a_file_that_others_may_write_is_refused),
        cmocka_unit_test(test_a_file_that_is_not_there_or_empty_is_no_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
