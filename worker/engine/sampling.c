/* How a token is drawn, and why the answer is the same on every machine.
 *
 * Probabilities become integers: a candidate's weight is exp((logit - max) / temperature) * 2^40,
 * rounded down. All sums (top-p, the draw, the logprobs' normaliser) are sums of these integers,
 * so they do not depend on an order of addition, and exp() is our own, so they do not depend on a
 * C library. A token more than 2^40 times less likely than the likeliest weighs nothing.
 * 2^20 ids of at most 2^40 each stay below 2^60.
 *
 * Truncation takes a prefix of the order "likeliest first, lowest id first on a tie". The prefix's
 * end is found by radix selection over the logits' bits in three passes, never by a sort; the
 * survivors stay in id order, and the draw walks them in it. */
#include "worker/engine/sampling.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/check.h"
#include "common/mem.h"

#define WEIGHT_ONE 0x1p40f
_Static_assert((uint64_t)LIMIT_VOCAB << 40 <= (uint64_t)1 << 60, "a sum of weights fits");

/* A penalised id's mark in `counts`: seen at all, and how often in the answer. */
#define SEEN_BIT 0x80000000u
_Static_assert(LIMIT_CONTEXT_TOKENS < SEEN_BIT, "an answer's counts leave the seen bit alone");

enum { RADIX_BITS = 11, RADIX_SIZE = 1 << RADIX_BITS };

typedef struct candidate {
    uint32_t id;
    uint32_t key; /* orders as the logits do */
    uint64_t weight;
} candidate;

struct sampler {
    uint32_t vocab;
    uint32_t *counts;      /* [vocab] all zero between draws */
    candidate *candidates; /* [vocab] */
    uint32_t bucket_counts[RADIX_SIZE];
    uint64_t bucket_weights[RADIX_SIZE];
};

sampling_params sampling_params_default(void)
{
    return (sampling_params){
        .temperature = 1.0f,
        .top_p = 1.0f,
        .repetition_penalty = 1.0f,
        .logprobs = LOGPROBS_OFF,
    };
}

/* Each comparison is written so that NaN fails it. */
status sampling_params_check(const sampling_params *p, uint32_t vocab, error *err)
{
    if (!(p->temperature >= 0.0f && p->temperature <= 100.0f))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "temperature is %g; it must be between 0 and 100", (double)p->temperature);
    if (!(p->top_p > 0.0f && p->top_p <= 1.0f))
        return error_set(err, ST_INVALID_ARGUMENT, "top_p is %g; it must be above 0 and at most 1",
                         (double)p->top_p);
    if (!(p->min_p >= 0.0f && p->min_p <= 1.0f))
        return error_set(err, ST_INVALID_ARGUMENT, "min_p is %g; it must be between 0 and 1",
                         (double)p->min_p);
    if (!(p->repetition_penalty > 0.0f && p->repetition_penalty <= 100.0f))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "repetition_penalty is %g; it must be above 0 and at most 100",
                         (double)p->repetition_penalty);
    if (!(p->presence_penalty >= -2.0f && p->presence_penalty <= 2.0f))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "presence_penalty is %g; it must be between -2 and 2",
                         (double)p->presence_penalty);
    if (!(p->frequency_penalty >= -2.0f && p->frequency_penalty <= 2.0f))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "frequency_penalty is %g; it must be between -2 and 2",
                         (double)p->frequency_penalty);
    if (p->logprobs != LOGPROBS_OFF && p->logprobs > LIMIT_LOGPROBS_TOP)
        return error_set(err, ST_INVALID_ARGUMENT, "logprobs is %u; it must be at most %u",
                         p->logprobs, LIMIT_LOGPROBS_TOP);
    if (p->bias_count > LIMIT_LOGIT_BIASES)
        return error_set(err, ST_INVALID_ARGUMENT, "bias has %u entries; the limit is %u",
                         p->bias_count, LIMIT_LOGIT_BIASES);
    for (uint32_t i = 0; i < p->bias_count; i++) {
        if (p->bias_ids[i] >= vocab)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "bias_ids[%u] is %u; the model has ids below %u", i, p->bias_ids[i],
                             vocab);
        if (!(p->bias[i] >= -100.0f && p->bias[i] <= 100.0f))
            return error_set(err, ST_INVALID_ARGUMENT,
                             "bias[%u] is %g; it must be between -100 and 100", i,
                             (double)p->bias[i]);
        for (uint32_t k = 0; k < i; k++)
            if (p->bias_ids[k] == p->bias_ids[i])
                return error_set(err, ST_INVALID_ARGUMENT,
                                 "bias_ids[%u] and bias_ids[%u] are both %u; each id may have one "
                                 "bias",
                                 k, i, p->bias_ids[i]);
    }
    return ST_OK;
}

sampler *sampler_create(uint32_t vocab)
{
    CHECK(vocab > 0 && vocab <= LIMIT_VOCAB);
    sampler *s = mem_calloc(1, sizeof *s);
    s->vocab = vocab;
    s->counts = mem_calloc(vocab, sizeof *s->counts);
    s->candidates = mem_alloc((size_t)vocab * sizeof *s->candidates);
    return s;
}

void sampler_destroy(sampler *s)
{
    if (s == NULL) return;
    mem_free(s->counts);
    mem_free(s->candidates);
    mem_free(s);
}

/* -- random numbers -------------------------------------------------------------- */

void sampling_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0;
        uint64_t b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint64_t sampling_random(uint64_t seed, uint32_t position)
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {position, 0, 0, 0};
    uint32_t words[4];
    sampling_philox(key, counter, words);
    return (uint64_t)words[1] << 32 | words[0];
}

/* -- weights --------------------------------------------------------------------- */

enum { CHUNK = 256 };

/* weights[i] = exp((logits[i] - max) / temperature) * 2^40, rounded down, for up to CHUNK logits.
 *
 * exp: x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 is split so that n times its first part is exact;
 * the Taylor polynomial of degree 7 is off by 5e-9 at most. Without a branch, so that the compiler
 * may use vectors: they give the same bits as one by one. */
static void weigh(const float *logits, uint32_t count, float max, float temperature,
                  uint64_t weights[CHUNK])
{
    const float round_magic = 0x1.8p23f;
    float scaled[CHUNK];
    for (uint32_t i = 0; i < count; i++) {
        float x = (logits[i] - max) / temperature;
        x = x > -30.0f ? x : -30.0f; /* exp(-30) < 2^-40; a masked token has -Inf */
        float n = (x * 0x1.715476p+0f + round_magic) - round_magic;
        float r = x - n * 0x1.62e4p-1f;
        r -= n * 0x1.7f7d1cp-20f;
        float p = 1.0f / 5040;
        p = p * r + 1.0f / 720;
        p = p * r + 1.0f / 120;
        p = p * r + 1.0f / 24;
        p = p * r + 1.0f / 6;
        p = p * r + 0.5f;
        p = p * r + 1.0f;
        p = p * r + 1.0f;
        uint32_t bits = (uint32_t)(127 + 40 + (int32_t)n) << 23;
        float scale;
        memcpy(&scale, &bits, sizeof scale);
        scaled[i] = p * scale;
    }
    for (uint32_t i = 0; i < count; i++)
        weights[i] = (uint64_t)(int64_t)scaled[i];
}

/* Larger key, larger logit; +0 and -0 are one. */
static uint32_t key_of(float logit)
{
    float plain = logit + 0.0f;
    uint32_t bits;
    memcpy(&bits, &plain, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* -- the row before the draw ------------------------------------------------------ */

enum { LANES = 16 }; /* independent so that the compiler may use vectors */

static bool row_is_sound(const float *logits, uint32_t count)
{
    uint32_t bad[LANES] = {0};
    uint32_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (uint32_t k = 0; k < LANES; k++)
            bad[k] |= !(logits[i + k] < INFINITY);
    for (; i < count; i++)
        bad[0] |= !(logits[i] < INFINITY);
    uint32_t any = 0;
    for (uint32_t k = 0; k < LANES; k++)
        any |= bad[k];
    return any == 0;
}

static float row_max(const float *logits, uint32_t count)
{
    float best[LANES];
    for (uint32_t k = 0; k < LANES; k++)
        best[k] = -INFINITY;
    uint32_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (uint32_t k = 0; k < LANES; k++)
            best[k] = logits[i + k] > best[k] ? logits[i + k] : best[k];
    for (; i < count; i++)
        best[0] = logits[i] > best[0] ? logits[i] : best[0];
    for (uint32_t k = 1; k < LANES; k++)
        best[0] = best[k] > best[0] ? best[k] : best[0];
    return best[0];
}

static uint32_t row_find(const float *logits, uint32_t count, float value)
{
    uint32_t i = 0;
    while (i < count && logits[i] != value)
        i++;
    CHECK(i < count);
    return i;
}

/* A request's own numbers may overflow a float; that must not look like a broken model. */
static float keep_finite(float x)
{
    return x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x;
}

static float penalised(float logit, uint32_t count, const sampling_params *p)
{
    if (logit == -INFINITY) return logit;
    if (p->repetition_penalty != 1.0f)
        logit = keep_finite(logit > 0.0f ? logit / p->repetition_penalty
                                         : logit * p->repetition_penalty);
    if (count > 0)
        logit = keep_finite(logit - p->frequency_penalty * (float)count - p->presence_penalty);
    return logit;
}

static void apply_penalties(sampler *s, float *logits, const sampling_params *p,
                            const sampling_context *c)
{
    bool answer_only = p->repetition_penalty == 1.0f;
    if (answer_only && p->frequency_penalty == 0.0f && p->presence_penalty == 0.0f) return;
    uint32_t begin = answer_only ? c->prompt_count : 0;
    for (uint32_t i = begin; i < c->prompt_count; i++)
        s->counts[c->ids[i]] = SEEN_BIT;
    for (uint32_t i = c->prompt_count; i < c->id_count; i++)
        s->counts[c->ids[i]] = (s->counts[c->ids[i]] | SEEN_BIT) + 1;
    for (uint32_t i = begin; i < c->id_count; i++) {
        uint32_t id = c->ids[i];
        if (s->counts[id] == 0) continue;
        logits[id] = penalised(logits[id], s->counts[id] & ~SEEN_BIT, p);
        s->counts[id] = 0;
    }
}

/* -- truncation and draw ---------------------------------------------------------- */

/* Keep the shortest prefix of "likeliest first, lowest id first" that has `count_wanted` candidates
 * or weighs `weight_wanted`, whichever is shorter; all of them when neither is reached.
 *
 * Three rounds over 11, 11 and 10 bits of the key narrow down the key at which the prefix ends:
 * each round counts the candidates that share the bits found so far by their next bits, and goes
 * down the buckets until the one that holds the end. Returns how many are left. */
static uint32_t keep_likeliest(sampler *s, uint32_t count, uint32_t count_wanted,
                               uint64_t weight_wanted)
{
    static const struct {
        uint32_t shift, bits;
    } rounds[] = {{21, 11}, {10, 11}, {0, 10}};
    candidate *c = s->candidates;
    uint32_t end_key = 0, known_bits = 0;
    for (size_t r = 0; r < sizeof rounds / sizeof rounds[0]; r++) {
        uint32_t shift = rounds[r].shift, size = 1u << rounds[r].bits;
        memset(s->bucket_counts, 0, size * sizeof s->bucket_counts[0]);
        memset(s->bucket_weights, 0, size * sizeof s->bucket_weights[0]);
        for (uint32_t i = 0; i < count; i++) {
            if ((c[i].key & known_bits) != end_key) continue;
            uint32_t b = c[i].key >> shift & (size - 1);
            s->bucket_counts[b]++;
            s->bucket_weights[b] += c[i].weight;
        }
        uint32_t b = size - 1;
        for (; b > 0; b--) {
            if (s->bucket_counts[b] >= count_wanted || s->bucket_weights[b] >= weight_wanted) break;
            count_wanted -= s->bucket_counts[b];
            weight_wanted -= s->bucket_weights[b];
        }
        end_key |= b << shift;
        known_bits |= (size - 1) << shift;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (c[i].key < end_key) continue;
        if (c[i].key == end_key) {
            if (count_wanted == 0 || weight_wanted == 0) continue;
            count_wanted--;
            weight_wanted -= c[i].weight < weight_wanted ? c[i].weight : weight_wanted;
        }
        c[kept++] = c[i];
    }
    return kept;
}

static uint64_t total_weight(const candidate *c, uint32_t count)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += c[i].weight;
    return total;
}

static uint32_t draw(sampler *s, const float *logits, uint32_t vocab, float max,
                     const sampling_params *p, uint32_t position)
{
    candidate *c = s->candidates;
    uint32_t count = 0;
    uint64_t weight_min = (uint64_t)(p->min_p * WEIGHT_ONE);
    if (weight_min == 0) weight_min = 1;
    for (uint32_t begin = 0; begin < vocab; begin += CHUNK) {
        uint64_t weights[CHUNK];
        uint32_t size = vocab - begin < CHUNK ? vocab - begin : CHUNK;
        weigh(logits + begin, size, max, p->temperature, weights);
        for (uint32_t i = 0; i < size; i++) {
            uint32_t id = begin + i;
            c[count] = (candidate){.id = id, .key = key_of(logits[id]), .weight = weights[i]};
            count += weights[i] >= weight_min;
        }
    }
    if (p->top_k > 0 && p->top_k < count) count = keep_likeliest(s, count, p->top_k, UINT64_MAX);
    uint64_t total = total_weight(c, count);
    if (p->top_p < 1.0f) {
        uint64_t wanted = (uint64_t)ceil((double)p->top_p * (double)total);
        count = keep_likeliest(s, count, UINT32_MAX, wanted > 0 ? wanted : 1);
        total = total_weight(c, count);
    }
    uint64_t random = sampling_random(p->seed, position);
    uint64_t target = (uint64_t)((unsigned __int128)random * total >> 64); /* below total */
    uint32_t i = 0;
    while (i < count && target >= c[i].weight)
        target -= c[i++].weight;
    CHECK(i < count);
    return c[i].id;
}

/* -- logprobs --------------------------------------------------------------------- */

static void fill_logprobs(const float *logits, uint32_t vocab, float max, uint32_t wanted,
                          sampled_token *out)
{
    uint64_t total = 0;
    for (uint32_t begin = 0; begin < vocab; begin += CHUNK) {
        uint64_t weights[CHUNK];
        uint32_t size = vocab - begin < CHUNK ? vocab - begin : CHUNK;
        weigh(logits + begin, size, max, 1.0f, weights);
        for (uint32_t i = 0; i < size; i++)
            total += weights[i];
    }
    double normaliser = (double)max + log((double)total / (double)WEIGHT_ONE);
    out->logprob = keep_finite((float)((double)logits[out->id] - normaliser));

    float top[LIMIT_LOGPROBS_TOP]; /* likeliest first; a tie keeps the order of ids */
    uint32_t count = 0;
    for (uint32_t id = 0; wanted > 0 && id < vocab; id++) {
        if (logits[id] == -INFINITY || (count == wanted && !(logits[id] > top[count - 1])))
            continue;
        uint32_t at = count < wanted ? count++ : count - 1;
        for (; at > 0 && logits[id] > top[at - 1]; at--) {
            top[at] = top[at - 1];
            out->top_ids[at] = out->top_ids[at - 1];
        }
        top[at] = logits[id];
        out->top_ids[at] = id;
    }
    out->top_count = count;
    for (uint32_t i = 0; i < count; i++)
        out->top_logprobs[i] = keep_finite((float)((double)top[i] - normaliser));
}

status sampler_draw(sampler *s, float *logits, uint32_t vocab_used, const sampling_params *params,
                    const sampling_context *context, sampled_token *out)
{
    CHECK(vocab_used > 0 && vocab_used <= s->vocab);
    if (!row_is_sound(logits, vocab_used)) return ST_INTERNAL;

    for (uint32_t i = 0; i < params->bias_count; i++) {
        float *logit = &logits[params->bias_ids[i]];
        if (*logit != -INFINITY) *logit = keep_finite(*logit + params->bias[i]);
    }
    for (uint32_t i = 0; i < context->masked_count; i++)
        logits[context->masked_ids[i]] = -INFINITY;
    apply_penalties(s, logits, params, context);

    float max = row_max(logits, vocab_used);
    if (max == -INFINITY) return ST_INTERNAL;
    out->logprob = NAN;
    out->top_count = 0;
    out->id = params->temperature == 0.0f
                  ? row_find(logits, vocab_used, max)
                  : draw(s, logits, vocab_used, max, params, context->id_count);
    if (params->logprobs != LOGPROBS_OFF)
        fill_logprobs(logits, vocab_used, max, params->logprobs, out);
    return ST_OK;
}
