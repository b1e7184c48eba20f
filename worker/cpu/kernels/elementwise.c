/* elementwise: what is done to each number by itself, and the norm. Plain loops; the compiler
 * vectorises them. All are bound by memory, and small beside the matrices. */
#include <math.h>

#include "worker/cpu/kernels/exp.h"
#include "worker/cpu/kernels/lanes.h"
#include "worker/cpu/kernels/variant.h"

/* Zhang, Sennrich: Root mean square layer normalization. 2019. */
void VARIANT(rmsnorm)(float *out, const float *in, const float *weight, uint32_t count, float eps)
{
    lanes sum = lanes_set(0.0f);
    uint32_t whole = count - count % LANES;
    for (uint32_t i = 0; i < whole; i += LANES) {
        lanes x = lanes_load_f32(in + i);
        sum = lanes_fma(x, x, sum);
    }
    if (whole < count) {
        lanes x = lanes_load_tail(DTYPE_F32, in + whole, count - whole);
        sum = lanes_fma(x, x, sum);
    }
    float scale = 1.0f / sqrtf(lanes_sum(sum) / (float)count + eps);
    for (uint32_t i = 0; i < count; i++)
        out[i] = in[i] * scale * weight[i];
}

/* Su et al.: RoFormer: enhanced transformer with rotary position embedding. 2021; paired as
 * Hugging Face's Llama pairs (halves, not neighbours). */
void VARIANT(rope)(float *vectors, const float *cosines, const float *sines, uint32_t heads,
                   uint32_t head_dim, uint32_t rotary_dim, float scale)
{
    uint32_t half = rotary_dim / 2;
    for (uint32_t h = 0; h < heads; h++) {
        float *low = vectors + (size_t)h * head_dim;
        float *high = low + half;
        for (uint32_t i = 0; i < half; i++) {
            float a = low[i], b = high[i];
            low[i] = (a * cosines[i] - b * sines[i]) * scale;
            high[i] = (b * cosines[i] + a * sines[i]) * scale;
        }
        for (uint32_t i = rotary_dim; i < head_dim; i++)
            low[i] *= scale;
    }
}

/* Shazeer: GLU variants improve transformer. 2020. */
void VARIANT(silu_multiply)(float *restrict out, const float *restrict gate, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = gate[i] / (1.0f + exp_of(-gate[i])) * out[i];
}

/* Hendrycks, Gimpel: Gaussian error linear units. 2016; their approximation by tanh. (1 + tanh(u))
 * / 2 is 1 / (1 + exp(-2u)), which loses no digits where tanh(u) is near -1. */
void VARIANT(gelu_multiply)(float *restrict out, const float *restrict gate, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        float g = gate[i];
        float u = 0.79788456f * (g + 0.044715f * (g * g * g)); /* sqrt(2 / pi) */
        out[i] = g / (1.0f + exp_of(-2.0f * u)) * out[i];
    }
}

void VARIANT(softcap)(float *values, float cap, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = cap * tanh_of(values[i] / cap);
}

void VARIANT(widen)(float *restrict out, const void *restrict in, dtype type, size_t count)
{
    const uint8_t *bytes = in;
    size_t size = type_bytes(type);
    size_t whole = count - count % LANES;
    for (size_t i = 0; i < whole; i += LANES)
        lanes_store(out + i, lanes_load(type, bytes + i * size));
    if (whole < count) {
        float rest[LANES];
        unsigned left = (unsigned)(count - whole);
        lanes_store(rest, lanes_load_tail(type, bytes + whole * size, left));
        memcpy(out + whole, rest, left * sizeof(float));
    }
}

void VARIANT(exponential)(float *restrict out, const float *restrict in, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = exp_of(in[i]);
}
