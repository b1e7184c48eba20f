/* kernel_test: the harness of the kernel tests. One source becomes a ctest program on the CPU
 * emulation (KERNEL_TEST_EMULATED is defined) and, compiled by nvcc, a program for a real device,
 * which needs nothing but a driver.
 *
 *   KERNEL_TEST(residual_is_added)
 *   {
 *       device_array<float> x(test_normal(n, 1.0f, 7));
 *       CHECK_CUDA(launcher(x.data(), n, test_stream()));
 *       expect_close("x", x.read(), reference, 1e-12);
 *   }
 *   KERNEL_TEST_MAIN()
 *
 * Every case prints one line; the exit status is 1 if one failed. Arguments choose cases by parts
 * of their names. Arrays on the device start as NaN, lie between guard bytes, and complain when
 * those have changed. */
#ifndef GAGGLE_TESTS_KERNELS_KERNEL_TEST_H
#define GAGGLE_TESTS_KERNELS_KERNEL_TEST_H

#include "worker/cuda/kernels/kernel_types.h"

#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <functional>
#include <string>
#include <vector>

#ifdef CUDA_EMULATED
#define KERNEL_TEST_EMULATED 1
#endif

/* -- cases ------------------------------------------------------------------------------------ */

struct test_case {
    const char *name;
    void (*run)();
};

static inline std::vector<test_case> &test_cases()
{
    static std::vector<test_case> cases;
    return cases;
}

static inline int &test_failures()
{
    static int failures;
    return failures;
}

#define KERNEL_TEST(name)                                                                          \
    static void name();                                                                            \
    static const bool name##_added = (test_cases().push_back({#name, name}), true);                \
    static void name()

/* Says what is wrong and goes on; of one case, ten times at most. */
__attribute__((format(printf, 1, 2))) static inline void test_fail(const char *format, ...)
{
    if (++test_failures() > 10) return;
    va_list arguments;
    va_start(arguments, format);
    printf("    ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) test_fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition);          \
    } while (0)

/* A device that fails once fails for ever: nothing more can be learnt. */
static inline void test_cuda(cudaError_t error, const char *call, const char *file, int line)
{
    if (error == cudaSuccess) return;
    printf("    %s:%d: %s: %s\n", file, line, call, cudaGetErrorString(error));
    exit(1);
}

#define CHECK_CUDA(call)         test_cuda(call, #call, __FILE__, __LINE__)
#define EXPECT_CUDA(error, call) EXPECT((call) == (error))

static inline cudaStream_t test_stream()
{
    static cudaStream_t stream;
    if (stream == nullptr) CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

static __global__ void test_probe_kernel()
{
}

/* The device under test, as device.c would describe it. */
static inline const kernel_device &test_device()
{
    static kernel_device device;
    if (device.sm_count == 0) {
        cudaDeviceProp properties;
        cudaFuncAttributes attributes;
        CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
        CHECK_CUDA(cudaFuncGetAttributes(&attributes, test_probe_kernel));
        device.code_arch = (uint32_t)attributes.ptxVersion;
        /* SASS of 9.0 is built as 90a; PTX of 90 without the a is not built at all. */
        device.has_sm90a = device.code_arch == 90 && properties.major == 9;
        device.sm_count = (uint32_t)properties.multiProcessorCount;
        device.shared_bytes_max = (uint32_t)properties.sharedMemPerBlockOptin;
    }
    return device;
}

static inline std::vector<kernel_dtype> test_dtypes()
{
    if (test_device().code_arch < 80) return {KERNEL_F16};
    return {KERNEL_F16, KERNEL_BF16};
}

/* Fewer and smaller trials: on the CPU emulation, and on a device under a checker that slows
 * kernels a hundredfold (KERNEL_TEST_SHORT in the environment). */
static inline bool test_is_short()
{
#ifdef KERNEL_TEST_EMULATED
    return true;
#else
    return getenv("KERNEL_TEST_SHORT") != nullptr;
#endif
}

static inline const char *dtype_name(kernel_dtype dtype)
{
    return dtype == KERNEL_F16 ? "f16" : dtype == KERNEL_BF16 ? "bf16" : "f32";
}

static inline int test_run(int argc, char **argv)
{
    int failed = 0;
    const kernel_device &device = test_device();
    printf("code for %u, %u SMs, %u bytes of shared memory a block\n", device.code_arch,
           device.sm_count, device.shared_bytes_max);
    for (const test_case &c : test_cases()) {
        bool chosen = argc < 2;
        for (int i = 1; i < argc; i++)
            chosen = chosen || strstr(c.name, argv[i]) != nullptr;
        if (!chosen) continue;
        test_failures() = 0;
        auto start = std::chrono::steady_clock::now();
        c.run();
        CHECK_CUDA(cudaStreamSynchronize(test_stream()));
        CHECK_CUDA(cudaGetLastError());
        double ms =
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                .count();
        printf("%s %s (%.0f ms)\n", test_failures() == 0 ? "ok  " : "FAIL", c.name, ms);
        fflush(stdout);
        failed += test_failures() > 0;
    }
    if (failed > 0) printf("%d cases failed\n", failed);
    return failed > 0;
}

#define KERNEL_TEST_MAIN()                                                                         \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return test_run(argc, argv);                                                               \
    }

/* -- numbers ------------------------------------------------------------------------------------
 */

/* splitmix64: the n-th number of a seed. */
static inline uint64_t test_bits(uint64_t seed, uint64_t n)
{
    uint64_t z = seed * 0xd1342543de82ef95ull + (n + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* In [0, 1). */
static inline double test_uniform(uint64_t seed, uint64_t n)
{
    return (double)(test_bits(seed, n) >> 11) * 0x1p-53;
}

/* `count` numbers of mean 0 and standard deviation `scale`, near enough to normal: sums of four. */
static inline std::vector<float> test_normal(size_t count, float scale, uint64_t seed)
{
    std::vector<float> x(count);
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = test_bits(seed, i);
        double sum = (double)(bits & 0xffff) + (double)(bits >> 16 & 0xffff) +
                     (double)(bits >> 32 & 0xffff) + (double)(bits >> 48);
        x[i] = (float)(scale * (sum - 2 * 65535.0) * (1.7320508075688772 / 65536));
    }
    return x;
}

static inline float host_float(float x)
{
    return x;
}
static inline float host_float(__half x)
{
    return __half2float(x);
}
static inline float host_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <typename T> static inline T host_element(float x);
template <> inline float host_element<float>(float x)
{
    return x;
}
template <> inline __half host_element<__half>(float x)
{
    return __float2half_rn(x);
}
template <> inline __nv_bfloat16 host_element<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

template <typename T> static inline std::vector<T> to_elements(const std::vector<float> &x)
{
    std::vector<T> y(x.size());
    for (size_t i = 0; i < x.size(); i++)
        y[i] = host_element<T>(x[i]);
    return y;
}

template <typename T> static inline std::vector<double> to_doubles(const std::vector<T> &x)
{
    std::vector<double> y(x.size());
    for (size_t i = 0; i < x.size(); i++)
        y[i] = (double)host_float(x[i]);
    return y;
}

/* What a perfect kernel would have written: each number rounded to T once. */
template <typename T> static inline std::vector<double> rounded_to(const std::vector<double> &x)
{
    std::vector<double> y(x.size());
    for (size_t i = 0; i < x.size(); i++)
        y[i] = (double)host_float(host_element<T>((float)x[i]));
    return y;
}

/* sum (got - expected)^2 / sum expected^2; infinite when `got` has a NaN or infinity that
 * `expected` has not. */
static inline double test_nmse(const std::vector<double> &got, const std::vector<double> &expected)
{
    double error = 0, power = 0;
    if (got.size() != expected.size()) return INFINITY;
    for (size_t i = 0; i < got.size(); i++) {
        if (got[i] == expected[i])
            power += std::isfinite(got[i]) ? got[i] * got[i] : 0;
        else if (!std::isfinite(got[i]) || !std::isfinite(expected[i]))
            return INFINITY;
        else {
            error += (got[i] - expected[i]) * (got[i] - expected[i]);
            power += expected[i] * expected[i];
        }
    }
    return error == 0 ? 0 : power == 0 ? INFINITY : error / power;
}

/* The NMSE of one number of `count` that is rounded the other way, where it is four times the
 * usual size: a bound for few numbers is at least this. */
static inline double one_rounding(kernel_dtype type, size_t count)
{
    return 16 * (type == KERNEL_F16 ? 0x1p-20 : 0x1p-14) / (double)(count > 0 ? count : 1);
}

static inline void expect_close_doubles(const char *what, const std::vector<double> &got,
                                        const std::vector<double> &expected, double nmse_max)
{
    double nmse = test_nmse(got, expected);
    if (nmse <= nmse_max) return;
    size_t worst = 0;
    double worst_error = -1;
    for (size_t i = 0; i < got.size() && i < expected.size(); i++) {
        double error = std::fabs(got[i] - expected[i]);
        if (!(error <= worst_error)) {
            worst = i;
            worst_error = error;
            if (std::isnan(error)) break;
        }
    }
    test_fail("%s: NMSE %.3g, at most %.3g; %zu of %zu numbers; [%zu] is %.9g, expected %.9g", what,
              nmse, nmse_max, got.size(), expected.size(), worst,
              worst < got.size() ? got[worst] : NAN,
              worst < expected.size() ? expected[worst] : NAN);
}

template <typename T>
static inline void expect_close(const char *what, const std::vector<T> &got,
                                const std::vector<double> &expected, double nmse_max)
{
    expect_close_doubles(what, to_doubles(got), expected, nmse_max);
}

template <typename T>
static inline void expect_same_bits(const char *what, const std::vector<T> &a,
                                    const std::vector<T> &b)
{
    if (a.size() != b.size()) {
        test_fail("%s: %zu numbers against %zu", what, a.size(), b.size());
        return;
    }
    for (size_t i = 0; i < a.size(); i++)
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0) {
            test_fail("%s: [%zu] differs", what, i);
            return;
        }
}

/* -- memory of the device -------------------------------------------------------------------------
 */

/* `count` elements on the device between guards; 256-byte aligned plus `shift` elements. What
 * it does to them has happened on return. */
template <typename T> class device_array
{
  public:
    explicit device_array(size_t count, size_t shift = 0) : count_(count), shift_(shift)
    {
        CHECK_CUDA(cudaMalloc(reinterpret_cast<void **>(&memory_), bytes()));
        CHECK_CUDA(cudaMemsetAsync(memory_, 0xff, bytes(), test_stream()));
        CHECK_CUDA(cudaMemsetAsync(memory_, guard_byte, guard_bytes, test_stream()));
        CHECK_CUDA(cudaMemsetAsync(end(), guard_byte, guard_bytes, test_stream()));
        CHECK_CUDA(cudaStreamSynchronize(test_stream()));
    }
    explicit device_array(const std::vector<T> &values, size_t shift = 0)
        : device_array(values.size(), shift)
    {
        write(values);
    }
    device_array(const device_array &) = delete;
    device_array &operator=(const device_array &) = delete;
    ~device_array()
    {
        std::vector<unsigned char> guards(2 * guard_bytes);
        CHECK_CUDA(cudaStreamSynchronize(test_stream()));
        CHECK_CUDA(cudaMemcpy(guards.data(), memory_, guard_bytes, cudaMemcpyDeviceToHost));
        CHECK_CUDA(
            cudaMemcpy(guards.data() + guard_bytes, end(), guard_bytes, cudaMemcpyDeviceToHost));
        for (size_t i = 0; i < guards.size(); i++)
            if (guards[i] != guard_byte) {
                test_fail("an array of %zu elements: a byte %s it was written", count_,
                          i < guard_bytes ? "before" : "behind");
                break;
            }
        cudaFree(memory_);
    }

    T *data()
    {
        return reinterpret_cast<T *>(memory_ + guard_bytes) + shift_;
    }
    size_t size() const
    {
        return count_;
    }
    void write(const std::vector<T> &values)
    {
        if (values.size() != count_) {
            test_fail("write of %zu elements to an array of %zu", values.size(), count_);
            return;
        }
        if (count_ > 0)
            CHECK_CUDA(cudaMemcpyAsync(data(), values.data(), count_ * sizeof(T),
                                       cudaMemcpyHostToDevice, test_stream()));
        CHECK_CUDA(cudaStreamSynchronize(test_stream()));
    }
    /* Waits for the test's stream first. */
    std::vector<T> read()
    {
        std::vector<T> values(count_);
        CHECK_CUDA(cudaStreamSynchronize(test_stream()));
        if (count_ > 0)
            CHECK_CUDA(
                cudaMemcpy(values.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost));
        return values;
    }
    /* All bytes 0xff again: NaN. */
    void poison()
    {
        CHECK_CUDA(cudaMemsetAsync(data(), 0xff, count_ * sizeof(T), test_stream()));
        CHECK_CUDA(cudaStreamSynchronize(test_stream()));
    }

  private:
    static const size_t guard_bytes = 256;
    static const unsigned char guard_byte = 0xa5;

    size_t bytes() const
    {
        return 2 * guard_bytes + (shift_ + count_) * sizeof(T);
    }
    unsigned char *end()
    {
        return memory_ + guard_bytes + (shift_ + count_) * sizeof(T);
    }

    size_t count_, shift_;
    unsigned char *memory_ = nullptr;
};

/* `enqueue` is captured in a graph, which is then launched on the test's stream: a launcher that
 * synchronises or allocates fails here. */
static inline void test_through_graph(const std::function<cudaError_t(cudaStream_t)> &enqueue)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK_CUDA(cudaStreamSynchronize(test_stream()));
    CHECK_CUDA(cudaStreamBeginCapture(test_stream(), cudaStreamCaptureModeGlobal));
    cudaError_t error = enqueue(test_stream());
    CHECK_CUDA(cudaStreamEndCapture(test_stream(), &graph));
    CHECK_CUDA(error);
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CHECK_CUDA(cudaGraphLaunch(exec, test_stream()));
    CHECK_CUDA(cudaStreamSynchronize(test_stream()));
    CHECK_CUDA(cudaGraphExecDestroy(exec));
    CHECK_CUDA(cudaGraphDestroy(graph));
}

#endif
