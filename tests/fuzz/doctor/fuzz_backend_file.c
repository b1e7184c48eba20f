/* Any bytes as a CUDA backend's file: read or refused in words, and what was read can be asked. */
#include <stdint.h>
#include <string.h>

#include "client/doctor/backend_file.h"
#include "common/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    backend_file b;
    error err = {0};
    char text[64];
    if (backend_file_parse(&b, data, size, &err) != ST_OK) {
        CHECK(err.text[0] != '\0');
        return 0;
    }
    CHECK(b.arch_count <= BACKEND_ARCHS_MAX);
    backend_file_text(&b, text, sizeof text);
    CHECK(strlen(text) < sizeof text);
    for (size_t i = 0; i < b.arch_count; i++)
        CHECK(backend_file_covers(&b, b.archs[i].number));
    return 0;
}
