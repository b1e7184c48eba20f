#include "client/pull/hub_words.h"

#include <stdbool.h>
#include <string.h>

static bool has_code(const http_head *head, const char *code)
{
    return strcmp(head->error_code, code) == 0;
}

static status gated(const hub_settings *hub, const model_ref *ref, error *err)
{
    if (hub->token == NULL)
        return error_set(err, ST_UNAUTHENTICATED,
                         "%s is gated: accept its licence at %s/%s, make a token at "
                         "%s/settings/tokens, and set HF_TOKEN to it",
                         ref->name, hub->endpoint, ref->name, hub->endpoint);
    return error_set(err, ST_PERMISSION_DENIED,
                     "%s is gated, and the account of HF_TOKEN has no access: accept its licence "
                     "at %s/%s (some are granted by hand, which takes a while)",
                     ref->name, hub->endpoint, ref->name);
}

static status unknown(const hub_settings *hub, const model_ref *ref, error *err)
{
    if (hub->token == NULL)
        return error_set(err, ST_NOT_FOUND,
                         "%s knows no public model %s: is the name right? If it is private or "
                         "gated, set HF_TOKEN (tokens are made at %s/settings/tokens)",
                         hub->endpoint, ref->name, hub->endpoint);
    return error_set(
        err, ST_NOT_FOUND,
        "%s knows no model %s that the account of HF_TOKEN may see: is the name right?",
        hub->endpoint, ref->name);
}

status hub_words(status st, const http_head *head, const hub_settings *hub, const model_ref *ref,
                 error *err)
{
    bool has_token = hub->token != NULL;
    if (!head->from_hub || (head->code != 401 && head->code != 403 && head->code != 404)) return st;
    if (has_code(head, "GatedRepo")) return gated(hub, ref, err);
    if (has_code(head, "RevisionNotFound"))
        return error_set(err, ST_NOT_FOUND, "%s has no revision %s", ref->name, ref->revision);
    if (has_code(head, "RepoNotFound") || (head->code == 401 && !has_token) ||
        (head->code == 404 && !has_code(head, "EntryNotFound")))
        return unknown(hub, ref, err);
    if (head->code == 401)
        return error_set(err, ST_UNAUTHENTICATED,
                         "%s does not accept HF_TOKEN (or the token file): it has expired or is "
                         "mistyped; make another one at %s/settings/tokens",
                         hub->endpoint, hub->endpoint);
    if (head->code == 403)
        return error_set(err, ST_PERMISSION_DENIED, "%s refuses %s: %s", hub->endpoint, ref->name,
                         head->error_text[0] != '\0' ? head->error_text
                         : has_token                 ? "the token may not read it"
                                     : "set HF_TOKEN to a token of an account that may read it");
    return st;
}
