/* rope: the inverse frequencies of rotary position embeddings (Su et al., 2021, arXiv:2104.09864).
 *
 * A checkpoint was trained with transformers' frequencies, which are float32 tensors: each step
 * below rounds where theirs rounds, in the same order, so that the two agree to 1 ulp. (Double
 * precision to the end would be nearer the formula and up to ln(theta) ulp further from the
 * model, because the exponent 2i / dim is rounded too.) The power is taken in double and rounded
 * once; torch's own float pow may be 1 ulp off that.
 *
 * llama3 scaling keeps the frequencies whose wavelength is short against the original context,
 * divides those whose wavelength is long by the factor, and blends in between. */
#include <math.h>

#include "worker/model/config.h"

static float scale_llama3(const model_config *config, float frequency)
{
    const float factor = (float)config->rope_factor;
    const float low = (float)config->rope_low_freq_factor;
    const float original = (float)config->rope_original_context;
    const float longest_kept =
        (float)(config->rope_original_context / config->rope_high_freq_factor);
    const float shortest_divided =
        (float)(config->rope_original_context / config->rope_low_freq_factor);

    /* A number divided by a tensor is, in torch, the tensor's reciprocal times the number. */
    float wavelength = (1.0f / frequency) * (float)(2.0 * M_PI);
    if (wavelength < longest_kept) return frequency;
    if (wavelength > shortest_divided) return frequency / factor;
    float smooth = ((1.0f / wavelength) * original - low) /
                   (float)(config->rope_high_freq_factor - config->rope_low_freq_factor);
    return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

void model_config_rope_frequencies(const model_config *config, float *out)
{
    const float dim = (float)config->head_dim;
    const double theta = (float)config->rope_theta;
    for (uint32_t i = 0; i < config->head_dim / 2; i++) {
        float exponent = (float)(2 * i) / dim;
        float frequency = 1.0f / (float)pow(theta, (double)exponent);
        switch (config->rope_scaling) {
        case ROPE_SCALING_NONE:
            break;
        case ROPE_SCALING_LINEAR:
            frequency /= (float)config->rope_factor;
            break;
        case ROPE_SCALING_LLAMA3:
            frequency = scale_llama3(config, frequency);
            break;
        }
        out[i] = frequency;
    }
}
