/* Any bytes as the INI file of a program with a row of every type: read or refused with a sentence,
 * and what was read keeps to its row. */
#include <stdint.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"
#include "common/options_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const choices[] = {"text", "json", NULL};
    enum { ROWS = 8 };
    bool flag = false;
    uint32_t port = 1, wait_ms = 1000;
    uint64_t memory = 5;
    double rate = 0.5;
    const char *format = "text", *name = NULL;
    option_list urls = {0};
    const option_row rows[ROWS] = {
        {"verbose", 0, OPTION_FLAG, &flag},
        {"port", 0, OPTION_U32, &port, .min = 1, .max = 65535},
        {"wait-ms", 0, OPTION_MS, &wait_ms, .min = 50, .max = 3600000},
        {"memory", 0, OPTION_U64, &memory},
        {"rate", 0, OPTION_F64, &rate, .min = -2, .max = 2},
        {"log-format", 0, OPTION_TEXT, &format, .choices = choices},
        {"name", 0, OPTION_TEXT, &name, .shared = true},
        {"listen", 0, OPTION_LIST, &urls, .shared = true},
    };
    const option_table table = {.usage = "fuzz",
                                .about = "",
                                .rows = rows,
                                .row_count = ROWS,
                                .section = "gaggle fuzz",
                                .shared_section = "gaggle"};
    const bool seen[ROWS] = {[1] = size % 2 == 1};
    error err = {0};
    char *text = mem_alloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    status st = option_read_text(&table, "fuzz.ini", text, size, seen, &err);
    mem_free(text);
    if (st != ST_OK) CHECK(err.code == st && strlen(err.text) > 0);
    CHECK(port >= 1 && port <= 65535 && (!seen[1] || port == 1));
    CHECK(wait_ms >= 50 && wait_ms <= 3600000);
    CHECK(rate >= -2 && rate <= 2);
    CHECK(strcmp(format, "text") == 0 || strcmp(format, "json") == 0);
    CHECK(name == NULL || strlen(name) > 0);
    CHECK(urls.count <= OPTION_LIST_MAX);
    for (size_t i = 0; i < urls.count; i++)
        CHECK(strlen(urls.items[i]) > 0);
    option_forget_kept();
    return 0;
}
