/* Goal: for which GPUs a CUDA backend has code is read right from its file, and no file leads the
 * reader astray.
 * Method: images with the sections that nvcc writes, cut at every length and with every byte
 * changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "backend_image.h"

static const backend_arch usual[] = {{.number = 75},
                                     {.number = 80},
                                     {.number = 86},
                                     {.number = 89},
                                     {.number = 90, .only_this = true},
                                     {.number = 90, .ptx = true}};
static const char libraries[] = "\0libc.so.6\0libcublasLt.so.13\0libstdc++.so.6";

static void usual_image(buffer *out)
{
    backend_image(out, usual, sizeof usual / sizeof *usual, libraries, sizeof libraries);
}

static void test_architectures_and_cuda_are_read(void **state)
{
    (void)state;
    buffer image;
    backend_file b;
    char text[128];
    usual_image(&image);
    assert_int_equal(backend_file_parse(&b, image.data, image.size, NULL), ST_OK);
    buffer_free(&image);
    assert_int_equal(b.cuda_major, 13);
    backend_file_text(&b, text, sizeof text);
    assert_string_equal(text, "sm_75 sm_80 sm_86 sm_89 sm_90a PTX-90");
    char narrow[12];
    backend_file_text(&b, narrow, sizeof narrow);
    assert_string_equal(narrow, "sm_75 sm_80");
}

static void test_code_runs_on_its_generation_and_ptx_on_all_later(void **state)
{
    (void)state;
    static const struct {
        backend_arch code;
        uint32_t runs[4], not [4];
    } cases[] = {
        {{.number = 75}, {75}, {70, 80, 90}},
        {{.number = 80}, {80, 86, 89}, {75, 90, 120}},
        {{.number = 86}, {86, 89}, {80, 90}},
        {{.number = 90, .only_this = true}, {90}, {89, 91, 100}},
        {{.number = 75, .ptx = true}, {75, 86, 90, 120}, {70}},
        {{.number = 90, .ptx = true, .only_this = true}, {90}, {100, 75}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const backend_file b = {.archs = {cases[i].code}, .arch_count = 1};
        for (size_t k = 0; k < 4; k++) {
            if (cases[i].runs[k] != 0) assert_true(backend_file_covers(&b, cases[i].runs[k]));
            if (cases[i].not [k] != 0) assert_false(backend_file_covers(&b, cases[i].not [k]));
        }
    }
    assert_false(backend_file_covers(&(backend_file){0}, 75));
}

static void test_a_library_without_gpu_code_has_none(void **state)
{
    (void)state;
    buffer image;
    backend_file b;
    backend_image(&image, NULL, 0, libraries, 11);
    assert_int_equal(backend_file_parse(&b, image.data, image.size, NULL), ST_OK);
    assert_int_equal(b.arch_count, 0);
    assert_int_equal(b.cuda_major, 0);
    buffer_free(&image);
}

static void test_no_cut_is_taken_for_the_whole(void **state)
{
    (void)state;
    buffer image;
    backend_file b;
    error err;
    usual_image(&image);
    for (size_t size = 0; size < image.size; size++) {
        /* A copy of just that size, so that a sanitizer sees a step too far. */
        uint8_t *cut = mem_copy(image.data, size);
        assert_int_equal(backend_file_parse(&b, cut, size, &err), ST_INVALID_ARGUMENT);
        assert_true(err.text[0] != '\0');
        mem_free(cut);
    }
    buffer_free(&image);
}

static void test_any_byte_may_be_wrong(void **state)
{
    (void)state;
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    buffer image;
    backend_file b;
    usual_image(&image);
    for (size_t i = 0; i < image.size; i++)
        for (size_t v = 0; v < sizeof values; v++) {
            uint8_t *wrong = mem_copy(image.data, image.size);
            wrong[i] = values[v];
            if (backend_file_parse(&b, wrong, image.size, NULL) == ST_OK)
                assert_true(b.arch_count <= BACKEND_ARCHS_MAX);
            mem_free(wrong);
        }
    buffer_free(&image);
}

static void test_many_architectures_are_cut_at_the_limit(void **state)
{
    (void)state;
    backend_arch many[BACKEND_ARCHS_MAX + 8];
    buffer image;
    backend_file b;
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        many[i] = (backend_arch){.number = (uint16_t)(75 + i)};
    backend_image(&image, many, sizeof many / sizeof *many, libraries, sizeof libraries);
    assert_int_equal(backend_file_parse(&b, image.data, image.size, NULL), ST_OK);
    assert_int_equal(b.arch_count, BACKEND_ARCHS_MAX);
    buffer_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures_and_cuda_are_read),
        cmocka_unit_test(test_code_runs_on_its_generation_and_ptx_on_all_later),
        cmocka_unit_test(test_a_library_without_gpu_code_has_none),
        cmocka_unit_test(test_no_cut_is_taken_for_the_whole),
        cmocka_unit_test(test_any_byte_may_be_wrong),
        cmocka_unit_test(test_many_architectures_are_cut_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
