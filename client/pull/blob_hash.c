#include "client/pull/blob_hash.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/mem.h"

enum { READ_BYTES = 1 << 20 };

static status hash_file(EVP_MD_CTX *context, int fd, uint64_t size, const atomic_bool *stop,
                        error *err)
{
    char *bytes = mem_alloc(READ_BYTES);
    status st = ST_OK;
    for (uint64_t at = 0; st == ST_OK && at < size;) {
        size_t want = size - at < READ_BYTES ? (size_t)(size - at) : READ_BYTES;
        ssize_t got = pread(fd, bytes, want, (off_t)at);
        if (atomic_load(stop))
            st = error_set(err, ST_CANCELLED, "stopped");
        else if (got == 0)
            st = error_set(err, ST_UNAVAILABLE, "the file ends after %" PRIu64 " bytes", at);
        else if (got < 0 && errno != EINTR)
            st = error_set(err, ST_UNAVAILABLE, "cannot read it again: %s", strerror(errno));
        else if (got > 0)
            CHECK(EVP_DigestUpdate(context, bytes, (size_t)got) == 1);
        if (got > 0) at += (uint64_t)got;
    }
    mem_free(bytes);
    return st;
}

status blob_hash(char out[65], int fd, uint64_t size, bool is_lfs, const atomic_bool *stop,
                 error *err)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(context != NULL &&
          EVP_DigestInit_ex(context, is_lfs ? EVP_sha256() : EVP_sha1(), NULL) == 1);
    if (!is_lfs) {
        char head[32];
        int head_size = snprintf(head, sizeof head, "blob %" PRIu64, size) + 1; /* its NUL, too */
        CHECK(EVP_DigestUpdate(context, head, (size_t)head_size) == 1);
    }
    status st = hash_file(context, fd, size, stop, err);
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned hash_size = 0;
    CHECK(EVP_DigestFinal_ex(context, hash, &hash_size) == 1 && hash_size <= 32);
    for (unsigned i = 0; i < hash_size; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
    EVP_MD_CTX_free(context);
    return st;
}
