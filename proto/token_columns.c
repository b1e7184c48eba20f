#include "proto/token_columns.h"

#include <math.h>
#include <string.h>

#include "common/check.h"

static void push_u32(buffer *b, uint32_t value)
{
    buffer_append(b, &value, sizeof value);
}

static const uint32_t *u32s(const buffer *b)
{
    return (const uint32_t *)(const void *)b->data;
}

static const float *floats(const buffer *b)
{
    return (const float *)(const void *)b->data;
}

static size_t entries(const buffer *b)
{
    return b->size / sizeof(uint32_t);
}

/* A message without logprobs carries no column for them. The first token that has one brings the
 * column up to the present with "none". */
static void fill_none(buffer *b, size_t count, uint32_t none_bits)
{
    while (entries(b) < count)
        push_u32(b, none_bits);
}

static uint32_t nan_bits(void)
{
    float none = NAN;
    uint32_t bits;
    memcpy(&bits, &none, sizeof bits);
    return bits;
}

/* A stream's tokens that follow each other share a group, as long as it stays small enough to be
 * cut into messages between groups. */
enum { GROUP_TOKENS_MAX = 64 };

static void add_group_head(token_columns *c, uint32_t stream, uint32_t first, uint32_t count)
{
    size_t groups = entries(&c->stream);
    if (groups > 0 && u32s(&c->stream)[groups - 1] == stream) {
        uint32_t *last_count = (uint32_t *)(void *)c->count.data + groups - 1;
        if (u32s(&c->first_index)[groups - 1] + *last_count == first &&
            *last_count + count <= GROUP_TOKENS_MAX) {
            *last_count += count;
            return;
        }
    }
    for (uint32_t done = 0; done < count;) {
        uint32_t part = count - done < GROUP_TOKENS_MAX ? count - done : GROUP_TOKENS_MAX;
        push_u32(&c->stream, stream);
        push_u32(&c->first_index, first + done);
        push_u32(&c->count, part);
        done += part;
    }
}

/* Columns that only some tokens need; `before` tokens are in the columns already. */
static void add_optional(token_columns *c, size_t before, size_t count, const float *logprob,
                         const uint32_t *top_count, const uint32_t *top_id,
                         const float *top_logprob, size_t top_total)
{
    if (logprob != NULL) {
        fill_none(&c->logprob, before, nan_bits());
        buffer_append(&c->logprob, logprob, count * sizeof *logprob);
    } else if (c->logprob.size > 0) {
        fill_none(&c->logprob, before + count, nan_bits());
    }
    if (top_count != NULL) {
        fill_none(&c->top_count, before, 0);
        buffer_append(&c->top_count, top_count, count * sizeof *top_count);
        buffer_append(&c->top_id, top_id, top_total * sizeof *top_id);
        buffer_append(&c->top_logprob, top_logprob, top_total * sizeof *top_logprob);
    } else if (c->top_count.size > 0) {
        fill_none(&c->top_count, before + count, 0);
    }
}

void token_columns_add(token_columns *c, uint32_t stream, uint32_t index, uint32_t token,
                       const void *text, uint32_t text_size, float logprob, uint32_t top_count,
                       const uint32_t *top_ids, const float *top_logprobs)
{
    size_t before = token_columns_tokens(c);
    add_group_head(c, stream, index, 1);
    push_u32(&c->token, token);
    push_u32(&c->text_len, text_size);
    buffer_append(&c->text, text, text_size);
    add_optional(c, before, 1, isnan(logprob) ? NULL : &logprob, top_count > 0 ? &top_count : NULL,
                 top_ids, top_logprobs, top_count);
}

static size_t sum(const uint32_t *values, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += values[i];
    return total;
}

void token_columns_add_group(token_columns *c, const msg_tokens *from, size_t group, uint32_t skip,
                             uint32_t stream, token_cursor *at)
{
    uint32_t count = from->count[group];
    CHECK(skip <= count);
    size_t token = at->token + skip;
    size_t text = at->text + sum(from->text_len + at->token, skip);
    size_t top = at->top;
    if (from->top_count != NULL) top += sum(from->top_count + at->token, skip);

    size_t kept = count - skip;
    size_t text_size = sum(from->text_len + token, kept);
    size_t top_total = from->top_count != NULL ? sum(from->top_count + token, kept) : 0;
    at->token = token + kept;
    at->text = text + text_size;
    at->top = top + top_total;
    if (stream == 0 || kept == 0) return;

    size_t before = token_columns_tokens(c);
    add_group_head(c, stream, from->first_index[group] + skip, (uint32_t)kept);
    for (size_t i = 0; i < kept; i++) { /* mostly one: a copy loop costs more than a store */
        push_u32(&c->token, from->token[token + i]);
        push_u32(&c->text_len, from->text_len[token + i]);
    }
    if (text_size > 0) buffer_append(&c->text, from->text + text, text_size);
    if (c->emitted_us == 0) c->emitted_us = from->emitted_us;
    if (from->logprob == NULL && from->top_count == NULL && c->logprob.size == 0 &&
        c->top_count.size == 0)
        return;
    add_optional(c, before, kept, from->logprob != NULL ? from->logprob + token : NULL,
                 from->top_count != NULL ? from->top_count + token : NULL,
                 from->top_id != NULL ? from->top_id + top : NULL,
                 from->top_logprob != NULL ? from->top_logprob + top : NULL, top_total);
}

bool token_columns_empty(const token_columns *c)
{
    return c->token.size == 0;
}

size_t token_columns_tokens(const token_columns *c)
{
    return entries(&c->token);
}

_Static_assert((LIMIT_TOKENS_TEXT_LEN + 32 + 8 * LIMIT_LOGPROBS_TOP) * GROUP_TOKENS_MAX <
                   LIMIT_MESSAGE_BYTES,
               "a group alone always fits a message");

/* Encoded size is bounded from above without encoding: varints of the group columns take at most
 * 5 bytes each, fixed columns 4. */
enum {
    GROUP_BYTES = 15,
    TOKEN_BYTES = 4 + 5 + 4 + 5, /* id, text length, logprob, top count */
    TOP_BYTES = 8,
    HEAD_BYTES = 128,
};

void token_columns_flush(token_columns *c, void (*send)(void *ctx, const envelope *e), void *ctx)
{
    size_t groups = entries(&c->stream);
    const uint32_t *count = u32s(&c->count);
    const uint32_t *text_len = u32s(&c->text_len);
    const uint32_t *top_count = c->top_count.size > 0 ? u32s(&c->top_count) : NULL;
    size_t group = 0;
    token_cursor at = {0};
    while (group < groups) {
        size_t first = group;
        token_cursor start = at;
        size_t bytes = HEAD_BYTES;
        while (group < groups) {
            size_t tokens = count[group];
            size_t text = sum(text_len + at.token, tokens);
            size_t top = top_count != NULL ? sum(top_count + at.token, tokens) : 0;
            bytes += GROUP_BYTES + tokens * TOKEN_BYTES + text + top * TOP_BYTES;
            /* Groups need no count of their own: each has a token. */
            bool full = bytes > LIMIT_TOKENS_MESSAGE_BYTES ||
                        at.token + tokens - start.token > LIMIT_TOKENS_MESSAGE_ENTRIES;
            if (full && group > first) break; /* a group alone always goes */
            at.token += tokens;
            at.text += text;
            at.top += top;
            group++;
        }
        envelope e = {.kind = ENVELOPE_TOKENS};
        e.tokens = (msg_tokens){
            .stream = u32s(&c->stream) + first,
            .first_index = u32s(&c->first_index) + first,
            .count = count + first,
            .groups = group - first,
            .token = u32s(&c->token) + start.token,
            .text_len = text_len + start.token,
            .tokens = at.token - start.token,
            .text = c->text.data != NULL ? c->text.data + start.text : NULL,
            .text_size = at.text - start.text,
            .logprob = c->logprob.size > 0 ? floats(&c->logprob) + start.token : NULL,
            .top_count = top_count != NULL ? top_count + start.token : NULL,
            .top_id = c->top_id.size > 0 ? u32s(&c->top_id) + start.top : NULL,
            .top_logprob = c->top_logprob.size > 0 ? floats(&c->top_logprob) + start.top : NULL,
            .top_total = at.top - start.top,
            .emitted_us = c->emitted_us,
        };
        send(ctx, &e);
    }
    token_columns_clear(c);
}

void token_columns_clear(token_columns *c)
{
    buffer *all[] = {&c->stream, &c->first_index, &c->count,     &c->token,  &c->text_len,
                     &c->text,   &c->logprob,     &c->top_count, &c->top_id, &c->top_logprob};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_clear(all[i]);
    c->emitted_us = 0;
}

void token_columns_free(token_columns *c)
{
    buffer *all[] = {&c->stream, &c->first_index, &c->count,     &c->token,  &c->text_len,
                     &c->text,   &c->logprob,     &c->top_count, &c->top_id, &c->top_logprob};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buffer_free(all[i]);
    c->emitted_us = 0;
}
