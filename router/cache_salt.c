#include "router/cache_salt.h"

#include <openssl/sha.h>
#include <string.h>

#include "common/check.h"

/* `label` has one length, so that no two inputs are the same row of bytes. */
static id128 digest(const char label[8], const void *first, size_t first_size, text_view second)
{
    uint8_t row[8 + LIMIT_NAME_BYTES + LIMIT_CACHE_SALT_BYTES];
    CHECK(first_size <= LIMIT_NAME_BYTES && second.size <= LIMIT_CACHE_SALT_BYTES);
    memcpy(row, label, 8);
    memcpy(row + 8, first, first_size);
    if (second.size > 0) memcpy(row + 8 + first_size, second.data, second.size);
    uint8_t hash[SHA256_DIGEST_LENGTH];
    CHECK(SHA256(row, 8 + first_size + second.size, hash) != NULL);
    id128 out;
    _Static_assert(sizeof out.bytes <= sizeof hash, "the first half of it");
    memcpy(out.bytes, hash, sizeof out.bytes);
    return out;
}

id128 cache_salt_of_tenant(const char *name)
{
    return digest("tenant: ", name, strlen(name), (text_view){0});
}

id128 cache_salt_join(const id128 *tenant, text_view own)
{
    return own.size > 0 ? digest("client: ", tenant->bytes, sizeof tenant->bytes, own) : *tenant;
}
