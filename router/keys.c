#include "router/keys.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "common/check.h"
#include "common/json.h"

struct keys {
    char *path;
    keys_file file;
    uint32_t *tenant_of; /* a tenant's number in `file` -> its number here */
    uint32_t generation; /* of the file: the reloads so far */
    /* Of the process, not of the file. */
    name_table tenants;
    tenant_limits *limits; /* [tenants.count] */
};

static status check_mode(const char *path, error *err)
{
    struct stat info;
    if (stat(path, &info) != 0 || (info.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return ST_OK; /* that it cannot be read is said by who reads it */
    return error_set(err, ST_FAILED_PRECONDITION,
                     "%s may be written by others (mode %03o): who can write it lets himself in; "
                     "chmod go-w it",
                     path, (unsigned)info.st_mode & 0777);
}

static status read_file(keys_file *out, const char *path, error *err)
{
    char *text;
    size_t size;
    status st = check_mode(path, err);
    if (st == ST_OK) st = file_read(&text, &size, path, LIMIT_KEYS_FILE_BYTES, err);
    if (st != ST_OK) return st;
    st = keys_file_parse(out, path, text, size, err);
    mem_free(text);
    if (st != ST_OK || out->ids.count > 0) return st;
    keys_file_free(out);
    return error_set(err, ST_INVALID_ARGUMENT, "%s has no key in it: `gaggle token new` makes one",
                     path);
}

/* Give every tenant of the file its number; all or none. */
static status number_tenants(keys *k, const keys_file *file, error *err)
{
    const name_table *names = &file->tenant_names;
    uint32_t strangers = 0;
    for (uint32_t i = 0; i < names->count; i++)
        strangers += name_table_find(&k->tenants, text_of(names->names[i])) == NAME_NONE;
    if (strangers > LIMIT_TENANTS - k->tenants.count)
        return error_set(err, ST_OUT_OF_RANGE,
                         "%s: with its %u new tenants this process would have known more than %u; "
                         "it must be restarted",
                         k->path, strangers, LIMIT_TENANTS);
    size_t most = (size_t)k->tenants.count + strangers;
    k->limits = mem_realloc(k->limits, most * sizeof *k->limits);
    k->tenant_of = mem_realloc(k->tenant_of, names->count * sizeof *k->tenant_of);
    for (uint32_t i = 0; i < names->count; i++) {
        uint32_t number = name_table_find(&k->tenants, text_of(names->names[i]));
        if (number == NAME_NONE) number = name_table_add(&k->tenants, mem_strdup(names->names[i]));
        k->tenant_of[i] = number;
        k->limits[number] = file->tenants[i].limits;
    }
    return ST_OK;
}

status keys_reload(keys *k, error *err)
{
    keys_file fresh;
    status st = read_file(&fresh, k->path, err);
    if (st != ST_OK) return st;
    st = number_tenants(k, &fresh, err);
    if (st != ST_OK) {
        keys_file_free(&fresh);
        return st;
    }
    keys_file_free(&k->file);
    k->file = fresh;
    k->generation++;
    return ST_OK;
}

status keys_create(keys **out, const char *path, error *err)
{
    keys *k = mem_calloc(1, sizeof *k);
    k->path = mem_strdup(path);
    status st = keys_reload(k, err);
    if (st != ST_OK) {
        keys_destroy(k);
        return st;
    }
    *out = k;
    return ST_OK;
}

void keys_destroy(keys *k)
{
    if (k == NULL) return;
    keys_file_free(&k->file);
    for (uint32_t i = 0; i < k->tenants.count; i++)
        mem_free((void *)k->tenants.names[i]);
    name_table_free(&k->tenants);
    mem_free(k->limits);
    mem_free(k->tenant_of);
    mem_free(k->path);
    mem_free(k);
}

/* -- judging -------------------------------------------------------------------------------- */

/* What a link was let in for: when it changes, the link must come again. */
static uint64_t facts_of(const keys *k, const key_entry *key)
{
    uint64_t worker = key->worker != NULL ? XXH3_64bits(key->worker, strlen(key->worker)) : 0;
    uint32_t tenant = key->role != KEY_WORKER ? k->tenant_of[key->tenant] : 0;
    return XXH3_64bits_withSeed(key->sha256, sizeof key->sha256,
                                worker ^ (uint64_t)key->role << 32 ^ tenant);
}

/* Is the key, whose secret was shown, of any worth? */
static status check_key(const key_entry *key, int64_t now_s, error *err)
{
    char when[EXPIRY_TEXT_SIZE];
    if (key->revoked) return error_set(err, ST_UNAUTHENTICATED, "key %s was revoked", key->id);
    if (now_s >= key->expires_s)
        return error_set(err, ST_UNAUTHENTICATED, "key %s expired at %s", key->id,
                         expiry_format(key->expires_s, when));
    return ST_OK;
}

status keys_judge(const keys *k, text_view token, role what, int64_t now_s, identity *out,
                  error *err)
{
    static const key_entry nobody = {.id = "", .role = KEY_CLIENT};
    uint8_t hash[KEY_HASH_BYTES];
    token_hash(hash, token);
    const key_entry *found = keys_file_find(&k->file, token_id(token));
    const key_entry *key = found != NULL ? found : &nobody;
    bool right = CRYPTO_memcmp(hash, key->sha256, sizeof hash) == 0;
    if (!right || found == NULL)
        return error_set(err, ST_UNAUTHENTICATED, "the token is not valid");

    status st = check_key(key, now_s, err);
    if (st != ST_OK) return st;
    if ((key->role == KEY_WORKER) != (what == ROLE_WORKER))
        return error_set(err, ST_PERMISSION_DENIED, "key %s is for %ss, this address for %s",
                         key->id, key_role_name(key->role),
                         what == ROLE_WORKER ? "workers" : "clients");
    *out = (identity){.what = what,
                      .admin = key->role == KEY_ADMIN,
                      .tenant = what == ROLE_CLIENT ? k->tenant_of[key->tenant] : 0,
                      .facts = facts_of(k, key),
                      .generation = k->generation,
                      .expires_s = key->expires_s};
    memcpy(out->key_id, key->id, strlen(key->id) + 1);
    return ST_OK;
}

status keys_recheck(const keys *k, identity *who, int64_t now_s, error *err)
{
    if (who->generation == k->generation && now_s < who->expires_s) return ST_OK;
    const key_entry *key = keys_file_find(&k->file, text_of(who->key_id));
    if (key == NULL) return error_set(err, ST_UNAUTHENTICATED, "key %s was removed", who->key_id);
    status st = check_key(key, now_s, err);
    if (st != ST_OK) return st;
    if (facts_of(k, key) != who->facts)
        return error_set(err, ST_UNAUTHENTICATED, "key %s was changed", key->id);
    who->generation = k->generation;
    who->expires_s = key->expires_s;
    return ST_OK;
}

const char *keys_worker_id(const keys *k, const identity *who)
{
    const key_entry *key = keys_file_find(&k->file, text_of(who->key_id));
    return key != NULL ? key->worker : NULL;
}

uint32_t keys_tenant_count(const keys *k)
{
    return k->tenants.count;
}

const char *keys_tenant_name(const keys *k, uint32_t tenant)
{
    CHECK(tenant < k->tenants.count);
    return k->tenants.names[tenant];
}

const tenant_limits *keys_tenant_limits(const keys *k, uint32_t tenant)
{
    CHECK(tenant < k->tenants.count);
    return &k->limits[tenant];
}
