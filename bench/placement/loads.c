#include "bench/placement/loads.h"

#include <math.h>

#include "common/check.h"
#include "common/json.h"
#include "tests/unit/worker/engine/test_random.h"

/* English as today's tokenizers have it, about; the router does not know. */
#define BYTES_PER_TOKEN 4.5

static void write_block(test_random *random, uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)('a' + random_below(random, 26));
}

/* What the router keeps of the prompt. Block numbers stand for text. */
static prefix_chain *hash_prompt(const load *l, const load_request *r, buffer *text)
{
    size_t block_bytes = (size_t)(l->block_tokens * BYTES_PER_TOKEN);
    size_t size = (size_t)(r->prompt_tokens * BYTES_PER_TOKEN);
    buffer_clear(text);
    buffer_reserve(text, r->block_count * block_bytes);
    for (uint32_t i = 0; i < r->block_count; i++) {
        test_random random = {r->block[i]};
        write_block(&random, text->data + i * block_bytes, block_bytes);
    }
    const msg_submit submit = {
        .model = text_of("m"), .has_text = true, .text = {(const char *)text->data, size}};
    return prefix_chain_create(&submit, 1);
}

/* Sums, and the hashes. */
static void finish(load *l)
{
    bool *seen = mem_calloc(l->block_numbers, sizeof *seen);
    buffer text = {0};
    for (uint32_t i = 0; i < l->count; i++) {
        load_request *r = &l->requests[i];
        l->prompt_tokens += r->prompt_tokens;
        l->answer_tokens += r->answer_tokens;
        uint32_t repeated = 0;
        while (repeated < r->prompt_tokens / l->block_tokens && seen[r->block[repeated]])
            repeated++;
        l->repeated_tokens += (uint64_t)repeated * l->block_tokens;
        for (uint32_t b = 0; b < r->block_count; b++)
            seen[r->block[b]] = true;
        r->prompt = hash_prompt(l, r, &text);
    }
    buffer_free(&text);
    mem_free(seen);
}

static void read_request(load *l, load_request *r, const json_t *line, double speed)
{
    const json_t *blocks = json_object_get(line, "hash_ids");
    r->arrival_s = json_number_value(json_object_get(line, "timestamp")) / 1000 / speed;
    r->prompt_tokens = (uint32_t)json_integer_value(json_object_get(line, "input_length"));
    r->answer_tokens = (uint32_t)json_integer_value(json_object_get(line, "output_length"));
    r->block_count = (uint32_t)json_array_size(blocks);
    CHECK(r->answer_tokens > 0 &&
          r->block_count == (r->prompt_tokens + l->block_tokens - 1) / l->block_tokens);
    r->block = mem_alloc(r->block_count * sizeof *r->block);
    for (uint32_t i = 0; i < r->block_count; i++) {
        r->block[i] = (uint32_t)json_integer_value(json_array_get(blocks, i));
        if (r->block[i] >= l->block_numbers) l->block_numbers = r->block[i] + 1;
    }
}

status load_mooncake(load *out, const char *path, double speed, error *err)
{
    char *bytes = NULL;
    size_t size = 0;
    status st = file_read(&bytes, &size, path, 64 * LIMIT_MIB, err);
    if (st != ST_OK) return st;
    *out = (load){.name = "mooncake", .block_tokens = 512};
    for (size_t i = 0; i < size; i++)
        out->count += bytes[i] == '\n';
    out->requests = mem_calloc(out->count, sizeof *out->requests);
    const char *line = bytes;
    for (uint32_t i = 0; i < out->count && st == ST_OK; i++) {
        const char *end = strchr(line, '\n');
        json_t *json = NULL;
        st = json_parse(&json, line, (size_t)(end - line), "trace", err);
        if (st == ST_OK) read_request(out, &out->requests[i], json, speed);
        json_decref(json);
        line = end + 1;
    }
    mem_free(bytes);
    if (st == ST_OK)
        finish(out);
    else
        load_free(out);
    return st;
}

/* 1 to `groups`, the k-th in proportion to 1/k. */
static uint32_t popular_group(test_random *random, uint32_t groups)
{
    double total = 0;
    for (uint32_t k = 1; k <= groups; k++)
        total += 1.0 / k;
    double at = (double)random_unit(random) * total;
    for (uint32_t k = 1; k < groups; k++) {
        at -= 1.0 / k;
        if (at < 0) return k - 1;
    }
    return groups - 1;
}

void load_shared_prefix(load *out, uint32_t count, uint32_t groups, double requests_per_s)
{
    enum { BLOCK = 100, SHARED_BLOCKS = 28, OWN_BLOCKS = 12 };
    *out = (load){.name = "shared70",
                  .count = count,
                  .block_tokens = BLOCK,
                  .block_numbers = groups * SHARED_BLOCKS + count * OWN_BLOCKS};
    out->requests = mem_calloc(count, sizeof *out->requests);
    test_random random = {70};
    double now_s = 0;
    uint32_t own = groups * SHARED_BLOCKS;
    for (uint32_t i = 0; i < count; i++) {
        load_request *r = &out->requests[i];
        now_s -= log(1 - (double)random_unit(&random)) / requests_per_s;
        r->arrival_s = now_s;
        r->block_count = SHARED_BLOCKS + OWN_BLOCKS;
        r->prompt_tokens = r->block_count * BLOCK;
        r->answer_tokens = random_between(&random, 50, 250);
        r->block = mem_alloc(r->block_count * sizeof *r->block);
        uint32_t group = popular_group(&random, groups);
        for (uint32_t b = 0; b < r->block_count; b++)
            r->block[b] = b < SHARED_BLOCKS ? group * SHARED_BLOCKS + b : own++;
    }
    finish(out);
}

void load_free(load *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        mem_free(l->requests[i].block);
        mem_free(l->requests[i].prompt);
    }
    mem_free(l->requests);
    *l = (load){0};
}
