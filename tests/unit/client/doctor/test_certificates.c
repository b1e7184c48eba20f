/* Goal: certificates that are over, of another pair, of strangers or for other names are told
 * apart. Method: certificates as `gaggle certs` makes them, at other times; the reader against
 * texts that are none. */
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
#include "client/doctor/certificate_checks.h"
#include "client/doctor/checks.h"
#include "common/check.h"
#include "fake_root.h"

enum { DAY_S = 86400 };

#define NOW_S INT64_C(1800000000)

static certificate_pem ca, stranger, router;

static int make(void **state)
{
    (void)state;
    static const char *const hosts[] = {"router.example", "192.168.7.5"};
    const certificate_wish ca_wish = {CERTIFICATE_CA, "CA", NULL, 0, 1000};
    const certificate_wish wish = {CERTIFICATE_ROUTER, "the router", hosts, 2, 100};
    error err;
    CHECK(certificate_make(&ca, &ca_wish, NULL, NOW_S, &err) == ST_OK);
    CHECK(certificate_make(&stranger, &ca_wish, NULL, NOW_S, &err) == ST_OK);
    CHECK(certificate_make(&router, &wish, &ca, NOW_S, &err) == ST_OK);
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    CHECK(scratch != NULL);
    return chdir(scratch);
}

static int unmake(void **state)
{
    (void)state;
    certificate_pem_free(&ca);
    certificate_pem_free(&stranger);
    certificate_pem_free(&router);
    return 0;
}

static void write_file(const char *name, const buffer *bytes, mode_t mode)
{
    FILE *file = fopen(name, "wb");
    CHECK(file != NULL && fwrite(bytes->data, 1, bytes->size, file) == bytes->size &&
          fclose(file) == 0 && chmod(name, mode) == 0);
}

static void test_names_and_times_are_read(void **state)
{
    (void)state;
    certificate_facts *facts;
    size_t count;
    buffer both = {0};
    buffer_append(&both, router.cert.data, router.cert.size);
    buffer_append(&both, ca.cert.data, ca.cert.size);
    assert_int_equal(certificates_read(&facts, &count, (const char *)both.data, both.size, NULL),
                     ST_OK);
    assert_int_equal(count, 2);
    assert_string_equal(facts[0].subject, "the router");
    assert_string_equal(facts[0].names, "router.example 192.168.7.5");
    assert_int_equal(facts[0].until_s, NOW_S + 100 * DAY_S);
    assert_int_equal(facts[0].from_s, NOW_S - 3600);
    assert_string_equal(facts[1].subject, "CA");
    assert_string_equal(facts[1].names, "");
    mem_free(facts);
    buffer_free(&both);
}

static void test_what_is_no_certificate_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "hello", "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
    certificate_facts *facts;
    size_t count;
    error err;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(certificates_read(&facts, &count, texts[i], strlen(texts[i]), &err),
                         ST_INVALID_ARGUMENT);
    for (size_t size = 0; size + 1 < router.cert.size; size += 7) { /* whole only with its end */
        char *cut = mem_copy(router.cert.data, size);
        assert_int_equal(certificates_read(&facts, &count, cut, size, &err), ST_INVALID_ARGUMENT);
        mem_free(cut);
    }
}

static chain_verdict judged(const certificate_pem *by, const char *host, int64_t now_s)
{
    char text[128];
    return chain_judge((const char *)router.cert.data, router.cert.size,
                       (const char *)by->cert.data, by->cert.size, host, now_s, text);
}

static void test_a_chain_is_judged(void **state)
{
    (void)state;
    assert_int_equal(judged(&ca, "router.example", NOW_S), CHAIN_GOOD);
    assert_int_equal(judged(&ca, "192.168.7.5", NOW_S), CHAIN_GOOD); /* as a DNS name, too */
    assert_int_equal(judged(&ca, "evil.example", NOW_S), CHAIN_WRONG_NAME);
    assert_int_equal(judged(&stranger, "router.example", NOW_S), CHAIN_UNKNOWN_CA);
    assert_int_equal(judged(&ca, "router.example", NOW_S + 101 * DAY_S), CHAIN_EXPIRED);
    assert_int_equal(judged(&ca, "router.example", NOW_S - DAY_S), CHAIN_NOT_YET);
    char text[128];
    assert_int_equal(chain_judge("", 0, (const char *)ca.cert.data, ca.cert.size, "x", NOW_S, text),
                     CHAIN_BROKEN);
}

static void test_dates_of_files_are_told(void **state)
{
    (void)state;
    findings f = {0};
    const link_tls tls = {.ca_file = "ca.pem", .cert_file = "router.pem", .key_file = "router.key"};
    write_file("ca.pem", &ca.cert, 0644);
    write_file("router.pem", &router.cert, 0644);
    write_file("router.key", &router.key, 0600);
    check_certificates(&f, &tls, NOW_S);
    assert_finding(&f, "tls-ca", FINDING_OK, "ca.pem: 'CA' is valid until 2029-10-11", NULL);
    assert_finding(&f, "tls-cert", FINDING_OK, "valid until 2027-04-25", NULL);
    assert_finding(&f, "key", FINDING_OK, "router.key is that of router.pem", NULL);
    check_certificates(&f, &tls, NOW_S + 90 * DAY_S);
    assert_finding(&f, "tls-cert", FINDING_WARN, "in 10 days", "make it anew");
    check_certificates(&f, &tls, NOW_S + 101 * DAY_S);
    assert_finding(&f, "tls-cert", FINDING_FAIL, "expired on 2027-04-25", "make it anew");
    check_certificates(&f, &tls, NOW_S - DAY_S);
    assert_finding(&f, "tls-cert", FINDING_FAIL, "begins to be valid", "clock");
    assert_true(findings_complete(&f));
    findings_free(&f);
}

static void test_a_key_belongs_to_its_certificate(void **state)
{
    (void)state;
    findings f = {0};
    link_tls tls = {.cert_file = "router.pem", .key_file = "other.key"};
    write_file("router.pem", &router.cert, 0644);
    write_file("other.key", &stranger.key, 0600);
    check_certificates(&f, &tls, NOW_S);
    assert_finding(&f, "key", FINDING_FAIL, "other.key is not the key of router.pem", "one pair");
    write_file("router.key", &router.key, 0644);
    tls.key_file = "router.key";
    check_certificates(&f, &tls, NOW_S);
    assert_finding(&f, "key", FINDING_WARN, "can be read by others", "chmod 600 router.key");
    tls = (link_tls){.ca_file = "router.key", .key_file = "nowhere.key"};
    check_certificates(&f, &tls, NOW_S);
    assert_finding(&f, "tls-ca", FINDING_FAIL, "no certificate", "PEM");
    assert_finding(&f, "key", FINDING_FAIL, "nowhere.key", "gaggle certs");
    findings_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_times_are_read),
        cmocka_unit_test(test_what_is_no_certificate_is_refused),
        cmocka_unit_test(test_a_chain_is_judged),
        cmocka_unit_test(test_dates_of_files_are_told),
        cmocka_unit_test(test_a_key_belongs_to_its_certificate),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
