/* Goal: every token's row, scaled, exactly once. Method: all widths and types against the table as
 * the host sees it, bit for bit; ids taken from the tokens and from slots on the device. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/embed.h"

#ifdef KERNEL_TEST_EMULATED
static const uint32_t hidden_sizes[] = {8, 10, 896, 4096};
static const uint32_t counts[] = {0, 1, 3};
#else
static const uint32_t hidden_sizes[] = {8, 10, 896, 4096, 4098, 65536};
static const uint32_t counts[] = {0, 1, 3, 257, 16384};
#endif

template <typename T> static void check(kernel_dtype type, uint32_t hidden, uint32_t count)
{
    const uint32_t vocab = 50, slots = 7;
    const float scale = 1.0f + 1.0f / 64;
    std::vector<T> table = to_elements<T>(test_normal((size_t)vocab * hidden, 1, hidden));
    std::vector<uint32_t> tokens(count), sampled(slots);
    std::vector<float> expected((size_t)count * hidden);
    for (uint32_t s = 0; s < slots; s++)
        sampled[s] = (uint32_t)(test_bits(1, s) % vocab);
    for (uint32_t t = 0; t < count; t++) {
        uint32_t slot = (uint32_t)(test_bits(2, t) % slots);
        uint32_t id = (uint32_t)(test_bits(3, t) % vocab);
        tokens[t] = t % 3 == 1 ? EMBED_FROM_SLOT | slot : id;
        id = t % 3 == 1 ? sampled[slot] : id;
        for (uint32_t i = 0; i < hidden; i++)
            expected[(size_t)t * hidden + i] = scale * host_float(table[(size_t)id * hidden + i]);
    }
    device_array<T> d_table(table);
    device_array<uint32_t> d_tokens(tokens), d_sampled(sampled);
    device_array<float> residual(expected.size());
    CHECK_CUDA(embed(&test_device(), residual.data(), d_table.data(), type, d_tokens.data(),
                     d_sampled.data(), count, hidden, scale, test_stream()));
    expect_same_bits("residual", residual.read(), expected);
}

KERNEL_TEST(rows_of_every_size_are_copied_and_scaled)
{
    for (uint32_t hidden : hidden_sizes)
        for (uint32_t count : counts) {
            if ((uint64_t)hidden * count > 1u << 24) continue;
            check<__half>(KERNEL_F16, hidden, count);
            if (test_device().code_arch >= 80) check<__nv_bfloat16>(KERNEL_BF16, hidden, count);
        }
}

KERNEL_TEST(what_the_contract_excludes_is_refused)
{
    device_array<float> residual(64);
    device_array<__half> table(64);
    device_array<uint32_t> tokens(std::vector<uint32_t>{0});
    const kernel_device &device = test_device();
    auto call = [&](kernel_dtype type, uint32_t count, uint32_t hidden, float *out) {
        return embed(&device, out, table.data(), type, tokens.data(), nullptr, count, hidden, 1,
                     test_stream());
    };
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, 1, 6, residual.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, 1, 9, residual.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, 1, 65538, residual.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, 16385, 8, residual.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F32, 1, 8, residual.data()));
    EXPECT_CUDA(cudaErrorInvalidValue, call(KERNEL_F16, 1, 8, residual.data() + 1));
    EXPECT_CUDA(cudaSuccess, call(KERNEL_F16, 0, 8, residual.data()));
    kernel_device turing = device;
    turing.code_arch = 75;
    EXPECT_CUDA(cudaErrorInvalidValue, embed(&turing, residual.data(), table.data(), KERNEL_BF16,
                                             tokens.data(), nullptr, 1, 8, 1, test_stream()));
    EXPECT(std::isnan(residual.read()[0]));
}

KERNEL_TEST_MAIN()
