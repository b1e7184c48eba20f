/* How a piece becomes tokens
 *
 * A piece starts as one symbol a character. The rules have ranks; again and again the neighbours
 * with the lowest rank, and of those the leftmost, become one symbol, until no rule fits. Short
 * runs of symbols look for the next pair by scanning, long ones keep the pairs in a heap.
 *
 * Without a pre-tokenizer (SentencePiece models) a piece is a whole text, and a heap over a whole
 * text is slow and remembers nothing. So a long piece is first cut where no rule can ever join:
 * a rule joins two symbols whose spellings meet in some two characters, and joined symbols keep
 * their outer characters; so if no rule has its sides meet in "e▁", then nothing is ever joined
 * across an "e▁", and both sides can be encoded alone. `bigrams` is a set of hashes of these
 * meeting characters; a collision costs a cut, never a wrong one. (With a subword prefix or a
 * suffix a symbol's spelling depends on its place; then nothing is cut.)
 *
 * What a short piece or cut became is remembered during the call, in a table of fixed size where
 * a newcomer takes the place of whoever was there. */
#include "worker/text/bpe.h"

#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "worker/text/utf8.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define BIGRAM_BITS 20u

struct bpe_rule {
    uint32_t left, right; /* left == TOKEN_NONE: a free place */
    uint32_t rank, result;
};

/* -- building ----------------------------------------------------------------------- */

static size_t rule_place(const bpe *b, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;
    key *= UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(key ^ key >> 32) & b->rule_mask;
}

static bpe_rule *rule_slot(const bpe *b, uint32_t left, uint32_t right)
{
    size_t at = rule_place(b, left, right);
    while (b->rules[at].left != TOKEN_NONE &&
           (b->rules[at].left != left || b->rules[at].right != right))
        at = (at + 1) & b->rule_mask;
    return &b->rules[at];
}

static uint32_t bigram_hash(uint32_t left, uint32_t right)
{
    uint64_t key = ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(key >> (64 - BIGRAM_BITS));
}

static bool may_join(const bpe *b, uint32_t left, uint32_t right)
{
    uint32_t hash = bigram_hash(left, right);
    return (b->bigrams[hash / 64] >> (hash % 64) & 1) != 0;
}

/* At most two thirds full. The table grows with what is in it, not with what a file announces. */
static void grow_rules(bpe *b)
{
    bpe_rule *old = b->rules;
    size_t old_places = old != NULL ? b->rule_mask + 1 : 0;
    size_t places = old_places > 0 ? 2 * old_places : 64;
    b->rules = mem_alloc(places * sizeof *b->rules);
    memset(b->rules, 0xFF, places * sizeof *b->rules);
    b->rule_mask = places - 1;
    for (size_t i = 0; i < old_places; i++)
        if (old[i].left != TOKEN_NONE) *rule_slot(b, old[i].left, old[i].right) = old[i];
    mem_free(old);
}

bool bpe_index_words(bpe *b, size_t *twice)
{
    if (!vocab_finish(&b->words, twice)) return false;
    grow_rules(b);
    b->bigrams = mem_calloc((1u << BIGRAM_BITS) / 64, sizeof *b->bigrams);
    return true;
}

static uint32_t last_character(const char *text, size_t size)
{
    size_t at = size - 1, length;
    while (((unsigned char)text[at] & 0xC0) == 0x80)
        at--;
    return utf8_decode(text + at, &length);
}

status bpe_add_rule(bpe *b, const char *left, size_t left_size, const char *right,
                    size_t right_size, const char **missing)
{
    uint32_t left_id = vocab_find(&b->words, left, left_size);
    uint32_t right_id = vocab_find(&b->words, right, right_size);
    *missing = left_id == TOKEN_NONE ? "left" : "right";
    if (left_id == TOKEN_NONE || right_id == TOKEN_NONE || right_size < b->prefix_size)
        return ST_INVALID_ARGUMENT;

    char joined[2 * LIMIT_TOKEN_TEXT_BYTES];
    size_t tail = right_size - b->prefix_size;
    *missing = "result";
    if (left_size + tail > sizeof joined) return ST_INVALID_ARGUMENT;
    memcpy(joined, left, left_size);
    memcpy(joined + left_size, right + b->prefix_size, tail);
    uint32_t result = vocab_find(&b->words, joined, left_size + tail);
    if (result == TOKEN_NONE) return ST_INVALID_ARGUMENT;

    if (3 * (b->rule_count + 1) > 2 * b->rule_mask) grow_rules(b);
    bpe_rule *rule = rule_slot(b, left_id, right_id);
    if (rule->left == TOKEN_NONE) b->rule_count++;
    *rule = (bpe_rule){left_id, right_id, b->next_rank++, result};
    if (left_size > 0 && right_size > 0) {
        size_t length;
        uint32_t hash = bigram_hash(last_character(left, left_size), utf8_decode(right, &length));
        b->bigrams[hash / 64] |= UINT64_C(1) << (hash % 64);
    }
    return ST_OK;
}

void bpe_finish(bpe *b)
{
    char text[8];
    for (uint32_t c = 0; c < BPE_CHARACTERS; c++)
        b->characters[c] = vocab_find(&b->words, text, utf8_encode(c, text));
    for (uint32_t byte = 0; byte < 256; byte++) {
        snprintf(text, sizeof text, "<0x%02X>", byte);
        b->byte_tokens[byte] =
            b->byte_fallback ? vocab_find(&b->words, text, strlen(text)) : TOKEN_NONE;
    }
}

void bpe_free(bpe *b)
{
    vocab_free(&b->words);
    mem_free(b->rules);
    mem_free(b->bigrams);
    mem_free(b->prefix);
    mem_free(b->suffix);
    *b = (bpe){0};
}

/* -- remembering -------------------------------------------------------------------- */

#define CACHE_KEY_BYTES 44u
#define CACHE_IDS       12u
#define CACHE_LINES_MIN 64u
#define CACHE_LINES_MAX 8192u

typedef struct cache_line {
    uint16_t size; /* 0: free */
    uint8_t cut;   /* part of a piece: ignore_merges does not hold for it */
    uint8_t count;
    char key[CACHE_KEY_BYTES];
    uint32_t ids[CACHE_IDS];
} cache_line;

typedef struct symbol {
    uint32_t id; /* TOKEN_NONE: joined into the one before */
    uint32_t previous, next;
} symbol;

struct bpe_scratch {
    cache_line *lines;
    size_t line_mask;
    symbol *symbols;
    size_t symbol_count, symbol_capacity;
    uint64_t *heap; /* rank << 32 | position */
    size_t heap_count, heap_capacity;
};

bpe_scratch *bpe_scratch_create(size_t text_size)
{
    bpe_scratch *s = mem_calloc(1, sizeof *s);
    size_t lines = CACHE_LINES_MIN;
    while (lines < CACHE_LINES_MAX && lines < text_size / 8)
        lines *= 2;
    s->lines = mem_calloc(lines, sizeof *s->lines);
    s->line_mask = lines - 1;
    return s;
}

void bpe_scratch_destroy(bpe_scratch *s)
{
    if (s == NULL) return;
    mem_free(s->lines);
    mem_free(s->symbols);
    mem_free(s->heap);
    mem_free(s);
}

/* -- from characters to symbols ----------------------------------------------------- */

static void add_symbol(bpe_scratch *s, uint32_t id)
{
    if (s->symbol_count == s->symbol_capacity) {
        s->symbol_capacity = s->symbol_capacity == 0 ? 64 : s->symbol_capacity * 2;
        s->symbols = mem_realloc(s->symbols, s->symbol_capacity * sizeof *s->symbols);
    }
    CHECK(s->symbol_count < TOKEN_NONE);
    s->symbols[s->symbol_count++].id = id;
}

/* The character as the vocabulary spells it at its place in the piece. Returns its size in
 * `out`, which has room for prefix, character and suffix. */
static size_t spell_character(const bpe *b, const char *at, size_t length, bool first, bool last,
                              char *out)
{
    size_t size = 0;
    if (!first && b->prefix_size > 0) {
        memcpy(out, b->prefix, b->prefix_size);
        size += b->prefix_size;
    }
    memcpy(out + size, at, length);
    size += length;
    if (last && b->suffix_size > 0) {
        memcpy(out + size, b->suffix, b->suffix_size);
        size += b->suffix_size;
    }
    return size;
}

static bool add_byte_symbols(const bpe *b, bpe_scratch *s, const char *bytes, size_t size)
{
    if (!b->byte_fallback) return false;
    for (size_t i = 0; i < size; i++)
        if (b->byte_tokens[(uint8_t)bytes[i]] == TOKEN_NONE) return false;
    for (size_t i = 0; i < size; i++)
        add_symbol(s, b->byte_tokens[(uint8_t)bytes[i]]);
    return true;
}

/* One symbol a character. What is not in the vocabulary becomes its bytes' tokens, or the unknown
 * token, of which several in a row may become one; as in the reference, an unknown token waits
 * for the next known character, past any byte tokens. */
static void add_symbols(const bpe *b, bpe_scratch *s, const char *piece, size_t size)
{
    bool plain = b->prefix_size == 0 && b->suffix_size == 0;
    bool unknown_waits = false;
    char spelled[2 * LIMIT_TOKEN_TEXT_BYTES + 4];
    s->symbol_count = 0;
    for (size_t at = 0, length; at < size; at += length) {
        uint32_t c = utf8_decode(piece + at, &length);
        const char *spelling = piece + at;
        size_t spelling_size = length;
        uint32_t id;
        if (plain && c < BPE_CHARACTERS) {
            id = b->characters[c];
        } else {
            if (!plain) {
                spelling_size =
                    spell_character(b, piece + at, length, at == 0, at + length == size, spelled);
                spelling = spelled;
            }
            id = vocab_find(&b->words, spelling, spelling_size);
        }
        if (id == TOKEN_NONE && add_byte_symbols(b, s, spelling, spelling_size)) continue;
        if (id == TOKEN_NONE && b->unknown == TOKEN_NONE) continue;
        if (unknown_waits && (id != TOKEN_NONE || !b->fuse_unknown)) add_symbol(s, b->unknown);
        unknown_waits = id == TOKEN_NONE;
        if (id != TOKEN_NONE) add_symbol(s, id);
    }
    if (unknown_waits) add_symbol(s, b->unknown);
}

/* -- joining symbols ---------------------------------------------------------------- */

#define SCAN_SYMBOLS_MAX 48u /* above this a heap is faster than scanning */

static void join_by_scanning(const bpe *b, bpe_scratch *s)
{
    uint32_t ids[SCAN_SYMBOLS_MAX], ranks[SCAN_SYMBOLS_MAX], results[SCAN_SYMBOLS_MAX];
    size_t count = s->symbol_count;
    for (size_t i = 0; i < count; i++)
        ids[i] = s->symbols[i].id;
    for (size_t i = 0; i + 1 < count; i++) {
        const bpe_rule *rule = rule_slot(b, ids[i], ids[i + 1]);
        ranks[i] = rule->rank;
        results[i] = rule->result;
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == UINT32_MAX) break;
        ids[best] = results[best];
        count--;
        memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof *ids);
        memmove(ranks + best + 1, ranks + best + 2, (count - best - 1) * sizeof *ranks);
        memmove(results + best + 1, results + best + 2, (count - best - 1) * sizeof *results);
        for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < count; i++) {
            const bpe_rule *rule = rule_slot(b, ids[i], ids[i + 1]);
            ranks[i] = rule->rank;
            results[i] = rule->result;
        }
    }
    for (size_t i = 0; i < count; i++)
        s->symbols[i].id = ids[i];
    s->symbol_count = count;
}

static void sift_down(bpe_scratch *s, size_t at)
{
    uint64_t moving = s->heap[at];
    for (size_t child; (child = 2 * at + 1) < s->heap_count; at = child) {
        if (child + 1 < s->heap_count && s->heap[child + 1] < s->heap[child]) child++;
        if (s->heap[child] >= moving) break;
        s->heap[at] = s->heap[child];
    }
    s->heap[at] = moving;
}

static void heap_add(bpe_scratch *s, uint64_t key)
{
    if (s->heap_count == s->heap_capacity) {
        s->heap_capacity = s->heap_capacity == 0 ? 256 : s->heap_capacity * 2;
        s->heap = mem_realloc(s->heap, s->heap_capacity * sizeof *s->heap);
    }
    s->heap[s->heap_count++] = key;
}

static void heap_push(bpe_scratch *s, uint64_t key)
{
    heap_add(s, key);
    size_t at = s->heap_count - 1;
    for (; at > 0 && s->heap[(at - 1) / 2] > key; at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = key;
}

static uint64_t heap_pop(bpe_scratch *s)
{
    uint64_t top = s->heap[0];
    s->heap[0] = s->heap[--s->heap_count];
    if (s->heap_count > 0) sift_down(s, 0);
    return top;
}

static uint32_t pair_rank(const bpe *b, const bpe_scratch *s, uint32_t at)
{
    return rule_slot(b, s->symbols[at].id, s->symbols[s->symbols[at].next].id)->rank;
}

static void join_by_heap(const bpe *b, bpe_scratch *s)
{
    uint32_t count = (uint32_t)s->symbol_count;
    s->heap_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        s->symbols[i].previous = i - 1; /* the first: TOKEN_NONE */
        s->symbols[i].next = i + 1;     /* the last: count */
        if (i + 1 == count) break;
        uint32_t rank = pair_rank(b, s, i);
        if (rank != UINT32_MAX) heap_add(s, (uint64_t)rank << 32 | i);
    }
    for (size_t i = s->heap_count / 2; i-- > 0;)
        sift_down(s, i);

    while (s->heap_count > 0) {
        uint64_t top = heap_pop(s);
        uint32_t at = (uint32_t)top;
        symbol *left = &s->symbols[at];
        if (left->id == TOKEN_NONE || left->next == count) continue;
        symbol *right = &s->symbols[left->next];
        const bpe_rule *rule = rule_slot(b, left->id, right->id);
        if (rule->rank != (uint32_t)(top >> 32)) continue; /* one of them has changed since */
        left->id = rule->result;
        left->next = right->next;
        right->id = TOKEN_NONE;
        if (left->next != count) {
            s->symbols[left->next].previous = at;
            uint32_t rank = pair_rank(b, s, at);
            if (rank != UINT32_MAX) heap_push(s, (uint64_t)rank << 32 | at);
        }
        if (left->previous != TOKEN_NONE) {
            uint32_t rank = pair_rank(b, s, left->previous);
            if (rank != UINT32_MAX) heap_push(s, (uint64_t)rank << 32 | left->previous);
        }
    }
    size_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (s->symbols[i].id != TOKEN_NONE) s->symbols[kept++].id = s->symbols[i].id;
    s->symbol_count = kept;
}

static void encode_symbols(const bpe *b, bpe_scratch *s, const char *text, size_t size,
                           token_list *out)
{
    add_symbols(b, s, text, size);
    if (s->symbol_count > SCAN_SYMBOLS_MAX)
        join_by_heap(b, s);
    else if (s->symbol_count > 1)
        join_by_scanning(b, s);
    for (size_t i = 0; i < s->symbol_count; i++)
        token_list_push(out, s->symbols[i].id);
}

/* -- whole pieces ------------------------------------------------------------------- */

/* A whole piece, or (`cut`) a part of one that no rule reaches out of. */
static void encode_remembering(const bpe *b, bpe_scratch *s, const char *text, size_t size,
                               bool cut, token_list *out)
{
    cut = cut && b->ignore_merges;
    if (size > CACHE_KEY_BYTES) {
        encode_symbols(b, s, text, size, out);
        return;
    }
    cache_line *line = &s->lines[(size_t)XXH3_64bits(text, size) & s->line_mask];
    if (line->size == size && line->cut == cut && memcmp(line->key, text, size) == 0) {
        for (size_t i = 0; i < line->count; i++)
            token_list_push(out, line->ids[i]);
        return;
    }
    size_t before = out->count;
    uint32_t whole = b->ignore_merges && !cut ? vocab_find(&b->words, text, size) : TOKEN_NONE;
    if (whole != TOKEN_NONE)
        token_list_push(out, whole);
    else
        encode_symbols(b, s, text, size, out);
    size_t count = out->count - before;
    if (count > CACHE_IDS) return;
    line->size = (uint16_t)size;
    line->cut = cut;
    line->count = (uint8_t)count;
    memcpy(line->key, text, size);
    if (count > 0) memcpy(line->ids, out->ids + before, count * sizeof *line->ids);
}

/* The characters that a rule would see at the edges of the symbols of one character. False when
 * the character becomes an unknown token, which may fuse with its neighbours. */
static bool edges(const bpe *b, const char *at, size_t length, uint32_t c, uint32_t *left,
                  uint32_t *right)
{
    uint32_t id = c < BPE_CHARACTERS ? b->characters[c] : vocab_find(&b->words, at, length);
    *left = *right = c;
    if (id != TOKEN_NONE) return true;
    *left = '<'; /* its bytes: "<0xE2>" and so on */
    *right = '>';
    for (size_t i = 0; i < length; i++)
        if (b->byte_tokens[(uint8_t)at[i]] == TOKEN_NONE) return false;
    return true;
}

/* Cut a long piece where no rule can join, and encode the parts. An unknown character anywhere in
 * the part before keeps the two together. */
static void encode_cut(const bpe *b, bpe_scratch *s, const char *piece, size_t size,
                       token_list *out)
{
    size_t start = 0;
    bool known = true;
    uint32_t before = 0;
    for (size_t at = 0, length; at < size; at += length) {
        uint32_t left, right;
        uint32_t c = utf8_decode(piece + at, &length);
        bool known_here = edges(b, piece + at, length, c, &left, &right);
        if (at > start && known && known_here && !may_join(b, before, left)) {
            encode_remembering(b, s, piece + start, at - start, true, out);
            start = at;
        }
        if (at == start) known = true;
        known = known && known_here;
        before = right;
    }
    encode_remembering(b, s, piece + start, size - start, true, out);
}

void bpe_encode(const bpe *b, bpe_scratch *s, const char *piece, size_t size, token_list *out)
{
    if (size <= CACHE_KEY_BYTES) {
        encode_remembering(b, s, piece, size, false, out);
        return;
    }
    uint32_t whole = b->ignore_merges ? vocab_find(&b->words, piece, size) : TOKEN_NONE;
    if (whole != TOKEN_NONE)
        token_list_push(out, whole);
    else if (b->prefix_size == 0 && b->suffix_size == 0)
        encode_cut(b, s, piece, size, out);
    else
        encode_symbols(b, s, piece, size, out);
}
