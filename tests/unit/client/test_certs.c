/* Goal: what `gaggle certs` makes is what TLS expects of it, keeps the roles apart, and is never
 * overwritten by mistake.
 * Method: the real binary, judged by the openssl command; expiry by the function below it, which is
 * given the time. */
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

#include "client/cli/make_certificate.h"
#include "common/check.h"
#include "run_program.h"

static char folder[1024];

/* A folder that is not there; it becomes the working directory's ./NAME. */
static void fresh_folder(const char *name)
{
    char command[1100];
    snprintf(folder, sizeof folder, "%s", name);
    snprintf(command, sizeof command, "rm -rf '%s'", name);
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    CHECK(scratch != NULL && chdir(scratch) == 0);
    assert_int_equal(system(command), 0);
}

static int certs(program *p, const char *command, const char *const *more)
{
    const char *args[32] = {GAGGLE_CLI, "certs", command, folder};
    size_t count = 4;
    while (*more != NULL)
        args[count++] = *more++;
    args[count] = NULL;
    return program_run(p, args, NULL);
}

#define CERTS(p, command, ...) certs(p, command, (const char *const[]){__VA_ARGS__, NULL})

static void make(const char *command, const char *const *more)
{
    program p;
    if (certs(&p, command, more) != 0) fail_msg("%s", program_err(&p));
}

#define MAKE(command, ...) make(command, (const char *const[]){__VA_ARGS__, NULL})

/* In the folder: does the command end well? */
static bool holds(const char *command)
{
    char line[2048];
    snprintf(line, sizeof line, "cd '%s' && { %s; } >/dev/null 2>&1", folder, command);
    return system(line) == 0;
}

static void assert_says(const char *where, const char *what)
{
    if (strstr(where, what) == NULL) fail_msg("'%s' is not in '%s'", what, where);
}

static void test_init_makes_what_tls_expects(void **state)
{
    (void)state;
    fresh_folder("init");
    MAKE("init", "--host", "router.home", "--host", "*.fleet.example", "--host", "192.168.7.5",
         "--host", "fd00::7");
    static const char *const good[] = {
        "openssl verify -x509_strict -CAfile ca.pem -purpose sslserver router.pem",
        "openssl verify -x509_strict -CAfile worker-ca.pem -purpose sslclient worker.pem",
        "openssl verify -x509_strict -CAfile client-ca.pem -purpose sslclient client.pem",
        "openssl verify -CAfile ca.pem -verify_hostname router.home router.pem",
        "openssl verify -CAfile ca.pem -verify_hostname w1.fleet.example router.pem",
        "openssl verify -CAfile ca.pem -verify_hostname localhost router.pem",
        "openssl verify -CAfile ca.pem -verify_ip 192.168.7.5 router.pem",
        "openssl verify -CAfile ca.pem -verify_ip fd00::7 router.pem",
        "openssl verify -CAfile ca.pem -verify_ip 127.0.0.1 router.pem",
        "openssl verify -CAfile ca.pem -verify_ip ::1 router.pem",
        "openssl x509 -in router.pem -noout -text | grep -q 'NIST CURVE: P-256'",
        /* two years, give or take a day; the CA's ten */
        "openssl x509 -in router.pem -noout -checkend $((729*86400))",
        "! openssl x509 -in router.pem -noout -checkend $((731*86400))",
        "openssl x509 -in ca.pem -noout -checkend $((3649*86400))",
        "openssl verify -attime $(($(date +%s)-3000)) -CAfile ca.pem router.pem", /* late clocks */
    };
    static const char *const bad[] = {
        /* a role's certificate is nothing at the other doors */
        "openssl verify -CAfile client-ca.pem worker.pem",
        "openssl verify -CAfile worker-ca.pem client.pem",
        "openssl verify -CAfile ca.pem worker.pem",
        "openssl verify -CAfile worker-ca.pem -purpose sslserver worker.pem",
        "openssl verify -CAfile ca.pem -purpose sslclient router.pem",
        "openssl verify -CAfile ca.pem -verify_hostname evil.example router.pem",
        "openssl verify -CAfile ca.pem -verify_ip 192.168.7.6 router.pem",
        /* nor is it a CA */
        "openssl x509 -in worker.pem -noout -text | grep -q CA:TRUE",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!holds(good[i])) fail_msg("%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (holds(bad[i])) fail_msg("%s", bad[i]);
}

static void test_only_the_owner_reads_keys(void **state)
{
    (void)state;
    fresh_folder("modes");
    mode_t before = umask(0);
    MAKE("init", NULL);
    MAKE("worker", "gpu-7");
    umask(before);
    assert_true(holds("[ $(find . -name '*.key' -perm 600 | wc -l) = 7 ]"));
    assert_true(holds("[ $(find . -name '*.pem' -perm 644 | wc -l) = 7 ]"));
    assert_true(holds("[ $(ls -A | wc -l) = 14 ]")); /* and no drafts are left */
    assert_true(holds("[ $(stat -c %a .) = 700 ]"));
}

static void test_nothing_is_overwritten_without_force(void **state)
{
    (void)state;
    program p;
    fresh_folder("force");
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_true(holds("echo mine > client.key")); /* the last of all: nothing else is made */
    assert_int_equal(CERTS(&p, "init", NULL), 1);
    assert_says(program_err(&p), "force/client.key is there; --force replaces it");
    assert_true(holds("[ \"$(ls)\" = client.key ] && grep -q mine client.key"));

    MAKE("init", "--force");
    assert_true(holds("openssl verify -CAfile client-ca.pem client.pem"));
    assert_true(holds("sha256sum *.pem *.key > sums"));
    assert_int_equal(CERTS(&p, "init", NULL), 1);
    assert_int_equal(CERTS(&p, "router", NULL), 1);
    MAKE("worker", "a");
    assert_true(holds("cp worker-a.key kept"));
    assert_int_equal(CERTS(&p, "worker", "a"), 1);
    assert_says(program_err(&p), "worker-a.pem is there");
    assert_true(holds("sha256sum -c sums && cmp worker-a.key kept"));
    MAKE("worker", "a", "--force");
    assert_true(holds("sha256sum -c sums && ! cmp worker-a.key kept"));
}

static void test_more_certificates_come_from_the_same_ca(void **state)
{
    (void)state;
    fresh_folder("more");
    MAKE("init", NULL);
    MAKE("worker", "gpu-7", "--days", "30");
    MAKE("client", "Ada.L_1");
    MAKE("router", "--force", "--host", "new.home");
    assert_true(holds("openssl verify -CAfile worker-ca.pem -purpose sslclient worker-gpu-7.pem"));
    assert_true(holds("openssl x509 -in worker-gpu-7.pem -noout -subject | grep -q gpu-7"));
    assert_true(holds("! openssl x509 -in worker-gpu-7.pem -noout -checkend $((31*86400))"));
    assert_true(
        holds("openssl verify -CAfile client-ca.pem -purpose sslclient client-Ada.L_1.pem"));
    assert_true(holds("openssl verify -CAfile ca.pem -verify_hostname new.home router.pem"));
    assert_true(holds("[ \"$(openssl x509 -in worker.pem -noout -serial)\" != \"$(openssl x509 -in "
                      "worker-gpu-7.pem -noout -serial)\" ]"));
}

static void test_wrong_use_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *command, *words[4], *hint;
        int code;
    } cases[] = {
        {"init", {"extra"}, "one DIR is needed", 2},
        {"init", {"--host", "a,IP:1.2.3.4"}, "'a,IP:1.2.3.4' is neither a DNS name nor an IP", 2},
        {"init", {"--host", ""}, "'' is neither", 2},
        {"init", {"--host", "-a"}, "'-a' is neither", 2},
        {"init", {"--host", "a..b"}, "'a..b' is neither", 2},
        {"init", {"--host", "a.*.b"}, "is neither", 2},
        {"init", {"--days", "3651"}, "--days is 3651; it must be 1 to 3650", 2},
        {"worker", {NULL}, "DIR and NAME are needed", 2},
        {"worker", {"../x"}, "NAME is '../x'; it must be 1 to 64 letters", 2},
        {"worker", {""}, "NAME is ''", 2},
        {"worker", {"w"}, "gaggle certs init makes the CA: cannot open wrong/worker-ca.pem", 1},
    };
    fresh_folder("wrong");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        program p;
        int code = certs(&p, cases[i].command, cases[i].words);
        if (code != cases[i].code) fail_msg("case %zu ended with %d", i, code);
        assert_says(program_err(&p), cases[i].hint);
        assert_int_not_equal(access(folder, F_OK), 0); /* nothing was made, nor the folder */
    }
}

/* -- the function below -------------------------------------------------------------------- */

enum { NOW_S = 1800000000, DAY_S = 86400 };

static certificate_pem a_ca(void)
{
    certificate_pem ca;
    error err;
    const certificate_wish wish = {CERTIFICATE_CA, "ca", NULL, 0, 100};
    if (certificate_make(&ca, &wish, NULL, NOW_S, &err) != ST_OK) fail_msg("%s", err.text);
    return ca;
}

static void test_no_certificate_outlives_its_ca(void **state)
{
    (void)state;
    certificate_pem ca = a_ca(), leaf;
    error err;
    const certificate_wish wish = {CERTIFICATE_DIALLER, "w", NULL, 0, 50};
    assert_int_equal(certificate_make(&leaf, &wish, &ca, NOW_S + 50 * DAY_S, &err), ST_OK);
    certificate_pem_free(&leaf);
    assert_int_equal(certificate_make(&leaf, &wish, &ca, NOW_S + 50 * DAY_S + 1, &err),
                     ST_OUT_OF_RANGE);
    assert_says(err.text, "a certificate of 50 days would outlive its CA");
    certificate_pem_free(&ca);
}

static void test_only_a_ca_with_its_key_signs(void **state)
{
    (void)state;
    certificate_pem ca = a_ca(), other = a_ca(), leaf, out;
    error err;
    const certificate_wish wish = {CERTIFICATE_DIALLER, "w", NULL, 0, 1};
    assert_int_equal(certificate_make(&leaf, &wish, &ca, NOW_S, &err), ST_OK);
    assert_int_equal(certificate_make(&out, &wish, &leaf, NOW_S, &err), ST_INVALID_ARGUMENT);
    assert_says(err.text, "not a CA's");

    const certificate_pem mixed = {.cert = ca.cert, .key = other.key};
    assert_int_equal(certificate_make(&out, &wish, &mixed, NOW_S, &err), ST_INVALID_ARGUMENT);
    const certificate_pem swapped = {.cert = ca.key, .key = ca.cert};
    assert_int_equal(certificate_make(&out, &wish, &swapped, NOW_S, &err), ST_INVALID_ARGUMENT);
    assert_says(err.text, "is not PEM");
    certificate_pem_free(&ca);
    certificate_pem_free(&other);
    certificate_pem_free(&leaf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_makes_what_tls_expects),
        cmocka_unit_test(test_only_the_owner_reads_keys),
        cmocka_unit_test(test_nothing_is_overwritten_without_force),
        cmocka_unit_test(test_more_certificates_come_from_the_same_ca),
        cmocka_unit_test(test_wrong_use_is_named),
        cmocka_unit_test(test_no_certificate_outlives_its_ca),
        cmocka_unit_test(test_only_a_ca_with_its_key_signs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
