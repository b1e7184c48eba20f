/* Goal: nobody gets in without the whole of a configured token or key, and no door without a lock
 * can be reached from another machine.
 *
 * Method: tokens that are almost right in every way; URLs that look local at first sight; token
 * files with every mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/auth.h"
#include "tests/unit/worker/engine/test_random.h"

static error err;

#define SECRET_A "aaaaaaaaaaaaaaaa-first"
#define SECRET_B "bbbbbbbbbbbbbbbb-second"
#define SECRET_W "wwwwwwwwwwwwwwww-worker"

static auth two_clients_one_worker(void)
{
    return (auth){.api_tokens = {.items = {SECRET_A, SECRET_B}, .count = 2},
                  .join_tokens = {.items = {SECRET_W}, .count = 1}};
}

static status judge(const auth *a, role what, text_view token, identity *who)
{
    const msg_hello hello = {.role = what, .token = token};
    err = (error){0};
    return auth_judge(a, &hello, 1800000000, who, &err);
}

static status say_hello(const auth *a, role what, text_view token, uint32_t *tenant)
{
    identity who = {.tenant = 99};
    status st = judge(a, what, token, &who);
    *tenant = who.tenant;
    return st;
}

/* -- tokens ------------------------------------------------------------------------------- */

static void test_the_right_token_gets_in_and_names_the_tenant(void **state)
{
    (void)state;
    const auth a = two_clients_one_worker();
    uint32_t tenant;
    assert_int_equal(say_hello(&a, ROLE_CLIENT, text_of(SECRET_A), &tenant), ST_OK);
    assert_int_equal(tenant, 0);
    assert_int_equal(say_hello(&a, ROLE_CLIENT, text_of(SECRET_B), &tenant), ST_OK);
    assert_int_equal(tenant, 1);
    assert_int_equal(say_hello(&a, ROLE_WORKER, text_of(SECRET_W), &tenant), ST_OK);
    assert_int_equal(tenant, 0);
}

static void test_tokens_do_not_open_the_other_door(void **state)
{
    (void)state;
    const auth a = two_clients_one_worker();
    uint32_t tenant;
    assert_int_equal(say_hello(&a, ROLE_WORKER, text_of(SECRET_A), &tenant), ST_UNAUTHENTICATED);
    assert_int_equal(say_hello(&a, ROLE_CLIENT, text_of(SECRET_W), &tenant), ST_UNAUTHENTICATED);
}

static void assert_stays_out(const auth *a, const char *token, size_t size)
{
    uint32_t tenant;
    char *exact = mem_copy(token, size); /* so that a sanitizer sees a read behind it */
    assert_int_equal(say_hello(a, ROLE_CLIENT, (text_view){exact, size}, &tenant),
                     ST_UNAUTHENTICATED);
    mem_free(exact);
    if (size > 4) assert_null(strstr(err.text, "aaaa")); /* no secret in the refusal */
}

static void test_almost_right_tokens_stay_out(void **state)
{
    (void)state;
    const auth a = two_clients_one_worker();
    const size_t size = strlen(SECRET_A);
    char wrong[256];
    uint32_t tenant;
    for (size_t cut = 0; cut < size; cut++) /* every prefix and every suffix */
        assert_stays_out(&a, SECRET_A, cut);
    for (size_t cut = 1; cut <= size; cut++)
        assert_stays_out(&a, &SECRET_A[cut], size - cut);
    for (size_t i = 0; i < size; i++) { /* every bit of every byte */
        for (int bit = 0; bit < 8; bit++) {
            memcpy(wrong, SECRET_A, size);
            wrong[i] = (char)(wrong[i] ^ 1 << bit);
            assert_stays_out(&a, wrong, size);
        }
    }
    memset(wrong, 0, sizeof wrong); /* its own NUL behind it, and more */
    memcpy(wrong, SECRET_A, size);
    for (size_t more = 1; more < 100; more++)
        assert_stays_out(&a, wrong, size + more);
    memset(wrong, 'a', sizeof wrong); /* runs of its first letter */
    for (size_t length = 0; length < sizeof wrong; length++)
        assert_stays_out(&a, wrong, length);
    assert_stays_out(&a, SECRET_A SECRET_A, 2 * size);
    assert_stays_out(&a, SECRET_A "\n", size + 1);
    assert_int_equal(say_hello(&a, ROLE_CLIENT, (text_view){0}, &tenant), ST_UNAUTHENTICATED);
    assert_non_null(strstr(err.text, "a token is required"));
    assert_int_equal(say_hello(&a, ROLE_WORKER, text_of("wrong"), &tenant), ST_UNAUTHENTICATED);
    assert_non_null(strstr(err.text, "--join-token"));
}

static void test_an_empty_secret_admits_only_the_empty_token(void **state)
{
    (void)state;
    /* auth_check() refuses such a secret; the comparison must be right all the same. */
    const auth a = {.api_tokens = {.items = {""}, .count = 1}};
    uint32_t tenant;
    assert_int_equal(say_hello(&a, ROLE_CLIENT, (text_view){0}, &tenant), ST_OK);
    assert_int_equal(say_hello(&a, ROLE_CLIENT, (text_view){"\0", 1}, &tenant), ST_UNAUTHENTICATED);
}

static void test_without_tokens_everybody_gets_in(void **state)
{
    (void)state;
    const auth a = {0};
    uint32_t tenant;
    assert_int_equal(say_hello(&a, ROLE_CLIENT, (text_view){0}, &tenant), ST_OK);
    assert_int_equal(tenant, 0);
    assert_int_equal(say_hello(&a, ROLE_WORKER, text_of("whatever"), &tenant), ST_OK);
}

static void test_random_pairs_compare_as_strcmp_does(void **state)
{
    (void)state;
    test_random random = {17};
    uint32_t equal = 0;
    for (int round = 0; round < 100000; round++) {
        char secret[8] = "", given[8] = "";
        uint32_t sizes[2] = {random_below(&random, 5), random_below(&random, 5)};
        for (uint32_t i = 0; i < sizes[0]; i++)
            secret[i] = "ab"[random_below(&random, 2)];
        for (uint32_t i = 0; i < sizes[1]; i++)
            given[i] = "ab"[random_below(&random, 2)];
        const auth a = {.api_tokens = {.items = {secret}, .count = 1}};
        uint32_t tenant;
        bool same = strcmp(secret, given) == 0;
        assert_int_equal(say_hello(&a, ROLE_CLIENT, text_of(given), &tenant),
                         same ? ST_OK : ST_UNAUTHENTICATED);
        equal += same;
    }
    assert_true(equal > 1000);
}

static void test_short_and_long_tokens_are_refused_at_start(void **state)
{
    (void)state;
    static char longest[LIMIT_TOKEN_BYTES + 2];
    memset(longest, 'x', LIMIT_TOKEN_BYTES);
    auth a = {.api_tokens = {.items = {"0123456789abcdef", longest}, .count = 2}};
    assert_int_equal(auth_check(&a, &err), ST_OK);
    longest[LIMIT_TOKEN_BYTES] = 'x';
    assert_int_equal(auth_check(&a, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "--api-token number 2 has 4097 bytes"));
    a = (auth){.join_tokens = {.items = {"0123456789abcde"}, .count = 1}};
    assert_int_equal(auth_check(&a, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "--join-token number 1 has 15 bytes"));
    assert_null(strstr(err.text, "0123")); /* the token itself is not for logs */
    a = (auth){.api_tokens = {.items = {""}, .count = 1}};
    assert_int_equal(auth_check(&a, &err), ST_INVALID_ARGUMENT);
    assert_int_equal(auth_check(&(auth){0}, &err), ST_OK);
}

/* -- with a keys file --------------------------------------------------------------------- */

#define KEY_CLIENT_TOKEN "gg_c_ada_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
#define KEY_WORKER_TOKEN "gg_w_gpu_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
#define KEY_ADMIN_TOKEN  "gg_a_top_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

/* A keys file with one key a role, the client's in tenant "research". */
static keys *three_keys(void)
{
    char path[1024];
    buffer text = {0};
    const struct {
        const char *token;
        key_entry key;
    } entries[] = {
        {KEY_CLIENT_TOKEN, {.id = "ada", .role = KEY_CLIENT}},
        {KEY_WORKER_TOKEN, {.id = "gpu", .role = KEY_WORKER, .worker = "gpu-7"}},
        {KEY_ADMIN_TOKEN, {.id = "top", .role = KEY_ADMIN}},
    };
    for (size_t i = 0; i < 3; i++) {
        key_entry key = entries[i].key;
        key.name = "";
        key.expires_s = KEY_NEVER_EXPIRES;
        token_hash(key.sha256, text_of(entries[i].token));
        keys_file_write_key(&text, &key, key.role == KEY_ADMIN ? "admins" : "research");
    }
    const key_tenant research = {.name = "research", .limits = {.weight = 7, .class_max = 0}};
    keys_file_write_tenant(&text, &research);
    snprintf(path, sizeof path, "%s/auth-keys", getenv("GAGGLE_TEST_TMP"));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text.data, 1, text.size, file), text.size);
    assert_int_equal(fclose(file), 0);
    buffer_free(&text);
    keys *k;
    if (keys_create(&k, path, &err) != ST_OK) fail_msg("%s", err.text);
    return k;
}

static void test_plain_tokens_and_keys_stand_side_by_side(void **state)
{
    (void)state;
    auth a = two_clients_one_worker();
    a.keys = three_keys();
    char name[AUTH_TENANT_NAME_SIZE];
    identity plain, key;
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(SECRET_B), &plain), ST_OK);
    assert_int_equal(plain.tenant, 1);
    assert_string_equal(plain.key_id, "");
    assert_string_equal(auth_tenant_name(&a, plain.tenant, name), "api-token-2");
    assert_int_equal(auth_tenant_limits(&a, plain.tenant).weight, LIMIT_TENANT_WEIGHT_DEFAULT);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(KEY_CLIENT_TOKEN), &key), ST_OK);
    assert_true(key.tenant >= AUTH_TENANTS_PLAIN); /* nobody else's */
    assert_string_equal(key.key_id, "ada");
    assert_string_equal(auth_tenant_name(&a, key.tenant, name), "research");
    assert_int_equal(auth_tenant_limits(&a, key.tenant).weight, 7);
    assert_int_equal(auth_tenant_limits(&a, key.tenant).class_max, 0);
    assert_int_equal(auth_recheck(&a, &key, 1800000000, &err), ST_OK);
    assert_int_equal(auth_recheck(&a, &plain, 1800000000, &err), ST_OK);

    assert_int_equal(judge(&a, ROLE_WORKER, text_of(SECRET_W), &plain), ST_OK);
    assert_int_equal(judge(&a, ROLE_WORKER, text_of(KEY_WORKER_TOKEN), &key), ST_OK);
    assert_int_equal(key.tenant, 0);
    keys_destroy(a.keys);
}

static void test_links_with_plain_tokens_stand_as_long_as_those_are_given(void **state)
{
    (void)state;
    auth a = {0};
    identity open, first, second, worker;
    assert_int_equal(judge(&a, ROLE_CLIENT, (text_view){0}, &open), ST_OK);
    assert_int_equal(auth_recheck(&a, &open, 0, &err), ST_OK);
    a = two_clients_one_worker();
    assert_int_equal(auth_recheck(&a, &open, 0, &err), ST_UNAUTHENTICATED); /* now it is locked */
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(SECRET_A), &first), ST_OK);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(SECRET_B), &second), ST_OK);
    assert_int_equal(judge(&a, ROLE_WORKER, text_of(SECRET_W), &worker), ST_OK);
    a.join_tokens = (option_list){.items = {SECRET_A, SECRET_W}, .count = 2};
    assert_int_equal(auth_recheck(&a, &first, 0, &err), ST_OK);
    assert_int_equal(auth_recheck(&a, &second, 0, &err), ST_OK);
    assert_int_equal(auth_recheck(&a, &worker, 0, &err), ST_OK);

    a.api_tokens = (option_list){.items = {SECRET_B}, .count = 1}; /* its number is its tenant */
    a.join_tokens.count = 1;
    assert_int_equal(auth_recheck(&a, &first, 0, &err), ST_UNAUTHENTICATED);
    assert_int_equal(auth_recheck(&a, &second, 0, &err), ST_UNAUTHENTICATED);
    assert_int_equal(auth_recheck(&a, &worker, 0, &err), ST_UNAUTHENTICATED);
    a = (auth){0};
    assert_int_equal(auth_recheck(&a, &first, 0, &err), ST_UNAUTHENTICATED);
    assert_string_equal(err.text, "its token is no longer valid");
}

static void test_a_keys_file_locks_both_doors(void **state)
{
    (void)state;
    const auth a = {.keys = three_keys()};
    identity who;
    assert_int_equal(judge(&a, ROLE_CLIENT, (text_view){0}, &who), ST_UNAUTHENTICATED);
    assert_non_null(strstr(err.text, "a token is required: give --token"));
    assert_int_equal(judge(&a, ROLE_WORKER, (text_view){0}, &who), ST_UNAUTHENTICATED);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(SECRET_A), &who), ST_UNAUTHENTICATED);
    assert_non_null(strstr(err.text, "the token is not valid: give --token"));
    assert_int_equal(judge(&a, ROLE_WORKER, text_of(KEY_CLIENT_TOKEN), &who), ST_PERMISSION_DENIED);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(KEY_WORKER_TOKEN), &who), ST_PERMISSION_DENIED);
    assert_int_equal(auth_check_listener(&a, "tcp://*:1", ROLE_CLIENT, &err), ST_OK);
    assert_int_equal(auth_check_listener(&a, "tcp://*:1", ROLE_WORKER, &err), ST_OK);
    keys_destroy(a.keys);
}

static status says(const auth *a, const identity *who, const envelope *e)
{
    err = (error){0};
    return auth_check_envelope(a, who, e, &err);
}

static void test_a_worker_registers_as_itself_and_only_admins_drain(void **state)
{
    (void)state;
    auth a = two_clients_one_worker();
    const envelope itself = {.kind = ENVELOPE_REGISTER, .reg = {.worker_id = text_of("gpu-7")}};
    const envelope other = {.kind = ENVELOPE_REGISTER, .reg = {.worker_id = text_of("gpu-77")}};
    const envelope drain = {.kind = ENVELOPE_DRAIN, .drain = {.worker_id = text_of("gpu-7")}};
    const envelope load = {.kind = ENVELOPE_LOAD};
    identity who;
    assert_int_equal(judge(&a, ROLE_WORKER, text_of(SECRET_W), &who), ST_OK);
    assert_int_equal(says(&a, &who, &other), ST_OK);
    assert_int_equal(says(&a, &who, &drain), ST_OK); /* itself, whatever it names */
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(SECRET_A), &who), ST_OK);
    assert_int_equal(says(&a, &who, &drain), ST_OK);

    a.keys = three_keys();
    assert_int_equal(says(&a, &who, &load), ST_OK);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(SECRET_A), &who), ST_OK);
    assert_int_equal(says(&a, &who, &drain), ST_PERMISSION_DENIED);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(KEY_CLIENT_TOKEN), &who), ST_OK);
    assert_int_equal(says(&a, &who, &drain), ST_PERMISSION_DENIED);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(KEY_ADMIN_TOKEN), &who), ST_OK);
    assert_int_equal(says(&a, &who, &drain), ST_OK);
    assert_int_equal(judge(&a, ROLE_WORKER, text_of(KEY_WORKER_TOKEN), &who), ST_OK);
    assert_int_equal(says(&a, &who, &itself), ST_OK);
    assert_int_equal(says(&a, &who, &load), ST_OK);
    assert_int_equal(says(&a, &who, &other), ST_PERMISSION_DENIED);
    assert_string_equal(err.text, "key gpu is for worker gpu-7, not for gpu-77");
    keys_destroy(a.keys);
}

static void test_only_admins_are_admins_where_there_are_keys(void **state)
{
    (void)state;
    auth a = two_clients_one_worker();
    identity who;
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(SECRET_A), &who), ST_OK);
    assert_true(who.admin);
    assert_int_equal(judge(&a, ROLE_WORKER, text_of(SECRET_W), &who), ST_OK);
    assert_false(who.admin);
    assert_int_equal(auth_judge_admin(&a, text_of(SECRET_A), 0, &err), ST_PERMISSION_DENIED);

    a.keys = three_keys();
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(SECRET_A), &who), ST_OK);
    assert_false(who.admin);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(KEY_CLIENT_TOKEN), &who), ST_OK);
    assert_false(who.admin);
    assert_int_equal(judge(&a, ROLE_CLIENT, text_of(KEY_ADMIN_TOKEN), &who), ST_OK);
    assert_true(who.admin);
    assert_int_equal(auth_judge_admin(&a, text_of(KEY_ADMIN_TOKEN), 0, &err), ST_OK);
    assert_int_equal(auth_judge_admin(&a, text_of(KEY_CLIENT_TOKEN), 0, &err),
                     ST_PERMISSION_DENIED);
    assert_non_null(strstr(err.text, "key ada is not an admin's"));
    assert_int_equal(auth_judge_admin(&a, text_of(KEY_WORKER_TOKEN), 0, &err),
                     ST_PERMISSION_DENIED);
    assert_int_equal(auth_judge_admin(&a, text_of(SECRET_A), 0, &err), ST_UNAUTHENTICATED);
    assert_int_equal(auth_judge_admin(&a, (text_view){0}, 0, &err), ST_UNAUTHENTICATED);
    keys_destroy(a.keys);
}

/* -- files -------------------------------------------------------------------------------- */

static const char *token_file(const char *text, size_t size)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/tokens", getenv("GAGGLE_TEST_TMP"));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static status load(option_list *tokens, const char *text, size_t size)
{
    err = (error){0};
    *tokens = (option_list){0};
    return auth_load_file(tokens, token_file(text, size), &err);
}

#define LOAD(tokens, literal) load(tokens, literal, sizeof(literal) - 1)

static void free_tokens(option_list *tokens)
{
    for (size_t i = 0; i < tokens->count; i++)
        mem_free((void *)tokens->items[i]);
    *tokens = (option_list){0};
}

static void test_files_hold_a_token_a_line(void **state)
{
    (void)state;
    option_list tokens;
    assert_int_equal(LOAD(&tokens, "# people\n"
                                   "0123456789abcdef\n"
                                   "\n"
                                   "  \t second-token-0123 \t # of a colleague\r\n"
                                   "third token 012345"),
                     ST_OK);
    assert_int_equal(tokens.count, 3);
    assert_string_equal(tokens.items[0], "0123456789abcdef");
    assert_string_equal(tokens.items[1], "second-token-0123");
    assert_string_equal(tokens.items[2], "third token 012345");

    /* They are added to those that came by flag, whose number stays. */
    const char *path = token_file("fourth-token-0123\n", 18);
    assert_int_equal(auth_load_file(&tokens, path, &err), ST_OK);
    assert_int_equal(tokens.count, 4);
    free_tokens(&tokens);
}

static void test_bad_lines_are_named_and_not_shown(void **state)
{
    (void)state;
    option_list tokens;
    assert_int_equal(LOAD(&tokens, "0123456789abcdef\n#\nsecret\n"), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "/tokens line 3"));
    assert_non_null(strstr(err.text, "6 bytes; it must have 16 to 4096"));
    assert_null(strstr(err.text, "secret"));
    free_tokens(&tokens);

    static char longest[LIMIT_TOKEN_BYTES + 1];
    memset(longest, 'x', sizeof longest);
    assert_int_equal(load(&tokens, longest, LIMIT_TOKEN_BYTES), ST_OK);
    free_tokens(&tokens);
    assert_int_equal(load(&tokens, longest, sizeof longest), ST_INVALID_ARGUMENT);
    free_tokens(&tokens);
}

static void test_a_file_without_a_token_is_no_lock(void **state)
{
    (void)state;
    option_list tokens;
    assert_int_equal(LOAD(&tokens, ""), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "no token"));
    assert_int_equal(LOAD(&tokens, "# 0123456789abcdef\n\n  \n"), ST_INVALID_ARGUMENT);
    assert_int_equal(tokens.count, 0);
}

static void test_a_nul_hides_nothing(void **state)
{
    (void)state;
    option_list tokens;
    assert_int_equal(LOAD(&tokens, "0123456789abcdef\n\0fedcba9876543210\n"), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "byte 17 is NUL"));
    assert_int_equal(tokens.count, 0);
}

static void test_files_are_bounded(void **state)
{
    (void)state;
    option_list tokens;
    char text[(OPTION_LIST_MAX + 1) * 20];
    size_t used = 0;
    for (int i = 0; i <= OPTION_LIST_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "token-%011d\n", i);
    assert_int_equal(load(&tokens, text, used - 18), ST_OK);
    assert_int_equal(tokens.count, OPTION_LIST_MAX);
    free_tokens(&tokens);
    assert_int_equal(load(&tokens, text, used), ST_OUT_OF_RANGE);
    free_tokens(&tokens);
    assert_int_equal(auth_load_file(&tokens, "/nowhere/tokens", &err), ST_NOT_FOUND);
}

/* -- listeners ---------------------------------------------------------------------------- */

static const char *const local_urls[] = {
    "tcp://127.0.0.1:7400",      "tcp://127.0.0.1:0",        "ws://127.255.3.4:80/gaggle",
    "tls+tcp://localhost:7401",  "wss://localhost:7443/x",   "tcp://[::1]:7400",
    "ws://[::1]:80/gaggle?a=@b", "ipc:///run/gaggle/a.sock", "ipc:///tmp/127.0.0.1@x",
    "ws://127.0.0.1:80/a@b",     "ws://127.0.0.1:80/[::]:1",
};

static const char *const public_urls[] = {
    "tcp://*:7400",
    "tcp://0.0.0.0:7400",
    "tcp://:7400",
    "tcp://[::]:7400",
    "tcp://192.168.1.1:7400",
    "tcp://10.127.0.1:7400",
    "tcp://example.org:7400",
    /* only the beginning is local */
    "tcp://127.0.0.1.evil.example:1",
    "tcp://127.evil.example:1",
    "tcp://127.:1",
    "tcp://localhost.evil:1",
    "tcp://localhost.:1",
    "tcp://localhostevil:1",
    "tcp://[::1].evil:1",
    "tcp://[::1%eth0]:1",
    "tcp://[::1:1]:1",
    "tcp://[::12]:1",
    "tcp://[::1",
    "tcp://[::1]evil.example:1",
    "tcp://[::1]@evil.example:1",
    /* only the end is, or a part that is no host */
    "tcp://evil.example/127.0.0.1:1",
    "tcp://evil.example:1/localhost:1",
    "tcp://evil127.0.0.1:1",
    "tcp://evil.localhost:1",
    "tcp://evil.example?://127.0.0.1:1",
    "tcp://evil.example#://localhost:1",
    /* what looks like the host is the user */
    "ws://127.0.0.1@evil.example:1",
    "ws://localhost:1@evil.example:1",
    "ws://127.0.0.1:80@0.0.0.0:80/",
    /* unusual ways to write an address are not worth the risk */
    "tcp://127.1:1",
    "tcp://2130706433:1",
    "tcp://0x7f.0.0.1:1",
    "tcp://0127.0.0.1:1",
    "tcp://127.0.0.1%2eevil:1",
    "tcp://127.0.0.1 .evil:1",
    "tcp://127.0.0.256:1",
    "tcp://127.0.0.1.:1",
    "tcp://LOCALHOST:1",
    "tcp://[::ffff:127.0.0.1]:1",
    "tcp://[0:0:0:0:0:0:0:2]:1",
    /* no URL */
    "",
    "127.0.0.1:7400",
    "localhost:1",
    "tcp:127.0.0.1:1",
    "ipc:/run/x",
    "xipc:///run/x",
    "tcp://",
};

static void test_without_tokens_only_local_doors_open(void **state)
{
    (void)state;
    const auth none = {0};
    for (size_t i = 0; i < sizeof local_urls / sizeof *local_urls; i++)
        if (auth_check_listener(&none, local_urls[i], ROLE_CLIENT, &err) != ST_OK)
            fail_msg("%s was refused: %s", local_urls[i], err.text);
    for (size_t i = 0; i < sizeof public_urls / sizeof *public_urls; i++) {
        status st = auth_check_listener(&none, public_urls[i], ROLE_CLIENT, &err);
        if (st != ST_FAILED_PRECONDITION) fail_msg("%s was opened", public_urls[i]);
        assert_non_null(strstr(err.text, "--api-token"));
        assert_int_equal(auth_check_listener(&none, public_urls[i], ROLE_WORKER, &err),
                         ST_FAILED_PRECONDITION);
        assert_non_null(strstr(err.text, "--join-token"));
    }
    static char endless[5000] = "tcp://127.0.0.1";
    memset(endless + strlen(endless), '1', sizeof endless - 1 - strlen(endless));
    assert_int_equal(auth_check_listener(&none, endless, ROLE_CLIENT, &err),
                     ST_FAILED_PRECONDITION);
}

static void test_a_door_needs_tokens_of_its_own_role(void **state)
{
    (void)state;
    const char *url = "tcp://*:7400";
    const auth clients = {.api_tokens = {.items = {SECRET_A}, .count = 1}};
    assert_int_equal(auth_check_listener(&clients, url, ROLE_CLIENT, &err), ST_OK);
    assert_int_equal(auth_check_listener(&clients, url, ROLE_WORKER, &err), ST_FAILED_PRECONDITION);
    const auth workers = {.join_tokens = {.items = {SECRET_W}, .count = 1}};
    assert_int_equal(auth_check_listener(&workers, url, ROLE_WORKER, &err), ST_OK);
    assert_int_equal(auth_check_listener(&workers, url, ROLE_CLIENT, &err), ST_FAILED_PRECONDITION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_right_token_gets_in_and_names_the_tenant),
        cmocka_unit_test(test_tokens_do_not_open_the_other_door),
        cmocka_unit_test(test_almost_right_tokens_stay_out),
        cmocka_unit_test(test_an_empty_secret_admits_only_the_empty_token),
        cmocka_unit_test(test_without_tokens_everybody_gets_in),
        cmocka_unit_test(test_random_pairs_compare_as_strcmp_does),
        cmocka_unit_test(test_short_and_long_tokens_are_refused_at_start),
        cmocka_unit_test(test_plain_tokens_and_keys_stand_side_by_side),
        cmocka_unit_test(test_links_with_plain_tokens_stand_as_long_as_those_are_given),
        cmocka_unit_test(test_a_keys_file_locks_both_doors),
        cmocka_unit_test(test_a_worker_registers_as_itself_and_only_admins_drain),
        cmocka_unit_test(test_only_admins_are_admins_where_there_are_keys),
        cmocka_unit_test(test_files_hold_a_token_a_line),
        cmocka_unit_test(test_bad_lines_are_named_and_not_shown),
        cmocka_unit_test(test_a_file_without_a_token_is_no_lock),
        cmocka_unit_test(test_a_nul_hides_nothing),
        cmocka_unit_test(test_files_are_bounded),
        cmocka_unit_test(test_without_tokens_only_local_doors_open),
        cmocka_unit_test(test_a_door_needs_tokens_of_its_own_role),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
