#include "router/prefix_chain.h"

#include <xxhash.h>

_Static_assert(LIMIT_PREFIX_CHUNKS <= UINT16_MAX, "a number of chunks fits 16 bits");

/* The chunk that is being filled, when it does not lie in one piece. */
typedef struct chunker {
    prefix_chain *chain;
    uint32_t count_max;
    uint64_t hash;
    uint32_t held_bytes;
    uint8_t held[PREFIX_CHUNK_BYTES];
} chunker;

static void add_chunk(chunker *c, const void *bytes)
{
    c->hash = XXH3_64bits_withSeed(bytes, PREFIX_CHUNK_BYTES, c->hash);
    c->chain->chunk[c->chain->count++] = c->hash;
}

static void add_bytes(chunker *c, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    while (size > 0 && c->chain->count < c->count_max) {
        if (c->held_bytes == 0 && size >= PREFIX_CHUNK_BYTES) {
            add_chunk(c, bytes);
            bytes += PREFIX_CHUNK_BYTES;
            size -= PREFIX_CHUNK_BYTES;
            continue;
        }
        size_t taken = PREFIX_CHUNK_BYTES - c->held_bytes;
        if (taken > size) taken = size;
        memcpy(c->held + c->held_bytes, bytes, taken);
        c->held_bytes += (uint32_t)taken;
        bytes += taken;
        size -= taken;
        if (c->held_bytes < PREFIX_CHUNK_BYTES) continue;
        add_chunk(c, c->held);
        c->held_bytes = 0;
    }
}

static uint64_t first_seed(const msg_submit *submit, uint64_t secret)
{
    uint32_t kind = submit->id_count > 0        ? 3u
                    : submit->message_count > 0 ? 2u
                    : submit->raw               ? 1u
                                                : 0u;
    uint64_t seed = XXH3_64bits_withSeed(&kind, sizeof kind, secret);
    seed = XXH3_64bits_withSeed(submit->cache_salt.data, submit->cache_salt.size, seed);
    return XXH3_64bits_withSeed(submit->model.data, submit->model.size, seed);
}

prefix_chain *prefix_chain_create(const msg_submit *submit, uint64_t secret)
{
    size_t text_bytes = submit->text.size;
    for (size_t i = 0; i < submit->message_count; i++)
        text_bytes += submit->messages[i].role.size + submit->messages[i].content.size + 2;
    size_t id_bytes = submit->id_count * sizeof *submit->ids;
    size_t count_max = (text_bytes + id_bytes) / PREFIX_CHUNK_BYTES;
    if (count_max > LIMIT_PREFIX_CHUNKS) count_max = LIMIT_PREFIX_CHUNKS;

    prefix_chain *chain = mem_alloc(sizeof *chain + count_max * sizeof *chain->chunk);
    *chain = (prefix_chain){.text_bytes = (uint32_t)text_bytes, .ids = (uint32_t)submit->id_count};
    chunker c = {
        .chain = chain, .count_max = (uint32_t)count_max, .hash = first_seed(submit, secret)};
    add_bytes(&c, submit->text.data, submit->text.size);
    for (size_t i = 0; i < submit->message_count; i++) {
        add_bytes(&c, submit->messages[i].role.data, submit->messages[i].role.size);
        add_bytes(&c, "", 1);
        add_bytes(&c, submit->messages[i].content.data, submit->messages[i].content.size);
        add_bytes(&c, "", 1);
    }
    add_bytes(&c, submit->ids, id_bytes);
    return chain;
}
