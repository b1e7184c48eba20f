/* Any bytes as the head of a hub's answer, line by line, and as what somebody names as a model:
 * what is kept of them can be shown on a terminal and put into a path. */
#include <stdint.h>
#include <string.h>

#include "client/pull/http_head.h"
#include "common/check.h"
#include "common/hub_cache.h"
#include "common/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_printable(const char *text, size_t room)
{
    CHECK(memchr(text, '\0', room) != NULL);
    for (; *text != '\0'; text++)
        CHECK(*text >= ' ' && *text <= '~');
}

static void check_head(const char *bytes, size_t size)
{
    http_head head = {0};
    for (size_t at = 0; at < size;) {
        const char *end = memchr(bytes + at, '\n', size - at);
        size_t line = end != NULL ? (size_t)(end - bytes) + 1 - at : size - at;
        http_head_line(&head, bytes + at, line);
        at += line;
    }
    CHECK(head.code >= 0 && head.code < 1000);
    check_printable(head.etag, sizeof head.etag);
    check_printable(head.linked_etag, sizeof head.linked_etag);
    check_printable(head.error_code, sizeof head.error_code);
    check_printable(head.error_text, sizeof head.error_text);
}

static void check_name(const char *bytes, size_t size)
{
    char *text = mem_strndup(bytes, size);
    model_ref ref;
    if (model_ref_parse(&ref, text, NULL) == ST_OK) {
        check_printable(ref.name, sizeof ref.name);
        check_printable(ref.revision, sizeof ref.revision);
        CHECK(is_inner_path(ref.name, strlen(ref.name)));
        CHECK(is_inner_path(ref.revision, strlen(ref.revision)));
        char *folder = hub_cache_model("", ref.name), name[LIMIT_HUB_NAME_BYTES + 1];
        CHECK(strchr(folder + 1, '/') == NULL);
        CHECK(hub_cache_name(folder + 1, name) && strcmp(name, ref.name) == 0);
        mem_free(folder);
    }
    mem_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_head((const char *)data, size);
    check_name((const char *)data, size);
    return 0;
}
