/* prometheus: families, samples and label sets in Prometheus' text format 0.0.4.
 *
 * A family is written once and all of its samples behind it; names and help texts are ours and need
 * no escapes. Appends to a buffer. Any thread. */
#ifndef GAGGLE_ROUTER_PROMETHEUS_H
#define GAGGLE_ROUTER_PROMETHEUS_H

#include "router/metrics.h"

/* Label sets that stand in many samples, each written once. */
typedef struct label_sets {
    buffer text;
    size_t *end; /* [count] */
    size_t count;
} label_sets;

void label_sets_init(label_sets *sets, size_t capacity);
void label_sets_free(label_sets *sets);
/* {label="value"MORE}; the value is escaped, `more` is not. At most `capacity` times. */
void label_sets_add(label_sets *sets, const char *label, const char *value, size_t size,
                    const char *more);
text_view label_set(const label_sets *sets, size_t i); /* valid until the next is added */

/* `type`: counter, gauge or histogram. */
void prometheus_family(buffer *out, const char *name, const char *type, const char *help);
/* One line: `labels` with their braces or empty, and value / unit, a power of ten. */
void prometheus_sample(buffer *out, const char *name, text_view labels, uint64_t value,
                       uint64_t unit);
/* A family of one sample without labels. */
void prometheus_single(buffer *out, const char *name, const char *type, const char *help,
                       uint64_t value, uint64_t unit);
/* A sample with one label, whose value needs no escapes. */
void prometheus_labelled(buffer *out, const char *name, const char *label, const char *label_value,
                         uint64_t value);
/* The beginning of a sample that has these labels and one more, whose value follows:
 * name{labels,label=" */
void prometheus_open(buffer *out, const char *name, text_view labels, const char *label);
/* The samples of a histogram. `from`: the first bound that is written; lower ones are in it. */
void prometheus_histogram(buffer *out, const char *name, text_view labels, const histogram *h,
                          const histogram_bounds *b, uint32_t from);

#endif
