#include "worker/text/detokenizer.h"

#include "worker/text/tokenizer_internal.h"

struct detokenizer {
    const tokenizer *tokenizer;
    decoder_state *decoder;
    bool skip_special;
};

detokenizer *detokenizer_create(const tokenizer *t, bool skip_special, bool at_start)
{
    detokenizer *d = mem_calloc(1, sizeof *d);
    d->tokenizer = t;
    d->decoder = decoder_state_create(&t->decoder, at_start);
    d->skip_special = skip_special;
    return d;
}

void detokenizer_destroy(detokenizer *d)
{
    if (d == NULL) return;
    decoder_state_destroy(d->decoder);
    mem_free(d);
}

void detokenizer_push(detokenizer *d, uint32_t id, buffer *out)
{
    size_t size;
    const char *spelling = tokenizer_spelling(d->tokenizer, id, &size);
    if (spelling == NULL || (d->skip_special && tokenizer_is_special(d->tokenizer, id))) return;
    decoder_push(d->decoder, spelling, size, out);
}

void detokenizer_finish(detokenizer *d, buffer *out)
{
    decoder_finish(d->decoder, out);
}
