#include "router/prometheus.h"

#include <stdio.h>

#include "router/page.h"

void prometheus_family(buffer *out, const char *name, const char *type, const char *help)
{
    page_text(out, "# HELP ");
    page_text(out, name);
    page_text(out, " ");
    page_text(out, help);
    page_text(out, "\n# TYPE ");
    page_text(out, name);
    page_text(out, " ");
    page_text(out, type);
    page_text(out, "\n");
}

void prometheus_sample(buffer *out, const char *name, text_view labels, uint64_t value,
                       uint64_t unit)
{
    page_text(out, name);
    buffer_append(out, labels.data, labels.size);
    page_text(out, " ");
    page_fraction(out, value, unit);
    page_text(out, "\n");
}

void prometheus_single(buffer *out, const char *name, const char *type, const char *help,
                       uint64_t value, uint64_t unit)
{
    prometheus_family(out, name, type, help);
    prometheus_sample(out, name, (text_view){0}, value, unit);
}

void prometheus_labelled(buffer *out, const char *name, const char *label, const char *label_value,
                         uint64_t value)
{
    page_text(out, name);
    page_text(out, "{");
    page_text(out, label);
    page_text(out, "=\"");
    page_text(out, label_value);
    page_text(out, "\"} ");
    page_number(out, value);
    page_text(out, "\n");
}

void label_sets_init(label_sets *sets, size_t capacity)
{
    *sets = (label_sets){.end = mem_calloc(capacity, sizeof *sets->end)};
}

void label_sets_free(label_sets *sets)
{
    buffer_free(&sets->text);
    mem_free(sets->end);
}

void label_sets_add(label_sets *sets, const char *label, const char *value, size_t size,
                    const char *more)
{
    page_text(&sets->text, "{");
    page_text(&sets->text, label);
    page_text(&sets->text, "=\"");
    page_label(&sets->text, value, size);
    page_text(&sets->text, "\"");
    page_text(&sets->text, more);
    page_text(&sets->text, "}");
    sets->end[sets->count++] = sets->text.size;
}

text_view label_set(const label_sets *sets, size_t i)
{
    size_t begin = i > 0 ? sets->end[i - 1] : 0;
    return (text_view){(const char *)sets->text.data + begin, sets->end[i] - begin};
}

void prometheus_open(buffer *out, const char *name, text_view labels, const char *label)
{
    page_text(out, name);
    if (labels.size > 0) {
        buffer_append(out, labels.data, labels.size - 1);
        page_text(out, ",");
    } else {
        page_text(out, "{");
    }
    page_text(out, label);
    page_text(out, "=\"");
}

void prometheus_histogram(buffer *out, const char *name, text_view labels, const histogram *h,
                          const histogram_bounds *b, uint32_t from)
{
    char full[96];
    uint64_t seen = 0;
    snprintf(full, sizeof full, "%s_bucket", name);
    for (uint32_t i = 0; i < b->count; i++) {
        seen += h->cells[i];
        if (i < from) continue;
        prometheus_open(out, full, labels, "le");
        page_fraction(out, b->upper[i], b->scale);
        page_text(out, "\"} ");
        page_number(out, seen);
        page_text(out, "\n");
    }
    seen += h->cells[b->count];
    prometheus_open(out, full, labels, "le");
    page_text(out, "+Inf\"} ");
    page_number(out, seen);
    page_text(out, "\n");
    snprintf(full, sizeof full, "%s_sum", name);
    prometheus_sample(out, full, labels, h->sum, b->scale);
    snprintf(full, sizeof full, "%s_count", name);
    prometheus_sample(out, full, labels, seen, 1);
}
