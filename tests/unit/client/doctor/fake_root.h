/* fake_root: a folder that stands for the root of a machine, with the files of /proc and /sys that
 * a test writes into it. */
#ifndef GAGGLE_TESTS_FAKE_ROOT_H
#define GAGGLE_TESTS_FAKE_ROOT_H

#include "client/doctor/findings.h"

/* A fresh one in the test's scratch folder; valid until the next. */
const char *fake_root(void);
void fake_file(const char *path, const char *text);
void fake_link(const char *path, const char *target);

/* The last finding about `check`; the test fails where there is none. */
const finding *finding_of(const findings *f, const char *check);
/* That it is of this level, says `text` and advises `advice` (NULL: nothing). */
void assert_finding(const findings *f, const char *check, finding_level level, const char *text,
                    const char *advice);

#endif
