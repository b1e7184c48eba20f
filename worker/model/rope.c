/* rope: the inverse frequencies of rotary position embeddings (Su et al., 2021, arXiv:2104.09864).
 *
 * A checkpoint was trained with transformers' frequencies, which are float32 tensors: each step
 * below rounds where theirs rounds, in the same order, so that the two agree to 1 ulp. (Double
 * precision to the end would be nearer the formula and up to ln(theta) ulp further from the
 * model, because the exponent 2i / dim is rounded too.) The power is taken in double and rounded
 * once; torch's own float pow may be 1 ulp off that.
 *
 * llama3 scaling keeps the frequencies whose wavelength is short against the original context,
 * divides those whose wavelength is long by the factor, and blends in between. YaRN does so by the
 * dimension's index. LongRoPE divides each by a number of its own. */
#include <math.h>

#include "worker/model/config.h"

static float scale_llama3(const rope_config *rope, float frequency)
{
    const float factor = (float)rope->factor;
    const float low = (float)rope->low_freq_factor;
    const float original = (float)rope->original_context;
    const float longest_kept = (float)(rope->original_context / rope->high_freq_factor);
    const float shortest_divided = (float)(rope->original_context / rope->low_freq_factor);

    /* A number divided by a tensor is, in torch, the tensor's reciprocal times the number. */
    float wavelength = (1.0f / frequency) * (float)(2.0 * M_PI);
    if (wavelength < longest_kept) return frequency;
    if (wavelength > shortest_divided) return frequency / factor;
    float smooth = ((1.0f / wavelength) * original - low) /
                   (float)(rope->high_freq_factor - rope->low_freq_factor);
    return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

/* The dimension that turns `rotations` times within the original context. */
static double yarn_dimension(const rope_config *rope, uint32_t dim, double rotations)
{
    return dim * log(rope->original_context / (rotations * 2 * M_PI)) / (2 * log(rope->theta));
}

static float scale_yarn(const rope_config *rope, uint32_t dim, uint32_t i, float power)
{
    double low = yarn_dimension(rope, dim, rope->beta_fast);
    double high = yarn_dimension(rope, dim, rope->beta_slow);
    if (rope->truncate) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, dim - 1.0);
    if (low == high) high += 0.001;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    float kept = 1.0f - ramp;
    float divided = 1.0f / ((float)rope->factor * power);
    return divided * (1.0f - kept) + (1.0f / power) * kept;
}

void model_config_rope_frequencies(const model_config *config, uint32_t index, float *out)
{
    const rope_config *rope = &config->rope[index];
    const uint32_t dim = config->rotary_dim;
    const double theta = (float)rope->theta;
    const float *factors =
        config->context_max > rope->original_context ? rope->long_factors : rope->short_factors;
    for (uint32_t i = 0; i < dim / 2; i++) {
        float exponent = (float)(2 * i) / (float)dim;
        float power = (float)pow(theta, (double)exponent);
        switch (rope->scaling) {
        case ROPE_SCALING_NONE:
            out[i] = 1.0f / power;
            break;
        case ROPE_SCALING_LINEAR:
            out[i] = 1.0f / power / (float)rope->factor;
            break;
        case ROPE_SCALING_LLAMA3:
            out[i] = scale_llama3(rope, 1.0f / power);
            break;
        case ROPE_SCALING_YARN:
            out[i] = scale_yarn(rope, dim, i, power);
            break;
        case ROPE_SCALING_LONGROPE:
            out[i] = 1.0f / (factors[i] * power);
            break;
        }
    }
}
