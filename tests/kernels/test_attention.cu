/* attention. Goal: prefill and decode are softmax(q k^T) v for every shape that models have, use
 * nothing that a token may not see, and give a row bits that depend on nothing but the row. Method:
 * random caches behind shuffled block tables, NaN wherever no visible key lies, against sums in
 * double; the same rows computed by other cuts, in other company and by single-token items. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/attention_plan.h"
#include "worker/cuda/kernels/attention.h"

#include <algorithm>
#include <memory>

static const bool is_short = test_is_short();

struct shape_case {
    uint32_t heads, kv_heads, head_dim, head_stride;
    uint32_t window;
    float softcap;
};

/* Asked for, chunks are as short as they get. */
static const uint32_t many_items = 1u << 20;

/* One sequence of a step. */
struct part {
    uint32_t position, token_count;
};

static double nmse_max(kernel_dtype dtype)
{
    return dtype == KERNEL_F16 ? 1e-6 : 2e-5;
}

/* A step's inputs for one layer. Sequence s's keys depend on (seed, s's `content`) alone, so that
 * the same sequence can be met in another step. */
template <typename T> class step
{
  public:
    step(const shape_case &c, const std::vector<part> &parts,
         const std::vector<uint32_t> &content = {})
        : c_(c), parts_(parts), content_(content)
    {
        if (content_.empty())
            for (uint32_t s = 0; s < parts.size(); s++)
                content_.push_back(s);
        uint32_t blocks = 3; /* some that nobody owns */
        for (const part &p : parts_)
            blocks += (p.position + p.token_count + 15) / 16;
        std::vector<uint32_t> free(blocks);
        for (uint32_t b = 0; b < blocks; b++)
            free[b] = b;
        for (uint32_t left = blocks; left > 1; left--)
            std::swap(free[left - 1], free[test_bits(77, left - 1) % left]);

        size_t block_size = (size_t)c.kv_heads * 16 * c.head_stride;
        keys_.assign(blocks * block_size, nan());
        values_ = keys_;
        for (uint32_t s = 0; s < parts_.size(); s++) {
            const part &p = parts_[s];
            sequences_.push_back({tokens_, p.token_count, p.position, (uint32_t)table_.size()});
            uint32_t end = p.position + p.token_count;
            for (uint32_t b = 0; b < (end + 15) / 16; b++) {
                table_.push_back(free.back());
                free.pop_back();
            }
            table_.push_back(0xfffffff0u); /* past the end: must not be followed */
            for (uint32_t j = first_visible(p.position); j < end; j++)
                write_key(s, j);
            write_queries(s);
            tokens_ += p.token_count;
        }
        device_keys_.reset(new device_array<T>(keys_));
        device_values_.reset(new device_array<T>(values_));
        device_q_.reset(new device_array<T>(q_));
        device_table_.reset(new device_array<uint32_t>(table_));
    }

    kernel_kv kv()
    {
        return {device_keys_->data(), device_values_->data(), c_.kv_heads, c_.head_dim,
                c_.head_stride};
    }
    attention_shape shape() const
    {
        return {c_.heads, c_.window, 1.0f / std::sqrt((float)c_.head_dim), c_.softcap};
    }
    const std::vector<attention_sequence> &sequences() const
    {
        return sequences_;
    }
    size_t out_size() const
    {
        return (size_t)tokens_ * c_.heads * c_.head_dim;
    }

    attention_prefill_args prefill_args()
    {
        attention_prefill_args a = {};
        a.kv = kv();
        a.shape = shape();
        a.dtype = dtype();
        a.q = device_q_->data();
        a.block_tables = device_table_->data();
        return a;
    }

    /* Items of `tile` tokens (0: the launcher's own), run as one launch. */
    std::vector<T> prefill(uint32_t tile = 0, uint32_t padding = 0,
                           const kernel_device &device = test_device())
    {
        kernel_kv cache = kv();
        attention_shape s = shape();
        uint32_t largest = attention_prefill_mma_tile_tokens(&device, &cache, &s);
        if (tile == 0) tile = largest;
        std::vector<attention_prefill_item> items(
            attention_plan_prefill_items_max(tokens_, sequences_.size(), tile));
        items.resize(
            attention_plan_prefill(sequences_.data(), sequences_.size(), tile, items.data()));
        items.resize(items.size() + padding, attention_prefill_item{});
        device_array<attention_prefill_item> device_items(items);
        device_array<T> out(out_size());
        attention_prefill_args a = prefill_args();
        a.out = out.data();
        a.items = device_items.data();
        a.item_count = (uint32_t)items.size();
        a.item_tokens_max = tile;
        CHECK_CUDA(attention_prefill_mma(&device, &a, test_stream()));
        return out.read();
    }

    std::vector<T> decode(bool captured = false, const kernel_device &device = test_device(),
                          uint32_t items_wanted = many_items)
    {
        uint32_t longest = 0;
        for (const part &p : parts_)
            longest = std::max(longest, p.position + 1);
        std::vector<attention_decode_item> items(
            attention_plan_decode_items_max(sequences_.size(), longest, items_wanted));
        size_t slots = items.size();
        items.resize(attention_plan_decode(sequences_.data(), sequences_.size(), c_.window,
                                           items_wanted, items.data()));
        device_array<attention_decode_item> device_items(items);
        device_array<uint32_t> count(std::vector<uint32_t>{(uint32_t)items.size()});
        device_array<float> partials(slots *
                                     attention_decode_partial_floats(c_.heads, c_.head_stride));
        device_array<uint32_t> tickets(std::vector<uint32_t>(slots * c_.kv_heads, 0));
        device_array<T> out(out_size());
        attention_decode_args a = {};
        a.kv = kv();
        a.shape = shape();
        a.dtype = dtype();
        a.q = device_q_->data();
        a.out = out.data();
        a.items = device_items.data();
        a.item_count = count.data();
        a.block_tables = device_table_->data();
        a.partials = partials.data();
        a.tickets = tickets.data();
        auto run = [&](cudaStream_t stream) { return attention_decode(&device, &a, stream); };
        if (captured)
            test_through_graph(run);
        else
            CHECK_CUDA(run(test_stream()));
        for (uint32_t ticket : tickets.read())
            EXPECT(ticket == 0);
        return out.read();
    }

    /* Compare all rows, or of large steps `rows_max` of them, with sums in double. */
    void expect_right(const char *what, const std::vector<T> &out, size_t rows_max = 600)
    {
        std::vector<double> got, expected;
        size_t rows = (size_t)tokens_ * c_.heads;
        size_t stride = rows > rows_max ? rows / rows_max : 1;
        for (uint32_t s = 0; s < parts_.size(); s++)
            for (uint32_t t = 0; t < parts_[s].token_count; t++)
                for (uint32_t h = 0; h < c_.heads; h++) {
                    size_t row = (size_t)(sequences_[s].token_begin + t) * c_.heads + h;
                    bool last = s + 1 == parts_.size() && t + 1 == parts_[s].token_count;
                    if (stride > 1 && !last && test_bits(5, row) % stride != 0) continue;
                    std::vector<double> r = reference(s, t, h);
                    expected.insert(expected.end(), r.begin(), r.end());
                    for (uint32_t d = 0; d < c_.head_dim; d++)
                        got.push_back(host_float(out[row * c_.head_dim + d]));
                }
        size_t broken = 0;
        for (const T &x : out)
            broken += !std::isfinite(host_float(x));
        if (broken > 0)
            test_fail("%s: %zu numbers of %zu are not finite", what, broken, out.size());
        char name[200];
        snprintf(name, sizeof name, "%s %s heads %u/%u dim %u/%u window %u cap %g, %zu sequences",
                 what, dtype_name(dtype()), c_.heads, c_.kv_heads, c_.head_dim, c_.head_stride,
                 c_.window, c_.softcap, parts_.size());
        expect_close_doubles(name, got, expected, nmse_max(dtype()));
    }

    /* Rows of one sequence. */
    std::vector<T> rows_of(const std::vector<T> &out, uint32_t s) const
    {
        size_t row = (size_t)c_.heads * c_.head_dim;
        auto begin = out.begin() + (ptrdiff_t)(sequences_[s].token_begin * row);
        return std::vector<T>(begin, begin + (ptrdiff_t)(parts_[s].token_count * row));
    }

    static kernel_dtype dtype()
    {
        return std::is_same<T, __half>::value ? KERNEL_F16 : KERNEL_BF16;
    }

  private:
    static T nan()
    {
        return host_element<T>(NAN);
    }
    uint32_t first_visible(uint32_t position) const
    {
        return c_.window > 0 && position >= c_.window ? position - c_.window + 1 : 0;
    }

    size_t cache_row(uint32_t s, uint32_t key, uint32_t kv_head) const
    {
        uint32_t block = table_[sequences_[s].block_begin + key / 16];
        return (((size_t)block * c_.kv_heads + kv_head) * 16 + key % 16) * c_.head_stride;
    }

    /* A number for element `d` of a row: cheap, and with some large ones. */
    static float number(uint64_t kind, uint64_t a, uint64_t b, uint64_t d)
    {
        uint64_t bits = test_bits(kind * 1000003 + a, b * 1024 + d);
        double sum = 0; /* of four uniform numbers: nearly normal */
        for (int i = 0; i < 4; i++)
            sum += (double)(bits >> 16 * i & 0xffff) / 65536.0 - 0.5;
        return (float)(sum * 1.7320508);
    }

    void write_key(uint32_t s, uint32_t key)
    {
        for (uint32_t h = 0; h < c_.kv_heads; h++) {
            size_t row = cache_row(s, key, h);
            for (uint32_t d = 0; d < c_.head_stride; d++) {
                bool real = d < c_.head_dim;
                uint64_t element = (uint64_t)h * 256 + d;
                float k = real ? number(1 + content_[s], key, element, 0) : 0;
                float v = real ? number(1001 + content_[s], key, element, 0) : 0;
                keys_[row + d] = host_element<T>(k);
                values_[row + d] = host_element<T>(v);
            }
        }
    }

    void write_queries(uint32_t s)
    {
        for (uint32_t t = 0; t < parts_[s].token_count; t++)
            for (uint32_t h = 0; h < c_.heads; h++)
                for (uint32_t d = 0; d < c_.head_stride; d++) {
                    uint64_t element = (uint64_t)h * 256 + d;
                    float q = 3 * number(2001 + content_[s], parts_[s].position + t, element, 0);
                    q_.push_back(host_element<T>(d < c_.head_dim ? q : 0.0f));
                }
    }

    std::vector<double> reference(uint32_t s, uint32_t t, uint32_t h) const
    {
        uint32_t p = parts_[s].position + t, begin = first_visible(p);
        uint32_t kv_head = h / (c_.heads / c_.kv_heads);
        attention_shape sh = shape();
        size_t q = ((size_t)(sequences_[s].token_begin + t) * c_.heads + h) * c_.head_stride;
        std::vector<double> query(c_.head_dim), scores, out(c_.head_dim, 0.0);
        for (uint32_t d = 0; d < c_.head_dim; d++)
            query[d] = host_float(q_[q + d]);
        double largest = -INFINITY, sum = 0;
        for (uint32_t j = begin; j <= p; j++) {
            const T *key = &keys_[cache_row(s, j, kv_head)];
            double dot = 0;
            for (uint32_t d = 0; d < c_.head_dim; d++)
                dot += query[d] * (double)host_float(key[d]);
            double score = dot * (double)sh.scale;
            if (c_.softcap > 0) score = (double)c_.softcap * std::tanh(score / (double)c_.softcap);
            scores.push_back(score);
            largest = std::max(largest, score);
        }
        for (uint32_t j = begin; j <= p; j++) {
            const T *value = &values_[cache_row(s, j, kv_head)];
            double weight = std::exp(scores[j - begin] - largest);
            sum += weight;
            for (uint32_t d = 0; d < c_.head_dim; d++)
                out[d] += weight * (double)host_float(value[d]);
        }
        for (double &x : out)
            x /= sum;
        return out;
    }

    shape_case c_;
    std::vector<part> parts_;
    std::vector<uint32_t> content_;
    std::vector<attention_sequence> sequences_;
    std::vector<uint32_t> table_;
    std::vector<T> keys_, values_, q_;
    uint32_t tokens_ = 0;
    std::unique_ptr<device_array<T>> device_keys_, device_values_, device_q_;
    std::unique_ptr<device_array<uint32_t>> device_table_;
};

static void prepare()
{
    CHECK_CUDA(attention_prefill_mma_prepare(&test_device()));
    CHECK_CUDA(attention_decode_prepare(&test_device()));
}

/* Calls f(T()) for every element type of the device. */
template <typename F> static void for_types(F f)
{
    prepare();
    for (kernel_dtype dtype : test_dtypes()) {
        if (dtype == KERNEL_F16)
            f(__half());
        else
            f(__nv_bfloat16());
    }
}

/* Head dimensions and groups of the families, and the odd ones; small. */
static const std::vector<shape_case> shapes = {
    {2, 2, 8, 64, 0, 0},    {4, 1, 64, 64, 0, 0},   {7, 1, 64, 64, 0, 0},    {8, 2, 80, 96, 0, 0},
    {4, 2, 96, 96, 0, 0},   {8, 1, 128, 128, 0, 0}, {16, 1, 128, 128, 0, 0}, {2, 2, 128, 128, 0, 0},
    {4, 2, 256, 256, 0, 0}, {2, 1, 200, 256, 0, 0},
};

KERNEL_TEST(prefill_matches_double_for_every_shape)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (const shape_case &c : shapes) {
            step<T> s(c, {{0, 1}, {0, 17}, {37, 20}, {0, 2}, {64, 3}});
            s.expect_right("prefill", s.prefill());
        }
    });
}

KERNEL_TEST(prefill_of_every_length_around_the_tiles)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (const shape_case &c : {shape_case{2, 1, 64, 64, 0, 0}, shape_case{1, 1, 16, 64, 0, 0}})
            for (uint32_t n : {1u, 2u, 15u, 16u, 17u, 63u, 64u, 65u, 127u, 128u, 129u}) {
                step<T> s(c, {{0, n}});
                s.expect_right("prefill", s.prefill());
            }
    });
}

KERNEL_TEST(prefill_after_a_cached_prefix)
{
    for_types([](auto t) {
        using T = decltype(t);
        shape_case c = {4, 1, 128, 128, 0, 0};
        for (uint32_t position : {1u, 15u, 16u, 63u, 64u, 65u, 130u}) {
            step<T> s(c, {{position, 33}, {position, 1}});
            s.expect_right("prefill", s.prefill());
        }
    });
}

KERNEL_TEST(windows_hide_what_is_far)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (uint32_t window : {1u, 16u, 100u, 1000u}) {
            shape_case c = {4, 2, 64, 64, window, 0};
            step<T> prefill(c, {{0, 70}, {200, 40}, {99, 1}, {100, 2}});
            prefill.expect_right("prefill", prefill.prefill());
            step<T> decode(c, {{0, 1}, {15, 1}, {16, 1}, {99, 1}, {100, 1}, {300, 1}, {511, 1}});
            decode.expect_right("decode", decode.decode());
        }
        shape_case wide = {2, 1, 256, 256, 24, 50.0f};
        step<T> s(wide, {{90, 40}});
        s.expect_right("prefill", s.prefill());
    });
}

KERNEL_TEST(softcap_bounds_the_scores)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (float cap : {0.5f, 3.0f, 50.0f}) {
            shape_case c = {4, 2, 128, 128, 0, cap};
            step<T> prefill(c, {{0, 30}, {70, 9}});
            prefill.expect_right("prefill", prefill.prefill());
            step<T> decode(c, {{30, 1}, {300, 1}});
            decode.expect_right("decode", decode.decode());
        }
    });
}

KERNEL_TEST(decode_matches_double_for_every_shape)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (const shape_case &c : shapes) {
            step<T> s(c, {{0, 1}, {255, 1}, {17, 1}, {530, 1}, {256, 1}});
            s.expect_right("decode", s.decode());
        }
        for (const shape_case &c :
             {shape_case{24, 1, 64, 64, 0, 0}, shape_case{64, 1, 64, 64, 0, 0}}) {
            step<T> s(c, {{40, 1}, {300, 1}});
            s.expect_right("decode", s.decode());
            s.expect_right("prefill", s.prefill());
        }
    });
}

KERNEL_TEST(decode_of_every_length_around_pages_and_chunks)
{
    for_types([](auto t) {
        using T = decltype(t);
        shape_case c = {4, 1, 64, 64, 0, 0};
        std::vector<part> parts;
        for (uint32_t n : {1u, 2u, 15u, 16u, 17u, 63u, 64u, 65u, 127u, 128u, 129u, 255u, 256u, 257u,
                           511u, 512u, 513u, 769u})
            parts.push_back({n - 1, 1});
        step<T> s(c, parts);
        s.expect_right("decode", s.decode());
        expect_same_bits("a graph's decode", s.decode(true), s.decode());
    });
}

/* As on a device of another size: other forms of the kernels, other walks over the units. */
static std::vector<kernel_device> other_devices()
{
    kernel_device one = test_device(), three = test_device(), small = test_device();
    one.sm_count = 1;
    three.sm_count = 3;
    small.shared_bytes_max = 99 * 1024;
    CHECK_CUDA(attention_prefill_mma_prepare(&small));
    CHECK_CUDA(attention_decode_prepare(&small));
    return {one, three, small};
}

KERNEL_TEST(prefill_bits_do_not_depend_on_the_form)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (uint32_t head : {64u, 96u, 128u}) {
            step<T> s({4, 2, head, head, 50, 0}, {{0, 90}, {70, 5}, {3, 1}});
            std::vector<T> out = s.prefill();
            for (const kernel_device &device : other_devices())
                expect_same_bits("another form", s.prefill(0, 0, device), out);
        }
    });
}

KERNEL_TEST(decode_walks_over_many_units)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (const shape_case &c :
             {shape_case{4, 2, 128, 128, 0, 0}, shape_case{20, 1, 64, 64, 0, 0},
              shape_case{2, 2, 256, 256, 400, 0}}) {
            step<T> s(c, {{600, 1}, {0, 1}, {300, 1}, {20, 1}, {256, 1}, {511, 1}, {40, 1}});
            std::vector<T> out = s.decode();
            s.expect_right("decode", out);
            for (uint32_t items_wanted : {1u, 3u})
                s.expect_right("long chunks", s.decode(false, test_device(), items_wanted));
            for (const kernel_device &device : other_devices()) {
                expect_same_bits("another walk", s.decode(false, device), out);
                s.expect_right("decode", s.decode(true, device));
            }
        }
    });
}

/* More chunks than a warp has lanes, and chunks of more pages than it has table entries. */
KERNEL_TEST(decode_of_a_long_context)
{
    for_types([](auto t) {
        using T = decltype(t);
        shape_case c = {2, 1, 64, 64, 0, 0};
        step<T> s(c, {{is_short ? 17000u : 140000u, 1}, {12000, 1}});
        s.expect_right("short chunks", s.decode());
        s.expect_right("long chunks", s.decode(false, test_device(), 1));
    });
}

KERNEL_TEST(prefill_bits_do_not_depend_on_the_cut)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (const shape_case &c :
             {shape_case{4, 1, 128, 128, 0, 0}, shape_case{6, 2, 96, 96, 40, 0},
              shape_case{2, 1, 256, 256, 0, 20.0f}}) {
            const uint32_t n = is_short ? 100 : 300;
            step<T> whole(c, {{0, n}}, {3});
            std::vector<T> expected = whole.prefill();
            whole.expect_right("prefill", expected);
            for (uint32_t tile : {1u, 5u})
                expect_same_bits("smaller items", whole.prefill(tile), expected);
            /* as chunks of other steps, among strangers */
            for (uint32_t chunk : {1u, 27u, 64u})
                for (uint32_t begin = 0; begin < n; begin += chunk) {
                    if (is_short && chunk == 1 && begin % 33 > 1) continue;
                    uint32_t count = std::min(chunk, n - begin);
                    step<T> part(c, {{5, 11}, {begin, count}, {0, 3}}, {8, 3, 9});
                    std::vector<T> got = part.rows_of(part.prefill(), 1);
                    size_t row = (size_t)c.heads * c.head_dim;
                    auto from = expected.begin() + (ptrdiff_t)(begin * row);
                    expect_same_bits("a chunk", got,
                                     std::vector<T>(from, from + (ptrdiff_t)(count * row)));
                }
        }
    });
}

KERNEL_TEST(decode_bits_do_not_depend_on_the_batch)
{
    for_types([](auto t) {
        using T = decltype(t);
        for (uint32_t window : {0u, 300u}) {
            shape_case c = {8, 2, 128, 128, window, 0};
            const std::vector<part> parts = {{700, 1}, {3, 1}, {255, 1}, {256, 1}, {511, 1}};
            step<T> all(c, parts, {1, 2, 3, 4, 5});
            std::vector<T> together = all.decode();
            for (uint32_t s = 0; s < parts.size(); s++) {
                step<T> alone(c, {parts[s]}, {s + 1});
                expect_same_bits("alone", alone.decode(), all.rows_of(together, s));
            }
        }
    });
}

KERNEL_TEST(padding_is_harmless)
{
    for_types([](auto t) {
        using T = decltype(t);
        shape_case c = {4, 2, 64, 64, 0, 0};
        step<T> s(c, {{0, 1}, {0, 1}, {20, 1}});
        std::vector<T> out = s.prefill();
        expect_same_bits("items without tokens", s.prefill(0, 5), out);
        s.expect_right("prefill", out);
        s.expect_right("decode", s.decode());
    });
}

KERNEL_TEST(no_item_is_no_work)
{
    prepare();
    step<__half> s({4, 2, 64, 64, 0, 0}, {{0, 3}});
    device_array<__half> out(s.out_size());
    device_array<uint32_t> count(std::vector<uint32_t>{0});
    attention_prefill_args p = s.prefill_args();
    p.out = out.data();
    CHECK_CUDA(attention_prefill_mma(&test_device(), &p, test_stream()));
    attention_decode_args d = {};
    d.kv = s.kv();
    d.shape = s.shape();
    d.dtype = KERNEL_F16;
    d.out = out.data();
    d.item_count = count.data();
    CHECK_CUDA(attention_decode(&test_device(), &d, test_stream()));
    for (__half x : out.read())
        EXPECT(std::isnan(host_float(x)));
}

KERNEL_TEST(broken_contracts_are_refused)
{
    prepare();
    step<__half> s({4, 2, 64, 64, 0, 0}, {{0, 3}});
    device_array<attention_prefill_item> items(1);
    attention_prefill_args good = s.prefill_args();
    good.items = items.data();
    good.item_count = 1;
    good.item_tokens_max = 1;
    std::vector<attention_prefill_args> bad(10, good);
    bad[0].kv.head_stride = 72;
    bad[1].kv.head_dim = 65;
    bad[2].kv.head_dim = 7;
    bad[3].kv.kv_heads = 0;
    bad[4].shape.heads = 5;
    bad[5].shape.heads = 2 * (ATTENTION_GROUP_MAX + 1);
    bad[6].shape.scale = 0;
    bad[7].shape.softcap = -1;
    bad[8].item_tokens_max = 1000;
    bad[9].dtype = KERNEL_F32;
    for (const attention_prefill_args &a : bad) {
        EXPECT_CUDA(cudaErrorInvalidValue,
                    attention_prefill_mma(&test_device(), &a, test_stream()));
        if (&a - bad.data() == 8) continue;
        attention_decode_args d = {};
        d.kv = a.kv;
        d.shape = a.shape;
        d.dtype = a.dtype;
        EXPECT_CUDA(cudaErrorInvalidValue, attention_decode(&test_device(), &d, test_stream()));
    }
    if (test_device().code_arch < 80) {
        good.dtype = KERNEL_BF16;
        EXPECT_CUDA(cudaErrorInvalidValue,
                    attention_prefill_mma(&test_device(), &good, test_stream()));
    }
}

/* -- plans ----------------------------------------------------------------------------------------
 */

KERNEL_TEST(prefill_plan_covers_each_token_once_longest_first)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        std::vector<attention_sequence> sequences;
        uint32_t tokens = 0, tile = 1 + (uint32_t)(test_bits(seed, 0) % 40);
        for (uint64_t s = 0; s < 1 + test_bits(seed, 1) % 9; s++) {
            uint32_t count = 1 + (uint32_t)(test_bits(seed, 10 + s) % 200);
            sequences.push_back(
                {tokens, count, (uint32_t)(test_bits(seed, 30 + s) % 500), (uint32_t)s * 7});
            tokens += count;
        }
        std::vector<attention_prefill_item> items(
            attention_plan_prefill_items_max(tokens, sequences.size(), tile));
        size_t count =
            attention_plan_prefill(sequences.data(), sequences.size(), tile, items.data());
        EXPECT(count <= items.size());
        items.resize(count);
        std::vector<int> covered(tokens, 0);
        double before = INFINITY;
        for (const attention_prefill_item &item : items) {
            EXPECT(item.token_count >= 1 && item.token_count <= tile);
            double cost = 0;
            for (uint32_t i = 0; i < item.token_count; i++)
                cost += item.position + i + 1;
            EXPECT(cost <= before);
            before = cost;
            for (const attention_sequence &s : sequences)
                if (item.token >= s.token_begin && item.token < s.token_begin + s.token_count) {
                    EXPECT(item.position - s.position == item.token - s.token_begin);
                    EXPECT(item.token + item.token_count <= s.token_begin + s.token_count);
                    EXPECT(item.block_begin == s.block_begin);
                }
            for (uint32_t i = 0; i < item.token_count; i++)
                covered[item.token + i]++;
        }
        EXPECT(std::count(covered.begin(), covered.end(), 1) == (ptrdiff_t)tokens);
    }
}

KERNEL_TEST(decode_plan_covers_each_visible_key_once)
{
    for (uint32_t window : {0u, 1u, 16u, 255u, 256u, 257u, 5000u, 100000u})
        for (uint32_t position :
             {0u, 1u, 15u, 16u, 255u, 256u, 257u, 4095u, 16383u, 16384u, 16640u, 99999u, 1048575u})
            for (uint32_t wanted : {1u, 33u, many_items}) {
                attention_sequence seq = {9, 1, position, 4};
                std::vector<attention_decode_item> items(
                    attention_plan_decode_items_max(1, position + 1, wanted));
                size_t count = attention_plan_decode(&seq, 1, window, wanted, items.data());
                EXPECT(count >= 1 && count <= items.size());
                items.resize(count);
                std::sort(items.begin(), items.end(),
                          [](const attention_decode_item &a, const attention_decode_item &b) {
                              return a.chunk < b.chunk;
                          });
                uint32_t next = window != 0 && position >= window ? position - window + 1 : 0;
                for (size_t i = 0; i < count; i++) {
                    const attention_decode_item &item = items[i];
                    EXPECT(item.token == 9 && item.block_begin == 4 && item.position == position);
                    EXPECT(item.chunk == i && item.chunk_count == count && item.slot_begin == 0);
                    EXPECT(item.key_begin == next && item.key_end > item.key_begin);
                    EXPECT(i == 0 || item.key_begin % ATTENTION_CHUNK_TOKENS == 0);
                    next = item.key_end;
                }
                EXPECT(next == position + 1);
            }
}

/* Random steps: slots do not overlap, there is room for all, long items come first, and there are
 * as many as wanted where keys suffice. */
KERNEL_TEST(decode_plan_of_many_sequences)
{
    for (uint32_t round = 0; round < 300; round++) {
        uint32_t thrown = 0;
        auto dice = [&](uint32_t n) { return (uint32_t)(test_bits(round, thrown++) % n); };
        const uint32_t n = 1 + dice(60), longest = 1 + dice(16000), wanted = 1 + dice(100);
        const uint32_t window = dice(3) == 0 ? 1 + dice(6000) : 0;
        std::vector<attention_sequence> sequences;
        uint64_t keys = 0;
        for (uint32_t s = 0; s < n; s++) {
            sequences.push_back({s, 1, dice(longest), 0});
            uint32_t visible = sequences[s].position + 1;
            keys += window != 0 ? std::min(visible, window) : visible;
        }
        std::vector<attention_decode_item> items(
            attention_plan_decode_items_max(n, longest, wanted));
        size_t count = attention_plan_decode(sequences.data(), n, window, wanted, items.data());
        EXPECT(count >= n && count <= items.size());
        std::vector<int> used(items.size(), 0);
        uint32_t least = UINT32_MAX, most = 0;
        for (size_t i = 0; i < count; i++)
            most = std::max(most, items[i].key_end - items[i].key_begin);
        for (size_t i = 0; i < count; i++) {
            uint32_t length = items[i].key_end - items[i].key_begin;
            EXPECT(items[i].slot_begin + items[i].chunk < used.size());
            EXPECT(used[items[i].slot_begin + items[i].chunk]++ == 0);
            EXPECT(i == 0 || length <= least + most / 2 + 1);
            least = std::min(least, length);
        }
        EXPECT(count >= std::min<uint64_t>(wanted, keys / (2 * ATTENTION_CHUNK_TOKENS)));
    }
}

/* Sizes of real models. */
KERNEL_TEST(large_prefill_and_decode)
{
    if (is_short) return;
    for_types([](auto t) {
        using T = decltype(t);
        for (const shape_case &c :
             {shape_case{32, 8, 128, 128, 0, 0}, shape_case{28, 4, 128, 128, 0, 0},
              shape_case{16, 8, 256, 256, 1024, 50.0f}, shape_case{32, 32, 96, 96, 0, 0}}) {
            step<T> prefill(c, {{0, 2000}, {1500, 700}, {3000, 1}});
            std::vector<T> out = prefill.prefill();
            prefill.expect_right("prefill", out, 300);
            expect_same_bits("single tokens", prefill.prefill(1), out);
            expect_same_bits("again", prefill.prefill(), out);
            std::vector<part> parts;
            for (uint32_t s = 0; s < 40; s++)
                parts.push_back({(uint32_t)(test_bits(4, s) % (s % 10 == 0 ? 5000 : 700)), 1});
            step<T> decode(c, parts);
            out = decode.decode();
            decode.expect_right("decode", out, 300);
            for (int again = 0; again < 20; again++)
                expect_same_bits("again", decode.decode(again % 2 == 0), out);
        }
    });
}

KERNEL_TEST_MAIN()
