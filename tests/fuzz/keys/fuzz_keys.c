/* Any bytes as a keys file: parsed or refused with a sentence. What was parsed can be written again
 * and means the same; revoking a key of it changes that key alone. */
#include <stdint.h>
#include <string.h>

#include "common/check.h"
#include "router/keys_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const keys_file *a, const keys_file *b, const char *revoked_id)
{
    CHECK(a->ids.count == b->ids.count && a->tenant_names.count == b->tenant_names.count);
    for (uint32_t i = 0; i < a->ids.count; i++) {
        const key_entry *x = &a->keys[i], *y = keys_file_find(b, text_of(x->id));
        CHECK(y != NULL && x->role == y->role && x->expires_s == y->expires_s);
        CHECK(y->revoked == (x->revoked || (revoked_id != NULL && strcmp(revoked_id, x->id) == 0)));
        CHECK(strcmp(x->name, y->name) == 0 && (x->worker == NULL) == (y->worker == NULL));
        CHECK(x->worker == NULL || strcmp(x->worker, y->worker) == 0);
        CHECK(memcmp(x->sha256, y->sha256, sizeof x->sha256) == 0);
        if (x->role != KEY_WORKER)
            CHECK(strcmp(a->tenants[x->tenant].name, b->tenants[y->tenant].name) == 0);
    }
    for (uint32_t i = 0; i < a->tenant_names.count; i++) {
        uint32_t other = name_table_find(&b->tenant_names, text_of(a->tenants[i].name));
        CHECK(other != NAME_NONE);
        const tenant_limits *x = &a->tenants[i].limits, *y = &b->tenants[other].limits;
        CHECK(x->weight == y->weight && x->requests_per_minute == y->requests_per_minute);
        CHECK(x->tokens_per_minute == y->tokens_per_minute && x->concurrent == y->concurrent);
        CHECK(x->queued == y->queued && x->class_max == y->class_max);
    }
}

static void check_text(const keys_file *f, const buffer *text, const char *revoked_id)
{
    keys_file again;
    error err;
    CHECK(keys_file_parse(&again, "again", (const char *)text->data, text->size, &err) == ST_OK);
    check_same(f, &again, revoked_id);
    keys_file_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    keys_file f;
    error err = {0};
    const text_view bytes = {(const char *)data, size};
    CHECK(token_id(bytes).size <= LIMIT_KEY_NAME_BYTES);
    if (keys_file_parse(&f, "keys", bytes.data, size, &err) != ST_OK) {
        CHECK(err.code != ST_OK && strlen(err.text) > 0);
        return 0;
    }
    buffer text = {0};
    for (uint32_t i = 0; i < f.tenant_names.count; i++)
        keys_file_write_tenant(&text, &f.tenants[i]);
    for (uint32_t i = 0; i < f.ids.count; i++)
        keys_file_write_key(&text, &f.keys[i],
                            f.keys[i].role != KEY_WORKER ? f.tenants[f.keys[i].tenant].name : "");
    check_text(&f, &text, NULL);
    if (f.ids.count > 0) {
        const key_entry *last = &f.keys[f.ids.count - 1];
        buffer_clear(&text);
        keys_file_write_revoked(&text, bytes.data, size, last);
        check_text(&f, &text, last->id);
    }
    buffer_free(&text);
    keys_file_free(&f);
    return 0;
}
