#include "client/pull/hub_settings.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/hub_cache.h"
#include "common/json.h"
#include "common/mem.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool is_true(const char *name)
{
    static const char *const words[] = {"1", "on", "yes", "true"};
    const char *value = environment(name);
    for (size_t i = 0; value != NULL && i < sizeof words / sizeof *words; i++)
        if (strcasecmp(value, words[i]) == 0) return true;
    return false;
}

/* Without the white space around it; NULL when nothing else is there. */
static char *trimmed(const char *text)
{
    text += strspn(text, " \t\r\n");
    size_t size = strlen(text);
    while (size > 0 && strchr(" \t\r\n", text[size - 1]) != NULL)
        size--;
    return size > 0 ? mem_strndup(text, size) : NULL;
}

static char *find_token(void)
{
    const char *given = environment("HF_TOKEN");
    if (given == NULL) given = environment("HUGGING_FACE_HUB_TOKEN");
    if (given != NULL) return trimmed(given);
    if (is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return NULL;
    char *path = hub_folder("HF_TOKEN_PATH", "token"), *text, *token = NULL;
    size_t size;
    if (file_read(&text, &size, path, LIMIT_TOKEN_BYTES, NULL) == ST_OK) {
        token = trimmed(text);
        mem_free(text);
    }
    mem_free(path);
    return token;
}

static status check(const hub_settings *s, error *err)
{
    bool is_http =
        strncmp(s->endpoint, "https://", 8) == 0 || strncmp(s->endpoint, "http://", 7) == 0;
    if (!is_http || strlen(s->endpoint) > 1024)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "HF_ENDPOINT is '%.200s'; it must be an http:// or https:// URL",
                         s->endpoint);
    for (const char *c = s->token; c != NULL && *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return error_set(err, ST_INVALID_ARGUMENT,
                             "the token (HF_TOKEN or its file) holds a character that no token "
                             "has, at byte %td",
                             c - s->token);
    return ST_OK;
}

status hub_settings_read(hub_settings *s, error *err)
{
    const char *endpoint = environment("HF_ENDPOINT");
    *s = (hub_settings){
        .endpoint = mem_strdup(endpoint != NULL ? endpoint : DEFAULT_ENDPOINT),
        .token = find_token(),
        .cache = hub_cache_root(),
        .offline = is_true("HF_HUB_OFFLINE"),
    };
    size_t size = strlen(s->endpoint);
    while (size > 0 && s->endpoint[size - 1] == '/')
        s->endpoint[--size] = '\0';
    static const char *const ca_names[] = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"};
    for (size_t i = 0; s->ca_file == NULL && i < sizeof ca_names / sizeof *ca_names; i++)
        if (environment(ca_names[i]) != NULL) s->ca_file = mem_strdup(environment(ca_names[i]));
    status st = check(s, err);
    if (st != ST_OK) hub_settings_free(s);
    return st;
}

void hub_settings_free(hub_settings *s)
{
    mem_free(s->endpoint);
    mem_free(s->token);
    mem_free(s->ca_file);
    mem_free(s->cache);
    *s = (hub_settings){0};
}
