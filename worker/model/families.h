/* families: config.json as each family writes it. Private to worker/model. */
#ifndef GAGGLE_WORKER_MODEL_FAMILIES_H
#define GAGGLE_WORKER_MODEL_FAMILIES_H

#include "worker/model/config.h"
#include "worker/model/config_reader.h"

/* Everything config.json says, into a zeroed config. What is wrong is in r->st. */
void config_take(reader *r, model_config *config);

/* eos_token_id: one id, a list of them, or null. Absent leaves the ids as they are. */
void config_take_eos_ids(reader *r, model_config *config);

#endif
