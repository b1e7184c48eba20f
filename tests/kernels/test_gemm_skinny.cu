/* gemm_skinny. Goal: every product is right for all row counts, tails of N and
 * K, both element and result types, and a row's bits depend on nothing but the row. Method: random
 * inputs against sums in double; the tile is forced to change by telling the launcher of devices of
 * other sizes. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/gemm_skinny.h"

#include <algorithm>

static const bool is_short = test_is_short();

/* Workspace as the door hands it out, with its promises checked at the end. */
class workspace
{
  public:
    workspace()
        : partials_(GEMM_SKINNY_PARTIAL_BYTES / sizeof(float)),
          tickets_(std::vector<uint32_t>(GEMM_SKINNY_TICKETS, 0))
    {
        CHECK_CUDA(gemm_skinny_init(&test_device()));
        view.partials = partials_.data();
        view.tickets = tickets_.data();
    }
    ~workspace()
    {
        for (uint32_t ticket : tickets_.read())
            if (ticket != 0) {
                test_fail("a ticket was left at %u", ticket);
                break;
            }
    }
    gemm_skinny_workspace view;

  private:
    device_array<float> partials_;
    device_array<uint32_t> tickets_;
};

static std::vector<double> reference(const std::vector<double> &x, const std::vector<double> &w,
                                     const std::vector<float> &bias, size_t m, size_t n, size_t k)
{
    std::vector<double> d(m * n);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = bias.empty() ? 0 : (double)bias[j];
            for (size_t c = 0; c < k; c++)
                sum += x[i * k + c] * w[j * k + c];
            d[i * n + j] = sum;
        }
    return d;
}

/* One weight with a batch of rows of which products take some. */
template <typename T> class product
{
  public:
    product(uint32_t rows, uint32_t n, uint32_t k, bool has_bias)
        : n_(n), k_(k), bias_values_(has_bias ? test_normal(n, 1, 3) : std::vector<float>()),
          x_values_(to_elements<T>(test_normal((size_t)rows * k, 1, 1))),
          w_values_(to_elements<T>(test_normal((size_t)n * k, 1 / std::sqrt((float)k), 2))),
          x_(x_values_), w_(w_values_), bias_(bias_values_)
    {
    }

    template <typename D>
    std::vector<D> run(workspace &memory, uint32_t first, uint32_t m,
                       const kernel_device &device = test_device(),
                       decltype(&gemm_skinny) launcher = gemm_skinny)
    {
        device_array<D> d((size_t)m * n_);
        CHECK_CUDA(launcher(d.data(), type<D>(), x_.data() + (size_t)first * k_, w_.data(),
                            bias_values_.empty() ? nullptr : bias_.data(), m, n_, k_, type<T>(),
                            &memory.view, &device, test_stream()));
        return d.read();
    }

    std::vector<double> expected(uint32_t m)
    {
        std::vector<T> x(x_values_.begin(), x_values_.begin() + (ptrdiff_t)m * k_);
        return reference(to_doubles(x), to_doubles(w_values_), bias_values_, m, n_, k_);
    }

  private:
    template <typename E> static kernel_dtype type()
    {
        if (std::is_same<E, float>::value) return KERNEL_F32;
        return std::is_same<E, __half>::value ? KERNEL_F16 : KERNEL_BF16;
    }

    uint32_t n_, k_;
    std::vector<float> bias_values_;
    std::vector<T> x_values_, w_values_;
    device_array<T> x_, w_;
    device_array<float> bias_;
};

template <typename T>
static void check_products(const std::vector<uint32_t> &rows, uint32_t n, uint32_t k, bool has_bias)
{
    workspace memory;
    uint32_t most = *std::max_element(rows.begin(), rows.end());
    product<T> p(most, n, k, has_bias);
    std::vector<double> all = p.expected(most);
    for (uint32_t m : rows) {
        char what[80];
        std::vector<double> expected(all.begin(), all.begin() + (ptrdiff_t)m * n);
        snprintf(what, sizeof what, "[%u, %u] = [%u, %u] x W^T, float", m, n, m, k);
        /* Chunks are added up in float, with the tensor cores' truncation. */
        expect_close(what, p.template run<float>(memory, 0, m), expected, 1e-12 + 1e-15 * k);
        snprintf(what, sizeof what, "[%u, %u] = [%u, %u] x W^T, T", m, n, m, k);
        expect_close(what, p.template run<T>(memory, 0, m), rounded_to<T>(expected), 1e-6);
    }
}

static void check_all_types(const std::vector<uint32_t> &rows, uint32_t n, uint32_t k,
                            bool has_bias)
{
    for (kernel_dtype type : test_dtypes()) {
        if (type == KERNEL_F16)
            check_products<__half>(rows, n, k, has_bias);
        else
            check_products<__nv_bfloat16>(rows, n, k, has_bias);
    }
}

KERNEL_TEST(few_rows_are_right)
{
    check_all_types({1, 2, 3, 4, 5, 6, 7, 8, 9}, 100, 264, true);
}

KERNEL_TEST(row_counts_around_the_tiles_are_right)
{
    check_all_types({15, 16, 17, 31, 32, 33, 63, 64, 65, 100}, is_short ? 36 : 1000, 136, false);
}

KERNEL_TEST(tails_of_n_are_right)
{
    std::vector<uint32_t> widths = {1, 7, 8, 17, 129};
    if (!is_short) widths = {1, 2, 3, 7, 8, 15, 16, 17, 33, 100, 129, 1001};
    for (uint32_t n : widths)
        check_all_types({1, 9, 20, 40}, n, 72, n % 2 == 1);
}

KERNEL_TEST(tails_of_k_are_right)
{
    std::vector<uint32_t> lengths = {8, 64, 72, 520};
    if (!is_short) lengths = {8, 16, 56, 64, 72, 504, 512, 520, 1000, 2056};
    for (uint32_t k : lengths)
        check_all_types({1, 12, 24, 34}, 20, k, false);
}

KERNEL_TEST(long_sums_are_right)
{
    check_all_types(is_short ? std::vector<uint32_t>{1, 5}
                             : std::vector<uint32_t>{1, 5, 16, 32, 64},
                    is_short ? 17 : 515, 4096, true);
}

KERNEL_TEST(the_largest_are_right)
{
    if (is_short) return;
    check_all_types({1, 64, 130}, 516, 14336, true);
    check_all_types({3}, 128256, 64, false);
    check_all_types({16384}, 64, 64, false);
}

/* Every way to compute a row: alone, among others, elsewhere, and on devices of other sizes, for
 * which other tiles and cuts of K are chosen. */
template <typename T> static void check_row_bits(uint32_t n, uint32_t k)
{
    const uint32_t rows = 100;
    workspace memory;
    product<T> p(rows, n, k, true);
    std::vector<float> all = p.template run<float>(memory, 0, rows);
    for (uint32_t sm_count : {1u, 4u, 24u, 132u, 500u})
        for (uint32_t m : {1u, 2u, 8u, 9u, 16u, 31u, 33u, 64u, 80u})
            for (uint32_t first : {0u, 17u, rows - m}) {
                if (first + m > rows || (is_short && m > 16 && first == 17)) continue;
                kernel_device device = test_device();
                device.sm_count = sm_count;
                char what[80];
                snprintf(what, sizeof what, "rows %u to %u, N %u, K %u, %u SMs", first,
                         first + m - 1, n, k, sm_count);
                expect_same_bits(what, p.template run<float>(memory, first, m, device),
                                 std::vector<float>(all.begin() + (ptrdiff_t)first * n,
                                                    all.begin() + (ptrdiff_t)(first + m) * n));
            }
}

KERNEL_TEST(a_rows_bits_depend_on_the_row_alone)
{
    check_row_bits<__half>(is_short ? 20 : 1030, is_short ? 520 : 4096);
    if (test_device().code_arch >= 80)
        check_row_bits<__nv_bfloat16>(is_short ? 18 : 4096, is_short ? 136 : 1032);
}

KERNEL_TEST(repeated_launches_give_the_same_bits)
{
    workspace memory;
    product<__half> p(33, 200, is_short ? 136 : 4096, false);
    std::vector<__half> once = p.run<__half>(memory, 0, 33);
    for (int i = 0; i < (is_short ? 2 : 100); i++)
        expect_same_bits("again", p.run<__half>(memory, 0, 33), once);
}

/* NaN and infinity stay in their row and column. */
KERNEL_TEST(what_is_not_a_number_stays_where_it_is)
{
    workspace memory;
    const uint32_t m = 3, n = 18, k = 40;
    std::vector<__half> x(m * k, __float2half_rn(1.0f)), w(n * k, __float2half_rn(1.0f));
    x[1 * k + 39] = __float2half_rn(NAN);
    w[17 * k + 8] = __float2half_rn(INFINITY);
    device_array<__half> x_device(x), w_device(w);
    device_array<float> d(m * n);
    CHECK_CUDA(gemm_skinny(d.data(), KERNEL_F32, x_device.data(), w_device.data(), nullptr, m, n, k,
                           KERNEL_F16, &memory.view, &test_device(), test_stream()));
    std::vector<float> got = d.read();
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++) {
            float v = got[i * n + j];
            EXPECT(i == 1 ? std::isnan(v) : j == 17 ? std::isinf(v) && v > 0 : v == 40.0f);
        }
}

KERNEL_TEST(a_graph_can_hold_it)
{
    workspace memory;
    std::vector<__half> x = to_elements<__half>(test_normal(40 * 64, 1, 5));
    std::vector<__half> w = to_elements<__half>(test_normal(48 * 64, 1, 6));
    device_array<__half> x_device(x), w_device(w);
    device_array<float> d(40 * 48);
    test_through_graph([&](cudaStream_t stream) {
        cudaError_t first =
            gemm_skinny(d.data(), KERNEL_F32, x_device.data(), w_device.data(), nullptr, 40, 48, 64,
                        KERNEL_F16, &memory.view, &test_device(), stream);
        cudaError_t second =
            gemm_skinny(d.data(), KERNEL_F32, x_device.data(), w_device.data(), nullptr, 3, 48, 64,
                        KERNEL_F16, &memory.view, &test_device(), stream);
        return first == cudaSuccess ? second : first;
    });
    expect_close("D", d.read(), reference(to_doubles(x), to_doubles(w), {}, 40, 48, 64), 1e-12);
}

KERNEL_TEST(broken_contracts_are_refused)
{
    workspace memory;
    kernel_device device = test_device();
    device_array<__half> x(64), w(64), d(64);
    auto call = [&](kernel_dtype d_type, const void *from, uint32_t m, uint32_t n, uint32_t k,
                    kernel_dtype type) {
        return gemm_skinny(d.data(), d_type, from, w.data(), nullptr, m, n, k, type, &memory.view,
                           &device, test_stream());
    };
    EXPECT_CUDA(cudaSuccess, call(KERNEL_F16, x.data(), 0, 8, 8, KERNEL_F16));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, x.data(), 1, 0, 8, KERNEL_F16));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, x.data(), 1, 8, 0, KERNEL_F16));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, x.data(), 1, 8, 12, KERNEL_F16));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, x.data() + 1, 1, 8, 8, KERNEL_F16));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_BF16, x.data(), 1, 8, 8, KERNEL_F16));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F32, x.data(), 1, 8, 8, KERNEL_F32));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F32, x.data(), 16385, 8, 8, KERNEL_F16));
    device.code_arch = 75;
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_BF16, x.data(), 1, 8, 8, KERNEL_BF16));
    CHECK_CUDA(cudaStreamSynchronize(test_stream()));
}

KERNEL_TEST_MAIN()
