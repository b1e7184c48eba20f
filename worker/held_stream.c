#include "worker/held_stream.h"

#include "common/check.h"

typedef struct held_token {
    uint32_t id, text_size;
    float logprob;
    uint32_t top_count;
} held_token;

static const held_token *token_at(const held_stream *h, uint32_t index)
{
    return (const held_token *)(const void *)h->tokens.data + (index - h->base);
}

void held_stream_init(held_stream *h, const uint32_t *prior, uint32_t prior_count)
{
    *h = (held_stream){.base = prior_count, .sent = prior_count, .made = prior_count};
    h->crc = ids_crc32c(0, prior, prior_count);
}

void held_stream_free(held_stream *h)
{
    buffer_free(&h->tokens);
    buffer_free(&h->text);
    buffer_free(&h->top_ids);
    buffer_free(&h->top_logprobs);
}

void held_stream_add(held_stream *h, uint32_t id, const void *text, uint32_t text_size,
                     float logprob, uint32_t top_count, const uint32_t *top_ids,
                     const float *top_logprobs)
{
    held_token token = {id, text_size, logprob, top_count};
    buffer_append(&h->tokens, &token, sizeof token);
    buffer_append(&h->text, text, text_size);
    buffer_append(&h->top_ids, top_ids, top_count * sizeof *top_ids);
    buffer_append(&h->top_logprobs, top_logprobs, top_count * sizeof *top_logprobs);
    h->crc = ids_crc32c(h->crc, &id, 1);
    h->made++;
}

/* Bytes of text and entries of tops that [from, to) takes. */
static void measure(const held_stream *h, uint32_t from, uint32_t to, size_t *text, size_t *top)
{
    *text = *top = 0;
    for (uint32_t i = from; i < to; i++) {
        *text += token_at(h, i)->text_size;
        *top += token_at(h, i)->top_count;
    }
}

bool held_stream_acknowledge(held_stream *h, uint32_t next_wanted)
{
    if (next_wanted < h->base || next_wanted > h->made) return false;
    if (h->sent < next_wanted) held_stream_rewind(h, next_wanted);
    size_t text, top;
    measure(h, h->base, next_wanted, &text, &top);
    buffer_consume(&h->tokens, (next_wanted - h->base) * sizeof(held_token));
    buffer_consume(&h->text, text);
    buffer_consume(&h->top_ids, top * sizeof(uint32_t));
    buffer_consume(&h->top_logprobs, top * sizeof(float));
    h->sent_text -= text;
    h->sent_top -= top;
    h->base = next_wanted;
    return true;
}

void held_stream_rewind(held_stream *h, uint32_t next_wanted)
{
    CHECK(next_wanted >= h->base && next_wanted <= h->made);
    h->sent = next_wanted;
    measure(h, h->base, next_wanted, &h->sent_text, &h->sent_top);
}

void held_stream_emit(held_stream *h, uint32_t stream, token_columns *out)
{
    const char *text = (const char *)h->text.data;
    const uint32_t *top_ids = (const uint32_t *)(const void *)h->top_ids.data;
    const float *top_logprobs = (const float *)(const void *)h->top_logprobs.data;
    for (; h->sent < h->made; h->sent++) {
        const held_token *t = token_at(h, h->sent);
        token_columns_add(out, stream, h->sent, t->id,
                          t->text_size > 0 ? text + h->sent_text : NULL, t->text_size, t->logprob,
                          t->top_count, t->top_count > 0 ? top_ids + h->sent_top : NULL,
                          t->top_count > 0 ? top_logprobs + h->sent_top : NULL);
        h->sent_text += t->text_size;
        h->sent_top += t->top_count;
    }
}
