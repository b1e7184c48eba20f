/* Any bytes as a line of requests: parsed or refused with a sentence, never worse. */
#include <stdint.h>
#include <string.h>

#include "common/check.h"
#include "worker/prompt_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    arena a = {0};
    msg_submit submit;
    error err = {0};
    status st = prompt_line_parse(&submit, (const char *)data, size, &a, &err);
    if (st == ST_OK)
        CHECK(submit.has_text + (submit.message_count > 0) + (submit.ids != NULL) == 1);
    else
        CHECK(err.code == st && strlen(err.text) > 0);
    arena_free(&a);
    return 0;
}
