/* Goal: the token of sample.h is the one that worker/engine/sampling.c draws, whatever the row
 * wants, whoever shares its step, and however many blocks share its work.
 * Method: random logits and parameters, many of them hostile, through both; equal ids, equal tops,
 * equal logprobs but for the last bit; then what the twin does not have: padding, counts that
 * follow the draws, broken rows beside sound ones, replayed graphs. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/sample.h"

#include <algorithm>

extern "C" {
#define _Static_assert static_assert
#include "worker/engine/sampling.h"
}

static_assert(SAMPLE_TOP_MAX == LIMIT_LOGPROBS_TOP, "");
/* NOLINTNEXTLINE(misc-redundant-expression): they are equal today */
static_assert(SAMPLE_VOCAB_MAX == LIMIT_VOCAB, "");
static_assert(SAMPLE_LOGPROBS_OFF == LOGPROBS_OFF, "");

static const bool is_short = test_is_short();

/* -- random numbers ------------------------------------------------------------------------- */

struct dice {
    uint64_t seed, thrown = 0;

    explicit dice(uint64_t seed_) : seed(seed_)
    {
    }
    uint64_t bits()
    {
        return test_bits(seed, thrown++);
    }
    uint32_t below(uint32_t n)
    {
        return (uint32_t)(bits() % n);
    }
    uint32_t between(uint32_t least, uint32_t most)
    {
        return least + below(most - least + 1);
    }
    float unit()
    {
        return (float)(bits() >> 40) * 0x1p-24f;
    }
    bool one_in(uint32_t n)
    {
        return below(n) == 0;
    }
};

/* -- one step, through the device and through the twin ----------------------------------------- */

struct row_case {
    std::vector<float> logits; /* [vocab] */
    sampling_params params = sampling_params_default();
    std::vector<uint32_t> bias_ids, masked, ids;
    std::vector<float> bias;
    uint32_t prompt_count = 0;
    bool padding = false;
};

struct answer {
    std::vector<sample_result> results;
    std::vector<uint32_t> last_sampled; /* [rows], by slot */
    std::vector<uint16_t> counts;       /* [rows, stride], by slot */
};

static const uint32_t untouched = 0xdeadbeef;

static bool has_penalties(const sampling_params &p)
{
    return p.repetition_penalty != 1.0f || p.presence_penalty != 0.0f ||
           p.frequency_penalty != 0.0f;
}

static uint32_t slot_of(uint32_t row, size_t rows)
{
    return (uint32_t)rows - 1 - row;
}

/* Memory that the host and the device see. */
template <typename T> class mapped_array
{
  public:
    explicit mapped_array(size_t count)
    {
        CHECK_CUDA(cudaHostAlloc(reinterpret_cast<void **>(&host_), (count + 1) * sizeof(T),
                                 cudaHostAllocMapped));
        CHECK_CUDA(cudaHostGetDevicePointer(reinterpret_cast<void **>(&device_), host_, 0));
        memset(static_cast<void *>(host_), 0xff, (count + 1) * sizeof(T));
    }
    mapped_array(const mapped_array &) = delete;
    mapped_array &operator=(const mapped_array &) = delete;
    ~mapped_array()
    {
        cudaFreeHost(host_);
    }
    T *host()
    {
        return host_;
    }
    T *device()
    {
        return device_;
    }

  private:
    T *host_ = nullptr, *device_ = nullptr;
};

/* Wait for the word as the worker does; the stream is not waited for. */
static void wait_done(const uint32_t *done, uint32_t sequence)
{
    auto start = std::chrono::steady_clock::now();
    while (__atomic_load_n(done, __ATOMIC_ACQUIRE) != sequence)
        if (std::chrono::steady_clock::now() - start > std::chrono::seconds(20)) {
            test_cuda(cudaStreamQuery(test_stream()), "waiting for a step", __FILE__, __LINE__);
            printf("    a step did not finish\n");
            exit(1);
        }
}

/* The same device with another number of SMs: a row is split into another number of blocks. */
static kernel_device device_with(uint32_t sm_count)
{
    kernel_device device = test_device();
    device.sm_count = sm_count;
    return device;
}

static uint32_t round_up(uint32_t x, uint32_t to)
{
    return (x + to - 1) / to * to;
}

/* What the device needs for one step of up to `rows` rows. */
class step_memory
{
  public:
    step_memory(uint32_t rows, uint32_t vocab)
        : stride(round_up(vocab, 8)), logits(rows * (size_t)stride), row(rows), step(1),
          last_sampled(std::vector<uint32_t>(rows, untouched)), counts(rows * (size_t)stride),
          workspace(std::vector<unsigned char>(sample_workspace_bytes(rows))),
          bias_ids(rows * (size_t)LIMIT_LOGIT_BIASES), bias(rows * (size_t)LIMIT_LOGIT_BIASES),
          masked_ids(rows * (size_t)LIMIT_LOGIT_BIASES), results(rows), done(1)
    {
    }

    sample_args args(uint32_t rows, uint32_t vocab)
    {
        sample_args a = {};
        a.logits = logits.data();
        a.logits_stride = stride;
        a.rows = rows;
        a.vocab_used = vocab;
        a.row = row.data();
        a.step = step.data();
        a.bias_ids = bias_ids.data();
        a.bias = bias.data();
        a.masked_ids = masked_ids.data();
        a.counts = counts.data();
        a.counts_stride = stride;
        a.last_sampled = last_sampled.data();
        a.workspace = workspace.data();
        return a;
    }

    uint32_t stride;
    device_array<float> logits;
    device_array<sample_row> row;
    device_array<sample_step> step;
    device_array<uint32_t> last_sampled;
    device_array<uint16_t> counts;
    device_array<unsigned char> workspace;
    device_array<uint32_t> bias_ids;
    device_array<float> bias;
    device_array<uint32_t> masked_ids;
    mapped_array<sample_result> results;
    mapped_array<uint32_t> done;
};

static void write_step(step_memory &m, const std::vector<row_case> &rows, uint32_t sequence,
                       uint32_t row_count)
{
    std::vector<float> logits(m.logits.size(), NAN), bias(m.bias.size());
    std::vector<uint32_t> bias_ids(m.bias_ids.size()), masked(m.masked_ids.size());
    std::vector<sample_row> described(m.row.size());
    uint32_t biases = 0, masks = 0;
    for (uint32_t i = 0; i < rows.size(); i++) {
        const row_case &r = rows[i];
        std::copy(r.logits.begin(), r.logits.end(), logits.begin() + i * (size_t)m.stride);
        sample_row &d = described[i];
        memset(&d, 0, sizeof d);
        d.seed = r.params.seed;
        d.slot = slot_of(i, m.row.size());
        d.position = (uint32_t)r.ids.size();
        d.temperature = r.params.temperature;
        d.top_k = r.params.top_k;
        d.top_p = r.params.top_p;
        d.min_p = r.params.min_p;
        d.repetition_penalty = r.params.repetition_penalty;
        d.presence_penalty = r.params.presence_penalty;
        d.frequency_penalty = r.params.frequency_penalty;
        d.logprobs = r.params.logprobs;
        d.bias_begin = biases;
        d.bias_count = (uint32_t)r.bias.size();
        d.masked_begin = masks;
        d.masked_count = (uint32_t)r.masked.size();
        d.flags = (r.padding && i < row_count ? SAMPLE_ROW_SKIP : 0) |
                  (has_penalties(r.params) ? SAMPLE_ROW_PENALTIES : 0);
        std::copy(r.bias.begin(), r.bias.end(), bias.begin() + biases);
        std::copy(r.bias_ids.begin(), r.bias_ids.end(), bias_ids.begin() + biases);
        std::copy(r.masked.begin(), r.masked.end(), masked.begin() + masks);
        biases += (uint32_t)r.bias.size();
        masks += (uint32_t)r.masked.size();
    }
    m.logits.write(logits);
    m.row.write(described);
    m.bias.write(bias);
    m.bias_ids.write(bias_ids);
    m.masked_ids.write(masked);
    sample_step step = {m.results.device(), m.done.device(), sequence, row_count};
    m.step.write({step});
    CHECK_CUDA(cudaDeviceSynchronize()); /* copies have arrived before another stream reads */
}

static void load_counts(step_memory &m, const row_case &r, uint32_t slot, uint32_t vocab)
{
    device_array<uint32_t> ids(r.ids);
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK_CUDA(sample_counts_load(m.counts.data(), m.stride, slot, vocab, ids.data(),
                                  (uint32_t)r.ids.size(), r.prompt_count, test_stream()));
    CHECK_CUDA(cudaStreamSynchronize(test_stream()));
}

static answer sample_rows(const std::vector<row_case> &rows, uint32_t vocab, uint32_t sm_count,
                          bool greedy_only = false)
{
    uint32_t count = (uint32_t)rows.size();
    step_memory m(count, vocab);
    for (uint32_t i = 0; i < count; i++)
        if (has_penalties(rows[i].params)) load_counts(m, rows[i], slot_of(i, count), vocab);
    write_step(m, rows, 7, count);
    kernel_device device = device_with(sm_count);
    sample_args args = m.args(count, vocab);
    CHECK_CUDA(sample(&device, &args, greedy_only, test_stream()));
    answer a;
    wait_done(m.done.host(), 7);
    a.results.assign(m.results.host(), m.results.host() + count);
    a.last_sampled = m.last_sampled.read();
    a.counts = m.counts.read();
    return a;
}

/* The twin's answer to one row. */
static status draw_by_twin(sampler *twin, const row_case &r, uint32_t vocab, sampled_token *token)
{
    sampling_params p = r.params;
    p.bias_count = (uint32_t)r.bias.size();
    p.bias_ids = const_cast<uint32_t *>(r.bias_ids.data());
    p.bias = const_cast<float *>(r.bias.data());
    sampling_context c = {};
    c.ids = r.ids.data();
    c.prompt_count = r.prompt_count;
    c.id_count = (uint32_t)r.ids.size();
    c.masked_ids = r.masked.data();
    c.masked_count = (uint32_t)r.masked.size();
    std::vector<float> logits = r.logits;
    return sampler_draw(twin, logits.data(), vocab, &p, &c, token);
}

/* log() may differ in its last bit, which a float seldom shows. */
static bool is_near(float a, float b)
{
    return a == b || (std::isnan(a) && std::isnan(b)) ||
           std::fabs(a - b) <= 1.2e-7f * std::fabs(b) + 1e-9f;
}

static void expect_twin(const char *what, sampler *twin, const std::vector<row_case> &rows,
                        uint32_t vocab, const answer &a)
{
    for (uint32_t i = 0; i < rows.size(); i++) {
        const row_case &r = rows[i];
        const sample_result &got = a.results[i];
        uint32_t slot = slot_of(i, rows.size());
        sample_result poison;
        memset(&poison, 0xff, sizeof poison);
        if (r.padding) {
            /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): its bits are what counts */
            if (memcmp(&got, &poison, sizeof got) != 0 || a.last_sampled[slot] != untouched)
                test_fail("%s: row %u is padding and was written", what, i);
            continue;
        }
        sampled_token token;
        memset(&token, 0, sizeof token);
        if (draw_by_twin(twin, r, vocab, &token) != ST_OK) {
            if (got.status != SAMPLE_BROKEN || a.last_sampled[slot] != untouched)
                test_fail("%s: row %u is broken, status %u", what, i, got.status);
            continue;
        }
        if (got.status != SAMPLE_DRAWN || got.id != token.id || a.last_sampled[slot] != token.id ||
            !is_near(got.logprob, token.logprob) || got.top_count != token.top_count) {
            test_fail("%s: vocab %u row %u: status %u id %u logprob %g tops %u, twin %u %g %u "
                      "(T %g k %u p %g m %g logprobs %u)",
                      what, vocab, i, got.status, got.id, (double)got.logprob, got.top_count,
                      token.id, (double)token.logprob, token.top_count,
                      (double)r.params.temperature, r.params.top_k, (double)r.params.top_p,
                      (double)r.params.min_p, r.params.logprobs);
            continue;
        }
        for (uint32_t k = 0; k < token.top_count; k++)
            if (got.top_ids[k] != token.top_ids[k] ||
                !is_near(got.top_logprobs[k], token.top_logprobs[k])) {
                test_fail("%s: row %u: top %u is %u %g, twin %u %g", what, i, k, got.top_ids[k],
                          (double)got.top_logprobs[k], token.top_ids[k],
                          (double)token.top_logprobs[k]);
                break;
            }
        if (!has_penalties(r.params)) continue;
        std::vector<uint32_t> expected(vocab);
        for (uint32_t k = 0; k < r.ids.size(); k++)
            expected[r.ids[k]] = k < r.prompt_count ? 0x8000 : expected[r.ids[k]] + 1;
        expected[token.id]++;
        size_t stride = a.counts.size() / rows.size();
        for (uint32_t id = 0; id < vocab; id++)
            if (a.counts[slot * stride + id] != expected[id]) {
                test_fail("%s: row %u: count of %u is %#x, expected %#x", what, i, id,
                          a.counts[slot * stride + id], expected[id]);
                break;
            }
    }
}

/* -- random rows ----------------------------------------------------------------------------- */

static std::vector<float> random_logits(dice &d, uint32_t vocab)
{
    uint32_t kind = d.below(10);
    float scale = kind == 0 ? 0.1f : kind == 1 ? 3.4e38f : kind < 6 ? 3.0f : 12.0f;
    std::vector<float> x(vocab);
    for (float &logit : x) {
        logit = (d.unit() + d.unit() + d.unit() - 1.5f) / 1.5f * scale;
        if (kind == 2) logit = std::round(logit); /* ties, zeros of both signs */
        if (kind == 3 && !d.one_in(8)) logit = -INFINITY;
        if (kind == 4) logit = 0.25f; /* nothing but ties */
        if (kind == 5) logit *= 1e-38f;
    }
    if (kind == 3) x[d.below(vocab)] = 1.0f;
    if (kind == 6) x[d.below(vocab)] = 200.0f;
    if (kind == 7) std::sort(x.begin(), x.end()); /* the likeliest lie together */
    return x;
}

static row_case random_row(dice &d, uint32_t vocab)
{
    row_case r;
    r.logits = random_logits(d, vocab);
    sampling_params &p = r.params;
    p.seed = d.bits();
    const float temperatures[] = {0.0f, 1e-40f, 0.05f, 1.0f, 100.0f};
    p.temperature = d.one_in(3) ? temperatures[d.below(5)] : 0.2f + 2.0f * d.unit();
    if (d.one_in(2)) p.top_k = d.between(1, d.one_in(2) ? vocab + 2 : std::min(vocab, 40u));
    const float nuclei[] = {1e-6f, 0.5f, 0.95f, 0.999999f};
    if (d.one_in(2)) p.top_p = d.one_in(2) ? nuclei[d.below(4)] : 0.01f + 0.98f * d.unit();
    if (d.one_in(3)) p.min_p = d.one_in(4) ? 1.0f : 0.3f * d.unit();
    if (d.one_in(4)) p.repetition_penalty = d.one_in(4) ? 1e-38f : 0.5f + 1.5f * d.unit();
    if (d.one_in(4)) p.presence_penalty = 4.0f * d.unit() - 2.0f;
    if (d.one_in(4)) p.frequency_penalty = 4.0f * d.unit() - 2.0f;
    p.logprobs = d.one_in(2) ? LOGPROBS_OFF : d.below(SAMPLE_TOP_MAX + 1);
    if (d.one_in(3)) {
        for (uint32_t id = d.below(vocab); id < vocab && r.bias.size() < LIMIT_LOGIT_BIASES;
             id += d.between(1, vocab)) {
            r.bias_ids.push_back(id);
            r.bias.push_back(200.0f * d.unit() - 100.0f);
        }
    }
    if (d.one_in(3) && vocab > 5)
        for (uint32_t i = d.between(1, 4); i > 0; i--)
            r.masked.push_back(!r.bias_ids.empty() && d.one_in(2) ? r.bias_ids[0] : d.below(vocab));
    r.ids.resize(d.between(1, 60));
    for (uint32_t &id : r.ids)
        id = d.below(vocab);
    r.prompt_count = d.between(1, (uint32_t)r.ids.size());
    r.padding = d.one_in(10);
    return r;
}

static void expect_same(const char *what, const sample_result &a, const sample_result &b)
{
    bool same = a.status == b.status;
    if (same && a.status == SAMPLE_DRAWN) {
        same = memcmp(&a, &b, offsetof(sample_result, top_ids)) == 0;
        same = same && memcmp(a.top_ids, b.top_ids, a.top_count * sizeof a.top_ids[0]) == 0;
        same = same &&
               memcmp(a.top_logprobs, b.top_logprobs, a.top_count * sizeof a.top_logprobs[0]) == 0;
    }
    if (!same) test_fail("%s: ids %u and %u", what, a.id, b.id);
}

static void compare_with_twin(uint32_t vocab, uint32_t rows, uint32_t steps, uint64_t seed)
{
    sampler *twin = sampler_create(vocab);
    for (uint32_t s = 0; s < steps; s++) {
        dice d(seed + s);
        std::vector<row_case> batch;
        for (uint32_t i = 0; i < rows; i++)
            batch.push_back(random_row(d, vocab));
        uint32_t many = 16 * rows; /* SMs: as many blocks a row as there can be */
        answer split = sample_rows(batch, vocab, many), whole = sample_rows(batch, vocab, 1);
        expect_twin("many blocks", twin, batch, vocab, split);
        expect_twin("one block", twin, batch, vocab, whole);
        for (uint32_t i = 0; i < rows; i++)
            expect_same("one block against many", whole.results[i], split.results[i]);
        uint32_t one = d.below(rows);
        if (batch[one].padding) continue;
        answer alone = sample_rows({batch[one]}, vocab, many);
        expect_same("alone against in a batch", alone.results[0], split.results[one]);
    }
    sampler_destroy(twin);
}

KERNEL_TEST(one_row_draws_what_the_twin_draws)
{
    for (uint32_t vocab : {1u, 5u, 97u, 1000u})
        compare_with_twin(vocab, 1, is_short ? 25 : 150, 1000 * vocab);
}

KERNEL_TEST(seven_rows_draw_what_the_twin_draws)
{
    for (uint32_t vocab : {1u, 5u, 97u, 1000u})
        compare_with_twin(vocab, 7, is_short ? 9 : 120, 100000 * vocab);
}

KERNEL_TEST(rows_of_many_blocks_draw_what_the_twin_draws)
{
    compare_with_twin(5000, 7, is_short ? 8 : 60, 1);
    compare_with_twin(20001, 2, is_short ? 8 : 60, 2);
}

KERNEL_TEST(large_vocabularies_draw_what_the_twin_draws)
{
    if (is_short) return;
    compare_with_twin(50257, 64, 2, 3);
    compare_with_twin(128256, 1, 40, 4);
    compare_with_twin(128256, 33, 2, 5);
    compare_with_twin(128256, 256, 1, 6);
    compare_with_twin(SAMPLE_VOCAB_MAX, 3, 3, 7);
}

/* -- cases by hand ------------------------------------------------------------------------------
 */

/* Lists overflow, nuclei are longer than lists, top-k is too long for them, and truncations end
 * among thousands of equals. */
KERNEL_TEST(truncations_beyond_the_list_draw_what_the_twin_draws)
{
    const uint32_t vocab = 6000;
    sampler *twin = sampler_create(vocab);
    dice d(99);
    for (uint32_t kind = 0; kind < 4; kind++) {
        std::vector<row_case> rows;
        for (uint32_t top_k : {0u, 2u, 3u, 40u, 800u, 5000u, vocab + 1})
            for (float top_p : {1.0f, 0.9999f, 0.9f, 1e-3f}) {
                row_case r;
                r.logits = test_normal(vocab, kind == 0 ? 0.01f : 1.0f, d.bits());
                for (float &x : r.logits)
                    x = kind == 2 ? std::round(x) : kind == 3 ? 0.0f * x : x;
                if (kind == 3) r.logits[vocab - 1] = 8.0f; /* behind all the equals */
                r.ids = {1};
                r.prompt_count = 1;
                r.params.seed = d.bits();
                r.params.temperature = 0.7f + d.unit();
                r.params.top_k = top_k;
                r.params.top_p = top_p;
                const uint32_t logprobs[] = {LOGPROBS_OFF, 0, 1, 20};
                r.params.logprobs = logprobs[rows.size() % 4];
                rows.push_back(r);
            }
        expect_twin("many blocks", twin, rows, vocab, sample_rows(rows, vocab, 100));
        expect_twin("one block", twin, rows, vocab, sample_rows(rows, vocab, 1));
    }
    sampler_destroy(twin);
}

KERNEL_TEST(greedy_steps_take_the_lowest_of_equals)
{
    for (uint32_t vocab : {1u, 5u, 97u, 5000u}) {
        sampler *twin = sampler_create(vocab);
        for (uint64_t seed = 0; seed < (is_short ? 12 : 50); seed++) {
            dice d(seed);
            std::vector<row_case> rows;
            for (uint32_t i = 0; i < 5; i++) {
                row_case r = random_row(d, vocab);
                r.params.temperature = 0;
                r.params.logprobs = LOGPROBS_OFF;
                rows.push_back(r);
            }
            expect_twin("greedy only", twin, rows, vocab, sample_rows(rows, vocab, 20, true));
            expect_twin("greedy", twin, rows, vocab, sample_rows(rows, vocab, 20, false));
        }
        sampler_destroy(twin);
    }
}

/* A broken logit is found wherever it is, whatever a request does to it, and harms no other row. */
KERNEL_TEST(broken_rows_are_flagged)
{
    const uint32_t vocab = 37;
    sampler *twin = sampler_create(vocab);
    const float broken[] = {NAN, -NAN, INFINITY};
    for (uint32_t at = 0; at < vocab; at++) {
        std::vector<row_case> rows;
        for (uint32_t i = 0; i < 5; i++) {
            row_case r;
            r.logits.assign(vocab, 0.5f);
            r.ids = {at, at};
            r.prompt_count = 1;
            if (i < 3) r.logits[at] = broken[i];
            if (i == 4) r.logits.assign(vocab, -INFINITY);
            r.params.temperature = (at + i) % 2 ? 0.0f : 1.0f;
            r.params.top_p = i == 1 ? 0.9f : 1.0f;
            if (at % 4 == 1) {
                r.bias_ids = {at};
                r.bias = {-5.0f};
            }
            if (at % 4 == 2) r.masked = {at};
            if (at % 4 == 3) r.params.repetition_penalty = 2.0f;
            rows.push_back(r);
        }
        answer a = sample_rows(rows, vocab, 20);
        expect_twin("broken", twin, rows, vocab, a);
        for (uint32_t i = 0; i < 5; i++)
            EXPECT(a.results[i].status == (i == 3 ? SAMPLE_DRAWN : SAMPLE_BROKEN));
    }
    sampler_destroy(twin);
}

/* Five steps enqueued without a look at what they drew: penalties know all the same. */
KERNEL_TEST(penalties_follow_the_draws_of_steps_in_flight)
{
    const uint32_t vocab = 200, count = 3, steps = 12;
    sampler *twin = sampler_create(vocab);
    dice d(5);
    std::vector<row_case> rows;
    for (uint32_t i = 0; i < count; i++) {
        row_case r;
        r.logits = random_logits(d, vocab);
        r.params.seed = i;
        r.params.temperature = i == 0 ? 0.0f : 0.8f;
        r.params.frequency_penalty = 1.5f;
        r.params.presence_penalty = i == 1 ? -0.5f : 0.5f;
        r.params.repetition_penalty = i == 2 ? 1.0f : 1.3f;
        r.ids = {3, 4, 5, 3, 150, 3};
        r.prompt_count = 4;
        rows.push_back(r);
    }
    step_memory m(count, vocab);
    for (uint32_t i = 0; i < count; i++)
        load_counts(m, rows[i], slot_of(i, count), vocab);
    for (uint32_t s = 0; s < steps; s++) {
        write_step(m, rows, s + 1, count);
        sample_args args = m.args(count, vocab);
        CHECK_CUDA(sample(&test_device(), &args, false, test_stream()));
        wait_done(m.done.host(), s + 1);
        for (uint32_t i = 0; i < count; i++) {
            sampled_token token;
            EXPECT(draw_by_twin(twin, rows[i], vocab, &token) == ST_OK);
            EXPECT(m.results.host()[i].id == token.id);
            rows[i].ids.push_back(token.id);
        }
    }
    sampler_destroy(twin);
}

KERNEL_TEST(counts_saturate_and_are_cleared)
{
    const uint32_t vocab = 21;
    row_case r;
    r.logits.assign(vocab, 0.0f);
    r.logits[6] = 50.0f;
    r.params.temperature = 0;
    r.params.frequency_penalty = 1e-6f;
    r.ids.assign(40000, 6);
    r.ids[0] = 7;
    r.ids[39999] = 20;
    r.prompt_count = 3;
    step_memory m(2, vocab);
    load_counts(m, r, 1, vocab);
    std::vector<uint16_t> counts = m.counts.read();
    EXPECT(counts[m.stride + 6] == 0xffff && counts[m.stride + 7] == 0x8000);
    EXPECT(counts[m.stride + 20] == 1 && counts[m.stride + 5] == 0);
    EXPECT(counts[0] == 0xffff); /* the other slot, as it was made */

    write_step(m, {r}, 1, 1);
    sample_args args = m.args(1, vocab);
    CHECK_CUDA(sample(&test_device(), &args, true, test_stream()));
    wait_done(m.done.host(), 1);
    EXPECT(m.results.host()[0].id == 6);
    EXPECT(m.counts.read()[m.stride + 6] == 0xffff);

    r.ids = {2};
    r.prompt_count = 0;
    load_counts(m, r, 1, vocab);
    counts = m.counts.read();
    for (uint32_t id = 0; id < vocab; id++)
        EXPECT(counts[m.stride + id] == (id == 2));
}

/* One captured graph serves steps of fewer rows, with other parameters and another destination. */
KERNEL_TEST(a_graph_is_replayed_with_other_rows)
{
    const uint32_t vocab = 500, most = 4;
    sampler *twin = sampler_create(vocab);
    step_memory m(most, vocab);
    sample_args args = m.args(most, vocab);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK_CUDA(cudaStreamBeginCapture(test_stream(), cudaStreamCaptureModeGlobal));
    CHECK_CUDA(sample(&test_device(), &args, false, test_stream()));
    CHECK_CUDA(cudaStreamEndCapture(test_stream(), &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    for (uint32_t s = 1; s <= 20; s++) {
        dice d(s);
        uint32_t count = s % (most + 1);
        std::vector<row_case> rows;
        for (uint32_t i = 0; i < most; i++) {
            rows.push_back(random_row(d, vocab));
            rows[i].params.repetition_penalty = 1;
            rows[i].params.presence_penalty = rows[i].params.frequency_penalty = 0;
            rows[i].padding = i >= count;
        }
        write_step(m, rows, s, count);
        m.last_sampled.write(std::vector<uint32_t>(most, untouched));
        CHECK_CUDA(cudaDeviceSynchronize());
        memset(static_cast<void *>(m.results.host()), 0xff, most * sizeof(sample_result));
        CHECK_CUDA(cudaGraphLaunch(exec, test_stream()));
        wait_done(m.done.host(), s);
        answer a;
        a.results.assign(m.results.host(), m.results.host() + most);
        a.last_sampled = m.last_sampled.read();
        expect_twin("replay", twin, rows, vocab, a);
    }
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    CHECK_CUDA(cudaGraphDestroy(graph));
    sampler_destroy(twin);
}

/* Chi-square of draws at different positions against softmax in double. */
KERNEL_TEST(draws_follow_the_distribution)
{
    const uint32_t vocab = 16, rows = is_short ? 8 : 1024, steps = is_short ? 60 : 100;
    std::vector<double> weight(vocab);
    std::vector<uint32_t> seen(vocab);
    double sum = 0;
    row_case r;
    r.logits.resize(vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        r.logits[i] = 0.2f * (float)(i * 7 % vocab);
        sum += weight[i] = std::exp((double)r.logits[i] / 1.5);
    }
    r.params.temperature = 1.5f;
    step_memory m(rows, vocab);
    for (uint32_t s = 0; s < steps; s++) {
        std::vector<row_case> batch(rows, r);
        for (uint32_t i = 0; i < rows; i++) {
            batch[i].params.seed = i;
            batch[i].ids.resize(s + 1);
        }
        write_step(m, batch, s + 1, rows);
        sample_args args = m.args(rows, vocab);
        CHECK_CUDA(sample(&test_device(), &args, false, test_stream()));
        wait_done(m.done.host(), s + 1);
        for (uint32_t i = 0; i < rows; i++)
            seen[m.results.host()[i].id % vocab]++;
    }
    double chi2 = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        double expected = (double)rows * steps * weight[i] / sum;
        chi2 += (seen[i] - expected) * (seen[i] - expected) / expected;
    }
    EXPECT(chi2 < 44.3); /* 15 degrees of freedom: exceeded once in 10,000 */
    EXPECT(chi2 > 1.5);
}

KERNEL_TEST(broken_contracts_launch_nothing)
{
    step_memory m(2, 40);
    sample_args good = m.args(2, 40), a = good;
    kernel_device device = device_with(1);
    a.rows = 0;
    EXPECT_CUDA(cudaSuccess, sample(&device, &a, false, test_stream()));
    a.rows = SAMPLE_ROWS_MAX + 1;
    EXPECT_CUDA(cudaErrorInvalidValue, sample(&device, &a, false, test_stream()));
    a = good;
    a.vocab_used = 0;
    EXPECT_CUDA(cudaErrorInvalidValue, sample(&device, &a, false, test_stream()));
    a.vocab_used = 41;
    EXPECT_CUDA(cudaErrorInvalidValue, sample(&device, &a, false, test_stream()));
    a = good;
    a.logits_stride = 42;
    EXPECT_CUDA(cudaErrorInvalidValue, sample(&device, &a, false, test_stream()));
    a = good;
    a.logits++;
    EXPECT_CUDA(cudaErrorInvalidValue, sample(&device, &a, false, test_stream()));
    a = good;
    a.counts_stride = 36;
    EXPECT_CUDA(cudaErrorInvalidValue, sample(&device, &a, false, test_stream()));
    EXPECT_CUDA(cudaErrorInvalidValue,
                sample_counts_load(m.counts.data(), 40, 0, 41, nullptr, 0, 0, test_stream()));
    EXPECT_CUDA(cudaErrorInvalidValue,
                sample_counts_load(m.counts.data(), 40, 0, 40, nullptr, 1, 0, test_stream()));
}

KERNEL_TEST_MAIN()
