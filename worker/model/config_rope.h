/* config_rope: what a config.json says of rotary embeddings. Private to worker/model. */
#ifndef GAGGLE_WORKER_MODEL_CONFIG_ROPE_H
#define GAGGLE_WORKER_MODEL_CONFIG_ROPE_H

#include "worker/model/config.h"
#include "worker/model/config_reader.h"

/* What differs between families. */
typedef struct rope_rule {
    double theta_absent;            /* 0: 10000 */
    bool partial;                   /* partial_rotary_factor may be less than 1 */
    bool su_and_yarn_mean_longrope; /* so Phi-3's first configs call it */
    uint32_t original_absent;       /* longrope's original context; 0: the context */
    bool local;                     /* sliding layers have one of their own: rope[1] */
} rope_rule;

/* Fill config->rope, rope_count and rotary_dim, and layer_rope where there are two: rope[1] for the
 * layers of `sliding` [layer_count]. Reads config's head_dim, context_max, layer_count. */
void config_take_rope(reader *r, const rope_rule *rule, const bool *sliding, model_config *config);

#endif
