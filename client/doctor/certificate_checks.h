/* certificate_checks: how long a certificate lasts, said the same of files and of peers. */
#ifndef GAGGLE_DOCTOR_CERTIFICATE_CHECKS_H
#define GAGGLE_DOCTOR_CERTIFICATE_CHECKS_H

#include "client/doctor/certificates.h"
#include "client/doctor/findings.h"

/* `where`: the file or the peer; `renew`: what to do when its time is over. */
void check_certificate_dates(findings *f, const char *check, const char *where,
                             const certificate_facts *facts, int64_t now_s, const char *renew);

#endif
