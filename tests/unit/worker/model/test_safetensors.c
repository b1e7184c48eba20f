/* Goal: no safetensors file, however made, is read outside its bytes or costs more than it should.
 *
 * Method: files built here byte by byte, one defect each, with the sentence that names it; the
 * shared folder of malformed files, each opened in a process of its own that is killed after a
 * second and can allocate no more than 64 MiB; headers that are large on purpose. */
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/limits.h"
#include "common/mem.h"
#include "tests/sanitized.h"
#include "worker/model/safetensors.h"

/* -- building ------------------------------------------------------------------------- */

/* A whole file: length, header, `data_size` zero bytes. Freed by buffer_free(). */
static buffer build(const char *header, size_t header_size, size_t data_size)
{
    static const uint8_t zeros[64];
    buffer file = {0};
    uint64_t length = header_size;
    buffer_append(&file, &length, sizeof length);
    buffer_append(&file, header, header_size);
    for (; data_size > sizeof zeros; data_size -= sizeof zeros)
        buffer_append(&file, zeros, sizeof zeros);
    buffer_append(&file, zeros, data_size);
    return file;
}

static safetensors *assert_accepted(const char *header, size_t data_size, buffer *bytes)
{
    error err = {0};
    safetensors *file = NULL;
    *bytes = build(header, strlen(header), data_size);
    if (safetensors_parse(&file, bytes->data, bytes->size, &err) != ST_OK)
        fail_msg("%s: refused: %s", header, err.text);
    return file;
}

static void assert_refused_bytes(const uint8_t *bytes, size_t size, const char *expected)
{
    error err = {0};
    safetensors *file = NULL;
    status st = safetensors_parse(&file, bytes, size, &err);
    if (st != ST_INVALID_ARGUMENT || strstr(err.text, expected) == NULL)
        fail_msg("expected a refusal with \"%s\", found %s \"%s\"", expected, status_name(st),
                 err.text);
    assert_null(file);
}

static void assert_refused(const char *header, size_t data_size, const char *expected)
{
    buffer bytes = build(header, strlen(header), data_size);
    assert_refused_bytes(bytes.data, bytes.size, expected);
    buffer_free(&bytes);
}

/* -- what is read ----------------------------------------------------------------------- */

static void test_tensors_are_found_with_shape_type_and_place(void **state)
{
    (void)state;
    const char *header = "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                         "\"__metadata__\":{\"format\":\"pt\",\"\":\"\"},"
                         "\"a\":{\"data_offsets\":[0,4],\"shape\":[],\"dtype\":\"F32\"},"
                         "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                         "\"odd\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[16,19]}}";
    buffer bytes;
    safetensors *file = assert_accepted(header, 19, &bytes);
    const uint8_t *data = bytes.data + 8 + strlen(header);

    assert_int_equal(safetensors_count(file), 4);
    assert_string_equal(safetensors_at(file, 0)->name, "a");
    assert_string_equal(safetensors_at(file, 1)->name, "empty");
    assert_string_equal(safetensors_at(file, 2)->name, "b");
    assert_string_equal(safetensors_at(file, 3)->name, "odd");

    const tensor *a = safetensors_find(file, "a");
    assert_ptr_equal(a, safetensors_at(file, 0));
    assert_int_equal(a->type, DTYPE_F32);
    assert_int_equal(a->dim_count, 0);
    assert_ptr_equal(a->data, data);
    assert_int_equal(a->size, 4);

    const tensor *b = safetensors_find(file, "b");
    assert_int_equal(b->type, DTYPE_BF16);
    assert_int_equal(b->dim_count, 2);
    assert_int_equal(b->dims[0], 2);
    assert_int_equal(b->dims[1], 3);
    assert_ptr_equal(b->data, data + 4);
    assert_int_equal(b->size, 12);

    assert_int_equal(safetensors_find(file, "empty")->size, 0);
    assert_int_equal(safetensors_find(file, "odd")->type, DTYPE_OTHER);
    assert_string_equal(safetensors_find(file, "odd")->type_name, "F8_E4M3");
    assert_null(safetensors_find(file, "c"));
    assert_null(safetensors_find(file, ""));

    size_t size;
    size_t data_begin;
    assert_ptr_equal(safetensors_bytes(file, &size, &data_begin), bytes.data);
    assert_int_equal(size, bytes.size);
    assert_int_equal(data_begin, 8 + strlen(header));
    safetensors_close(file);
    buffer_free(&bytes);
}

static void test_names_are_decoded_from_json(void **state)
{
    (void)state;
    buffer bytes;
    safetensors *file = assert_accepted(
        "{\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\":"
        "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
        "\"\\ud83e\\udDA2\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
        "\"\xe2\x82\xac\xf0\x9f\xa6\xa2\":"
        "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
        3, &bytes);
    assert_non_null(safetensors_find(file, "\xc3\xa9\"\\/\b\f\n\r\t"));
    assert_non_null(safetensors_find(file, "\xf0\x9f\xa6\xa2"));
    assert_non_null(safetensors_find(file, "\xe2\x82\xac\xf0\x9f\xa6\xa2"));
    safetensors_close(file);
    buffer_free(&bytes);
}

static void test_white_space_is_allowed_where_json_allows_it(void **state)
{
    (void)state;
    buffer bytes;
    safetensors *file = assert_accepted("\t\n { \"a\" : {\r\"dtype\" : \"I8\" , \"shape\" : [ 1 , "
                                        "2 ] ,\n\"data_offsets\" : [ 0 , 2 ] "
                                        "} }   ",
                                        2, &bytes);
    assert_non_null(safetensors_find(file, "a"));
    safetensors_close(file);
    buffer_free(&bytes);

    file = assert_accepted("{}", 0, &bytes);
    assert_int_equal(safetensors_count(file), 0);
    assert_null(safetensors_find(file, "a"));
    safetensors_close(file);
    buffer_free(&bytes);
}

/* -- what is refused ---------------------------------------------------------------------- */

static void test_a_wrong_length_field_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[16] = {0};
    assert_refused_bytes(bytes, 0, "0 bytes");
    assert_refused_bytes(bytes, 7, "7 bytes");
    assert_refused_bytes(bytes, 8, "expected '{'");
    bytes[0] = 9;
    assert_refused_bytes(bytes, 16, "header length 9");
    memset(bytes, 0xff, 8);
    assert_refused_bytes(bytes, 16, "the limit is 100000000");
    uint64_t beyond = LIMIT_SAFETENSORS_HEADER_BYTES + 1;
    memcpy(bytes, &beyond, sizeof beyond);
    assert_refused_bytes(bytes, 16, "header length 100000001; the limit is 100000000");
}

#define TENSOR(name, dtype, shape, offsets)                                                        \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_a_wrong_header_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_size;
        const char *expected;
    } cases[] = {
        {"[]", 0, "byte 0: expected '{'"},
        {"{", 0, "expected '\"'"},
        {"{,}", 0, "expected '\"'"},
        {"{}x", 0, "expected the end of the header"},
        {"{\"a\"}", 0, "expected ':'"},
        {"{\"a\":1}", 0, "expected '{'"},
        {"{\"a\":{}}", 0, "expected '\"'"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") ",}", 4, "expected '\"'"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]"), 4, "expected ',' or '}'"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "}{}", 4, "expected the end"},
        /* fields */
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor a has no data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor a has no shape"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor a has no dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4, "each once; found \"dtype\""},
        {"{\"a\":{\"strides\":[1]}}", 4, "found \"strides\""},
        {"{\"a\":{\"dtype\":4}}", 4, "expected '\"'"},
        {"{" TENSOR("a", "Q4_0", "[1]", "[0,4]") "}", 4, "dtype \"Q4_0\""},
        {"{" TENSOR("a", "f32", "[1]", "[0,4]") "}", 4, "dtype \"f32\""},
        /* numbers */
        {"{" TENSOR("a", "F32", "[-1]", "[0,4]") "}", 4, "expected an integer"},
        {"{" TENSOR("a", "F32", "[1.0]", "[0,4]") "}", 4, "expected ',' or ']'"},
        {"{" TENSOR("a", "F32", "[1e0]", "[0,4]") "}", 4, "expected ',' or ']'"},
        {"{" TENSOR("a", "F32", "[01]", "[0,4]") "}", 4, "expected an integer"},
        {"{" TENSOR("a", "F32", "[1,]", "[0,4]") "}", 4, "expected an integer"},
        {"{" TENSOR("a", "F32", "[\"1\"]", "[0,4]") "}", 4, "expected an integer"},
        {"{" TENSOR("a", "F32", "[18446744073709551616]", "[0,4]") "}", 4, "beyond 64 bits"},
        {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "more than 8 dimensions"},
        {"{" TENSOR("a", "F32", "[1]", "[0]") "}", 4, "expected ','"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4,8]") "}", 4, "expected ']'"},
        {"{" TENSOR("a", "F32", "[1]", "[]") "}", 4, "expected an integer"},
        /* sizes and places */
        {"{" TENSOR("a", "F32", "[1]", "[4,0]") "}", 4, "data_offsets [4, 0] are no range"},
        {"{" TENSOR("a", "F32", "[1]", "[0,5]") "}", 4, "are no range within the 4 bytes"},
        {"{" TENSOR("a", "F32", "[2]", "[0,4]") "}", 4, "need 8 bytes, data_offsets give 4"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "}", 5, "have 4 bytes of data, the file has 5"},
        {"{}", 1, "have 0 bytes of data, the file has 1"},
        {"{" TENSOR("a", "U8", "[1]", "[1,2]") "}", 2, "found 1: a hole"},
        {"{" TENSOR("a", "U8", "[2]", "[0,2]") "," TENSOR("b", "U8", "[2]", "[1,3]") "}", 3,
         "tensor b: expected its data at 2 (behind the tensor before it), found 1: an overlap"},
        {"{" TENSOR("a", "U8", "[1]", "[0,1]") "," TENSOR("b", "U8", "[1]", "[2,3]") "}", 3,
         "tensor b: expected its data at 1 (behind the tensor before it), found 2: a hole"},
        {"{" TENSOR("a", "U8", "[1]", "[0,1]") "," TENSOR("b", "U8", "[1]", "[0,1]") "}", 1,
         "an overlap"},
        {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "product overflows"},
        {"{" TENSOR("a", "F64", "[288230376151711744]", "[0,0]") "}", 0, "product overflows"},
        {"{" TENSOR("a", "F4", "[3]", "[0,1]") "}", 1, "12 bits of F4 are not whole bytes"},
        /* names and text */
        {"{" TENSOR("a", "U8", "[1]", "[0,1]") "," TENSOR("a", "U8", "[1]", "[1,2]") "}", 2,
         "tensor a stands twice"},
        {"{" TENSOR("a", "U8", "[1]", "[0,1]") "," TENSOR("\\u0061", "U8", "[1]", "[1,2]") "}", 2,
         "tensor a stands twice"},
        {"{" TENSOR("\\ud83e", "U8", "[1]", "[0,1]") "}", 1, "a lone surrogate"},
        {"{" TENSOR("\\udda2", "U8", "[1]", "[0,1]") "}", 1, "a lone surrogate"},
        {"{" TENSOR("\\ud83e\\u0061", "U8", "[1]", "[0,1]") "}", 1, "a lone surrogate"},
        {"{" TENSOR("\\ud83e\\n", "U8", "[1]", "[0,1]") "}", 1, "a lone surrogate"},
        {"{" TENSOR("\\u12g4", "U8", "[1]", "[0,1]") "}", 1, "hexadecimal"},
        {"{" TENSOR("\\x41", "U8", "[1]", "[0,1]") "}", 1, "an escape"},
        {"{" TENSOR("a\\u0000b", "U8", "[1]", "[0,1]") "}", 1, "a NUL in a name"},
        {"{" TENSOR("a\x01", "U8", "[1]", "[0,1]") "}", 1, "a control character"},
        {"{" TENSOR("\xff", "U8", "[1]", "[0,1]") "}", 1, "invalid UTF-8"},
        {"{" TENSOR("\xc0\x80", "U8", "[1]", "[0,1]") "}", 1, "invalid UTF-8"},
        {"{" TENSOR("\xed\xa0\x80", "U8", "[1]", "[0,1]") "}", 1, "invalid UTF-8"},
        {"{" TENSOR("\xf4\x90\x80\x80", "U8", "[1]", "[0,1]") "}", 1, "invalid UTF-8"},
        {"{\"\xe2\x82", 0, "invalid UTF-8"},
        {"{\"a", 0, "does not end"},
        {"{\"a\\", 0, "an escape"},
        {"{\"a\\u12", 0, "hexadecimal"},
        /* metadata */
        {"{\"__metadata__\":1}", 0, "expected '{'"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "expected '\"'"},
        {"{\"__metadata__\":{\"a\":\"b\"},\"__metadata__\":{}}", 0, "__metadata__ stands twice"},
        {"{\"__metadata__\":{\"a\":\"b\",\"c\":\"\",\"a\":\"b\"}}", 0, "\"a\" stands twice"},
        {"{\"__metadata__\":{\"a\":\"\xff\"}}", 0, "invalid UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(cases[i].header, cases[i].data_size, cases[i].expected);
}

static void test_a_long_name_is_refused(void **state)
{
    (void)state;
    char header[LIMIT_TENSOR_NAME_BYTES + 128];
    snprintf(header, sizeof header, "{\"%0*d\":", (int)LIMIT_TENSOR_NAME_BYTES + 1, 0);
    assert_refused(header, 0, "a name of 1025 bytes; the limit is 1024");
}

static void test_every_cut_of_a_good_header_is_refused(void **state)
{
    (void)state;
    const char *header = "{\"__metadata__\":{\"k\":\"\\u00e9\"}," TENSOR("\\ud83e\\udda2 x", "F32",
                                                                         "[2, 1]", "[0, 8]") "}";
    for (size_t size = 0; size < strlen(header); size++) {
        buffer bytes = build(header, size, 8);
        assert_refused_bytes(bytes.data, bytes.size, "header byte");
        buffer_free(&bytes);
    }
}

/* -- cost -------------------------------------------------------------------------------- */

/* Run `body` in a child that may map `memory_max` more bytes than it has now (not under a
 * sanitizer, whose own memory no such limit allows for) and dies after `seconds`. Returns its
 * exit status, or -1 when it was killed. */
static int run_limited(int (*body)(const void *), const void *arg, size_t memory_max,
                       unsigned seconds)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!SANITIZED) {
            unsigned long pages = 0;
            FILE *statm = fopen("/proc/self/statm", "r");
            if (statm == NULL || fscanf(statm, "%lu", &pages) != 1) _exit(99);
            fclose(statm);
            rlim_t most = pages * (rlim_t)sysconf(_SC_PAGESIZE) + memory_max;
            if (setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) != 0) _exit(99);
        }
        alarm(seconds);
        _exit(body(arg));
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

static int open_path(const void *path)
{
    error err = {0};
    safetensors *file = NULL;
    status st = safetensors_open(&file, path, &err);
    safetensors_close(file);
    if (st != ST_OK && err.text[0] == '\0') return 98;
    return (int)st;
}

static int parse_buffer(const void *bytes)
{
    const buffer *b = bytes;
    safetensors *file = NULL;
    status st = safetensors_parse(&file, b->data, b->size, NULL);
    safetensors_close(file);
    return (int)st;
}

static void test_shared_malformed_files_are_judged_within_a_second_and_64_mib(void **state)
{
    (void)state;
    const char *shared = getenv("GAGGLE_SHARED_DATA");
    char path[PATH_MAX];
    json_t *manifest = NULL;
    snprintf(path, sizeof path, "%s/malformed/manifest.json", shared != NULL ? shared : "");
    if (json_load_path(&manifest, path, LIMIT_CONFIG_FILE_BYTES, NULL) != ST_OK) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    json_t *cases = json_object_get(manifest, "safetensors");
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *entry = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(entry, "file"));
        const char *expect = json_string_value(json_object_get(entry, "expect"));
        snprintf(path, sizeof path, "%s/malformed/safetensors/%s", shared, name);
        int result = run_limited(open_path, path, 64 * LIMIT_MIB, 1);
        if (strcmp(expect, "accept") == 0 && result != ST_OK)
            fail_msg("%s: expected to be accepted, found %d", name, result);
        if (strcmp(expect, "reject") == 0 && result != ST_INVALID_ARGUMENT)
            fail_msg("%s: expected to be refused, found %d", name, result);
    }
    json_decref(manifest);
}

/* A list of `count` entries, each made by `format` from its number. */
static buffer build_list(const char *open, const char *format, uint32_t count, const char *close)
{
    buffer header = {0};
    char entry[256];
    buffer_append(&header, open, strlen(open));
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) buffer_append(&header, ",", 1);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        int size = snprintf(entry, sizeof entry, format, i);
#pragma GCC diagnostic pop
        buffer_append(&header, entry, (size_t)size);
    }
    buffer_append(&header, close, strlen(close));
    buffer file = build((const char *)header.data, header.size, 0);
    buffer_free(&header);
    return file;
}

static void test_a_header_of_many_entries_costs_a_few_times_itself(void **state)
{
    (void)state;
    const char *entry = "\"t%u\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
    buffer most = build_list("{", entry, LIMIT_SAFETENSORS_TENSORS, "}");
    assert_int_equal(run_limited(parse_buffer, &most, 48 * LIMIT_MIB, 5), ST_OK);
    buffer_free(&most);

    buffer over = build_list("{", entry, LIMIT_SAFETENSORS_TENSORS + 1, "}");
    assert_int_equal(run_limited(parse_buffer, &over, 48 * LIMIT_MIB, 5), ST_INVALID_ARGUMENT);
    assert_refused_bytes(over.data, over.size, "over 100000 tensors");
    buffer_free(&over);

    buffer metadata = build_list("{\"__metadata__\":{", "\"%u\":\"\"", 2000000, "}}");
    assert_int_equal(run_limited(parse_buffer, &metadata, 64 * LIMIT_MIB, 5), ST_INVALID_ARGUMENT);
    assert_refused_bytes(metadata.data, metadata.size, "over 100000 entries in __metadata__");
    buffer_free(&metadata);
}

/* Nesting is where a recursive parser would run out of stack. */
static void test_deep_nesting_is_refused_at_once(void **state)
{
    (void)state;
    const size_t depth = 10 * 1000 * 1000;
    char *header = mem_alloc(depth);
    memset(header, '[', depth);
    memcpy(header, "{\"a\":", 5);
    buffer file = build(header, depth, 0);
    assert_int_equal(run_limited(parse_buffer, &file, 64 * LIMIT_MIB, 5), ST_INVALID_ARGUMENT);
    buffer_free(&file);
    mem_free(header);
}

/* -- files ------------------------------------------------------------------------------- */

static void test_paths_that_are_no_such_file_are_told_apart(void **state)
{
    (void)state;
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    char path[PATH_MAX];
    error err = {0};
    safetensors *file = NULL;
    if (scratch == NULL) scratch = "/tmp";

    snprintf(path, sizeof path, "%s/absent.safetensors", scratch);
    assert_int_equal(safetensors_open(&file, path, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "absent.safetensors"));
    assert_int_equal(safetensors_open(&file, scratch, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "not a regular file"));

    snprintf(path, sizeof path, "%s/empty.safetensors", scratch);
    FILE *empty = fopen(path, "wb");
    assert_non_null(empty);
    fclose(empty);
    assert_int_equal(safetensors_open(&file, path, &err), ST_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "empty.safetensors: not a safetensors file: 0 bytes"));
    assert_null(file);
    safetensors_close(NULL);
}

static void test_reading_gives_what_is_mapped_and_notices_a_file_cut_short(void **state)
{
    (void)state;
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],"
                                 "\"data_offsets\":[0,16]}}";
    const char *scratch = getenv("GAGGLE_TEST_TMP");
    char path[PATH_MAX];
    error err = {0};
    safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/read.safetensors", scratch == NULL ? "/tmp" : scratch);
    buffer bytes = build(header, strlen(header), 16);
    for (size_t i = 0; i < 16; i++)
        bytes.data[bytes.size - 16 + i] = (uint8_t)(100 + i);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size, out), bytes.size);
    fclose(out);

    assert_int_equal(safetensors_open(&file, path, &err), ST_OK);
    const uint8_t *data = safetensors_find(file, "a")->data;
    uint8_t found[16];
    assert_true(safetensors_holds(file, data) && safetensors_holds(file, data + 15));
    assert_false(safetensors_holds(file, data + 16));
    assert_false(safetensors_holds(file, bytes.data));
    assert_int_equal(safetensors_read(file, data, 16, found, &err), ST_OK);
    assert_memory_equal(found, data, 16);
    assert_int_equal(safetensors_read(file, data + 5, 3, found, &err), ST_OK);
    assert_memory_equal(found, data + 5, 3);

    assert_int_equal(truncate(path, (off_t)bytes.size - 1), 0);
    assert_int_equal(safetensors_read(file, data, 16, found, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.text, "cut short"));
    safetensors_close(file);
    buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_are_found_with_shape_type_and_place),
        cmocka_unit_test(test_names_are_decoded_from_json),
        cmocka_unit_test(test_white_space_is_allowed_where_json_allows_it),
        cmocka_unit_test(test_a_wrong_length_field_is_refused),
        cmocka_unit_test(test_a_wrong_header_is_refused_by_name),
        cmocka_unit_test(test_a_long_name_is_refused),
        cmocka_unit_test(test_every_cut_of_a_good_header_is_refused),
        cmocka_unit_test(test_shared_malformed_files_are_judged_within_a_second_and_64_mib),
        cmocka_unit_test(test_a_header_of_many_entries_costs_a_few_times_itself),
        cmocka_unit_test(test_deep_nesting_is_refused_at_once),
        cmocka_unit_test(test_paths_that_are_no_such_file_are_told_apart),
        cmocka_unit_test(test_reading_gives_what_is_mapped_and_notices_a_file_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
