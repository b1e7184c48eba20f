/* Goal: whatever bytes stand for a safetensors file, an accepted one keeps what safetensors.h
 * promises: tensors lie in the file, follow each other without hole or overlap, and are found by
 * their names. Input: the whole file. */
#include <string.h>

#include "common/check.h"
#include "worker/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    error err = {0};
    safetensors *file = NULL;
    status st = safetensors_parse(&file, data, size, &err);
    if (st != ST_OK) {
        CHECK(file == NULL && err.code == st && err.text[0] != '\0');
        return 0;
    }
    size_t file_size;
    size_t data_begin;
    const uint8_t *at = safetensors_bytes(file, &file_size, &data_begin) + data_begin;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const tensor *t = safetensors_at(file, i);
        CHECK((const uint8_t *)t->data == at && t->size <= (size_t)(data + size - at));
        CHECK(safetensors_find(file, t->name) == t);
        CHECK(t->dim_count <= TENSOR_DIMS_MAX && strlen(t->type_name) > 0);
        at += t->size;
    }
    CHECK(at == data + size);
    safetensors_close(file);
    return 0;
}
