#include "router/auth.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "common/json.h"

enum { TOKEN_FILE_BYTES_MAX = 1 << 20 };

status auth_load_file(option_list *tokens, const char *path, error *err)
{
    char *text;
    size_t size;
    status st = file_read(&text, &size, path, TOKEN_FILE_BYTES_MAX, err);
    if (st != ST_OK) return st;
    size_t before = tokens->count;
    int line_number = 0;
    if (strlen(text) != size) /* what is behind it would be left out without a word */
        st = error_set(err, ST_INVALID_ARGUMENT, "%s is not text: byte %zu is NUL", path,
                       strlen(text));
    char *rest = text;
    for (char *line; st == ST_OK && (line = strsep(&rest, "\n")) != NULL;) {
        line_number++;
        line += strspn(line, " \t");
        line[strcspn(line, "#\r")] = '\0';
        size_t length = strlen(line);
        while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\t'))
            line[--length] = '\0';
        if (length == 0) continue;
        if (length < AUTH_TOKEN_BYTES_MIN || length > LIMIT_TOKEN_BYTES) {
            st = error_set(err, ST_INVALID_ARGUMENT,
                           "%s line %d: the token has %zu bytes; it must have %d to %u", path,
                           line_number, length, AUTH_TOKEN_BYTES_MIN, LIMIT_TOKEN_BYTES);
        } else if (tokens->count == OPTION_LIST_MAX) {
            st = error_set(err, ST_OUT_OF_RANGE, "%s: more than %d tokens", path, OPTION_LIST_MAX);
        } else {
            tokens->items[tokens->count++] = mem_strdup(line);
        }
    }
    mem_free(text);
    /* Whoever names a file wants a lock; an empty one must not leave the door open. */
    if (st == ST_OK && tokens->count == before)
        st = error_set(err, ST_INVALID_ARGUMENT, "%s has no token in it", path);
    return st;
}

static status check_tokens(const option_list *tokens, const char *what, error *err)
{
    for (size_t i = 0; i < tokens->count; i++) {
        size_t length = strlen(tokens->items[i]);
        if (length < AUTH_TOKEN_BYTES_MIN || length > LIMIT_TOKEN_BYTES)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "%s number %zu has %zu bytes; it must have %d to %u", what, i + 1,
                             length, AUTH_TOKEN_BYTES_MIN, LIMIT_TOKEN_BYTES);
    }
    return ST_OK;
}

status auth_check(const auth *a, error *err)
{
    status st = check_tokens(&a->api_tokens, "--api-token", err);
    if (st == ST_OK) st = check_tokens(&a->join_tokens, "--join-token", err);
    return st;
}

/* Is the whole host, and not just its beginning, an address of this machine alone? A name like
 * 127.0.0.1.example.org is anybody's, and a user part moves the host behind an '@'. What is
 * written in an unusual way counts as public. */
static bool is_local(const char *url)
{
    if (strncmp(url, "ipc://", 6) == 0) return true;
    const char *authority = strstr(url, "://");
    if (authority == NULL) return false;
    authority += 3;
    size_t size = strcspn(authority, "/?#");
    if (memchr(authority, '@', size) != NULL) return false;

    bool bracketed = authority[0] == '[';
    size_t host_size = strcspn(authority, bracketed ? "]/?#" : ":/?#");
    if (bracketed && (authority[host_size] != ']' || authority[host_size + 1] != ':')) return false;
    char host[64];
    if (host_size >= sizeof host) return false;
    memcpy(host, authority, host_size);
    host[host_size] = '\0';

    struct in_addr v4;
    struct in6_addr v6;
    if (bracketed) return inet_pton(AF_INET6, host + 1, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return strcmp(host, "localhost") == 0;
}

static const option_list *plain_tokens(const auth *a, role what)
{
    return what == ROLE_WORKER ? &a->join_tokens : &a->api_tokens;
}

status auth_check_listener(const auth *a, const char *url, role what, error *err)
{
    if (a->keys != NULL || plain_tokens(a, what)->count > 0 || is_local(url)) return ST_OK;
    return error_set(err, ST_FAILED_PRECONDITION,
                     "%s can be reached from other machines, so it needs --keys or %s (or its "
                     "-file form)",
                     url, what == ROLE_WORKER ? "--join-token" : "--api-token");
}

/* Time depends on the length of `given` alone. */
static bool equal_in_constant_time(const char *secret, text_view given)
{
    size_t secret_size = strlen(secret);
    unsigned char difference = secret_size != given.size;
    for (size_t i = 0; i < given.size; i++) {
        unsigned char s = (unsigned char)secret[i < secret_size ? i : 0];
        difference |= (unsigned char)(s ^ (unsigned char)given.data[i]);
    }
    return difference == 0;
}

/* The token's number among the plain ones, or their count. */
static size_t plain_token(const option_list *tokens, text_view given)
{
    size_t found = tokens->count;
    for (size_t i = 0; i < tokens->count; i++)
        if (equal_in_constant_time(tokens->items[i], given)) found = i;
    return found;
}

/* Of a plain token, which may be gone when it is asked for again. */
static uint64_t fingerprint(const char *token)
{
    return XXH3_64bits(token, strlen(token));
}

status auth_judge(const auth *a, const msg_hello *hello, int64_t now_s, identity *out, error *err)
{
    bool is_worker = hello->role == ROLE_WORKER;
    const option_list *tokens = plain_tokens(a, hello->role);
    *out = (identity){.what = hello->role, .admin = !is_worker && a->keys == NULL};
    if (a->keys == NULL && tokens->count == 0) return ST_OK;

    size_t number = plain_token(tokens, hello->token);
    if (number < tokens->count) {
        if (!is_worker) out->tenant = (uint32_t)number;
        out->facts = fingerprint(tokens->items[number]);
        return ST_OK;
    }
    error why;
    status st =
        error_set(&why, ST_UNAUTHENTICATED, "%s",
                  hello->token.size == 0 ? "a token is required" : "the token is not valid");
    if (a->keys != NULL && hello->token.size > 0)
        st = keys_judge(a->keys, hello->token, hello->role, now_s, out, &why);
    if (st == ST_OK) {
        if (!is_worker) out->tenant += AUTH_TENANTS_PLAIN;
        return ST_OK;
    }
    return error_set(err, st, "%s: %s", why.text,
                     is_worker ? "start the worker with --join-token"
                               : "give --token, or set GAGGLE_TOKEN");
}

status auth_judge_admin(const auth *a, text_view token, int64_t now_s, error *err)
{
    identity who;
    if (a->keys == NULL)
        return error_set(err, ST_PERMISSION_DENIED,
                         "the router has no --keys file, and so no admin's token");
    status st = keys_judge(a->keys, token, ROLE_CLIENT, now_s, &who, err);
    if (st != ST_OK || who.admin) return st;
    return error_set(err, ST_PERMISSION_DENIED, "key %s is not an admin's", who.key_id);
}

status auth_recheck(const auth *a, identity *who, int64_t now_s, error *err)
{
    if (who->key_id[0] != '\0') return keys_recheck(a->keys, who, now_s, err);
    const option_list *tokens = plain_tokens(a, who->what);
    if (who->facts == 0 && tokens->count == 0 && a->keys == NULL) return ST_OK;
    for (size_t i = 0; i < tokens->count; i++)
        if (fingerprint(tokens->items[i]) == who->facts &&
            (who->what == ROLE_WORKER || i == who->tenant))
            return ST_OK;
    return error_set(err, ST_UNAUTHENTICATED, "its token is no longer valid");
}

status auth_check_envelope(const auth *a, const identity *who, const envelope *e, error *err)
{
    if (e->kind == ENVELOPE_DRAIN && who->what == ROLE_CLIENT && !who->admin)
        return error_set(err, ST_PERMISSION_DENIED, "only an admin's key may drain workers");
    if (e->kind != ENVELOPE_REGISTER || who->key_id[0] == '\0') return ST_OK;
    const char *only = keys_worker_id(a->keys, who);
    if (only == NULL || text_equal(text_of(only), e->reg.worker_id)) return ST_OK;
    return error_set(err, ST_PERMISSION_DENIED, "key %s is for worker %s, not for %.*s",
                     who->key_id, only, (int)e->reg.worker_id.size, e->reg.worker_id.data);
}

tenant_limits auth_tenant_limits(const auth *a, uint32_t tenant)
{
    static const tenant_limits none = TENANT_LIMITS_NONE;
    return tenant < AUTH_TENANTS_PLAIN ? none
                                       : *keys_tenant_limits(a->keys, tenant - AUTH_TENANTS_PLAIN);
}

char *auth_tenant_name(const auth *a, uint32_t tenant, char out[AUTH_TENANT_NAME_SIZE])
{
    if (tenant >= AUTH_TENANTS_PLAIN)
        snprintf(out, AUTH_TENANT_NAME_SIZE, "%s",
                 keys_tenant_name(a->keys, tenant - AUTH_TENANTS_PLAIN));
    else if (a->api_tokens.count > 0)
        snprintf(out, AUTH_TENANT_NAME_SIZE, "api-token-%u", tenant + 1);
    else
        snprintf(out, AUTH_TENANT_NAME_SIZE, "%s", KEY_TENANT_DEFAULT);
    return out;
}
