/* Goal: the emulation behaves as a device does where kernels depend on it, and says so when a
 * kernel would hang or read too early. Method: small kernels whose results are known; a matrix
 * product against a naive one; kernels with a mistake run in a child process, whose complaint is
 * read. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/element.cuh"
#include "worker/cuda/kernels/launch.cuh"
#include "worker/cuda/kernels/ptx.cuh"

#include <sys/wait.h>
#include <unistd.h>

/* -- half formats ---------------------------------------------------------------------------------
 */

KERNEL_TEST(halves_survive_the_way_to_float_and_back)
{
    for (uint32_t bits = 0; bits < 65536; bits++) {
        __half h = __ushort_as_half((unsigned short)bits);
        __nv_bfloat16 b = __ushort_as_bfloat16((unsigned short)bits);
        if (!__hisnan(h)) EXPECT(__half_as_ushort(__float2half_rn(__half2float(h))) == bits);
        if (!__hisnan(b))
            EXPECT(__bfloat16_as_ushort(__float2bfloat16_rn(__bfloat162float(b))) == bits);
    }
    EXPECT(__half2float(__ushort_as_half(0x0001)) == 0x1p-24f);
    EXPECT(__half2float(__ushort_as_half(0x7bff)) == 65504.0f);
    EXPECT(std::isinf(__half2float(__ushort_as_half(0xfc00))));
    EXPECT(std::isnan(__half2float(__float2half_rn(NAN))));
    EXPECT(std::isnan(__bfloat162float(__float2bfloat16_rn(NAN))));
}

KERNEL_TEST(halves_round_to_nearest_even)
{
    EXPECT(__half_as_ushort(__float2half_rn(65519.0f)) == 0x7bff);
    EXPECT(__half_as_ushort(__float2half_rn(65520.0f)) == 0x7c00);
    EXPECT(__half_as_ushort(__float2half_rn(1.0f + 0x1p-11f)) == 0x3c00);
    EXPECT(__half_as_ushort(__float2half_rn(1.0f + 3 * 0x1p-11f)) == 0x3c02);
    EXPECT(__half_as_ushort(__float2half_rn(1.0f + 0x1.01p-11f)) == 0x3c01);
    EXPECT(__half_as_ushort(__float2half_rn(0x1p-25f)) == 0);
    EXPECT(__half_as_ushort(__float2half_rn(0x1.01p-25f)) == 1);
    EXPECT(__half_as_ushort(__float2half_rn(3 * 0x1p-25f)) == 2);
    EXPECT(__half_as_ushort(__float2half_rn(-0.0f)) == 0x8000);
    EXPECT(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f + 0x1p-8f)) == 0x3f80);
    EXPECT(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f + 3 * 0x1p-8f)) == 0x3f82);
    EXPECT(__bfloat16_as_ushort(__float2bfloat16_rn(3.4e38f)) == 0x7f80);
}

/* -- blocks and warps
 * ------------------------------------------------------------------------------- */

/* Reverse each block's numbers through shared memory. */
static __global__ void reverse_kernel(int *out, const int *in)
{
    __shared__ int tile[256];
    DYNAMIC_SHARED(dynamic);
    int *second = reinterpret_cast<int *>(dynamic);
    int n = (int)blockDim.x, i = (int)threadIdx.x;
    tile[i] = in[(int)blockIdx.x * n + i];
    __syncthreads();
    second[i] = tile[n - 1 - i];
    __syncthreads();
    out[(int)blockIdx.x * n + i] = second[i];
    if (threadIdx.x % 2 == 1) return;
    __syncthreads(); /* those that have ended are not waited for */
    out[(int)blockIdx.x * n + i] = tile[n - 1 - i];
}

KERNEL_TEST(barriers_order_shared_memory)
{
    std::vector<int> in(3 * 96);
    for (size_t i = 0; i < in.size(); i++)
        in[i] = (int)(i * 7 % 101);
    device_array<int> x(in), y(in.size());
    CHECK_CUDA(launch(LAUNCH_AFTER, reverse_kernel, 3, 96, 96 * sizeof(int), test_stream(),
                      y.data(), x.data()));
    std::vector<int> reversed(in.size());
    for (size_t i = 0; i < in.size(); i++)
        reversed[i] = in[i / 96 * 96 + 95 - i % 96];
    expect_same_bits("y", y.read(), reversed);
}

static __global__ void shuffle_kernel(uint32_t *out)
{
    uint32_t lane = threadIdx.x % 32, x = 100 + lane;
    uint32_t *o = out + threadIdx.x * 12;
    o[0] = __shfl_sync(0xffffffffu, x, 5);
    o[1] = __shfl_sync(0xffffffffu, x, 3, 8);
    o[2] = __shfl_up_sync(0xffffffffu, x, 1);
    o[3] = __shfl_down_sync(0xffffffffu, x, 2, 16);
    o[4] = __shfl_xor_sync(0xffffffffu, x, 16);
    o[5] = (uint32_t)(__shfl_xor_sync(0xffffffffu, (unsigned long long)x << 32, 1) >> 32);
    o[6] = __ballot_sync(0xffffffffu, lane % 3 == 0);
    o[7] = (uint32_t)(__any_sync(0xffffffffu, lane == 9) + 2 * __all_sync(0xffffffffu, lane < 31));
    o[8] = __match_any_sync(0xffffffffu, lane / 4);
    o[9] = (uint32_t)warp_sum((float)lane);
    o[10] = (uint32_t)__syncthreads_count(threadIdx.x < 40);
    /* Two halves of a warp go different ways. */
    if (lane < 16)
        o[11] = __shfl_xor_sync(0x0000ffffu, x, 1);
    else
        o[11] = __shfl_xor_sync(0xffff0000u, x, 2);
}

KERNEL_TEST(shuffles_and_votes_meet_their_definition)
{
    device_array<uint32_t> out(64 * 12);
    CHECK_CUDA(launch(LAUNCH_AFTER, shuffle_kernel, 1, 64, 0, test_stream(), out.data()));
    std::vector<uint32_t> o = out.read();
    for (uint32_t t = 0; t < 64; t++) {
        uint32_t lane = t % 32;
        EXPECT(o[t * 12 + 0] == 105);
        EXPECT(o[t * 12 + 1] == 100 + lane / 8 * 8 + 3);
        EXPECT(o[t * 12 + 2] == 100 + (lane == 0 ? 0 : lane - 1));
        EXPECT(o[t * 12 + 3] == 100 + (lane % 16 + 2 < 16 ? lane + 2 : lane));
        EXPECT(o[t * 12 + 4] == 100 + (lane ^ 16));
        EXPECT(o[t * 12 + 5] == 100 + (lane ^ 1));
        EXPECT(o[t * 12 + 6] == 0x49249249u);
        EXPECT(o[t * 12 + 7] == 1);
        EXPECT(o[t * 12 + 8] == 0xfu << lane / 4 * 4);
        EXPECT(o[t * 12 + 9] == 496);
        EXPECT(o[t * 12 + 10] == 40);
        EXPECT(o[t * 12 + 11] == 100 + (lane < 16 ? lane ^ 1 : lane ^ 2));
    }
}

static __global__ void atomics_kernel(uint32_t *counters, float *sum)
{
    atomicAdd(&counters[0], 1u);
    atomicMax(&counters[1], threadIdx.x + blockIdx.x);
    atomicAdd(sum, 0.5f);
    if (atomicCAS(&counters[2], 0u, 1u) == 0) atomicExch(&counters[3], 77u);
}

KERNEL_TEST(atomics_count_every_thread)
{
    device_array<uint32_t> counters(std::vector<uint32_t>(4, 0));
    device_array<float> sum(std::vector<float>(1, 0));
    CHECK_CUDA(launch(LAUNCH_AFTER, atomics_kernel, dim3(2, 2), 64, 0, test_stream(),
                      counters.data(), sum.data()));
    std::vector<uint32_t> c = counters.read();
    EXPECT(c[0] == 256 && c[1] == 64 && c[2] == 1 && c[3] == 77);
    EXPECT(sum.read()[0] == 128.0f);
}

/* -- ptx.cuh
 * -------------------------------------------------------------------------------------------- */

/* c [16, 8] = a [16, 16] b [16, 8], both through shared memory; the fragments of B come as rows of
 * b transposed by ldmatrix. */
template <typename T> static __global__ void mma_kernel(float *c, const T *a, const T *b)
{
    __shared__ __align__(16) T sa[16 * 16];
    __shared__ __align__(16) T sb[16 * 8];
    int lane = (int)threadIdx.x;
    copy_async_16(&sa[lane * 8], a + lane * 8, true);
    copy_async_16(&sb[lane % 16 * 8], b + lane % 16 * 8, true);
    copy_async_commit();
    copy_async_wait<0>();
    __syncwarp();
    uint32_t fa[4], fb[4];
    ldmatrix_x4(fa, &sa[(lane % 8 + lane / 8 % 2 * 8) * 16 + lane / 16 * 8]);
    ldmatrix_x4_transposed(fb, &sb[lane % 16 * 8]); /* each of the two twice */
    float fc[4] = {0, 0, 0, 0};
    mma_m16n8k16(fc, fa, fb, T());
    for (int r = 0; r < 4; r++)
        c[(lane / 4 + r / 2 * 8) * 8 + 2 * (lane % 4) + r % 2] = fc[r];
}

template <typename T> static void check_mma()
{
    std::vector<T> a = to_elements<T>(test_normal(256, 1, 1));
    std::vector<T> b = to_elements<T>(test_normal(128, 1, 2));
    std::vector<double> expected(128);
    for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < 8; j++)
            for (size_t k = 0; k < 16; k++)
                expected[i * 8 + j] += (double)host_float(a[i * 16 + k]) * host_float(b[k * 8 + j]);
    device_array<T> da(a), db(b);
    device_array<float> dc(128);
    CHECK_CUDA(launch(LAUNCH_AFTER, mma_kernel<T>, 1, 32, 0, test_stream(), dc.data(), da.data(),
                      db.data()));
    expect_close("c", dc.read(), expected, 1e-12);
}

KERNEL_TEST(mma_is_a_matrix_product)
{
    check_mma<__half>();
#if __CUDA_ARCH__ >= 800
    check_mma<__nv_bfloat16>();
#endif
}

/* Reads before waiting, after waiting for all but the last group, and after waiting for all. */
static __global__ void copy_kernel(float *out, const float *in)
{
    __shared__ __align__(16) float tile[3][4];
    copy_async_16(tile[0], in, true);
    copy_async_commit();
    copy_async_16(tile[1], in + 4, true);
    copy_async_16(tile[2], nullptr, false);
    copy_async_commit();
    out[0] = tile[0][0];
    copy_async_wait<1>();
    out[1] = tile[0][0];
    out[2] = tile[1][0];
    copy_async_wait<0>();
    out[3] = tile[1][0];
    out[4] = tile[2][3];
}

KERNEL_TEST(asynchronous_copies_arrive_when_waited_for)
{
    device_array<float> in(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}), out(5);
    CHECK_CUDA(launch(LAUNCH_AFTER, copy_kernel, 1, 1, 0, test_stream(), out.data(), in.data()));
    std::vector<float> o = out.read();
#if __CUDA_ARCH__ >= 800
    EXPECT(std::isnan(o[0]) && o[1] == 1 && std::isnan(o[2]) && o[3] == 5 && o[4] == 0);
#else
    EXPECT(o[0] == 1 && o[1] == 1 && o[2] == 5 && o[3] == 5 && o[4] == 0);
#endif
}

/* -- launches, graphs
 * ------------------------------------------------------------------------------------- */

static __global__ void add_kernel(int *x, int n)
{
    grid_dependency_wait();
    x[0] += n;
}

KERNEL_TEST(graphs_replay_what_was_captured)
{
    device_array<int> x(std::vector<int>{0});
    int *p = x.data();
    test_through_graph([&](cudaStream_t stream) {
        void *memory;
        cudaError_t error = launch(LAUNCH_OVERLAPPED, add_kernel, 1, 1, 0, stream, p, 5);
        EXPECT_CUDA(cudaErrorStreamCaptureUnsupported, cudaStreamSynchronize(stream));
        EXPECT_CUDA(cudaErrorStreamCaptureUnsupported, cudaMalloc(&memory, 16));
        EXPECT(*p == 0);
        return error;
    });
    EXPECT(x.read()[0] == 5);
    (void)cudaGetLastError();
}

KERNEL_TEST(launches_that_a_driver_would_refuse_are_refused)
{
    device_array<int> x(std::vector<int>{0});
    int *p = x.data();
    EXPECT_CUDA(cudaErrorInvalidConfiguration,
                launch(LAUNCH_AFTER, add_kernel, 0, 1, 0, test_stream(), p, 1));
    EXPECT_CUDA(cudaErrorInvalidConfiguration,
                launch(LAUNCH_AFTER, add_kernel, 1, 2048, 0, test_stream(), p, 1));
    EXPECT_CUDA(cudaErrorInvalidValue,
                launch(LAUNCH_AFTER, add_kernel, 1, 1, 60 * 1024, test_stream(), p, 1));
    EXPECT_CUDA(cudaSuccess, launch_allow_shared(add_kernel, 64 * 1024));
    EXPECT_CUDA(cudaSuccess,
                launch(LAUNCH_AFTER, add_kernel, 1, 1, 60 * 1024, test_stream(), p, 1));
    EXPECT_CUDA(cudaErrorInvalidValue, launch_allow_shared(add_kernel, 300 * 1024));
    EXPECT(x.read()[0] == 1);
    (void)cudaGetLastError();
}

/* -- mistakes
 * ------------------------------------------------------------------------------------------------
 */

/* Runs `kernel` in a child, which must be aborted with a complaint that holds `words`. */
static void expect_complaint(void (*kernel)(int *), uint32_t threads, const char *words)
{
    int pipe_ends[2];
    if (pipe(pipe_ends) != 0) {
        test_fail("pipe failed");
        return;
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        static int x[4];
        dup2(pipe_ends[1], STDERR_FILENO);
        launch(LAUNCH_OVERLAPPED, kernel, 1, threads, 0, nullptr, x);
        _exit(0);
    }
    close(pipe_ends[1]);
    std::string text;
    char chunk[512];
    for (ssize_t n; (n = read(pipe_ends[0], chunk, sizeof chunk)) > 0;)
        text.append(chunk, (size_t)n);
    close(pipe_ends[0]);
    int status;
    waitpid(child, &status, 0);
    EXPECT(!(WIFEXITED(status) && WEXITSTATUS(status) == 0));
    if (text.find(words) == std::string::npos) test_fail("no \"%s\" in: %s", words, text.c_str());
}

static __global__ void warp_waits_alone_kernel(int *)
{
    if (threadIdx.x < 32 || threadIdx.x == 40)
        __syncthreads();
    else
        __syncwarp();
}

static __global__ void lane_ends_early_kernel(int *x)
{
    if (threadIdx.x == 3) return;
    x[0] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

static __global__ void different_operations_kernel(int *x)
{
    if (threadIdx.x < 16)
        x[0] = __shfl_xor_sync(0xffffffffu, 1, 1);
    else
        __syncwarp();
}

static __global__ void spins_kernel(int *x)
{
    while (atomicCAS(x, 1, 2) != 1) {
    }
}

KERNEL_TEST(kernels_that_would_hang_are_reported)
{
    expect_complaint(warp_waits_alone_kernel, 64, "threads 0 to 31: at __syncthreads");
    expect_complaint(lane_ends_early_kernel, 32, "have ended");
    expect_complaint(different_operations_kernel, 32, "meet at different operations");
    expect_complaint(spins_kernel, 32, "atomicCAS for ever");
#if __CUDA_ARCH__ >= 900
    expect_complaint([](int *) {}, 32, "never called grid_dependency_wait");
#endif
}

KERNEL_TEST_MAIN()
