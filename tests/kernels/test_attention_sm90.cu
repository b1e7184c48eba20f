/* Tests of attention_prefill_sm90 (attention.h): against a float64 reference for its head sizes,
 * groups, lengths around tile edges, cached prefixes, windows and soft caps, with NaN wherever the
 * contract allows anything; and bit for bit against itself with tokens cut into other items. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/attention.h"

#include <algorithm>
#include <memory>

/* -- a step -------------------------------------------------------------------------------------
 */

struct sequence_shape {
    uint32_t cached, tokens;
};

struct step_shape {
    uint32_t heads, kv_heads, head_dim, head_stride, window;
    float softcap;
    std::vector<sequence_shape> sequences;
};

/* Over all rows; a single one, whose values may nearly cancel, has eight times as much. */
static double nmse_max(kernel_dtype dtype)
{
    return dtype == KERNEL_F16 ? 1e-6 : 2e-5;
}

static uint32_t head_stride_of(uint32_t head_dim)
{
    return head_dim <= 64 ? 64 : head_dim <= 96 ? 96 : head_dim <= 128 ? 128 : 256;
}

/* Few multiprocessors, so that a block has several units to do. */
static kernel_device device_with(uint32_t sm_count)
{
    kernel_device device = test_device();
    device.sm_count = std::min(device.sm_count, sm_count);
    return device;
}

static bool prepared()
{
    if (!test_device().has_sm90a) {
        printf("skipped: the device does not run sm_90a code\n");
        return false;
    }
    CHECK_CUDA(attention_prefill_sm90_prepare(&test_device()));
    return true;
}

template <typename T> class prefill_step
{
  public:
    prefill_step(const step_shape &shape, kernel_dtype dtype, uint64_t seed)
        : shape_(shape), dtype_(dtype)
    {
        uint32_t blocks = 3; /* some that nobody has */
        for (const sequence_shape &s : shape.sequences) {
            tokens_ += s.tokens;
            blocks += (s.cached + s.tokens + 15) / 16;
        }
        std::vector<uint32_t> order(blocks);
        for (uint32_t i = 0; i < blocks; i++)
            order[i] = i;
        for (uint32_t left = blocks; left > 1; left--)
            std::swap(order[left - 1], order[test_bits(seed, left - 1) % left]);
        uint32_t taken = 0;
        for (const sequence_shape &s : shape.sequences) {
            block_begin_.push_back((uint32_t)block_tables_.size());
            for (uint32_t b = 0; b < (s.cached + s.tokens + 15) / 16; b++)
                block_tables_.push_back(order[taken++]);
            block_tables_.push_back(0xfffffff0u); /* past the last key: must not be read */
        }
        const size_t row = shape.head_stride;
        q_ = filled((size_t)tokens_ * shape.heads, seed + 1, 1.0f);
        const size_t positions = (size_t)blocks * shape.kv_heads * 16;
        keys_.assign(positions * row, host_element<T>(NAN));
        values_.assign(positions * row, host_element<T>(NAN));
        for (size_t s = 0; s < shape.sequences.size(); s++) {
            const sequence_shape &sequence = shape.sequences[s];
            for (uint32_t p = 0; p < sequence.cached + sequence.tokens; p++) {
                /* No token of the step sees it. */
                if (shape.window != 0 && p + shape.window <= sequence.cached) continue;
                for (uint32_t g = 0; g < shape.kv_heads; g++) {
                    size_t at = kv_row(s, p, g);
                    fill_row(keys_, at, seed + 2, 1.0f);
                    fill_row(values_, at, seed + 3, 1.0f);
                }
            }
        }
        d_q_.reset(new device_array<T>(q_));
        d_keys_.reset(new device_array<T>(keys_));
        d_values_.reset(new device_array<T>(values_));
        d_tables_.reset(new device_array<uint32_t>(block_tables_));
    }

    uint32_t tokens() const
    {
        return tokens_;
    }

    attention_prefill_args args(T *out)
    {
        attention_prefill_args a = {};
        a.kv = {d_keys_->data(), d_values_->data(), shape_.kv_heads, shape_.head_dim,
                shape_.head_stride};
        a.shape = {shape_.heads, shape_.window, scale(), shape_.softcap};
        a.dtype = dtype_;
        a.q = d_q_->data();
        a.out = out;
        a.block_tables = d_tables_->data();
        return a;
    }

    /* Sequences `only` (all if it is empty) in items of at most `item_tokens`, longest first, and
     * an empty one. */
    std::vector<attention_prefill_item> items(uint32_t item_tokens, std::vector<size_t> only = {})
    {
        std::vector<attention_prefill_item> list;
        uint32_t token = 0;
        for (size_t s = 0; s < shape_.sequences.size(); s++) {
            const sequence_shape &sequence = shape_.sequences[s];
            bool chosen = only.empty() || std::find(only.begin(), only.end(), s) != only.end();
            for (uint32_t t = 0; t < sequence.tokens && chosen; t += item_tokens)
                list.push_back({token + t, std::min(item_tokens, sequence.tokens - t),
                                sequence.cached + t, block_begin_[s]});
            token += sequence.tokens;
        }
        std::sort(list.begin(), list.end(),
                  [](const attention_prefill_item &a, const attention_prefill_item &b) {
                      return a.position + a.token_count > b.position + b.token_count;
                  });
        list.insert(list.begin() + (ptrdiff_t)list.size() / 2, {0, 0, 0, 0});
        return list;
    }

    std::vector<T> run(const kernel_device &device, const std::vector<attention_prefill_item> &list,
                       size_t out_shift = 0)
    {
        device_array<T> out((size_t)tokens_ * shape_.heads * shape_.head_dim, out_shift);
        device_array<attention_prefill_item> d_items(list);
        attention_prefill_args a = args(out.data());
        a.items = d_items.data();
        a.item_count = (uint32_t)list.size();
        for (const attention_prefill_item &item : list)
            a.item_tokens_max = std::max(a.item_tokens_max, item.token_count);
        CHECK_CUDA(attention_prefill_sm90(&device, &a, test_stream()));
        return out.read();
    }

    /* Row of (token, head), float64; `every`: of so many tokens one is checked. */
    void check(const std::vector<T> &out, const std::vector<attention_prefill_item> &list,
               uint32_t every = 1)
    {
        const uint32_t group = shape_.heads / shape_.kv_heads;
        uint32_t token = 0, rows_wrong = 0;
        std::vector<double> all_expected, all_got;
        for (size_t s = 0; s < shape_.sequences.size(); s++)
            for (uint32_t t = 0; t < shape_.sequences[s].tokens; t++, token++) {
                if (token % every != 0 && t + 1 != shape_.sequences[s].tokens) continue;
                for (uint32_t h = 0; h < shape_.heads; h++) {
                    std::vector<double> expected = reference(s, token, t, h, h / group), got;
                    const T *row = &out[((size_t)token * shape_.heads + h) * shape_.head_dim];
                    for (uint32_t d = 0; d < shape_.head_dim; d++)
                        got.push_back((double)host_float(row[d]));
                    all_expected.insert(all_expected.end(), expected.begin(), expected.end());
                    all_got.insert(all_got.end(), got.begin(), got.end());
                    double nmse = test_nmse(got, expected);
                    if (nmse <= 8 * nmse_max(dtype_)) continue;
                    rows_wrong++;
                    report(list, s, t, token, h, nmse, got, expected);
                }
            }
        if (rows_wrong > 0) test_fail("%u of %u rows wrong", rows_wrong, tokens_ * shape_.heads);
        expect_close_doubles("all rows", all_got, all_expected, nmse_max(dtype_));
    }

  private:
    float scale() const
    {
        return 1.0f / std::sqrt((float)shape_.head_dim);
    }

    size_t kv_row(size_t s, uint32_t p, uint32_t g) const
    {
        return ((size_t)block_tables_[block_begin_[s] + p / 16] * shape_.kv_heads + g) * 16 +
               p % 16;
    }

    void fill_row(std::vector<T> &to, size_t row, uint64_t seed, float size)
    {
        for (uint32_t d = 0; d < shape_.head_stride; d++) {
            size_t i = row * shape_.head_stride + d;
            double u = test_uniform(seed, 2 * i) + test_uniform(seed, 2 * i + 1) - 1;
            to[i] = host_element<T>(d < shape_.head_dim ? size * 2.4f * (float)u : 0.0f);
        }
    }

    std::vector<T> filled(size_t rows, uint64_t seed, float size)
    {
        std::vector<T> x(rows * shape_.head_stride);
        for (size_t r = 0; r < rows; r++)
            fill_row(x, r, seed, size);
        return x;
    }

    std::vector<double> reference(size_t s, uint32_t token, uint32_t t, uint32_t h, uint32_t g)
    {
        const uint32_t position = shape_.sequences[s].cached + t;
        const uint32_t first =
            shape_.window != 0 && position >= shape_.window ? position - shape_.window + 1 : 0;
        const T *q = &q_[((size_t)token * shape_.heads + h) * shape_.head_stride];
        std::vector<double> scores, sums(shape_.head_dim, 0.0);
        double maximum = -INFINITY, total = 0;
        for (uint32_t p = first; p <= position; p++) {
            const T *key = &keys_[kv_row(s, p, g) * shape_.head_stride];
            double score = 0;
            for (uint32_t d = 0; d < shape_.head_dim; d++)
                score += (double)host_float(q[d]) * (double)host_float(key[d]);
            score *= (double)scale();
            if (shape_.softcap > 0)
                score = (double)shape_.softcap * std::tanh(score / (double)shape_.softcap);
            scores.push_back(score);
            maximum = std::max(maximum, score);
        }
        for (uint32_t p = first; p <= position; p++) {
            const T *value = &values_[kv_row(s, p, g) * shape_.head_stride];
            double weight = std::exp(scores[p - first] - maximum);
            total += weight;
            for (uint32_t d = 0; d < shape_.head_dim; d++)
                sums[d] += weight * (double)host_float(value[d]);
        }
        for (double &x : sums)
            x /= total;
        return sums;
    }

    void report(const std::vector<attention_prefill_item> &list, size_t s, uint32_t t,
                uint32_t token, uint32_t h, double nmse, const std::vector<double> &got,
                const std::vector<double> &expected)
    {
        const double near = dtype_ == KERNEL_F16 ? 0.004 : 0.03;
        uint32_t d = 0, wrong = 0;
        for (uint32_t i = 0; i < shape_.head_dim; i++)
            if (!(std::fabs(got[i] - expected[i]) <= near)) {
                d = wrong == 0 ? i : d;
                wrong++;
            }
        size_t item = 0;
        while (item + 1 < list.size() &&
               !(token >= list[item].token && token < list[item].token + list[item].token_count))
            item++;
        const uint32_t group = shape_.heads / shape_.kv_heads;
        test_fail("sequence %zu (%u cached, %u tokens) token %u head %u: NMSE %.3g, %u of %u "
                  "elements off, first [%u] is %.6g, expected %.6g; item %zu of %u tokens at %u, "
                  "packed row %u",
                  s, shape_.sequences[s].cached, shape_.sequences[s].tokens, t, h, nmse, wrong,
                  shape_.head_dim, d, got[d], expected[d], item, list[item].token_count,
                  list[item].position, (token - list[item].token) * group + h % group);
    }

    step_shape shape_;
    kernel_dtype dtype_;
    uint32_t tokens_ = 0;
    std::vector<uint32_t> block_tables_, block_begin_;
    std::vector<T> q_, keys_, values_;
    std::unique_ptr<device_array<T>> d_q_, d_keys_, d_values_;
    std::unique_ptr<device_array<uint32_t>> d_tables_;
};

template <typename T>
static void run_and_check(const step_shape &shape, kernel_dtype dtype, uint32_t sm_count,
                          size_t out_shift)
{
    prefill_step<T> step(shape, dtype, 5);
    kernel_device device = device_with(sm_count);
    attention_prefill_args args = step.args(nullptr);
    uint32_t tile = attention_prefill_sm90_tile_tokens(&device, &args.kv, &args.shape);
    EXPECT(tile > 0);
    if (tile == 0) return;
    auto list = step.items(tile);
    step.check(step.run(device, list, out_shift), list);
}

/* One step, both types. */
static void expect_right(const step_shape &shape, uint32_t sm_count = 3, size_t out_shift = 0)
{
    const int before = test_failures();
    run_and_check<__half>(shape, KERNEL_F16, sm_count, out_shift);
    if (test_failures() > before)
        test_fail("with F16, %u heads over %u, head_dim %u, window %u, softcap %g", shape.heads,
                  shape.kv_heads, shape.head_dim, shape.window, (double)shape.softcap);
    const int between = test_failures();
    run_and_check<__nv_bfloat16>(shape, KERNEL_BF16, sm_count, out_shift);
    if (test_failures() > between)
        test_fail("with BF16, %u heads over %u, head_dim %u, window %u, softcap %g", shape.heads,
                  shape.kv_heads, shape.head_dim, shape.window, (double)shape.softcap);
}

static step_shape shape_of(uint32_t heads, uint32_t kv_heads, uint32_t head_dim,
                           const std::vector<sequence_shape> &sequences, uint32_t window = 0,
                           float softcap = 0)
{
    return {heads, kv_heads, head_dim, head_stride_of(head_dim), window, softcap, sequences};
}

/* -- cases ----------------------------------------------------------------------------------- */

KERNEL_TEST(one_token)
{
    if (prepared()) expect_right(shape_of(1, 1, 128, {{0, 1}}));
}

KERNEL_TEST(one_tile)
{
    if (prepared()) expect_right(shape_of(1, 1, 128, {{0, 128}}));
}

KERNEL_TEST(lengths_around_tiles)
{
    if (!prepared()) return;
    for (uint32_t tokens : {2u, 16u, 17u, 63u, 64u, 65u, 127u, 129u, 200u})
        expect_right(shape_of(2, 1, 128, {{0, tokens}}));
}

KERNEL_TEST(several_sequences_in_one_step)
{
    if (prepared())
        expect_right(shape_of(4, 2, 128, {{0, 17}, {0, 1}, {0, 130}, {0, 64}, {0, 63}}));
}

KERNEL_TEST(cached_prefixes)
{
    if (prepared())
        expect_right(shape_of(
            4, 1, 128, {{1, 1}, {16, 17}, {127, 1}, {128, 1}, {130, 5}, {250, 70}, {255, 33}}));
}

KERNEL_TEST(every_head_size_that_is_covered)
{
    if (!prepared()) return;
    for (uint32_t head_dim : {8u, 40u, 64u, 112u, 128u, 160u, 256u})
        expect_right(shape_of(2, 1, head_dim, {{3, 70}, {0, 140}}));
}

/* 10 and 126 are no multiples of 8: rows of out are stored word by word; so they are where out is
 * not 16-byte aligned. */
KERNEL_TEST(narrow_stores)
{
    if (!prepared()) return;
    expect_right(shape_of(2, 1, 10, {{0, 70}}));
    expect_right(shape_of(2, 1, 126, {{0, 70}}));
    expect_right(shape_of(2, 1, 128, {{0, 70}}), 3, 2);
}

KERNEL_TEST(groups_of_query_heads)
{
    if (!prepared()) return;
    for (uint32_t group : {1u, 3u, 7u, 64u})
        expect_right(shape_of(group * 2, 2, 64, {{5, 40}, {0, 3}}));
}

KERNEL_TEST(windows)
{
    if (!prepared()) return;
    for (uint32_t window : {1u, 16u, 37u, 128u, 200u})
        expect_right(shape_of(2, 1, 128, {{0, 150}, {300, 70}, {129, 1}}, window));
    expect_right(shape_of(2, 1, 256, {{0, 150}, {190, 70}}, 64));
}

KERNEL_TEST(soft_caps)
{
    if (!prepared()) return;
    expect_right(shape_of(2, 1, 128, {{0, 150}, {20, 3}}, 0, 1.5f));
    expect_right(shape_of(2, 1, 256, {{0, 100}}, 40, 50.0f));
    expect_right(shape_of(2, 1, 64, {{0, 100}}, 0, 0.25f));
}

KERNEL_TEST(more_multiprocessors_than_work)
{
    if (prepared()) expect_right(shape_of(8, 8, 64, {{0, 5}}), 1000);
}

template <typename T> static void check_invariance(const step_shape &shape, kernel_dtype dtype)
{
    prefill_step<T> step(shape, dtype, 11);
    attention_prefill_args args = step.args(nullptr);
    uint32_t tile = attention_prefill_sm90_tile_tokens(&test_device(), &args.kv, &args.shape);
    auto whole = step.run(device_with(3), step.items(tile));
    for (uint32_t cut : {1u, 7u}) {
        expect_same_bits("other items", step.run(device_with(2), step.items(std::min(cut, tile))),
                         whole);
    }
    const size_t row = (size_t)shape.heads * shape.head_dim;
    size_t token = 0;
    for (size_t s = 0; s < shape.sequences.size(); s++) {
        auto alone = step.run(device_with(5), step.items(tile, {s}));
        const size_t end = token + shape.sequences[s].tokens;
        expect_same_bits("a sequence alone",
                         std::vector<T>(alone.begin() + (ptrdiff_t)(token * row),
                                        alone.begin() + (ptrdiff_t)(end * row)),
                         std::vector<T>(whole.begin() + (ptrdiff_t)(token * row),
                                        whole.begin() + (ptrdiff_t)(end * row)));
        for (size_t i = 0; i < alone.size(); i++)
            if ((i < token * row || i >= end * row) && !std::isnan(host_float(alone[i]))) {
                test_fail("token %zu has no item and was written", i / row);
                break;
            }
        token = end;
    }
}

KERNEL_TEST(bits_do_not_depend_on_items_or_neighbours)
{
    if (!prepared()) return;
    check_invariance<__half>(shape_of(4, 1, 128, {{0, 10}, {140, 9}, {300, 1}}), KERNEL_F16);
    check_invariance<__nv_bfloat16>(shape_of(2, 2, 128, {{0, 14}, {260, 6}}, 150, 30.0f),
                                    KERNEL_BF16);
}

KERNEL_TEST(same_bits_through_a_graph)
{
    if (!prepared()) return;
    prefill_step<__half> step(shape_of(4, 2, 128, {{0, 40}, {100, 30}}), KERNEL_F16, 3);
    auto list = step.items(16);
    auto expected = step.run(test_device(), list);
    device_array<__half> out(expected.size());
    device_array<attention_prefill_item> d_items(list);
    attention_prefill_args a = step.args(out.data());
    a.items = d_items.data();
    a.item_count = (uint32_t)list.size();
    a.item_tokens_max = 16;
    test_through_graph(
        [&](cudaStream_t stream) { return attention_prefill_sm90(&test_device(), &a, stream); });
    expect_same_bits("graph", out.read(), expected);
}

KERNEL_TEST(broken_contracts_are_refused)
{
    if (!prepared()) return;
    prefill_step<__half> step(shape_of(4, 2, 128, {{0, 8}}), KERNEL_F16, 3);
    auto list = step.items(8);
    device_array<__half> out((size_t)8 * 4 * 128);
    device_array<attention_prefill_item> d_items(list);
    attention_prefill_args good = step.args(out.data());
    good.items = d_items.data();
    good.item_count = (uint32_t)list.size();
    good.item_tokens_max = 8;
    const kernel_device &device = test_device();
    auto refused = [&](auto change) {
        attention_prefill_args bad = good;
        change(bad);
        return attention_prefill_sm90(&device, &bad, test_stream()) == cudaErrorInvalidValue;
    };
    using args = attention_prefill_args;
    EXPECT(refused([](args &a) { a.q = (const char *)a.q + 2; }));
    EXPECT(refused([](args &a) { a.out = (char *)a.out + 2; }));
    EXPECT(refused([](args &a) { a.kv.keys = (char *)a.kv.keys + 16; }));
    EXPECT(refused([](args &a) { a.kv.values = nullptr; }));
    EXPECT(refused([](args &a) { a.items = nullptr; }));
    EXPECT(refused([](args &a) { a.dtype = KERNEL_F32; }));
    EXPECT(refused([](args &a) { a.kv.head_stride = 96, a.kv.head_dim = 96; }));
    EXPECT(refused([](args &a) { a.kv.head_dim = 129; }));
    EXPECT(refused([](args &a) { a.kv.head_dim = 130; }));
    EXPECT(refused([](args &a) { a.kv.head_dim = 6; }));
    EXPECT(refused([](args &a) { a.shape.heads = 5; }));
    EXPECT(refused([](args &a) { a.shape.heads = 130; }));
    EXPECT(refused([](args &a) { a.shape.scale = 0; }));
    EXPECT(refused([](args &a) { a.shape.softcap = -1; }));
    EXPECT(refused([](args &a) { a.item_tokens_max = 65; }));
    attention_prefill_args none = good;
    none.item_count = 0;
    EXPECT_CUDA(cudaSuccess, attention_prefill_sm90(&device, &none, test_stream()));
    kernel_device older = device;
    older.has_sm90a = false;
    EXPECT_CUDA(cudaErrorInvalidValue, attention_prefill_sm90(&older, &good, test_stream()));
    for (__half x : out.read())
        if (!std::isnan(host_float(x))) {
            test_fail("a refused launch wrote");
            break;
        }
}

/* Sizes that the emulation would take minutes for. */
#if !defined(KERNEL_TEST_EMULATED)
KERNEL_TEST(long_prompts)
{
    if (!prepared()) return;
    expect_right(shape_of(4, 1, 128, {{0, 1000}, {1000, 300}, {0, 77}}), 132);
    expect_right(shape_of(7, 1, 64, {{0, 1000}}, 333), 20);
    expect_right(shape_of(2, 1, 256, {{0, 900}}, 0, 50.0f), 132);
}

template <typename T> static void check_largest(kernel_dtype dtype)
{
    prefill_step<T> step(shape_of(32, 8, 128, {{0, 8192}}), dtype, 17);
    auto list = step.items(32);
    auto out = step.run(test_device(), list);
    step.check(out, list, 997);
    expect_same_bits("a second run", step.run(test_device(), list), out);
}

KERNEL_TEST(prefill_of_8192_tokens)
{
    if (!prepared()) return;
    check_largest<__half>(KERNEL_F16);
    check_largest<__nv_bfloat16>(KERNEL_BF16);
}
#endif

KERNEL_TEST_MAIN()
