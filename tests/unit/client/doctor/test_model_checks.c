/* Goal: gaggle doctor says whether models can be pulled and read here, and whether memory is
 * enough. Method: the bundled model, whole and with a file missing, on machines with much and
 * little memory; caches that are there, not there yet, and on a disk that takes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/doctor/checks.h"
#include "common/check.h"
#include "fake_root.h"

static const char *path_below(const char *variable, const char *path)
{
    static char text[1024];
    const char *folder = getenv(variable);
    CHECK(folder != NULL);
    snprintf(text, sizeof text, "%s/%s", folder, path);
    return text;
}

static void test_a_model_is_held_against_memory(void **state)
{
    (void)state;
    const char *model = path_below("GAGGLE_SOURCE_DIR", "models/gosling"), *root = fake_root();
    findings f = {0};
    fake_file("/proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\n");
    check_model(&f, root, model);
    assert_finding(&f, "model", FINDING_OK, "of weights, readable", NULL);
    fake_file("/proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 1024 kB\n");
    check_model(&f, root, model);
    assert_finding(&f, "model", FINDING_WARN, "1.00 MiB of memory are available", "gaggle show");
    findings_free(&f);
}

static void test_a_model_that_is_not_whole_is_told(void **state)
{
    (void)state;
    const char *root = fake_root();
    char dir[1024];
    findings f = {0};
    fake_file("/model/config.json", "{}");
    fake_file("/model/tokenizer.json", "{}");
    snprintf(dir, sizeof dir, "%s/model", root);
    check_model(&f, root, dir);
    assert_finding(&f, "model", FINDING_FAIL, "model.safetensors", "Hugging Face folder");
    setenv("HF_HOME", dir, 1);
    check_model(&f, root, "nobody/nothing");
    assert_finding(&f, "model", FINDING_FAIL, "nobody/nothing", "gaggle pull nobody/nothing");
    unsetenv("HF_HOME");
    findings_free(&f);
}

static void test_a_cache_is_where_it_will_be(void **state)
{
    (void)state;
    findings f = {0};
    char cache[1024];
    snprintf(cache, sizeof cache, "%s/not/there/yet", fake_root());
    setenv("HF_HOME", cache, 1);
    check_cache(&f);
    const finding *x = finding_of(&f, "cache");
    assert_non_null(strstr(x->text, "/not/there/yet/hub, "));
    assert_true((x->level == FINDING_OK) == (x->advice[0] == '\0')); /* by the disk's size */
    setenv("HF_HOME", "not/there/yet", 1);
    check_cache(&f);
    assert_non_null(strstr(finding_of(&f, "cache")->text, "not/there/yet/hub, "));
    setenv("HF_HOME", "/proc/nothing", 1); /* root may write there, but it has no room */
    check_cache(&f);
    x = finding_of(&f, "cache");
    assert_int_equal(x->level, FINDING_WARN);
    assert_non_null(strstr(x->advice, "HF_HOME=DIR"));
    unsetenv("HF_HOME");
    assert_true(findings_complete(&f));
    findings_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_is_held_against_memory),
        cmocka_unit_test(test_a_model_that_is_not_whole_is_told),
        cmocka_unit_test(test_a_cache_is_where_it_will_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
