/* prometheus_check: is a page what Prometheus' text format 0.0.4 allows, and what its own rules for
 * names ask for? Strict: what a lenient parser would swallow fails the test, with the line. */
#ifndef GAGGLE_TESTS_PROMETHEUS_CHECK_H
#define GAGGLE_TESTS_PROMETHEUS_CHECK_H

#include <stddef.h>

/* Returns the number of samples. */
size_t prometheus_check(const char *page, size_t size);

/* The value of the sample that begins with `series` (name and labels, as written); fails when it
 * is not there once. */
double prometheus_value(const char *page, size_t size, const char *series);

#endif
