/* reference_forward: the model as its papers write it, in double precision, one loop a formula.
 * What the CPU backend is measured against; nothing of its code is used. */
#ifndef GAGGLE_TESTS_WORKER_CPU_REFERENCE_FORWARD_H
#define GAGGLE_TESTS_WORKER_CPU_REFERENCE_FORWARD_H

#include "worker/model/weights.h"

/* logits[count][vocab], after each of ids[count] */
void reference_forward(const model *m, const uint32_t *ids, uint32_t count, double *logits);

#endif
