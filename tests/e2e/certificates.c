#include "tests/e2e/certificates.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"
#include "common/mem.h"

static char *in_scratch(const char *name)
{
    const char *folder = getenv("GAGGLE_TEST_TMP");
    CHECK(folder != NULL); /* set by ctest: see tests/CMakeLists.txt */
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return mem_strdup(path);
}

const certificates *certificates_made(void)
{
    static certificates made;
    if (made.ca_file != NULL) return &made;
    /* POSIX sh: a key each, the CA's own certificate, then two requests that it signs. */
    CHECK(system("set -e; cd \"$GAGGLE_TEST_TMP\"; exec 2>openssl.log\n"
                 "for name in ca router dialler; do\n"
                 "  openssl ecparam -name prime256v1 -genkey -noout -out $name.key\n"
                 "done\n"
                 "openssl req -x509 -new -key ca.key -subj /CN=test-ca -days 2 -out ca.pem\n"
                 "echo subjectAltName=DNS:localhost >names.ext\n"
                 "for name in router dialler; do\n"
                 "  openssl req -new -key $name.key -subj /CN=$name -out $name.csr\n"
                 "  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial"
                 " -days 2 -extfile names.ext -out $name.pem\n"
                 "done\n") == 0);
    made = (certificates){.ca_file = in_scratch("ca.pem"),
                          .router_cert = in_scratch("router.pem"),
                          .router_key = in_scratch("router.key"),
                          .dialler_cert = in_scratch("dialler.pem"),
                          .dialler_key = in_scratch("dialler.key")};
    return &made;
}
