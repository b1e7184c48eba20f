/* Goal: every number is rounded once, and what is lost is counted to the element; random weights
 * depend on (seed, index) alone. Method: all pairs of types against the host's conversion bit for
 * bit, at sizes and alignments that take the wide path, the narrow one and the tail. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/convert.h"

template <typename T> struct dtype_of;
template <> struct dtype_of<__half> {
    static const kernel_dtype value = KERNEL_F16;
};
template <> struct dtype_of<__nv_bfloat16> {
    static const kernel_dtype value = KERNEL_BF16;
};
template <> struct dtype_of<float> {
    static const kernel_dtype value = KERNEL_F32;
};

template <typename To, typename From> static void check(size_t count, size_t shift, float add)
{
    std::vector<float> numbers = test_normal(count, 1, count);
    for (size_t i = 0; i < count; i += 7)
        numbers[i] = (float)std::ldexp(numbers[i], (int)(test_bits(4, i) % 250) - 125);
    if (count > 20) {
        numbers[3] = INFINITY;
        numbers[11] = 0;
        numbers[12] = -0.0f;
        numbers[13] = 65519;
        numbers[14] = 65520;
    }
    std::vector<From> source = to_elements<From>(numbers);
    std::vector<To> expected(count);
    unsigned long long infinite = 0, zero = 0;
    for (size_t i = 0; i < count; i++) {
        float x = host_float(source[i]) + add;
        expected[i] = host_element<To>(x);
        infinite += std::isfinite(x) && std::isinf(host_float(expected[i]));
        zero += x != 0 && host_float(expected[i]) == 0;
    }
    device_array<From> d_source(source, shift);
    device_array<To> out(count);
    device_array<unsigned long long> counts(std::vector<unsigned long long>{5, 7});
    CHECK_CUDA(convert_elements(out.data(), dtype_of<To>::value, d_source.data(),
                                dtype_of<From>::value, count, add, counts.data(), test_stream()));
    expect_same_bits("converted", out.read(), expected);
    EXPECT(counts.read()[0] == 5 + infinite);
    EXPECT(counts.read()[1] == 7 + zero);
    out.poison();
    CHECK_CUDA(convert_elements(out.data(), dtype_of<To>::value, d_source.data(),
                                dtype_of<From>::value, count, add, nullptr, test_stream()));
    expect_same_bits("converted without counts", out.read(), expected);
}

KERNEL_TEST(every_pair_of_types_is_converted_and_losses_counted)
{
#ifdef KERNEL_TEST_EMULATED
    const size_t sizes[] = {0, 1, 7, 8, 4099};
#else
    const size_t sizes[] = {0, 1, 7, 8, 4099, 3000003};
#endif
    for (size_t size : sizes)
        for (size_t shift = 0; shift < 2; shift++) {
            check<__half, __nv_bfloat16>(size, shift, 0);
            check<__half, float>(size, shift, 0);
            check<__half, __half>(size, shift, 0);
            check<__nv_bfloat16, __half>(size, shift, 0);
            check<__nv_bfloat16, float>(size, shift, 0);
            check<__nv_bfloat16, __nv_bfloat16>(size, shift, 0);
            check<float, __half>(size, shift, 0);
            check<float, __nv_bfloat16>(size, shift, 1);
            check<float, float>(size, shift, 1);
        }
}

template <typename T>
static std::vector<T> random_elements(size_t count, float deviation, uint64_t seed)
{
    device_array<T> out(count);
    CHECK_CUDA(fill_random(out.data(), dtype_of<T>::value, count, deviation, seed, test_stream()));
    return out.read();
}

template <typename T> static void check_random()
{
    const size_t count = 100003;
    std::vector<T> x = random_elements<T>(count, 0.02f, 42);
    double sum = 0, squares = 0, neighbours = 0;
    for (size_t i = 0; i < count; i++) {
        double e = host_float(x[i]);
        sum += e;
        squares += e * e;
        if (i > 0) neighbours += e * host_float(x[i - 1]);
    }
    double deviation = std::sqrt(squares / count);
    EXPECT(std::fabs(sum / count) < 0.02 * 5 / std::sqrt((double)count));
    EXPECT(std::fabs(deviation - 0.02) < 0.02 * 0.01);
    EXPECT(std::fabs(neighbours / squares) < 5 / std::sqrt((double)count));

    std::vector<T> prefix = random_elements<T>(1005, 0.02f, 42);
    expect_same_bits("prefix", prefix, std::vector<T>(x.begin(), x.begin() + 1005));
    std::vector<T> other = random_elements<T>(1005, 0.02f, 43);
    size_t same = 0;
    for (size_t i = 0; i < other.size(); i++)
        same += host_float(other[i]) == host_float(x[i]);
    EXPECT(same < 30);
}

KERNEL_TEST(random_weights_depend_on_seed_and_index_alone)
{
    check_random<__half>();
    check_random<__nv_bfloat16>();
}

KERNEL_TEST(constants_are_written_everywhere)
{
    for (size_t count : {(size_t)0, (size_t)1, (size_t)5000}) {
        device_array<float> x(count);
        CHECK_CUDA(fill_constant(x.data(), count, 1.5f, test_stream()));
        expect_same_bits("constant", x.read(), std::vector<float>(count, 1.5f));
    }
}

KERNEL_TEST(what_the_contract_excludes_is_refused)
{
    device_array<__half> x(32), y(32);
    char *odd = reinterpret_cast<char *>(x.data()) + 1;
    EXPECT_CUDA(cudaErrorInvalidValue, convert_elements(y.data() + 1, KERNEL_F16, x.data(),
                                                        KERNEL_F16, 8, 0, nullptr, test_stream()));
    EXPECT_CUDA(cudaErrorInvalidValue, convert_elements(y.data(), KERNEL_F16, odd, KERNEL_F16, 8, 0,
                                                        nullptr, test_stream()));
    EXPECT_CUDA(cudaErrorInvalidValue, convert_elements(y.data(), KERNEL_F16, x.data(), KERNEL_F16,
                                                        1ull << 41, 0, nullptr, test_stream()));
    EXPECT_CUDA(cudaErrorInvalidValue, fill_random(y.data(), KERNEL_F32, 8, 1, 1, test_stream()));
    EXPECT_CUDA(cudaErrorInvalidValue,
                fill_random(y.data() + 1, KERNEL_F16, 8, 1, 1, test_stream()));
}

KERNEL_TEST_MAIN()
