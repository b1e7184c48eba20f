/* Goal: `gaggle token` never loses a key, never shows a secret twice, and leaves what people wrote
 * in the file as they wrote it.
 * Method: the real binary on files of the test's own, which are read back by the router's parser.
 */
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

#include "common/json.h"
#include "router/keys_file.h"
#include "run_program.h"

#define HASH "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

enum { ARGS_MAX = 32 };

static char path[1024];

/* A name that no other test uses; the file is not there. */
static void fresh_path(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", getenv("GAGGLE_TEST_TMP"), name);
    unlink(path);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static char *file_text(void)
{
    char *text;
    size_t size;
    error err;
    if (file_read(&text, &size, path, LIMIT_KEYS_FILE_BYTES, &err) != ST_OK)
        fail_msg("%s", err.text);
    return text;
}

static keys_file parsed_file(void)
{
    keys_file f;
    error err;
    char *text = file_text();
    if (keys_file_parse(&f, "keys", text, strlen(text), &err) != ST_OK)
        fail_msg("%s in:\n%s", err.text, text);
    mem_free(text);
    return f;
}

static void token_args(const char **args, const char *command, const char *const *more)
{
    const char *const head[] = {GAGGLE_CLI, "token", command, "--keys", path};
    size_t count = sizeof head / sizeof *head;
    memcpy(args, head, sizeof head);
    while (*more != NULL && count < ARGS_MAX - 1)
        args[count++] = *more++;
    args[count] = NULL;
}

/* gaggle token COMMAND --keys PATH ... */
static int token(program *p, const char *command, const char *const *more)
{
    const char *args[ARGS_MAX];
    token_args(args, command, more);
    return program_run(p, args, NULL);
}

#define TOKEN(p, command, ...) token(p, command, (const char *const[]){__VA_ARGS__, NULL})

typedef struct token_text {
    char text[256];
} token_text;

static token_text make_token(const char *const *options)
{
    token_text made;
    program p;
    if (token(&p, "new", options) != 0) fail_msg("%s", program_err(&p));
    snprintf(made.text, sizeof made.text, "%s", program_out(&p));
    assert_int_equal(strcspn(made.text, "\n"), strlen(made.text) - 1); /* one line, no more */
    made.text[strlen(made.text) - 1] = '\0';
    return made;
}

#define MAKE(...) make_token((const char *const[]){__VA_ARGS__, NULL})

static void assert_says(const char *where, const char *what)
{
    if (strstr(where, what) == NULL) fail_msg("'%s' is not in '%s'", what, where);
}

/* -- new ---------------------------------------------------------------------------------- */

static void test_a_new_key_is_in_the_file_and_its_secret_is_not(void **state)
{
    (void)state;
    fresh_path("new");
    int64_t before_s = time(NULL);
    const token_text new = MAKE("--role", "client", "--name", "Ada's notebook", "--tenant",
                                "research", "--expires", "12h");
    int64_t after_s = time(NULL);
    const char *made = new.text;
    assert_int_equal(strlen(made), 5 + 10 + 1 + 43);
    assert_memory_equal(made, "gg_c_", 5);
    text_view id = token_id(text_of(made));
    assert_int_equal(id.size, 10);

    keys_file f = parsed_file();
    const key_entry *key = keys_file_find(&f, id);
    assert_non_null(key);
    uint8_t hash[KEY_HASH_BYTES];
    token_hash(hash, text_of(made));
    assert_memory_equal(key->sha256, hash, sizeof hash);
    assert_int_equal(key->role, KEY_CLIENT);
    assert_string_equal(key->name, "Ada's notebook");
    assert_string_equal(f.tenants[key->tenant].name, "research");
    assert_in_range(key->expires_s, before_s + 12 * 3600, after_s + 12 * 3600);
    assert_false(key->revoked);
    keys_file_free(&f);

    char *text = file_text();
    assert_null(strstr(text, strrchr(made, '_') + 1));
    mem_free(text);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
}

static void test_keys_of_each_role_have_what_is_theirs(void **state)
{
    (void)state;
    fresh_path("roles");
    const token_text worker = MAKE("--role", "worker", "--worker", "gpu-7", "--expires", "never");
    const token_text admin = MAKE("--role", "admin", "--expires", "2199-12-31T00:00:00Z");
    assert_memory_equal(worker.text, "gg_w_", 5);
    assert_memory_equal(admin.text, "gg_a_", 5);
    keys_file f = parsed_file();
    const key_entry *key = keys_file_find(&f, token_id(text_of(worker.text)));
    assert_string_equal(key->worker, "gpu-7");
    assert_int_equal(key->expires_s, KEY_NEVER_EXPIRES);
    key = keys_file_find(&f, token_id(text_of(admin.text)));
    assert_string_equal(f.tenants[key->tenant].name, KEY_TENANT_DEFAULT);
    assert_int_equal(key->expires_s, 7258032000);
    keys_file_free(&f);
}

static void test_a_tenant_gets_its_limits_once(void **state)
{
    (void)state;
    fresh_path("tenants");
    MAKE("--role", "client", "--tenant", "a", "--weight", "200", "--requests-per-minute", "60",
         "--tokens-per-minute", "9G", "--concurrent", "8", "--queued", "16", "--highest-class",
         "standard");
    MAKE("--role", "client", "--tenant", "a");
    MAKE("--role", "client", "--tenant", "b");
    MAKE("--role", "client", "--tenant", "b", "--queued", "2"); /* so far only keys named it */
    keys_file f = parsed_file();
    assert_int_equal(f.ids.count, 4);
    const tenant_limits *l = &f.tenants[name_table_find(&f.tenant_names, text_of("a"))].limits;
    assert_int_equal(l->weight, 200);
    assert_int_equal(l->requests_per_minute, 60);
    assert_int_equal(l->tokens_per_minute, (uint64_t)9 << 30);
    assert_int_equal(l->concurrent, 8);
    assert_int_equal(l->queued, 16);
    assert_int_equal(l->class_max, 0);
    l = &f.tenants[name_table_find(&f.tenant_names, text_of("b"))].limits;
    assert_int_equal(l->queued, 2);
    keys_file_free(&f);

    char *before = file_text();
    program p;
    assert_int_equal(TOKEN(&p, "new", "--role", "client", "--tenant", "a", "--weight", "3"), 1);
    assert_says(program_err(&p), "the limits of tenant a stand in");
    assert_says(program_err(&p), "line 4: change them there");
    char *after = file_text();
    assert_string_equal(before, after);
    mem_free(before);
    mem_free(after);
}

static void test_what_people_wrote_stays(void **state)
{
    (void)state;
    static const char theirs[] = "# of the 2nd floor\r\n\r\n  [key hand-made]  \n\n"
                                 "sha256=" HASH "\nrole   =   worker\n# last, without an end";
    fresh_path("theirs");
    write_file(theirs);
    assert_int_equal(chmod(path, 0640), 0);
    const token_text made = MAKE("--role", "worker");
    char *text = file_text();
    assert_memory_equal(text, theirs, sizeof theirs - 1);
    mem_free(text);
    keys_file f = parsed_file();
    assert_int_equal(f.ids.count, 2);
    assert_non_null(keys_file_find(&f, token_id(text_of(made.text))));
    keys_file_free(&f);
    struct stat info; /* its group reads it on */
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
}

static void test_a_link_to_the_file_stays_one(void **state)
{
    (void)state;
    fresh_path("real");
    MAKE("--role", "worker");
    fresh_path("link");
    assert_int_equal(symlink("real", path), 0);
    MAKE("--role", "worker");
    struct stat info;
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    keys_file f = parsed_file();
    assert_int_equal(f.ids.count, 2);
    keys_file_free(&f);
}

static void test_many_at_once_lose_no_key(void **state)
{
    (void)state;
    enum { MANY = 24 };
    fresh_path("many");
    program programs[MANY];
    const char *args[ARGS_MAX];
    token_args(args, "new", (const char *const[]){"--role", "client", "--tenant", "t", NULL});
    for (int i = 0; i < MANY; i++)
        program_start(&programs[i], args, NULL);
    for (int i = 0; i < MANY; i++)
        if (program_wait(&programs[i]) != 0) fail_msg("%s", program_err(&programs[i]));
    keys_file f = parsed_file();
    assert_int_equal(f.ids.count, MANY);
    for (int i = 0; i < MANY; i++)
        assert_non_null(keys_file_find(&f, token_id(text_of(program_out(&programs[i])))));
    keys_file_free(&f);
}

static void test_wrong_options_are_named_and_make_no_file(void **state)
{
    (void)state;
    static const struct {
        const char *words[6], *hint;
    } cases[] = {
        {{"--name", "x"}, "--role is needed: client, worker or admin"},
        {{"--role", "boss"}, "--role: 'boss' is not client, worker or admin"},
        {{"--role", "client", "--worker", "w"}, "--worker is for --role worker only"},
        {{"--role", "worker", "--tenant", "t"}, "a worker has no tenant and no limits"},
        {{"--role", "worker", "--queued", "1"}, "a worker has no tenant and no limits"},
        {{"--role", "client", "--tenant", "a b"}, "--tenant: 'a b' may only hold"},
        {{"--role", "client", "--name", "a\nb"}, "--name: must be UTF-8 without control"},
        {{"--role", "worker", "--worker", ""}, "--worker: has 0 bytes; it must have 1 to 256"},
        {{"--role", "client", "--weight", "10001"}, "--weight is 10001; it must be 1 to 10000"},
        {{"--role", "client", "--highest-class", "best"}, "--highest-class: 'best' is not"},
        {{"--role", "client", "--expires", "0d"}, "--expires: '0d' must be 1m to 36500d"},
        {{"--role", "client", "--expires", "36501d"}, "--expires: '36501d' must be 1m to 36500d"},
        {{"--role", "client", "--expires", "99999999999999999999m"}, "must be 1m to 36500d"},
        {{"--role", "client", "--expires", "-1d"}, "--expires: '-1d' is no span"},
        {{"--role", "client", "--expires", "1w"}, "--expires: '1w' is no span"},
        {{"--role", "client", "--expires", "30"}, "--expires: '30' is no span"},
        {{"--role", "client", "--expires", ""}, "--expires: '' is no span"},
        {{"--role", "client", "--expires", "2020-01-01T00:00:00Z"}, "is past: it is 20"},
        {{"--role", "client", "--tennant", "t"}, "--tenant"},
        {{"--role", "client", "extra"}, "extra"},
    };
    fresh_path("wrong");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        program p;
        int code = token(&p, "new", cases[i].words);
        if (code != 2) fail_msg("case %zu ended with %d", i, code);
        assert_string_equal(program_out(&p), "");
        assert_says(program_err(&p), cases[i].hint);
        assert_int_not_equal(access(path, F_OK), 0);
    }
}

static void test_files_that_cannot_be_changed_are_left_alone(void **state)
{
    (void)state;
    program p;
    snprintf(path, sizeof path, "/nowhere/keys");
    assert_int_equal(TOKEN(&p, "new", "--role", "client"), 1);
    assert_says(program_err(&p), "cannot open /nowhere/keys");
    assert_string_equal(program_out(&p), "");
    fresh_path("broken");
    write_file("[key x]\nrole = client\n");
    assert_int_equal(TOKEN(&p, "new", "--role", "client"), 1);
    assert_says(program_err(&p), "broken line 1: key x has no sha256");
    assert_int_equal(TOKEN(&p, "revoke", "x"), 1);
    char *text = file_text();
    assert_string_equal(text, "[key x]\nrole = client\n");
    mem_free(text);
}

/* -- ls and revoke ------------------------------------------------------------------------- */

static void test_ls_says_how_keys_stand(void **state)
{
    (void)state;
    fresh_path("ls");
    write_file("[key a]\nrole = client\nname = Ada\ntenant = research\nsha256 = " HASH "\n"
               "[key b]\nrole = worker\nworker = gpu-7\nrevoked = yes\nsha256 = " HASH "\n"
               "[key c]\nrole = admin\nexpires = 2020-01-01T00:00:00Z\nsha256 = " HASH "\n"
               "[key d]\nrole = worker\nsha256 = " HASH "\n");
    program p;
    assert_int_equal(TOKEN(&p, "ls", NULL), 0);
    assert_string_equal(
        program_out(&p),
        "ID           ROLE    STATE    EXPIRES               TENANT OR WORKER NAME\n"
        "a            client  valid    never                 research         Ada\n"
        "b            worker  revoked  never                 gpu-7            \n"
        "c            admin   expired  2020-01-01T00:00:00Z  default          \n"
        "d            worker  valid    never                 any              \n");
    fresh_path("nothing");
    assert_int_equal(TOKEN(&p, "ls", NULL), 1);
    assert_says(program_err(&p), "cannot open");
}

static void test_revoking_takes_an_id_or_the_token_itself(void **state)
{
    (void)state;
    fresh_path("revoke");
    const token_text client = MAKE("--role", "client"), worker = MAKE("--role", "worker");
    const char *first = client.text, *second = worker.text;
    char id[16];
    snprintf(id, sizeof id, "%.10s", first + 5);
    program p;
    assert_int_equal(TOKEN(&p, "revoke", id), 0);
    assert_says(program_err(&p), "is revoked. kill -HUP");
    keys_file f = parsed_file();
    assert_true(keys_file_find(&f, token_id(text_of(first)))->revoked);
    assert_false(keys_file_find(&f, token_id(text_of(second)))->revoked);
    keys_file_free(&f);

    char *before = file_text();
    assert_int_equal(TOKEN(&p, "revoke", id), 0); /* again changes nothing */
    char *after = file_text();
    assert_string_equal(before, after);
    mem_free(before);
    mem_free(after);

    assert_int_equal(TOKEN(&p, "revoke", second), 0);
    assert_null(strstr(program_err(&p), strrchr(second, '_')));
    f = parsed_file();
    assert_true(keys_file_find(&f, token_id(text_of(second)))->revoked);
    keys_file_free(&f);

    assert_int_equal(TOKEN(&p, "revoke", "nobody"), 1);
    assert_says(program_err(&p), "has no key nobody; gaggle token ls lists them");
    assert_int_equal(TOKEN(&p, "revoke", NULL), 2);
    assert_int_equal(TOKEN(&p, "revoke", "a", "b"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_key_is_in_the_file_and_its_secret_is_not),
        cmocka_unit_test(test_keys_of_each_role_have_what_is_theirs),
        cmocka_unit_test(test_a_tenant_gets_its_limits_once),
        cmocka_unit_test(test_what_people_wrote_stays),
        cmocka_unit_test(test_a_link_to_the_file_stays_one),
        cmocka_unit_test(test_many_at_once_lose_no_key),
        cmocka_unit_test(test_wrong_options_are_named_and_make_no_file),
        cmocka_unit_test(test_files_that_cannot_be_changed_are_left_alone),
        cmocka_unit_test(test_ls_says_how_keys_stand),
        cmocka_unit_test(test_revoking_takes_an_id_or_the_token_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
