/* Goal: both gated functions on all types and widths, the row scale's exact rule, and the cap.
 * Method: against the formulas in double rounded to T once; ends of the range by hand. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/activation.h"

static double function_of(gated_function function, double x)
{
    if (function == GATED_SILU) return x / (1 + std::exp(-x));
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

template <typename T, typename In>
static void check(kernel_dtype type, kernel_dtype in_type, gated_function function, bool scaled,
                  uint32_t tokens, uint32_t inner, float deviation)
{
    std::vector<In> in =
        to_elements<In>(test_normal((size_t)tokens * 2 * inner, deviation, inner + tokens));
    std::vector<double> expected((size_t)tokens * inner), scales(tokens, 1.0);
    for (uint32_t t = 0; t < tokens; t++) {
        const In *row = in.data() + (size_t)t * 2 * inner;
        double most = 0;
        for (uint32_t i = 0; i < inner; i++) {
            double a = function_of(function, host_float(row[i])) * host_float(row[inner + i]);
            expected[(size_t)t * inner + i] = a;
            most = std::fmax(most, std::fabs(a));
        }
        while (scaled && most / scales[t] > 16384)
            scales[t] *= 2;
        for (uint32_t i = 0; i < inner; i++)
            expected[(size_t)t * inner + i] /= scales[t];
    }
    device_array<In> d_in(in);
    device_array<T> out(expected.size());
    device_array<float> row_scale(tokens);
    CHECK_CUDA(gated_activation(&test_device(), out.data(), type, d_in.data(), in_type, function,
                                scaled ? row_scale.data() : nullptr, tokens, inner, test_stream()));
    std::string what = std::string(dtype_name(in_type)) + " to " + dtype_name(type) + " " +
                       std::to_string(tokens) + "x" + std::to_string(inner) +
                       (function == GATED_SILU ? " silu" : " gelu") + (scaled ? " scaled" : "");
    expect_close(what.c_str(), out.read(), rounded_to<T>(expected),
                 (type == KERNEL_F16 ? 1e-8 : 3e-7) + one_rounding(type, expected.size()));
    if (scaled) expect_close((what + " scale").c_str(), row_scale.read(), scales, 0);
}

KERNEL_TEST(every_type_and_size_meets_the_formula)
{
    std::vector<uint32_t> sizes = {8, 10, 250, 2048, 14336};
    std::vector<uint32_t> counts = {0, 1, 3};
#ifndef KERNEL_TEST_EMULATED
    sizes.insert(sizes.end(), {4864, 28672, 262144});
    counts.insert(counts.end(), {64, 500});
#endif
    for (uint32_t inner : sizes)
        for (uint32_t tokens : counts)
            for (gated_function f : {GATED_SILU, GATED_GELU_TANH}) {
                if ((uint64_t)inner * tokens > 1u << 20) continue;
                check<__half, __half>(KERNEL_F16, KERNEL_F16, f, false, tokens, inner, 3);
                check<__half, float>(KERNEL_F16, KERNEL_F32, f, false, tokens, inner, 3);
                check<__half, float>(KERNEL_F16, KERNEL_F32, f, true, tokens, inner, 3);
                check<__half, float>(KERNEL_F16, KERNEL_F32, f, true, tokens, inner, 400);
                if (test_device().code_arch < 80) continue;
                check<__nv_bfloat16, __nv_bfloat16>(KERNEL_BF16, KERNEL_BF16, f, false, tokens,
                                                    inner, 3);
                check<__nv_bfloat16, float>(KERNEL_BF16, KERNEL_F32, f, true, tokens, inner, 3);
            }
}

KERNEL_TEST(the_largest_count_is_served)
{
#ifdef KERNEL_TEST_EMULATED
    check<__half, float>(KERNEL_F16, KERNEL_F32, GATED_SILU, true, 600, 8, 300);
#else
    check<__half, __half>(KERNEL_F16, KERNEL_F16, GATED_SILU, false, 16384, 512, 3);
    check<__half, float>(KERNEL_F16, KERNEL_F32, GATED_SILU, true, 16384, 512, 300);
#endif
}

/* Gates far out: f(x) is 0 or x there, never NaN. */
KERNEL_TEST(ends_of_the_range_stay_finite)
{
    std::vector<float> in(16, 1.0f);
    const float gates[8] = {-1e30f, -3e4f, -100, -0.0f, 0, 100, 3e4f, 1e5f};
    const double expected[8] = {0, 0, 0, 0, 0, 100, 3e4, 1e5};
    memcpy(in.data(), gates, sizeof gates);
    for (gated_function function : {GATED_SILU, GATED_GELU_TANH}) {
        device_array<float> d_in(in), row_scale(1);
        device_array<__half> out(8);
        CHECK_CUDA(gated_activation(&test_device(), out.data(), KERNEL_F16, d_in.data(), KERNEL_F32,
                                    function, row_scale.data(), 1, 8, test_stream()));
        std::vector<__half> y = out.read();
        EXPECT(row_scale.read()[0] == 8.0f);
        for (int i = 0; i < 8; i++)
            EXPECT(std::fabs(8 * host_float(y[i]) - expected[i]) <= 1e-3 * expected[i]);
    }
}

/* The scale is 1 up to 2^14 exactly, and 2 from the next number on. */
KERNEL_TEST(rows_are_scaled_by_the_least_power_of_two)
{
    const float most[4] = {16384.0f, 16385.0f, 32768.0f, 32769.0f};
    const float scale[4] = {1, 2, 2, 4};
    std::vector<float> in(4 * 16, 0.0f);
    for (int t = 0; t < 4; t++) {
        in[t * 16 + 3] = 64; /* silu(64) = 64 in float */
        in[t * 16 + 8 + 3] = most[t] / 64;
    }
    device_array<float> d_in(in), row_scale(4);
    device_array<__half> out(4 * 8);
    CHECK_CUDA(gated_activation(&test_device(), out.data(), KERNEL_F16, d_in.data(), KERNEL_F32,
                                GATED_SILU, row_scale.data(), 4, 8, test_stream()));
    std::vector<float> s = row_scale.read();
    std::vector<__half> y = out.read();
    for (int t = 0; t < 4; t++) {
        EXPECT(s[t] == scale[t]);
        EXPECT(std::fabs(host_float(y[t * 8 + 3]) * s[t] - most[t]) <= most[t] / 1024);
    }
}

KERNEL_TEST(logits_are_capped)
{
    for (uint32_t rows : {0u, 1u, 3u}) {
        uint32_t cols = 1004;
        std::vector<float> x = test_normal((size_t)rows * cols, 40, 5);
        std::vector<double> expected(x.size());
        for (size_t i = 0; i < x.size(); i++)
            expected[i] = 30 * std::tanh(x[i] / 30.0);
        device_array<float> d_x(x);
        CHECK_CUDA(softcap_rows(&test_device(), d_x.data(), rows, cols, 30, test_stream()));
        expect_close("capped", d_x.read(), expected, 1e-13);
    }
    device_array<float> x(16);
    EXPECT_CUDA(cudaErrorInvalidValue,
                softcap_rows(&test_device(), x.data(), 1, 6, 30, test_stream()));
    EXPECT_CUDA(cudaErrorInvalidValue,
                softcap_rows(&test_device(), x.data(), 1, 8, 0, test_stream()));
}

KERNEL_TEST(what_the_contract_excludes_is_refused)
{
    device_array<__half> out(64), in(64);
    auto call = [&](kernel_dtype type, kernel_dtype in_type, uint32_t tokens, uint32_t inner,
                    const __half *from) {
        return gated_activation(&test_device(), out.data(), type, from, in_type, GATED_SILU,
                                nullptr, tokens, inner, test_stream());
    };
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, KERNEL_F16, 1, 6, in.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, KERNEL_F16, 1, 9, in.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, KERNEL_F16, 1, 262146, in.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, KERNEL_F16, 16385, 8, in.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, KERNEL_BF16, 1, 8, in.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F32, KERNEL_F32, 1, 8, in.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, KERNEL_F16, 1, 8, in.data() + 1));
}

KERNEL_TEST_MAIN()
