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

static void rmsnorm(double *out, const double *in, const weight *w, double eps)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < w->cols; i++)
        sum += in[i] * in[i];
    for (uint32_t i = 0; i < w->cols; i++)
        out[i] = in[i] / sqrt(sum / w->cols + eps) * weight_at(w, 0, i);
}

/* The angle is rounded to float32, as the model was trained. */
static void rotate(double *vectors, uint32_t heads, uint32_t head_dim, const float *frequencies,
                   uint32_t position)
{
    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t i = 0; i < head_dim / 2; i++) {
            double angle = (double)((float)position * frequencies[i]);
            double *a = &vectors[h * head_dim + i], *b = a + head_dim / 2;
            double turned = *a * cos(angle) - *b * sin(angle);
            *b = *b * cos(angle) + *a * sin(angle);
            *a = turned;
        }
}

static void attend(double *out, const double *q, const double *keys, const double *values,
                   const model_config *c, uint32_t position)
{
    double *scores = mem_calloc(position + 1, sizeof *scores);
    uint32_t kv_width = c->kv_head_count * c->head_dim;
    for (uint32_t h = 0; h < c->head_count; h++) {
        uint32_t kv = h / (c->head_count / c->kv_head_count) * c->head_dim;
        double sum = 0.0, maximum = -INFINITY;
        for (uint32_t p = 0; p <= position; p++) {
            scores[p] = 0.0;
            for (uint32_t d = 0; d < c->head_dim; d++)
                scores[p] += q[h * c->head_dim + d] * keys[p * kv_width + kv + d];
            scores[p] /= sqrt(c->head_dim);
            maximum = fmax(maximum, scores[p]);
        }
        for (uint32_t p = 0; p <= position; p++)
            sum += scores[p] = exp(scores[p] - maximum);
        for (uint32_t d = 0; d < c->head_dim; d++) {
            double value = 0.0;
            for (uint32_t p = 0; p <= position; p++)
                value += scores[p] / sum * values[p * kv_width + kv + d];
            out[h * c->head_dim + d] = value;
        }
    }
    mem_free(scores);
}

static void run_layer(const model_config *c, const layer_weights *w, const float *frequencies,
                      double *residual, uint32_t count)
{
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
        rmsnorm(normed, row, &w->input_norm, (double)c->rms_norm_eps);
        multiply(q, &w->q, &w->q_bias, normed);
        multiply(keys + t * kv_width, &w->k, &w->k_bias, normed);
        multiply(values + t * kv_width, &w->v, &w->v_bias, normed);
        rotate(q, c->head_count, c->head_dim, frequencies, t);
        rotate(keys + t * kv_width, c->kv_head_count, c->head_dim, frequencies, t);
        attend(attended, q, keys, values, c, t);
        multiply(added, &w->o, &w->o_bias, attended);
        for (uint32_t i = 0; i < c->hidden_size; i++)
            row[i] += added[i];
        rmsnorm(normed, row, &w->mlp_norm, (double)c->rms_norm_eps);
        multiply(gate, &w->gate, &w->gate_bias, normed);
        multiply(up, &w->up, &w->up_bias, normed);
        for (uint32_t i = 0; i < c->intermediate_size; i++)
            gate[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
        multiply(added, &w->down, &w->down_bias, gate);
        for (uint32_t i = 0; i < c->hidden_size; i++)
            row[i] += added[i];
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
    float *frequencies = mem_calloc(c->head_dim / 2, sizeof *frequencies);
    model_config_rope_frequencies(c, frequencies);
    double *residual = mem_calloc((size_t)count * c->hidden_size, sizeof *residual);
    for (uint32_t t = 0; t < count; t++)
        for (uint32_t i = 0; i < c->hidden_size; i++)
            residual[(size_t)t * c->hidden_size + i] = weight_at(&m->embedding, ids[t], i);
    for (uint32_t l = 0; l < c->layer_count; l++)
        run_layer(c, &m->layers[l], frequencies, residual, count);
    for (uint32_t t = 0; t < count; t++) {
        double *row = residual + (size_t)t * c->hidden_size;
        rmsnorm(row, row, &m->final_norm, (double)c->rms_norm_eps);
        multiply(logits + (size_t)t * c->vocab_size, &m->head, &no_bias, row);
    }
    mem_free(residual);
    mem_free(frequencies);
}
