/* prefix_chain: which beginning a prompt has, without a tokenizer.
 *
 * The prompt's bytes are cut into chunks of PREFIX_CHUNK_BYTES, and each chunk is hashed with the
 * hash before it as the seed: hash i stands for everything up to the end of chunk i, so two prompts
 * share hash i exactly when they share those bytes (but for 64-bit collisions, which cost a wrong
 * guess and nothing else). What is left over after the last whole chunk is not hashed.
 *
 * The bytes of a chat are, for each message, its role, a NUL, its content and a NUL; text is valid
 * UTF-8 without NUL, so a chat that goes on keeps the hashes that it had. Ids are hashed as they
 * lie in memory. The first seed comes from the router's secret, the cache salt, the model and the
 * kind of prompt: requests share hashes only where a worker would share their KV (cache_salt.h),
 * and nobody outside can make hashes collide.
 *
 * At most LIMIT_PREFIX_CHUNKS are hashed, which is the first 512 KiB: what prompts have in common
 * beyond is not seen. Nothing is copied but chunks that lie across messages. Pure: any thread. */
#ifndef GAGGLE_ROUTER_PREFIX_CHAIN_H
#define GAGGLE_ROUTER_PREFIX_CHAIN_H

#include "proto/envelope.h"

enum { PREFIX_CHUNK_BYTES = 512 };

typedef struct prefix_chain {
    uint32_t text_bytes; /* of the prompt as text or messages; LIMIT_MESSAGE_BYTES at most */
    uint32_t ids;        /* of the prompt as ids */
    uint32_t count;      /* of chunks */
    uint64_t chunk[];
} prefix_chain;

/* Hash the prompt of `submit` (its prior_ids are not part of it), whose cache_salt is what a worker
 * will be told. mem_free() it. */
prefix_chain *prefix_chain_create(const msg_submit *submit, uint64_t secret);

#endif
