/* page: numbers and names written into a buffer, for pages with ten thousands of lines.
 *
 * printf takes 300 ns a line, these a tenth of it. Any thread. */
#ifndef GAGGLE_ROUTER_PAGE_H
#define GAGGLE_ROUTER_PAGE_H

#include "common/mem.h"

void page_text(buffer *out, const char *text);
void page_number(buffer *out, uint64_t value);
/* value / unit with all its digits, unit a power of ten: 1500 of 1000000 is "0.0015". */
void page_fraction(buffer *out, uint64_t value, uint64_t unit);
/* As part of a quoted string of JSON, or of a Prometheus label; without the quotes. `text` is
 * UTF-8. */
void page_json(buffer *out, const char *text, size_t size);
void page_label(buffer *out, const char *text, size_t size);

#endif
