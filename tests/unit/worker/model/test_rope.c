/* Goal: rotary frequencies are the ones the checkpoints were trained with.
 *
 * Method: bit patterns that torch 2.15 computed on a CPU, in float tensors and in transformers'
 * order of operations, for the shapes of published models; at most 1 ulp apart. And the formulas
 * in double precision, for shapes at random: at most what float steps may lose. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/model/config.h"

static const uint32_t llama2_128[] = {
    0x3f800000, 0x3f5dafd7, 0x3f3ff911, 0x3f263de0, 0x3f0ff59a, 0x3ef953cf, 0x3ed7e89b, 0x3ebaf81b,
    0x3ea1e89b, 0x3e8c3504, 0x3e72d423, 0x3e5247ed, 0x3e361887, 0x3e1db040, 0x3e088d77, 0x3dec7fd6,
    0x3dcccccd, 0x3db15978, 0x3d99940d, 0x3d84fe4d, 0x3d6655c2, 0x3d47763f, 0x3d2cba15, 0x3d159348,
    0x3d0186e3, 0x3ce054d2, 0x3cc2434f, 0x3ca8398b, 0x3c91ad39, 0x3c7c4d33, 0x3c5a7bf2, 0x3c3d3311,
    0x3c23d70a, 0x3c0de12d, 0x3bf5b9b0, 0x3bd4ca15, 0x3bb8449c, 0x3b9f91cc, 0x3b8a2e77, 0x3b6f520e,
    0x3b4f3e38, 0x3b33770f, 0x3b1b690d, 0x3b06946f, 0x3ae91528, 0x3ac9d75c, 0x3aaec98e, 0x3a975c0e,
    0x3a83126f, 0x3a6301e2, 0x3a44948c, 0x3a2a3b44, 0x3a136a16, 0x39ff4fac, 0x39dd1725, 0x39bf74d7,
    0x39a5cb60, 0x398f9272, 0x3978a815, 0x395753e4, 0x393a7753, 0x39217916, 0x390bd472, 0x38f22ce2,
};
static const uint32_t stories_8[] = {
    0x3f800000,
    0x3dcccccd,
    0x3c23d70a,
    0x3a83126f,
};
static const uint32_t theta1e6_96[] = {
    0x3f800000, 0x3f3ff911, 0x3f0ff59a, 0x3ed7e89b, 0x3ea1e89b, 0x3e72d425, 0x3e361887, 0x3e088d78,
    0x3dcccccc, 0x3d99940d, 0x3d6655c4, 0x3d2cba14, 0x3d0186e3, 0x3cc2434e, 0x3c91ad3a, 0x3c5a7bf2,
    0x3c23d709, 0x3bf5b9b1, 0x3bb8449c, 0x3b8a2e76, 0x3b4f3e39, 0x3b1b690d, 0x3ae91525, 0x3aaec98f,
    0x3a83126f, 0x3a44948f, 0x3a136a14, 0x39dd1725, 0x39a5cb62, 0x3978a80f, 0x393a7753, 0x390bd474,
    0x38d1b713, 0x389d43a4, 0x386bdcf5, 0x3830df4e, 0x3804a2b2, 0x37c6ece0, 0x37952c40, 0x375fba4f,
    0x3727c5b0, 0x36fb9f67, 0x36bcb0c1, 0x368d7f76, 0x36543781, 0x361f23e4, 0x35eead3b, 0x35b2fb6f,
};
static const uint32_t linear4_64[] = {
    0x3e800000, 0x3e3ff911, 0x3e0ff59a, 0x3dd7e89b, 0x3da1e89b, 0x3d72d423, 0x3d361887, 0x3d088d77,
    0x3ccccccd, 0x3c99940d, 0x3c6655c2, 0x3c2cba15, 0x3c0186e3, 0x3bc2434f, 0x3b91ad39, 0x3b5a7bf2,
    0x3b23d70a, 0x3af5b9b0, 0x3ab8449c, 0x3a8a2e77, 0x3a4f3e38, 0x3a1b690d, 0x39e91528, 0x39aec98e,
    0x3983126f, 0x3944948c, 0x39136a16, 0x38dd1725, 0x38a5cb60, 0x3878a815, 0x383a7753, 0x380bd472,
};
static const uint32_t llama31_128[] = {
    0x3f800000, 0x3f508ac1, 0x3f29e1c6, 0x3f0a6384, 0x3ee177bc, 0x3eb7ab7d, 0x3e959ee3, 0x3e73c461,
    0x3e4693b0, 0x3e21c3a0, 0x3e03c6a0, 0x3dd6b19c, 0x3daee4ad, 0x3d8e7898, 0x3d681e67, 0x3d3d1684,
    0x3d1a08c8, 0x3cfaf53f, 0x3ccc6f49, 0x3ca68939, 0x3c87a9c3, 0x3c5d06ec, 0x3c340d6d, 0x3c12ac7f,
    0x3beef74f, 0x3bc2aa76, 0x3b9e9402, 0x3b812e35, 0x3b527720, 0x3b0dfd06, 0x3ab3d11d, 0x3a60979e,
    0x3a0995d2, 0x39a3f108, 0x393b2dd2, 0x38c86886, 0x38a3418d, 0x3884fdbf, 0x3858ac81, 0x38308199,
    0x380fc8f8, 0x37ea426f, 0x37bed4f4, 0x379b7475, 0x377d45c3, 0x374e51f5, 0x3728126b, 0x3708ea0f,
    0x36df10c4, 0x36b5b687, 0x369406cb, 0x36712b80, 0x36447610, 0x36200a69, 0x36025f34, 0x35d46808,
    0x35ad07a7, 0x358cf400, 0x3565a54d, 0x353b12c7, 0x351864a7, 0x34f848c2, 0x34ca41b0, 0x34a4c2ff,
};
static const uint32_t llama32_64[] = {
    0x3f800000, 0x3f29e1c6, 0x3ee177bc, 0x3e959ee3, 0x3e4693b0, 0x3e03c6a0, 0x3daee4ad, 0x3d681e67,
    0x3d1a08c8, 0x3ccc6f49, 0x3c87a9c3, 0x3c340d6d, 0x3beef74f, 0x3b9e9402, 0x3b527720, 0x3aa9279b,
    0x39e13620, 0x38cb98f7, 0x37a3418d, 0x3758ac81, 0x370fc8f8, 0x36bed4f4, 0x367d45c3, 0x3628126b,
    0x35df10c4, 0x359406cb, 0x35447610, 0x35025f34, 0x34ad07a7, 0x3465a54d, 0x341864a7, 0x33ca41b0,
};

static const uint32_t yarn_128[] = {
    0x3f800000, 0x3f4e4bad, 0x3f263de0, 0x3f05f6ef, 0x3ed7e89b, 0x3eadfcff, 0x3e8c3504, 0x3e61f835,
    0x3e361887, 0x3e12bd91, 0x3dec7fd6, 0x3dbe94c6, 0x3d99940d, 0x3d778513, 0x3d47763f, 0x3d20bc1d,
    0x3d0186e3, 0x3cd0c1a8, 0x3ca8398b, 0x3c879008, 0x3c5a7bf2, 0x3c301052, 0x3c0de12d, 0x3be4aa46,
    0x3bb02377, 0x3b876388, 0x3b4fa550, 0x3b1ed248, 0x3af241df, 0x3ab82bc0, 0x3a8b8207, 0x3a527db8,
    0x3a1e0eb2, 0x39ec1968, 0x39af3d02, 0x39811c3e, 0x393c93be, 0x39083e38, 0x38c23e9a, 0x38881d0a,
    0x383a7753, 0x38164324, 0x37f22ce2, 0x37c327b5, 0x379d43a4, 0x377d75d4, 0x374c3fbe, 0x372497ab,
    0x3704a2b2, 0x36d5c441, 0x36ac431d, 0x368ad0ed, 0x365fba4f, 0x36344a0e, 0x361148e3, 0x35ea2732,
    0x35bcb0c1, 0x35980e02, 0x35751070, 0x35457bab, 0x351f23e4, 0x35003dec, 0x34ceaf79, 0x34a68e4c,
};
static const uint32_t yarn_64_untruncated[] = {
    0x3f800000, 0x3f3ff911, 0x3f0ff59a, 0x3ed7e89b, 0x3ea1e89b, 0x3e72d423, 0x3e361887, 0x3e088d77,
    0x3dcccccd, 0x3d99940d, 0x3d6655c2, 0x3d21afc0, 0x3cd31f00, 0x3c86ca79, 0x3c26df19, 0x3bc5598f,
    0x3b589c6d, 0x3acdd462, 0x3a38449c, 0x3a0a2e77, 0x39cf3e38, 0x399b690d, 0x39691528, 0x392ec98e,
    0x3903126f, 0x38c4948c, 0x38936a16, 0x385d1725, 0x3825cb60, 0x37f8a815, 0x37ba7753, 0x378bd472,
};
static const uint32_t longrope_short_32[] = {
    0x3f800000, 0x3f077dbe, 0x3e8feb35, 0x3e195806, 0x3da3d70a, 0x3d2f7e4b, 0x3cbc671b, 0x3c4aae39,
    0x3bda740e, 0x3b6bdcf0, 0x3aff117f, 0x3a8a1f80, 0x3a15cbec, 0x39a2aa07, 0x3930d8ee, 0x38c07b2c,
};
static const uint32_t longrope_long_32[] = {
    0x3f800000, 0x3e6655c2, 0x3da1e89b, 0x3d046eee, 0x3c6a0ea1, 0x3bd8c92f, 0x3b4f3e38, 0x3acaae39,
    0x3a49a634, 0x39cb5489, 0x394f3e38, 0x38d51aa9, 0x385cc0ba, 0x37e61c3d, 0x377127d0, 0x36fde94c,
};

static model_config plain(double theta, uint32_t head_dim)
{
    return (model_config){.rope = {{.theta = theta}}, .rope_count = 1, .rotary_dim = head_dim};
}

static model_config linear(double theta, uint32_t head_dim, double factor)
{
    model_config config = plain(theta, head_dim);
    config.rope[0].scaling = ROPE_SCALING_LINEAR;
    config.rope[0].factor = factor;
    return config;
}

static model_config llama3(double theta, uint32_t head_dim, double factor)
{
    model_config config = plain(theta, head_dim);
    config.rope[0].scaling = ROPE_SCALING_LLAMA3;
    config.rope[0].factor = factor;
    config.rope[0].low_freq_factor = 1;
    config.rope[0].high_freq_factor = 4;
    config.rope[0].original_context = 8192;
    return config;
}

static model_config yarn(double theta, uint32_t head_dim, double factor, uint32_t original)
{
    model_config config = plain(theta, head_dim);
    config.rope[0].scaling = ROPE_SCALING_YARN;
    config.rope[0].factor = factor;
    config.rope[0].original_context = original;
    config.rope[0].beta_fast = 32;
    config.rope[0].beta_slow = 1;
    config.rope[0].truncate = true;
    return config;
}

static model_config longrope(uint32_t context_max)
{
    model_config config = plain(10000, 32);
    config.context_max = context_max;
    config.rope[0].scaling = ROPE_SCALING_LONGROPE;
    config.rope[0].original_context = 4096;
    for (uint32_t i = 0; i < 16; i++) {
        config.rope[0].short_factors[i] = 1 + 0.0625f * (float)i;
        config.rope[0].long_factors[i] = 1 + 1.5f * (float)i;
    }
    return config;
}

/* Positive floats order like their bits, so the difference counts ulps. */
static void assert_matches(model_config config, const uint32_t *expected, size_t count)
{
    float found[LIMIT_HEAD_DIM / 2];
    assert_int_equal(count, config.rotary_dim / 2);
    model_config_rope_frequencies(&config, 0, found);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &found[i], sizeof bits);
        if (bits > expected[i] + 1 || bits + 1 < expected[i])
            fail_msg("frequency %zu of %zu: expected 0x%08x, found 0x%08x", i, count, expected[i],
                     bits);
    }
}

#define ASSERT_MATCHES(config, golden)                                                             \
    assert_matches(config, golden, sizeof(golden) / sizeof(golden)[0])

static void test_unscaled_frequencies_equal_torch(void **state)
{
    (void)state;
    ASSERT_MATCHES(plain(10000, 128), llama2_128);
    ASSERT_MATCHES(plain(10000, 8), stories_8);
    ASSERT_MATCHES(plain(1000000, 96), theta1e6_96);
}

static void test_linear_scaling_equals_torch(void **state)
{
    (void)state;
    ASSERT_MATCHES(linear(10000, 64, 4), linear4_64);
}

static void test_llama3_scaling_equals_torch(void **state)
{
    (void)state;
    ASSERT_MATCHES(llama3(500000, 128, 8), llama31_128);
    ASSERT_MATCHES(llama3(500000, 64, 32), llama32_64);
}

static void test_yarn_equals_torch(void **state)
{
    (void)state;
    ASSERT_MATCHES(yarn(1e6, 128, 4, 32768), yarn_128);
    model_config config = yarn(1e4, 64, 8, 2048);
    config.rope[0].truncate = false;
    config.rope[0].beta_fast = 16;
    config.rope[0].beta_slow = 2;
    ASSERT_MATCHES(config, yarn_64_untruncated);
}

static void test_longrope_equals_torch_on_either_side_of_its_context(void **state)
{
    (void)state;
    ASSERT_MATCHES(longrope(4096), longrope_short_32);
    ASSERT_MATCHES(longrope(4097), longrope_long_32);
}

static void test_the_second_rope_is_the_second(void **state)
{
    (void)state;
    model_config config = linear(5, 64, 2);
    config.rope_count = 2;
    config.rope[1] = config.rope[0];
    config.rope[0] = linear(10000, 64, 4).rope[0];
    float first[32], second[32];
    model_config_rope_frequencies(&config, 0, first);
    model_config_rope_frequencies(&config, 1, second);
    assert_true(first[0] == 0.25f && second[0] == 0.5f);
    assert_true(fabsf(second[31] - 0.5f * powf(5, -62.0f / 64)) < 1e-6f);
}

static double exact_frequency(const model_config *c, uint32_t i)
{
    double f = pow(c->rope[0].theta, -2.0 * i / c->rotary_dim);
    if (c->rope[0].scaling == ROPE_SCALING_LINEAR) return f / c->rope[0].factor;
    if (c->rope[0].scaling == ROPE_SCALING_NONE) return f;
    double wavelength = 2.0 * M_PI / f;
    if (wavelength < c->rope[0].original_context / c->rope[0].high_freq_factor) return f;
    if (wavelength > c->rope[0].original_context / c->rope[0].low_freq_factor)
        return f / c->rope[0].factor;
    double smooth = (c->rope[0].original_context / wavelength - c->rope[0].low_freq_factor) /
                    (c->rope[0].high_freq_factor - c->rope[0].low_freq_factor);
    return (1 - smooth) * f / c->rope[0].factor + smooth * f;
}

/* The exponent's rounding is magnified by ln(theta) < 35; the other steps add a few roundings.
 * Where llama3's blend has little of the frequency itself, that little's error stands beside
 * 1 / factor of it. */
static void test_frequencies_follow_the_formula_for_any_shape(void **state)
{
    (void)state;
    float found[LIMIT_HEAD_DIM / 2];
    srand48(7);
    for (int round = 0; round < 2000; round++) {
        uint32_t head_dim = 2 + 2 * (uint32_t)(lrand48() % (LIMIT_HEAD_DIM / 2));
        double theta = pow(10, 3 + 6 * drand48());
        double factor = 1 + 63 * drand48();
        model_config config = round % 3 == 0   ? plain(theta, head_dim)
                              : round % 3 == 1 ? linear(theta, head_dim, factor)
                                               : llama3(theta, head_dim, factor);
        double tolerance = 40 * 6e-8;
        if (config.rope[0].scaling == ROPE_SCALING_LLAMA3) tolerance *= factor;
        model_config_rope_frequencies(&config, 0, found);
        for (uint32_t i = 0; i < head_dim / 2; i++) {
            double exact = exact_frequency(&config, i);
            if (fabs(found[i] - exact) > tolerance * exact)
                fail_msg(
                    "theta %g dim %u factor %g kind %d frequency %u: expected %.9g, found %.9g",
                    theta, head_dim, factor, (int)config.rope[0].scaling, i, exact,
                    (double)found[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unscaled_frequencies_equal_torch),
        cmocka_unit_test(test_linear_scaling_equals_torch),
        cmocka_unit_test(test_llama3_scaling_equals_torch),
        cmocka_unit_test(test_yarn_equals_torch),
        cmocka_unit_test(test_longrope_equals_torch_on_either_side_of_its_context),
        cmocka_unit_test(test_the_second_rope_is_the_second),
        cmocka_unit_test(test_frequencies_follow_the_formula_for_any_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
