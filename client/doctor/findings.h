/* findings: what gaggle doctor has found, in the order in which it looked.
 *
 * A warning works but not as somebody would want it; a failure does not work. Both come with the
 * advice what to do: findings_complete() holds them to that. */
#ifndef GAGGLE_DOCTOR_FINDINGS_H
#define GAGGLE_DOCTOR_FINDINGS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum finding_level { FINDING_OK, FINDING_WARN, FINDING_FAIL } finding_level;

const char *finding_level_name(finding_level level); /* "ok", "warn", "FAIL" */

typedef struct finding {
    finding_level level;
    char check[32]; /* what was looked at: "cpu", "port 7400" */
    char text[768];
    char advice[512]; /* "" where all is well */
} finding;

typedef struct findings {
    finding *items;
    size_t count;
} findings; /* {0} is none */

/* What comes from outside (names of processes, subjects of certificates, a router's sentence) may
 * stand in the texts: control characters become '?'. Longer ones are cut. */
void finding_add(findings *f, finding_level level, const char *check, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* To the last one, which is no ok. */
void finding_advise(findings *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

finding_level findings_worst(const findings *f);
bool findings_complete(const findings *f);
void findings_free(findings *f);

#endif
