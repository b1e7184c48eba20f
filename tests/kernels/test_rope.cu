/* Goal: angles right at any position, and each query, key and value where attention looks for it.
 * Method: against the formulas in double; heads of all strides, partial rotation, padding, norms,
 * and dimensions that take the narrow path; cache rows nobody named keep their poison. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/rope.h"

KERNEL_TEST(angles_are_right_at_any_position)
{
    for (uint32_t rotary : {2u, 64u, 128u, 96u}) {
        std::vector<uint32_t> positions = {0, 1, 17, 4095, 131071, 1000003, 16777215};
        std::vector<float> frequencies(rotary / 2);
        for (uint32_t i = 0; i < rotary / 2; i++)
            frequencies[i] = (float)std::pow(500000.0, -2.0 * i / rotary);
        const float factor = 1.25f;
        std::vector<double> expected;
        for (uint32_t p : positions)
            for (float f : frequencies) {
                double angle = (float)p * f; /* in float, as the contract says */
                expected.push_back(factor * std::cos(angle));
                expected.push_back(factor * std::sin(angle));
            }
        device_array<uint32_t> d_positions(positions);
        device_array<float> d_frequencies(frequencies), angles(expected.size());
        CHECK_CUDA(rope_angles(&test_device(), angles.data(), d_positions.data(),
                               d_frequencies.data(), (uint32_t)positions.size(), rotary, factor,
                               test_stream()));
        std::vector<float> got = angles.read();
        for (size_t i = 0; i < got.size(); i++)
            if (std::fabs(got[i] - expected[i]) > 4e-7)
                test_fail("rotary %u: [%zu] is %.9g, expected %.9g", rotary, i, got[i],
                          expected[i]);
    }
}

struct rope_shape {
    uint32_t heads, kv_heads, head_dim, head_stride, rotary_dim;
    bool norms;
};

static const float eps = 1e-6f;

template <typename T>
static void check(kernel_dtype type, const rope_shape &s, uint32_t tokens, bool graph = false)
{
    const uint32_t blocks = tokens / KERNEL_KV_BLOCK + 3, all = s.heads + 2 * s.kv_heads;
    const size_t cache = (size_t)blocks * s.kv_heads * KERNEL_KV_BLOCK * s.head_stride;
    std::vector<T> qkv = to_elements<T>(test_normal((size_t)tokens * all * s.head_dim, 2, 1));
    std::vector<float> q_norm = test_normal(s.head_dim, 1, 2);
    std::vector<float> k_norm = test_normal(s.head_dim, 1, 3);
    std::vector<float> angles((size_t)tokens * s.rotary_dim);
    std::vector<uint32_t> kv_rows(tokens);
    for (uint32_t t = 0; t < tokens; t++) {
        kv_rows[t] = blocks * KERNEL_KV_BLOCK - 1 - t; /* backwards, no block of its own */
        for (uint32_t i = 0; i < s.rotary_dim / 2; i++) {
            double angle = (t + 1) * std::pow(10000.0, -2.0 * i / s.rotary_dim);
            angles[(size_t)t * s.rotary_dim + 2 * i] = (float)std::cos(angle);
            angles[(size_t)t * s.rotary_dim + 2 * i + 1] = (float)std::sin(angle);
        }
    }

    std::vector<double> want_q((size_t)tokens * s.heads * s.head_stride);
    std::vector<double> want_k(cache, NAN), want_v(cache, NAN);
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t h = 0; h < all; h++) {
            std::vector<double> x(s.head_stride, 0.0);
            for (uint32_t i = 0; i < s.head_dim; i++)
                x[i] = host_float(qkv[((size_t)t * all + h) * s.head_dim + i]);
            bool query = h < s.heads, value = h >= s.heads + s.kv_heads;
            if (s.norms && !value) {
                double squares = 0;
                for (double e : x)
                    squares += e * e;
                for (uint32_t i = 0; i < s.head_dim; i++)
                    x[i] *= (query ? q_norm[i] : k_norm[i]) / std::sqrt(squares / s.head_dim + eps);
            }
            for (uint32_t i = 0; i < s.rotary_dim / 2 && !value; i++) {
                const float *angle = &angles[(size_t)t * s.rotary_dim + 2 * i];
                double a = x[i], b = x[i + s.rotary_dim / 2];
                x[i] = a * angle[0] - b * angle[1];
                x[i + s.rotary_dim / 2] = b * angle[0] + a * angle[1];
            }
            uint32_t kv_head = h - s.heads - (value ? s.kv_heads : 0), row = kv_rows[t];
            size_t at =
                query
                    ? ((size_t)t * s.heads + h) * s.head_stride
                    : (((size_t)(row / KERNEL_KV_BLOCK) * s.kv_heads + kv_head) * KERNEL_KV_BLOCK +
                       row % KERNEL_KV_BLOCK) *
                          s.head_stride;
            std::copy(x.begin(), x.end(), (query ? want_q : value ? want_v : want_k).begin() + at);
        }

    device_array<T> d_qkv(qkv), q(want_q.size()), k(cache), v(cache);
    device_array<float> d_q_norm(q_norm), d_k_norm(k_norm), d_angles(angles);
    device_array<uint32_t> d_rows(kv_rows);
    rope_write_args a = {};
    a.q_out = q.data();
    a.kv = {k.data(), v.data(), s.kv_heads, s.head_dim, s.head_stride};
    a.type = type;
    a.qkv = d_qkv.data();
    a.angles = d_angles.data();
    a.kv_rows = d_rows.data();
    a.q_norm = s.norms ? d_q_norm.data() : nullptr;
    a.k_norm = s.norms ? d_k_norm.data() : nullptr;
    a.tokens = tokens;
    a.heads = s.heads;
    a.rotary_dim = s.rotary_dim;
    a.eps = eps;
    if (graph)
        test_through_graph(
            [&](cudaStream_t stream) { return rope_write(&test_device(), &a, stream); });
    else
        CHECK_CUDA(rope_write(&test_device(), &a, test_stream()));
    std::string what = std::string(dtype_name(type)) + " " + std::to_string(tokens) + " tokens, " +
                       std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " heads of " +
                       std::to_string(s.head_dim) + "/" + std::to_string(s.head_stride) + "/" +
                       std::to_string(s.rotary_dim);
    /* Poison is NaN on both sides; elsewhere NaN differs from everything. */
    auto compare = [&](const char *name, device_array<T> &array, const std::vector<double> &want) {
        std::vector<double> got = to_doubles(array.read()), expected = rounded_to<T>(want);
        for (size_t i = 0; i < got.size(); i++)
            if (std::isnan(want[i]) && std::isnan(got[i])) got[i] = expected[i] = 0;
        expect_close_doubles((std::string(name) + " " + what).c_str(), got, expected,
                             (type == KERNEL_F16 ? 2e-9 : 1e-7) + one_rounding(type, got.size()));
    };
    compare("q", q, want_q);
    compare("k", k, want_k);
    compare("v", v, want_v);
}

static const rope_shape shapes[] = {
    {32, 8, 128, 128, 128, false}, /* Llama 3 */
    {16, 2, 128, 128, 128, true},  /* Qwen 3 */
    {4, 1, 256, 256, 256, true},   /* Gemma 3 */
    {14, 2, 64, 64, 64, false},    /* Qwen 2 */
    {3, 3, 96, 96, 96, false},     /* Phi 3 */
    {4, 2, 80, 96, 80, true},      /* padded */
    {2, 1, 128, 128, 32, true},    /* partly rotated */
    {2, 1, 256, 256, 16, false},   /* a whole warp a head */
    {3, 1, 48, 64, 24, true},      /* narrow: a half is no multiple of 8 */
    {2, 2, 6, 64, 2, true},        /* narrow and mostly padding */
    {1, 1, 250, 256, 250, true},   /* narrow, several units a lane */
};

KERNEL_TEST(every_shape_of_head_is_rotated_and_written)
{
    std::vector<uint32_t> counts = {0, 1, 5};
#ifndef KERNEL_TEST_EMULATED
    counts.insert(counts.end(), {33, 600});
#endif
    for (const rope_shape &shape : shapes)
        for (uint32_t tokens : counts) {
            check<__half>(KERNEL_F16, shape, tokens);
            if (test_device().code_arch >= 80) check<__nv_bfloat16>(KERNEL_BF16, shape, tokens);
        }
}

KERNEL_TEST(it_can_be_captured)
{
    check<__half>(KERNEL_F16, shapes[0], 2, true);
}

KERNEL_TEST(the_largest_count_is_served)
{
#ifdef KERNEL_TEST_EMULATED
    check<__half>(KERNEL_F16, shapes[9], 300);
#else
    check<__half>(KERNEL_F16, shapes[3], 16384);
#endif
}

KERNEL_TEST(what_the_contract_excludes_is_refused)
{
    device_array<__half> q(1024), qkv(1024), k(4096), v(4096);
    device_array<float> angles(256), norm(128);
    device_array<uint32_t> rows(std::vector<uint32_t>{0});
    rope_write_args good = {};
    good.q_out = q.data();
    good.kv = {k.data(), v.data(), 1, 64, 64};
    good.qkv = qkv.data();
    good.angles = angles.data();
    good.kv_rows = rows.data();
    good.tokens = good.heads = 1;
    good.rotary_dim = 64;
    auto refused = [&](const rope_write_args &a) {
        EXPECT_CUDA(cudaErrorInvalidValue, rope_write(&test_device(), &a, test_stream()));
    };
    rope_write_args a = good;
    a.tokens = 16385, refused(a), a = good;
    a.heads = 0, refused(a), a = good;
    a.kv.kv_heads = 0, refused(a), a = good;
    a.rotary_dim = 63, refused(a), a = good;
    a.rotary_dim = 66, refused(a), a = good;
    a.rotary_dim = 0, refused(a), a = good;
    a.kv.head_dim = 65, refused(a), a = good;
    a.kv.head_stride = 72, refused(a), a = good;
    a.type = KERNEL_F32, refused(a), a = good;
    a.q_norm = norm.data(), refused(a), a = good;
    a.qkv = qkv.data() + 1, refused(a), a = good;
    EXPECT_CUDA(cudaErrorInvalidValue, rope_angles(&test_device(), angles.data(), rows.data(),
                                                   norm.data(), 1, 3, 1, test_stream()));
}

KERNEL_TEST_MAIN()
