/* Any bytes as the head of an HTTP request: read, refused with a sentence, or more is wanted. What
 * was read lies in the bytes, does not depend on what follows, and was not read before it was all
 * there. */
#include <stdint.h>

#include "common/check.h"
#include "router/http_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_within(text_view text, const char *bytes, size_t size)
{
    if (text.size == 0) return;
    CHECK(text.data >= bytes && text.data + text.size <= bytes + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data, *why = NULL;
    http_request r, again;
    int code = http_request_parse(bytes, size, &r, &why);
    CHECK((code == 0 || code == 200) == (why == NULL));
    if (code == 0) CHECK(size < LIMIT_HTTP_HEAD_BYTES);
    if (code != 200) return 0;
    CHECK(r.size <= size && r.size <= LIMIT_HTTP_HEAD_BYTES);
    CHECK(r.method.size > 0 && r.path.size > 0 && r.path.data[0] == '/');
    check_within(r.method, bytes, r.size);
    check_within(r.path, bytes, r.size);
    check_within(r.query, bytes, r.size);
    check_within(r.bearer, bytes, r.size);
    CHECK(http_request_parse(bytes, r.size, &again, &why) == 200 && again.size == r.size);
    for (size_t part = 0; part < r.size; part += 1 + r.size / 16)
        CHECK(http_request_parse(bytes, part, &again, &why) == 0);
    return 0;
}
