/* hub_settings: which hub, as whom, and whether at all: the environment that Hugging Face's tools
 * read, too. HF_ENDPOINT; HF_TOKEN, or the file HF_TOKEN_PATH or HF_HOME/token, unless
 * HF_HUB_DISABLE_IMPLICIT_TOKEN; HF_HUB_OFFLINE; and for certificates SSL_CERT_FILE,
 * REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE. Proxies (https_proxy, no_proxy) are libcurl's matter. */
#ifndef GAGGLE_PULL_HUB_SETTINGS_H
#define GAGGLE_PULL_HUB_SETTINGS_H

#include <stdbool.h>

#include "common/status.h"

typedef struct hub_settings {
    char *endpoint; /* "https://huggingface.co", without a slash behind it */
    char *token;    /* NULL: none */
    char *ca_file;  /* NULL: the system's */
    char *cache;    /* the folder of all models */
    bool offline;
} hub_settings;

/* ST_INVALID_ARGUMENT: an endpoint that is no http URL, or a token that no header could carry. */
MUST_USE status hub_settings_read(hub_settings *s, error *err);
void hub_settings_free(hub_settings *s);

#endif
