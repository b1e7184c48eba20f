/* gemm, the door before gemm_skinny and cuBLASLt. Goal: whatever takes a product, the result is the
 * same product, and a refusal says why. Method: row counts on both sides of every border against
 * sums in double. On the CPU emulation loops stand in for cuBLASLt. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/gemm_skinny.h"

#include <algorithm>

extern "C" {
#include "worker/cuda/gemm.h"
}

/* A gemm with its workspace. */
class door
{
  public:
    door(kernel_dtype type, bool batch_invariant) : workspace_(GEMM_WORKSPACE_BYTES)
    {
        status st = gemm_create(&g, &test_device(), type, batch_invariant, workspace_.data(),
                                test_stream(), &err);
        if (st != ST_OK) {
            printf("    %s\n", err.text);
            exit(1);
        }
    }
    ~door()
    {
        gemm_destroy(g);
    }
    gemm *g;
    error err;

  private:
    device_array<unsigned char> workspace_;
};

static void expect_ok(const door &d, status st)
{
    if (st != ST_OK) test_fail("%s: %s", status_name(st), d.err.text);
}

template <typename T, typename D>
static void check_rows(kernel_dtype type, kernel_dtype d_type, const std::vector<uint32_t> &rows,
                       uint32_t n, uint32_t k, bool has_bias, bool batch_invariant)
{
    door door(type, batch_invariant);
    const uint32_t most = *std::max_element(rows.begin(), rows.end());
    std::vector<T> x_values = to_elements<T>(test_normal((size_t)most * k, 1, 1));
    std::vector<T> w_values =
        to_elements<T>(test_normal((size_t)n * k, 1 / std::sqrt((float)k), 2));
    std::vector<float> bias_values = test_normal(has_bias ? n : 0, 1, 3);
    device_array<T> x(x_values), w(w_values), scratch((size_t)most * k);
    device_array<float> bias(bias_values);
    device_array<D> d((size_t)most * n);

    const gemm_shape shape = {n, k, d_type, has_bias};
    expect_ok(door, gemm_prepare(door.g, &shape, most, w.data(), scratch.data(), d.data(),
                                 test_stream(), &door.err));
    std::vector<double> expected((size_t)most * n), xs = to_doubles(x_values),
                                                    ws = to_doubles(w_values);
    for (size_t i = 0; i < most; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = has_bias ? (double)bias_values[j] : 0;
            for (size_t c = 0; c < k; c++)
                sum += xs[i * k + c] * ws[j * k + c];
            expected[i * n + j] = sum;
        }
    for (uint32_t m : rows) {
        d.poison();
        expect_ok(door,
                  gemm_run(door.g, d.data(), d_type, x.data(), w.data(),
                           has_bias ? bias.data() : nullptr, m, n, k, test_stream(), &door.err));
        std::vector<D> all = d.read();
        std::vector<double> wanted(expected.begin(), expected.begin() + (ptrdiff_t)m * n);
        char what[80];
        snprintf(what, sizeof what, "M %u, N %u, K %u%s", m, n, k, has_bias ? ", bias" : "");
        /* A bias is rounded to D's type before it is added: up to another half unit. */
        expect_close(what, std::vector<D>(all.begin(), all.begin() + (ptrdiff_t)m * n),
                     rounded_to<D>(wanted), d_type == KERNEL_F32 ? 1e-11 : 1e-5);
    }
}

static const std::vector<uint32_t> borders = {0, 1, 16, 17, 31, 32, 33, 64, 65, 128, 129, 200};

KERNEL_TEST(both_sides_of_every_border_are_right)
{
    for (kernel_dtype type : test_dtypes())
        for (bool has_bias : {false, true}) {
            if (type == KERNEL_F16) {
                check_rows<__half, __half>(type, type, borders, 24, 40, has_bias, false);
                check_rows<__half, float>(type, KERNEL_F32, borders, 24, 40, has_bias, false);
            } else {
                check_rows<__nv_bfloat16, __nv_bfloat16>(type, type, borders, 24, 40, has_bias,
                                                         false);
                check_rows<__nv_bfloat16, float>(type, KERNEL_F32, borders, 24, 40, has_bias,
                                                 false);
            }
        }
}

KERNEL_TEST(odd_widths_are_right)
{
    check_rows<__half, float>(KERNEL_F16, KERNEL_F32, {9, 65, 90}, 7, 8, true, false);
    check_rows<__half, __half>(KERNEL_F16, KERNEL_F16, {9, 65, 90}, 33, 72, true, false);
}

KERNEL_TEST(batch_invariant_products_are_right)
{
    check_rows<__half, float>(KERNEL_F16, KERNEL_F32, borders, 24, 40, true, true);
}

#ifndef KERNEL_TEST_EMULATED
KERNEL_TEST(many_rows_of_wide_weights_are_right)
{
    std::vector<uint32_t> rows = {1, 33, 65, 130, 257, 300, 513, 700};
    if (test_device().code_arch >= 80)
        check_rows<__nv_bfloat16, __nv_bfloat16>(KERNEL_BF16, KERNEL_BF16, rows, 1032, 520, true,
                                                 false);
    check_rows<__half, float>(KERNEL_F16, KERNEL_F32, rows, 1032, 520, false, false);
    check_rows<__half, float>(KERNEL_F16, KERNEL_F32, rows, 1032, 520, false, true);
}
#endif

KERNEL_TEST(a_graph_can_hold_it)
{
    door door(KERNEL_F16, false);
    const uint32_t m = 70, n = 16, k = 24;
    const gemm_shape shape = {n, k, KERNEL_F16, true};
    std::vector<__half> ones_x(m * k, __float2half_rn(1)), ones_w(n * k, __float2half_rn(0.5f));
    device_array<__half> x(ones_x), w(ones_w), d(m * n);
    device_array<float> bias(std::vector<float>(n, 3));
    expect_ok(door,
              gemm_prepare(door.g, &shape, m, nullptr, nullptr, nullptr, test_stream(), &door.err));
    test_through_graph([&](cudaStream_t stream) {
        expect_ok(door, gemm_run(door.g, d.data(), KERNEL_F16, x.data(), w.data(), bias.data(), m,
                                 n, k, stream, &door.err));
        return cudaSuccess;
    });
    for (double v : to_doubles(d.read()))
        EXPECT(v == 15);
}

static void expect_refused(const door &d, status wanted, const char *part, status st)
{
    if (st != wanted || strstr(d.err.text, part) == nullptr)
        test_fail("%s (%s) where %s with \"%s\" was due", status_name(st), d.err.text,
                  status_name(wanted), part);
}

KERNEL_TEST(refusals_name_what_is_wrong)
{
    door door(KERNEL_F16, false);
    device_array<__half> x(800), w(64), d(800);
    auto run = [&](kernel_dtype d_type, uint32_t m, uint32_t n, uint32_t k) {
        return gemm_run(door.g, d.data(), d_type, x.data(), w.data(), nullptr, m, n, k,
                        test_stream(), &door.err);
    };
    expect_refused(door, ST_INVALID_ARGUMENT, "K is 12", run(KERNEL_F16, 1, 8, 12));
    expect_refused(door, ST_INVALID_ARGUMENT, "N is 0", run(KERNEL_F16, 1, 0, 8));
    expect_refused(door, ST_INVALID_ARGUMENT, "M is 16385", run(KERNEL_F16, 16385, 8, 8));
    expect_refused(door, ST_INVALID_ARGUMENT, "D is of type", run(KERNEL_BF16, 1, 8, 8));
    expect_refused(door, ST_FAILED_PRECONDITION, "prepared for 0 rows", run(KERNEL_F16, 65, 8, 8));
    const gemm_shape shape = {8, 8, KERNEL_F16, false};
    expect_ok(door, gemm_prepare(door.g, &shape, 90, w.data(), x.data(), d.data(), test_stream(),
                                 &door.err));
    expect_ok(door, run(KERNEL_F16, 90, 8, 8));
    expect_refused(door, ST_FAILED_PRECONDITION, "prepared for 90 rows", run(KERNEL_F16, 91, 8, 8));
}

KERNEL_TEST_MAIN()
