/* Goal: a keys file means what it says, whoever wrote it; a mistake in it is refused by line and
 * setting, and what is written or revoked by program leaves everything else as it stands.
 * Method: texts whose meaning is known, every mistake by itself, and random keys that are written
 * and read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "router/keys_file.h"
#include "tests/unit/worker/engine/test_random.h"

static error err;

/* What sha256sum says of "abc". */
#define HASH "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static keys_file parsed(const char *text)
{
    keys_file f;
    if (keys_file_parse(&f, "keys", text, strlen(text), &err) != ST_OK)
        fail_msg("%s in:\n%s", err.text, text);
    return f;
}

static void assert_refused(const char *text, status st, const char *why)
{
    keys_file f;
    err = (error){0};
    if (keys_file_parse(&f, "keys", text, strlen(text), &err) != st)
        fail_msg("'%s' instead of '%s'", err.text, why);
    if (strstr(err.text, why) == NULL) fail_msg("'%s' is not in '%s'", why, err.text);
}

/* -- reading ------------------------------------------------------------------------------ */

static void test_a_file_means_what_it_says(void **state)
{
    (void)state;
    keys_file f = parsed("# people\n"
                         "[key ada-1]\n"
                         "role = client\n"
                         "name = Ada's notebook, 2nd floor = best\n"
                         "tenant = research\n"
                         "expires = 2027-01-31T12:00:00Z\n"
                         "revoked = no\n"
                         "sha256 = " HASH "\n"
                         "[tenant research]\n"
                         "weight = 200\n"
                         "requests-per-minute = 60\n"
                         "tokens-per-minute = 9000000000\n"
                         "concurrent = 8\n"
                         "queued = 16\n"
                         "highest-class = standard\n"
                         "[key w]\n"
                         "sha256 = " HASH "\n"
                         "role = worker\n"
                         "worker = gpu 7\n"
                         "revoked = yes\n"
                         "[key boss]\n"
                         "role = admin\n"
                         "sha256 = " HASH "\n"
                         "[tenant nobody.yet]\n");
    assert_int_equal(f.ids.count, 3);
    const key_entry *ada = keys_file_find(&f, text_of("ada-1"));
    assert_int_equal(ada->role, KEY_CLIENT);
    assert_string_equal(ada->name, "Ada's notebook, 2nd floor = best");
    assert_int_equal(ada->expires_s, 1801396800);
    assert_false(ada->revoked);
    assert_null(ada->worker);
    assert_int_equal(ada->line, 2);
    uint8_t hash[KEY_HASH_BYTES];
    token_hash(hash, text_of("abc"));
    assert_memory_equal(ada->sha256, hash, sizeof hash);

    const key_tenant *research = &f.tenants[ada->tenant];
    assert_string_equal(research->name, "research");
    assert_int_equal(research->line, 9);
    const tenant_limits *l = &research->limits;
    assert_int_equal(l->weight, 200);
    assert_int_equal(l->requests_per_minute, 60);
    assert_int_equal(l->tokens_per_minute, 9000000000);
    assert_int_equal(l->concurrent, 8);
    assert_int_equal(l->queued, 16);
    assert_int_equal(l->class_max, 0);

    const key_entry *w = keys_file_find(&f, text_of("w"));
    assert_int_equal(w->role, KEY_WORKER);
    assert_string_equal(w->worker, "gpu 7");
    assert_true(w->revoked);
    assert_int_equal(w->expires_s, KEY_NEVER_EXPIRES);

    const key_entry *boss = keys_file_find(&f, text_of("boss"));
    assert_int_equal(boss->role, KEY_ADMIN);
    assert_string_equal(boss->name, "");
    const key_tenant *other = &f.tenants[boss->tenant];
    assert_string_equal(other->name, "default");
    assert_int_equal(other->limits.weight, 100);
    assert_int_equal(other->limits.class_max, 1);
    assert_int_equal(other->limits.concurrent, 0);
    assert_int_equal(f.tenant_names.count, 3);
    assert_null(keys_file_find(&f, text_of("ada")));
    assert_null(keys_file_find(&f, (text_view){0}));
    keys_file_free(&f);
}

static void test_a_file_without_keys_is_empty(void **state)
{
    (void)state;
    keys_file f = parsed("# nobody\n");
    assert_int_equal(f.ids.count, 0);
    assert_null(keys_file_find(&f, text_of("x")));
    keys_file_free(&f);
}

#define KEY(lines) "[key x]\n" lines "sha256 = " HASH "\n"

static void test_mistakes_are_refused_by_line_and_setting(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } mistakes[] = {
        {"role = client\n", "keys line 1: a setting stands in a [key ID] or a [tenant NAME]"},
        {"[keys x]\n", "keys line 1: [keys x] is neither [key ID] nor [tenant NAME]"},
        {"[key]\n", "keys line 1: key: has 0 bytes"},
        {"[key a_b]\n", "keys line 1: key: 'a_b' may only hold"},
        {"[key A]\n", "'A' may only hold a to z, digits and '-'"},
        {"[key a b]\n", "'a b' may only hold"},
        {"[tenant a b]\n", "keys line 1: tenant: 'a b' may only hold"},
        {"[tenant]\n", "keys line 1: tenant: has 0 bytes"},
        {KEY(""), "keys line 1: key x has no role"},
        {"[key x]\nrole = client\n", "keys line 1: key x has no sha256"},
        {"[key x]\nrole = client\n[tenant t]\n", "keys line 1: key x has no sha256"},
        {KEY("role = Client\n"), "keys line 2: role: 'Client' is not client, worker or admin"},
        {KEY("role = client\nrole = client\n"), "keys line 3: role is given twice"},
        {KEY("role = client\n") KEY("role = client\n"), "keys line 4: key x stands in line 1, too"},
        {"[tenant t]\n[tenant t]\n", "keys line 2: tenant t stands in line 1, too"},
        {KEY("role = client\nexpire = never\n"),
         "keys line 3: there is no 'expire' in a key; did you mean 'expires'?"},
        {KEY("role = client\nxyzzyxyzzy = 1\n"), "there is no 'xyzzyxyzzy' in a key"},
        {"[tenant t]\nwheight = 1\n",
         "keys line 2: there is no 'wheight' in a tenant; did you mean 'weight'?"},
        {"[tenant t]\nrole = client\n", "there is no 'role' in a tenant"},
        {KEY("role = client\nexpires = tomorrow\n"), "keys line 3: expires: 'tomorrow' is neither"},
        {KEY("role = client\nrevoked = maybe\n"), "revoked: 'maybe' is not yes or no"},
        {KEY("role = client\nrevoked =\n"), "revoked: '' is not yes or no"},
        {KEY("role = client\nworker = w\n"),
         "keys line 1: key x names a worker, but is not for a worker"},
        {KEY("role = worker\ntenant = t\n"),
         "keys line 1: key x has a tenant, but is for a worker"},
        {KEY("role = client\ntenant = a/b\n"), "keys line 3: tenant: 'a/b' may only hold"},
        {KEY("role = client\ntenant =\n"), "keys line 3: tenant: has 0 bytes"},
        {KEY("role = client\nname =\n"), "keys line 3: name: has 0 bytes"},
        {KEY("role = client\nname = \xff\n"), "keys line 3: name: must be UTF-8"},
        {KEY("role = client\nname = a\tb\n"), "keys line 3: name: must be UTF-8 without control"},
        {"[tenant t]\nweight = 0\n", "weight: '0' is not a whole number from 1 to 10000"},
        {"[tenant t]\nweight = 10001\n", "weight: '10001' is not"},
        {"[tenant t]\nweight = 1.5\n", "weight: '1.5' is not"},
        {"[tenant t]\nweight = -1\n", "weight: '-1' is not"},
        {"[tenant t]\nweight =\n", "weight: '' is not"},
        {"[tenant t]\nqueued = 4294967296\n", "from 0 to 4294967295"},
        {"[tenant t]\ntokens-per-minute = 99999999999999999999\n", "tokens-per-minute"},
        {"[tenant t]\nhighest-class = urgent\n", "'urgent' is not interactive, standard or batch"},
        {"[key x]\nsecret\n", "keys line 2: neither"},
    };
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
        assert_refused(mistakes[i].text, ST_INVALID_ARGUMENT, mistakes[i].why);
}

static void test_a_wrong_hash_is_not_shown(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "gg_c_x_0123456789", HASH "0", "g" HASH,
                                        "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A"
                                        "9CB410FF61F20015AD"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        snprintf(text, sizeof text, "[key x]\nrole = client\nsha256 = %s\n", wrong[i]);
        assert_refused(text, ST_INVALID_ARGUMENT, "keys line 3: sha256: must be 64 hex digits");
        assert_true(wrong[i][0] == '\0' || strstr(err.text, wrong[i]) == NULL);
    }
}

static void test_names_are_bounded(void **state)
{
    (void)state;
    char text[1024], longest[LIMIT_NAME_BYTES + 2];
    memset(longest, 'x', sizeof longest);
    snprintf(text, sizeof text,
             "[key %.*s]\nrole = client\ntenant = %.*s\nname = %.*s\nsha256 = %s",
             (int)LIMIT_KEY_NAME_BYTES, longest, (int)LIMIT_KEY_NAME_BYTES, longest,
             (int)LIMIT_NAME_BYTES, longest, HASH);
    keys_file f = parsed(text);
    keys_file_free(&f);
    snprintf(text, sizeof text, "[key %.*s]\n", (int)LIMIT_KEY_NAME_BYTES + 1, longest);
    assert_refused(text, ST_INVALID_ARGUMENT, "has 65 bytes; it must have 1 to 64");
    snprintf(text, sizeof text, "[tenant %.*s]\n", (int)LIMIT_KEY_NAME_BYTES + 1, longest);
    assert_refused(text, ST_INVALID_ARGUMENT, "has 65 bytes; it must have 1 to 64");
    snprintf(text, sizeof text, "[key x]\nname = %.*s\n", (int)LIMIT_NAME_BYTES + 1, longest);
    assert_refused(text, ST_INVALID_ARGUMENT, "has 257 bytes; it must have 1 to 256");
}

static void test_keys_and_tenants_are_bounded(void **state)
{
    (void)state;
    buffer text = {0};
    char line[128];
    for (uint32_t i = 0; i <= LIMIT_KEYS; i++) {
        int size = snprintf(line, sizeof line, "[key k%u]\nrole=worker\nsha256=%s\n", i, HASH);
        if (i == LIMIT_KEYS) {
            keys_file f;
            assert_int_equal(keys_file_parse(&f, "keys", (char *)text.data, text.size, &err),
                             ST_OK);
            assert_int_equal(f.ids.count, LIMIT_KEYS);
            assert_int_equal(keys_file_find(&f, text_of("k16383"))->line, 3 * 16383 + 1);
            keys_file_free(&f);
        }
        buffer_append(&text, line, (size_t)size);
    }
    buffer_append(&text, "", 1);
    assert_refused((char *)text.data, ST_OUT_OF_RANGE, "more than 16384 keys");
    buffer_clear(&text);
    for (uint32_t i = 0; i <= LIMIT_TENANTS; i++)
        buffer_append(&text, line, (size_t)snprintf(line, sizeof line, "[tenant t%u]\n", i));
    buffer_append(&text, "", 1);
    assert_refused((char *)text.data, ST_OUT_OF_RANGE, "keys line 4097: more than 4096 tenants");
    buffer_free(&text);
}

/* -- values ------------------------------------------------------------------------------- */

static void test_times_are_read_as_they_are_written_and_in_no_other_way(void **state)
{
    (void)state;
    static const char *const good[] = {"never", "1970-01-01T00:00:00Z", "2024-02-29T23:59:59Z",
                                       "2038-01-19T03:14:08Z", "9999-12-31T23:59:59Z"};
    static const char *const bad[] = {"",
                                      "Never",
                                      "2027-01-31",
                                      "2027-01-31T12:00:00",
                                      "2027-01-31T12:00:00z",
                                      "2027-01-31T12:00:00+01:00",
                                      "2027-01-31 12:00:00Z",
                                      "2027-1-31T12:00:00Z",
                                      "2027-02-29T12:00:00Z",
                                      "2027-04-31T12:00:00Z",
                                      "2027-13-01T12:00:00Z",
                                      "2027-01-31T24:00:00Z",
                                      "2027-01-31T12:00:60Z",
                                      "2027-01-31T12:00:00Z ",
                                      " 2027-01-31T12:00:00Z",
                                      "1969-12-31T23:59:59Z",
                                      "+2027-01-31T12:00:00Z",
                                      "99999-01-31T12:00:00Z",
                                      "1801396800"};
    int64_t when;
    char text[EXPIRY_TEXT_SIZE];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(expiry_parse(&when, good[i], &err), ST_OK);
        assert_string_equal(expiry_format(when, text), good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (expiry_parse(&when, bad[i], &err) != ST_INVALID_ARGUMENT) fail_msg("%s", bad[i]);
    assert_int_equal(expiry_parse(&when, "2038-01-19T03:14:08Z", &err), ST_OK);
    assert_int_equal(when, 2147483648);
}

static void test_only_tokens_have_an_id(void **state)
{
    (void)state;
    assert_true(text_equal(token_id(text_of("gg_c_k3x9_secret")), text_of("k3x9")));
    assert_true(text_equal(token_id(text_of("gg_w_a-b_")), text_of("a-b")));
    static const char *const others[] = {"",        "gg",    "gg_c_",      "gg_c_id",
                                         "gg-c_i_", "gg_ci", "0123456789", "GG_c_id_secret"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(token_id(text_of(others[i])).size, 0);
    assert_int_equal(token_id(text_of("gg_c__secret")).size, 0);
    char text[128];
    snprintf(text, sizeof text, "gg_c_%0*d_secret", (int)LIMIT_KEY_NAME_BYTES, 0);
    assert_int_equal(token_id(text_of(text)).size, LIMIT_KEY_NAME_BYTES);
    snprintf(text, sizeof text, "gg_c_%0*d_secret", (int)LIMIT_KEY_NAME_BYTES + 1, 0);
    assert_int_equal(token_id(text_of(text)).size, 0);
}

static void test_names_are_found_by_a_table_as_by_looking(void **state)
{
    (void)state;
    test_random random = {5};
    name_table table = {0};
    static char names[700][4];
    uint32_t count = 0;
    for (int round = 0; round < 20000; round++) {
        char name[4] = {0};
        for (int i = 0; i < 3; i++)
            name[i] = (char)('a' + random_below(&random, 9));
        uint32_t want = NAME_NONE;
        for (uint32_t i = 0; i < count; i++)
            if (strcmp(names[i], name) == 0) want = i;
        assert_int_equal(name_table_find(&table, text_of(name)), want);
        if (want != NAME_NONE || count == 700) continue;
        memcpy(names[count], name, sizeof name);
        assert_int_equal(name_table_add(&table, names[count]), count);
        count++;
    }
    assert_true(count > 500);
    name_table_free(&table);
}

/* -- writing ------------------------------------------------------------------------------ */

static const char *random_text(test_random *random, const char *letters, uint32_t most)
{
    static char texts[8][300];
    static int next;
    char *text = texts[next++ % 8];
    uint32_t size = random_between(random, 1, most);
    for (uint32_t i = 0; i < size; i++)
        text[i] = letters[random_below(random, (uint32_t)strlen(letters))];
    text[size] = '\0';
    return text;
}

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    test_random random = {23};
    for (uint32_t round = 0; round < 2000; round++) {
        buffer text = {0};
        key_tenant tenant = {
            .name = random_text(&random, "aZ9._@-", LIMIT_KEY_NAME_BYTES),
            .limits = {.weight = random_between(&random, 1, LIMIT_TENANT_WEIGHT),
                       .requests_per_minute = random_below(&random, 3),
                       .tokens_per_minute = random_below(&random, 3) * (uint64_t)INT64_MAX / 2,
                       .concurrent = random_below(&random, 2) * UINT32_MAX,
                       .queued = random_below(&random, 2),
                       .class_max = (int32_t)random_below(&random, 3) - 1}};
        key_entry key = {.id = random_text(&random, "az09-", LIMIT_KEY_NAME_BYTES),
                         .name = random_below(&random, 2) == 0
                                     ? ""
                                     : random_text(&random, "#=[]x;", LIMIT_NAME_BYTES),
                         .role = (key_role)random_below(&random, KEY_ROLES),
                         .revoked = random_below(&random, 2) == 0,
                         .expires_s = random_below(&random, 2) == 0
                                          ? KEY_NEVER_EXPIRES
                                          : (int64_t)(random_next(&random) >> 29)};
        if (key.role == KEY_WORKER && random_below(&random, 2) == 0) key.worker = "\xc3\xa9 7";
        for (size_t i = 0; i < KEY_HASH_BYTES; i++)
            key.sha256[i] = (uint8_t)random_next(&random);
        keys_file_write_tenant(&text, &tenant);
        keys_file_write_key(&text, &key, tenant.name);

        keys_file f;
        if (keys_file_parse(&f, "keys", (char *)text.data, text.size, &err) != ST_OK)
            fail_msg("%s in:\n%.*s", err.text, (int)text.size, (char *)text.data);
        const key_entry *found = keys_file_find(&f, text_of(key.id));
        assert_non_null(found);
        assert_string_equal(found->name, key.name);
        assert_int_equal(found->role, key.role);
        assert_int_equal(found->revoked, key.revoked);
        assert_int_equal(found->expires_s, key.expires_s);
        assert_memory_equal(found->sha256, key.sha256, KEY_HASH_BYTES);
        assert_int_equal(found->worker == NULL, key.worker == NULL);
        if (key.worker != NULL) assert_string_equal(found->worker, key.worker);
        if (key.role != KEY_WORKER) assert_int_equal(found->tenant, 0);
        const tenant_limits *l = &f.tenants[0].limits;
        assert_string_equal(f.tenants[0].name, tenant.name);
        assert_int_equal(l->weight, tenant.limits.weight);
        assert_int_equal(l->requests_per_minute, tenant.limits.requests_per_minute);
        assert_int_equal(l->tokens_per_minute, tenant.limits.tokens_per_minute);
        assert_int_equal(l->concurrent, tenant.limits.concurrent);
        assert_int_equal(l->queued, tenant.limits.queued);
        assert_int_equal(l->class_max, tenant.limits.class_max);
        keys_file_free(&f);
        buffer_free(&text);
    }
}

static void assert_revoked_as(const char *text, const char *id, const char *want)
{
    keys_file f = parsed(text);
    buffer out = {0};
    keys_file_write_revoked(&out, text, strlen(text), keys_file_find(&f, text_of(id)));
    keys_file_free(&f);
    buffer_append(&out, "", 1);
    assert_string_equal((char *)out.data, want);
    f = parsed((char *)out.data);
    assert_true(keys_file_find(&f, text_of(id))->revoked);
    keys_file_free(&f);
    buffer_free(&out);
}

static void test_revoking_changes_one_line(void **state)
{
    (void)state;
#define BODY "role = worker\nsha256 = " HASH "\n"
    assert_revoked_as("# a\n[key a]\n" BODY "\n[key b] \r\n# keep\n" BODY "[key c]\n" BODY, "b",
                      "# a\n[key a]\n" BODY "\n[key b] \r\nrevoked = yes\n# keep\n" BODY
                      "[key c]\n" BODY);
    assert_revoked_as("[key a]\n" BODY "revoked = no", "a", "[key a]\n" BODY "revoked = yes\n");
    assert_revoked_as("[key a]\nrevoked = no\n" BODY, "a", "[key a]\nrevoked = yes\n" BODY);
    assert_revoked_as("[key a]\nrole = worker\nsha256 = " HASH, "a",
                      "[key a]\nrevoked = yes\nrole = worker\nsha256 = " HASH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_means_what_it_says),
        cmocka_unit_test(test_a_file_without_keys_is_empty),
        cmocka_unit_test(test_mistakes_are_refused_by_line_and_setting),
        cmocka_unit_test(test_a_wrong_hash_is_not_shown),
        cmocka_unit_test(test_names_are_bounded),
        cmocka_unit_test(test_keys_and_tenants_are_bounded),
        cmocka_unit_test(test_times_are_read_as_they_are_written_and_in_no_other_way),
        cmocka_unit_test(test_only_tokens_have_an_id),
        cmocka_unit_test(test_names_are_found_by_a_table_as_by_looking),
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_revoking_changes_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
