/* Goal: no bytes given as a tokenizer.json, and no text given to a tokenizer made from them, lead
 * outside memory or into an endless loop.
 *
 * The input is a tokenizer.json, a line of '=' alone, and a text. Where the file is accepted, the
 * text is encoded in every way, its ids are decoded, and streaming must agree with decoding. */
#include <stdint.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"
#include "worker/text/detokenizer.h"
#include "worker/text/tokenizer.h"
#include "worker/text/utf8.h"

#define TEXT_BYTES_MAX 512u /* a hostile expression may take its step limit at every byte */

static void check_stream(const tokenizer *t, const token_list *ids, bool skip_special)
{
    size_t size;
    char *whole = tokenizer_decode(t, ids->ids, ids->count, skip_special, &size);
    detokenizer *d = detokenizer_create(t, skip_special, true);
    buffer streamed = {0};
    for (size_t i = 0; i < ids->count; i++)
        detokenizer_push(d, ids->ids[i], &streamed);
    detokenizer_finish(d, &streamed);
    CHECK(streamed.size == size && (size == 0 || memcmp(streamed.data, whole, size) == 0));
    CHECK(utf8_valid(whole, size));
    detokenizer_destroy(d);
    buffer_free(&streamed);
    mem_free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char mark[] = "\n=\n";
    const uint8_t *parted = memmem(data, size, mark, sizeof mark - 1);
    size_t json_size = parted != NULL ? (size_t)(parted - data) : size;
    char *json = mem_copy(data, json_size);
    const char *text = parted != NULL ? (const char *)parted + sizeof mark - 1 : "";
    size_t text_size = parted != NULL ? size - json_size - (sizeof mark - 1) : 0;
    if (text_size > TEXT_BYTES_MAX) text_size = TEXT_BYTES_MAX;

    error err = {0};
    tokenizer *t;
    status st = tokenizer_parse(&t, json, json_size, &err);
    CHECK((st == ST_OK) == (err.text[0] == '\0'));
    mem_free(json);
    if (st != ST_OK) return 0;
    for (unsigned flags = 0; flags < 4; flags++) {
        token_list ids = {0};
        tokenizer_encode(t, text, text_size, flags, &ids);
        tokenizer_encode_pair(t, text, text_size / 2, text, text_size, flags, &ids);
        check_stream(t, &ids, flags % 2 == 0);
        token_list_free(&ids);
    }
    tokenizer_destroy(t);
    return 0;
}
