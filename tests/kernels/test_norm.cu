/* Goal: residual_norm's formula in all its forms, and rows that do not depend on each other.
 * Method: against the formula in double; the residual as float, y against the reference rounded to
 * T once: its bound allows a last-place difference in a few elements of a thousand. */
#include "tests/kernels/kernel_test.h"
#include "worker/cuda/kernels/norm.h"

struct norm_form {
    bool delta, scale, post, y, rows;
};

static const norm_form forms[] = {
    {false, false, false, true, false}, {true, false, false, true, false},
    {true, true, false, true, false},   {true, false, true, true, false},
    {true, true, true, true, true},     {false, false, false, true, true},
    {true, true, true, false, false},
};

struct norm_case {
    uint32_t count, hidden;
    norm_form form;
    std::vector<float> residual, delta, row_scale, post_weight, weight;
    std::vector<uint32_t> rows;
};

static const float eps = 1e-5f;

static norm_case make_case(uint32_t count, uint32_t hidden, const norm_form &form)
{
    norm_case c = {count, hidden, form, {}, {}, {}, {}, {}, {}};
    uint32_t tokens = form.rows ? count + 3 : count;
    c.residual = test_normal((size_t)tokens * hidden, 3, 1);
    c.delta = test_normal((size_t)tokens * hidden, 1, 2);
    c.weight = test_normal(hidden, 1, 3);
    c.post_weight = test_normal(hidden, 1, 4);
    for (uint32_t t = 0; t < tokens; t++)
        c.row_scale.push_back(t % 2 == 0 ? 1.0f : 4.0f);
    for (uint32_t o = 0; o < count; o++)
        c.rows.push_back(form.rows ? tokens - 1 - o : o);
    return c;
}

static void reference(const norm_case &c, std::vector<double> *residual, std::vector<double> *y)
{
    *residual = to_doubles(c.residual);
    y->assign((size_t)c.count * c.hidden, 0);
    std::vector<double> d(c.hidden);
    for (uint32_t o = 0; o < c.count; o++) {
        double *x = residual->data() + (size_t)c.rows[o] * c.hidden;
        double squares = 0;
        for (uint32_t i = 0; i < c.hidden && c.form.delta; i++) {
            d[i] = c.delta[(size_t)c.rows[o] * c.hidden + i];
            if (c.form.scale) d[i] *= c.row_scale[c.rows[o]];
            squares += d[i] * d[i];
        }
        double r = c.form.post ? 1 / std::sqrt(squares / c.hidden + eps) : 1;
        for (uint32_t i = 0; i < c.hidden && c.form.delta; i++)
            x[i] += d[i] * (c.form.post ? r * c.post_weight[i] : 1);
        squares = 0;
        for (uint32_t i = 0; i < c.hidden; i++)
            squares += x[i] * x[i];
        r = 1 / std::sqrt(squares / c.hidden + eps);
        for (uint32_t i = 0; i < c.hidden; i++)
            (*y)[(size_t)o * c.hidden + i] = x[i] * r * c.weight[i];
    }
}

template <typename T>
static void run(const norm_case &c, kernel_dtype type, std::vector<float> *residual,
                std::vector<T> *y)
{
    device_array<float> d_residual(c.residual), delta(c.delta), row_scale(c.row_scale),
        post_weight(c.post_weight), weight(c.weight);
    device_array<uint32_t> rows(c.rows);
    device_array<T> d_y((size_t)c.count * c.hidden);
    residual_norm_args a = {};
    a.residual = d_residual.data();
    a.delta = c.form.delta ? delta.data() : nullptr;
    a.row_scale = c.form.scale ? row_scale.data() : nullptr;
    a.post_weight = c.form.post ? post_weight.data() : nullptr;
    a.y = c.form.y ? d_y.data() : nullptr;
    a.type = type;
    a.weight = c.form.y ? weight.data() : nullptr;
    a.rows = c.form.rows ? rows.data() : nullptr;
    a.count = c.count;
    a.hidden = c.hidden;
    a.eps = eps;
    CHECK_CUDA(residual_norm(&test_device(), &a, test_stream()));
    *residual = d_residual.read();
    *y = d_y.read();
}

template <typename T>
static void check(kernel_dtype type, uint32_t count, uint32_t hidden, const norm_form &form)
{
    norm_case c = make_case(count, hidden, form);
    std::vector<double> want_residual, want_y;
    std::vector<float> residual;
    std::vector<T> y;
    reference(c, &want_residual, &want_y);
    run<T>(c, type, &residual, &y);
    std::string what =
        std::string(dtype_name(type)) + " " + std::to_string(count) + "x" + std::to_string(hidden);
    expect_close(("residual " + what).c_str(), residual, want_residual, 1e-13);
    if (form.y)
        expect_close(("y " + what).c_str(), y, rounded_to<T>(want_y),
                     (type == KERNEL_F16 ? 2e-9 : 1e-7) + one_rounding(type, want_y.size()));
}

KERNEL_TEST(every_form_and_size_meets_the_formula)
{
    std::vector<uint32_t> sizes = {8, 10, 64, 250, 896, 4096, 8192, 8200, 16384};
    std::vector<uint32_t> counts = {0, 1, 3};
#ifndef KERNEL_TEST_EMULATED
    sizes.insert(sizes.end(), {2048, 3072, 5120, 12288, 65534, 65536});
    counts.insert(counts.end(), {64, 777});
#endif
    for (uint32_t hidden : sizes)
        for (uint32_t count : counts)
            for (const norm_form &form : forms) {
                if ((uint64_t)hidden * count > 1u << 20) continue;
                check<__half>(KERNEL_F16, count, hidden, form);
                if (test_device().code_arch >= 80)
                    check<__nv_bfloat16>(KERNEL_BF16, count, hidden, form);
            }
}

KERNEL_TEST(the_largest_count_is_served)
{
#ifdef KERNEL_TEST_EMULATED
    check<__half>(KERNEL_F16, 700, 8, forms[4]);
#else
    check<__half>(KERNEL_F16, 16384, 2048, forms[4]);
#endif
}

KERNEL_TEST(a_row_alone_gets_the_same_bits_as_among_others)
{
    const uint32_t count = 5;
    for (uint32_t hidden : {250u, 4096u, 16384u}) {
        norm_case c = make_case(count, hidden, forms[3]);
        std::vector<float> residual, residual_alone;
        std::vector<__half> y, y_alone;
        run<__half>(c, KERNEL_F16, &residual, &y);
        norm_case alone = make_case(1, hidden, forms[3]);
        size_t from = (size_t)3 * hidden;
        alone.residual.assign(c.residual.begin() + from, c.residual.begin() + from + hidden);
        alone.delta.assign(c.delta.begin() + from, c.delta.begin() + from + hidden);
        run<__half>(alone, KERNEL_F16, &residual_alone, &y_alone);
        expect_same_bits("y", std::vector<__half>(y.begin() + from, y.begin() + from + hidden),
                         y_alone);
        expect_same_bits(
            "residual",
            std::vector<float>(residual.begin() + from, residual.begin() + from + hidden),
            residual_alone);
    }
}

KERNEL_TEST(a_nan_spoils_its_own_row_only)
{
    norm_case c = make_case(3, 896, forms[1]);
    c.delta[896 + 5] = NAN;
    std::vector<float> residual;
    std::vector<__half> y;
    run<__half>(c, KERNEL_F16, &residual, &y);
    for (uint32_t i = 0; i < 896; i++) {
        EXPECT(!std::isnan(host_float(y[i])) && !std::isnan(host_float(y[2 * 896 + i])));
        EXPECT(std::isnan(host_float(y[896 + i])));
    }
}

KERNEL_TEST(what_the_contract_excludes_is_refused)
{
    device_array<float> x(64), w(64);
    device_array<__half> y(64);
    residual_norm_args good = {};
    good.residual = x.data();
    good.y = y.data();
    good.weight = w.data();
    good.count = 1;
    good.hidden = 8;
    good.eps = eps;
    auto refused = [&](const residual_norm_args &a) {
        EXPECT_CUDA(cudaErrorInvalidValue, residual_norm(&test_device(), &a, test_stream()));
    };
    residual_norm_args a = good;
    a.hidden = 9, refused(a), a = good;
    a.hidden = 6, refused(a), a = good;
    a.hidden = 65538, refused(a), a = good;
    a.count = 16385, refused(a), a = good;
    a.type = KERNEL_F32, refused(a), a = good;
    a.weight = nullptr, refused(a), a = good;
    a.residual = x.data() + 1, refused(a), a = good;
    a.y = y.data() + 1, refused(a), a = good;
    a.delta = x.data() + 2, refused(a), a = good;
    kernel_device turing = test_device();
    turing.code_arch = 75;
    a.type = KERNEL_BF16;
    EXPECT_CUDA(cudaErrorInvalidValue, residual_norm(&turing, &a, test_stream()));
}

KERNEL_TEST_MAIN()
