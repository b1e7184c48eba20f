#include "tests/unit/worker/cpu/reference_forward.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "tests/unit/worker/cpu/random_model.h"

static void multiply(double *out, const weight *w, const weight *bias, const double *in)
{
    for (uint32_t r = 0; r < w->rows; r++) {
        double sum = bias->data != NULL ? weight_at(bias, 0, r) : 0.0;
        for (uint32_t c = 0; c < w->cols; c++)
            sum += weight_at(w, r, c) * in[c];
        out[r] = sum;
    }
}

static void rmsnorm(const model_config *c, double *out, const double *in, const weight *w)
{
    double sum = 0.0, more = c->norm_plus_one ? 1.0 : 0.0;
    for (uint32_t i = 0; i < w->cols; i++)
        sum += in[i] * in[i];
    double scale = 1.0 / sqrt(sum / w->cols + (double)c->rms_norm_eps);
    for (uint32_t i = 0; i < w->cols; i++)
        out[i] = in[i] * scale * (weight_at(w, 0, i) + more);
}

static double cap(double value, float limit)
{
    return limit > 0 ? (double)limit * tanh(value / (double)limit) : value;
}

static double activate(const model_config *c, double x)
{
    if (c->activation == ACTIVATION_SILU) return x / (1.0 + exp(-x));
    return x / 2 * (1.0 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* The angle is rounded to float32, as the model was trained. */
static void rotate(const model_config *c, uint32_t layer, double *vectors, uint32_t heads,
                   uint32_t position)
{
    float frequencies[LIMIT_HEAD_DIM / 2];
    uint32_t rope = c->layer_rope[layer], half = c->rotary_dim / 2;
    double factor = (double)c->rope[rope].attention_factor;
    model_config_rope_frequencies(c, rope, frequencies);
    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t i = 0; i < half; i++) {
            double angle = (double)((float)position * frequencies[i]);
            double cosine = factor * cos(angle), sine = factor * sin(angle);
            double *a = &vectors[h * c->head_dim + i], *b = a + half;
            double turned = *a * cosine - *b * sine;
            *b = *b * cosine + *a * sine;
            *a = turned;
        }
}

static void norm_heads(const model_config *c, double *vectors, uint32_t heads, const weight *w)
{
    for (uint32_t h = 0; w->data != NULL && h < heads; h++)
        rmsnorm(c, vectors + h * c->head_dim, vectors + h * c->head_dim, w);
}

static void attend(double *out, const double *q, const double *keys, const double *values,
                   const model_config *c, uint32_t window, uint32_t position)
{
    uint32_t first = window > 0 && position >= window ? position - window + 1 : 0;
    double *scores = mem_calloc(position + 1, sizeof *scores);
    uint32_t kv_width = c->kv_head_count * c->head_dim;
    for (uint32_t h = 0; h < c->head_count; h++) {
        uint32_t kv = h / (c->head_count / c->kv_head_count) * c->head_dim;
        double sum = 0.0, maximum = -INFINITY;
        for (uint32_t p = first; p <= position; p++) {
            scores[p] = 0.0;
            for (uint32_t d = 0; d < c->head_dim; d++)
                scores[p] += q[h * c->head_dim + d] * keys[p * kv_width + kv + d];
            scores[p] = cap(scores[p] * (double)c->attention_scale, c->attention_softcap);
            maximum = fmax(maximum, scores[p]);
        }
        for (uint32_t p = first; p <= position; p++)
            sum += scores[p] = exp(scores[p] - maximum);
        for (uint32_t d = 0; d < c->head_dim; d++) {
            double value = 0.0;
            for (uint32_t p = first; p <= position; p++)
                value += scores[p] / sum * values[p * kv_width + kv + d];
            out[h * c->head_dim + d] = value;
        }
    }
    mem_free(scores);
}

static void add_normed(const model_config *c, double *row, double *added, const weight *norm)
{
    if (norm->data != NULL) rmsnorm(c, added, added, norm);
    for (uint32_t i = 0; i < c->hidden_size; i++)
        row[i] += added[i];
}

static void run_layer(const model *m, uint32_t layer, double *residual, uint32_t count)
{
    const model_config *c = &m->config;
    const layer_weights *w = &m->layers[layer];
    uint32_t q_width = c->head_count * c->head_dim, kv_width = c->kv_head_count * c->head_dim;
    double *normed = mem_calloc(c->hidden_size, sizeof *normed);
    double *q = mem_calloc(q_width, sizeof *q);
    double *attended = mem_calloc(q_width, sizeof *attended);
    double *keys = mem_calloc((size_t)count * kv_width, sizeof *keys);
    double *values = mem_calloc((size_t)count * kv_width, sizeof *values);
    double *gate = mem_calloc(c->intermediate_size, sizeof *gate);
    double *up = mem_calloc(c->intermediate_size, sizeof *up);
    double *added = mem_calloc(c->hidden_size, sizeof *added);
    for (uint32_t t = 0; t < count; t++) {
        double *row = residual + (size_t)t * c->hidden_size;
        double *key = keys + (size_t)t * kv_width;
        rmsnorm(c, normed, row, &w->input_norm);
        multiply(q, &w->q, &w->q_bias, normed);
        multiply(key, &w->k, &w->k_bias, normed);
        multiply(values + t * kv_width, &w->v, &w->v_bias, normed);
        norm_heads(c, q, c->head_count, &w->q_norm);
        norm_heads(c, key, c->kv_head_count, &w->k_norm);
        rotate(c, layer, q, c->head_count, t);
        rotate(c, layer, key, c->kv_head_count, t);
        attend(attended, q, keys, values, c, c->layer_window[layer], t);
        multiply(added, &w->o, &w->o_bias, attended);
        add_normed(c, row, added, &w->post_attention_norm);
        rmsnorm(c, normed, row, &w->mlp_norm);
        multiply(gate, &w->gate, &w->gate_bias, normed);
        multiply(up, &w->up, &w->up_bias, normed);
        for (uint32_t i = 0; i < c->intermediate_size; i++)
            gate[i] = activate(c, gate[i]) * up[i];
        multiply(added, &w->down, &w->down_bias, gate);
        add_normed(c, row, added, &w->post_mlp_norm);
    }
    mem_free(added);
    mem_free(up);
    mem_free(gate);
    mem_free(values);
    mem_free(keys);
    mem_free(attended);
    mem_free(q);
    mem_free(normed);
}

void reference_forward(const model *m, const uint32_t *ids, uint32_t count, double *logits)
{
    const model_config *c = &m->config;
    const weight no_bias = {0};
    double *residual = mem_calloc((size_t)count * c->hidden_size, sizeof *residual);
    for (uint32_t t = 0; t < count; t++)
        for (uint32_t i = 0; i < c->hidden_size; i++)
            residual[(size_t)t * c->hidden_size + i] =
                weight_at(&m->embedding, ids[t], i) * (double)c->embedding_scale;
    for (uint32_t l = 0; l < c->layer_count; l++)
        run_layer(m, l, residual, count);
    for (uint32_t t = 0; t < count; t++) {
        double *row = residual + (size_t)t * c->hidden_size;
        double *out = logits + (size_t)t * c->vocab_size;
        rmsnorm(c, row, row, &m->final_norm);
        multiply(out, &m->head, &no_bias, row);
        for (uint32_t i = 0; i < c->vocab_size; i++)
            out[i] = cap(out[i], c->final_softcap);
    }
    mem_free(residual);
}
