/* Any bytes into envelope_decode(): no crash, and what is accepted obeys the rules, can be said
 * again, and then means the same bytes. */
#include <stdint.h>
#include <string.h>

#include "common/check.h"
#include "proto/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    arena scratch = {0};
    buffer once = {0}, twice = {0};
    envelope e, again;
    error err = {0};
    status st = envelope_decode(data, size, &scratch, &e, &err);
    if (st == ST_OUT_OF_RANGE)
        CHECK(e.kind == ENVELOPE_SUBMIT && e.submit.stream != 0 && e.submit.ids == NULL);
    if (st != ST_OK) CHECK(err.code == st && err.text[0] != '\0');
    if (st == ST_OK) {
        CHECK(envelope_check(&e, &err) == ST_OK);
        CHECK(envelope_encode(&e, &scratch, &once) == ST_OK);
        CHECK(envelope_decode(once.data, once.size, &scratch, &again, &err) == ST_OK);
        CHECK(envelope_encode(&again, &scratch, &twice) == ST_OK);
        CHECK(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
    }
    buffer_free(&once);
    buffer_free(&twice);
    arena_free(&scratch);
    return 0;
}
