#include "router/keys_file.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/check.h"
#include "common/ini.h"
#include "common/options.h"

/* -- values ------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    char letter;
} roles[KEY_ROLES] = {
    [KEY_CLIENT] = {"client", 'c'}, [KEY_WORKER] = {"worker", 'w'}, [KEY_ADMIN] = {"admin", 'a'}};

static const char *const class_names[] = {"batch", "standard", "interactive"};

const char *key_role_name(key_role which)
{
    return roles[which].name;
}

char key_role_letter(key_role which)
{
    return roles[which].letter;
}

status key_role_parse(key_role *out, const char *text, error *err)
{
    for (int i = 0; i < KEY_ROLES; i++) {
        if (strcmp(text, roles[i].name) != 0) continue;
        *out = (key_role)i;
        return ST_OK;
    }
    return error_set(err, ST_INVALID_ARGUMENT, "'%s' is not client, worker or admin", text);
}

const char *class_name(int32_t class)
{
    return class_names[class + 1];
}

status class_parse(int32_t *out, const char *text, error *err)
{
    for (int32_t class = -1; class <= 1; class ++) {
        if (strcmp(text, class_name(class)) != 0) continue;
        *out = class;
        return ST_OK;
    }
    return error_set(err, ST_INVALID_ARGUMENT, "'%s' is not interactive, standard or batch", text);
}

char *expiry_format(int64_t expires_s, char out[EXPIRY_TEXT_SIZE])
{
    struct tm t;
    time_t when = (time_t)expires_s;
    if (expires_s == KEY_NEVER_EXPIRES)
        snprintf(out, EXPIRY_TEXT_SIZE, "never");
    else
        CHECK(gmtime_r(&when, &t) != NULL &&
              strftime(out, EXPIRY_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &t) > 0);
    return out;
}

/* RFC 3339 in UTC, the one way in which we write it: what strptime() lets pass beyond that (signs,
 * spaces, the 31st of February) does not come out again as it went in. */
status expiry_parse(int64_t *out, const char *text, error *err)
{
    struct tm t = {0};
    char again[EXPIRY_TEXT_SIZE];
    *out = KEY_NEVER_EXPIRES;
    if (strcmp(text, "never") == 0) return ST_OK;
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &t);
    if (end != NULL && *end == '\0' && t.tm_year <= 9999 - 1900) {
        *out = timegm(&t);
        if (*out >= 0 && strcmp(expiry_format(*out, again), text) == 0) return ST_OK;
    }
    return error_set(err, ST_INVALID_ARGUMENT,
                     "'%s' is neither a time in UTC, like 2027-01-31T12:00:00Z, nor never", text);
}

static status check_letters(const char *text, const char *others, bool capitals, const char *what,
                            error *err)
{
    size_t size = strlen(text);
    if (size == 0 || size > LIMIT_KEY_NAME_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT, "has %zu bytes; it must have 1 to %u", size,
                         LIMIT_KEY_NAME_BYTES);
    for (const char *c = text; *c != '\0'; c++) {
        bool good = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
                    (capitals && *c >= 'A' && *c <= 'Z') || strchr(others, *c) != NULL;
        if (!good) return error_set(err, ST_INVALID_ARGUMENT, "'%s' may only hold %s", text, what);
    }
    return ST_OK;
}

status key_id_check(const char *id, error *err)
{
    return check_letters(id, "-", false, "a to z, digits and '-'", err);
}

status tenant_name_check(const char *name, error *err)
{
    return check_letters(name, "._@-", true, "letters, digits and '.', '_', '@', '-'", err);
}

status key_label_check(const char *label, error *err)
{
    size_t size = strlen(label);
    if (size == 0 || size > LIMIT_NAME_BYTES)
        return error_set(err, ST_INVALID_ARGUMENT, "has %zu bytes; it must have 1 to %u", size,
                         LIMIT_NAME_BYTES);
    bool trimmed = label[0] != ' ' && label[size - 1] != ' ';
    for (const char *c = label; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) trimmed = false;
    if (!trimmed || text_valid_size(text_of(label)) != size)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "must be UTF-8 without control characters or spaces around it");
    return ST_OK;
}

static status parse_whole(uint64_t *out, const char *text, uint64_t min, uint64_t max, error *err)
{
    uint64_t value = 0;
    bool good = *text != '\0';
    for (const char *c = text; good && *c != '\0'; c++)
        good = *c >= '0' && *c <= '9' && !__builtin_mul_overflow(value, 10, &value) &&
               !__builtin_add_overflow(value, (uint64_t)(*c - '0'), &value);
    *out = value;
    if (good && value >= min && value <= max) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT,
                     "'%s' is not a whole number from %" PRIu64 " to %" PRIu64, text, min, max);
}

static status parse_u32(uint32_t *out, const char *text, uint64_t min, uint64_t max, error *err)
{
    uint64_t value;
    status st = parse_whole(&value, text, min, max, err);
    *out = (uint32_t)value;
    return st;
}

static status parse_bool(bool *out, const char *text, error *err)
{
    *out = strcmp(text, "yes") == 0;
    if (*out || strcmp(text, "no") == 0) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "'%s' is not yes or no", text);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Not shown when it is wrong: somebody may have put the token itself there. */
static status parse_hash(uint8_t out[KEY_HASH_BYTES], const char *text, error *err)
{
    bool good = strlen(text) == 2 * KEY_HASH_BYTES;
    for (size_t i = 0; good && i < KEY_HASH_BYTES; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        good = high >= 0 && low >= 0;
        out[i] = (uint8_t)((high & 15) << 4 | (low & 15));
    }
    if (good) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT,
                     "must be %d hex digits in lower case: those of sha256sum", 2 * KEY_HASH_BYTES);
}

/* -- parsing ------------------------------------------------------------------------------- */

typedef enum setting {
    KEY_ROLE,
    KEY_NAME,
    KEY_TENANT,
    KEY_WORKER_ID,
    KEY_EXPIRES,
    KEY_REVOKED,
    KEY_SHA256,
    KEY_SETTINGS
} setting;

static const char *const key_settings[KEY_SETTINGS] = {"role",    "name",    "tenant", "worker",
                                                       "expires", "revoked", "sha256"};

typedef enum tenant_setting {
    TENANT_WEIGHT,
    TENANT_REQUESTS,
    TENANT_TOKENS,
    TENANT_CONCURRENT,
    TENANT_QUEUED,
    TENANT_CLASS,
    TENANT_SETTINGS
} tenant_setting;

static const char *const tenant_settings[TENANT_SETTINGS] = {
    "weight", "requests-per-minute", "tokens-per-minute", "concurrent", "queued", "highest-class"};

typedef struct parser {
    keys_file *out;
    const char *file;
    key_entry *key;     /* the section that is being read, or NULL */
    key_tenant *tenant; /* likewise */
    unsigned seen;      /* its settings, as bits */
    uint32_t keys_capacity, tenants_capacity;
    error *err;
} parser;

/* What `err` says, with the place in front. */
static status refuse_at(const parser *p, status st, uint32_t line, const char *what)
{
    return error_prefix(p->err, st, "%s line %u: %s", p->file, line, what);
}

/* The tenant's number; it is made when it is new. NAME_NONE: there are too many. */
static uint32_t tenant_named(parser *p, const char *name)
{
    keys_file *f = p->out;
    uint32_t number = name_table_find(&f->tenant_names, text_of(name));
    if (number != NAME_NONE || f->tenant_names.count == LIMIT_TENANTS) return number;
    number = name_table_add(&f->tenant_names, name);
    if (number == p->tenants_capacity) {
        p->tenants_capacity = p->tenants_capacity == 0 ? 16 : 2 * p->tenants_capacity;
        f->tenants = mem_realloc(f->tenants, p->tenants_capacity * sizeof *f->tenants);
    }
    f->tenants[number] = (key_tenant){.name = name, .limits = TENANT_LIMITS_NONE};
    return number;
}

static status set_tenant(parser *p, key_entry *key, const char *name)
{
    status st = tenant_name_check(name, p->err);
    if (st != ST_OK) return st;
    key->tenant = tenant_named(p, name);
    if (key->tenant != NAME_NONE) return ST_OK;
    return error_set(p->err, ST_OUT_OF_RANGE, "more than %u tenants", LIMIT_TENANTS);
}

static status set_key(parser *p, setting which, const ini_item *item)
{
    key_entry *key = p->key;
    switch (which) {
    case KEY_ROLE:
        return key_role_parse(&key->role, item->value, p->err);
    case KEY_NAME:
        key->name = item->value;
        return key_label_check(key->name, p->err);
    case KEY_TENANT:
        return set_tenant(p, key, item->value);
    case KEY_WORKER_ID:
        key->worker = item->value;
        return key_label_check(key->worker, p->err);
    case KEY_EXPIRES:
        return expiry_parse(&key->expires_s, item->value, p->err);
    case KEY_REVOKED:
        key->revoked_line = item->line;
        return parse_bool(&key->revoked, item->value, p->err);
    case KEY_SHA256:
        return parse_hash(key->sha256, item->value, p->err);
    case KEY_SETTINGS:
        break;
    }
    UNREACHABLE("a key's setting");
}

static status set_limit(parser *p, tenant_setting which, const char *text)
{
    tenant_limits *l = &p->tenant->limits;
    switch (which) {
    case TENANT_WEIGHT:
        return parse_u32(&l->weight, text, 1, LIMIT_TENANT_WEIGHT, p->err);
    case TENANT_REQUESTS:
        return parse_u32(&l->requests_per_minute, text, 0, UINT32_MAX, p->err);
    case TENANT_TOKENS:
        return parse_whole(&l->tokens_per_minute, text, 0, INT64_MAX, p->err);
    case TENANT_CONCURRENT:
        return parse_u32(&l->concurrent, text, 0, UINT32_MAX, p->err);
    case TENANT_QUEUED:
        return parse_u32(&l->queued, text, 0, UINT32_MAX, p->err);
    case TENANT_CLASS:
        return class_parse(&l->class_max, text, p->err);
    case TENANT_SETTINGS:
        break;
    }
    UNREACHABLE("a tenant's setting");
}

static status read_setting(parser *p, const ini_item *item)
{
    if (p->key == NULL && p->tenant == NULL)
        return error_set(p->err, ST_INVALID_ARGUMENT,
                         "%s line %u: a setting stands in a [key ID] or a [tenant NAME]", p->file,
                         item->line);
    const char *const *names = p->key != NULL ? key_settings : tenant_settings;
    size_t count = p->key != NULL ? (size_t)KEY_SETTINGS : (size_t)TENANT_SETTINGS, which = 0;
    while (which < count && strcmp(item->name, names[which]) != 0)
        which++;
    if (which == count) {
        const char *nearest = options_nearest(item->name, names, count);
        return error_set(p->err, ST_INVALID_ARGUMENT, "%s line %u: there is no '%s' in a %s%s%s%s",
                         p->file, item->line, item->name, p->key != NULL ? "key" : "tenant",
                         nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                         nearest != NULL ? "'?" : "");
    }
    if ((p->seen & 1u << which) != 0)
        return error_set(p->err, ST_INVALID_ARGUMENT, "%s line %u: %s is given twice", p->file,
                         item->line, item->name);
    p->seen |= 1u << which;
    status st = p->key != NULL ? set_key(p, (setting)which, item)
                               : set_limit(p, (tenant_setting)which, item->value);
    return st == ST_OK ? ST_OK : refuse_at(p, st, item->line, item->name);
}

static bool has_seen(const parser *p, setting which)
{
    return (p->seen & 1u << which) != 0;
}

/* What can only be said of a key when all of it is there. */
static status check_whole(parser *p, key_entry *key)
{
    bool is_worker = key->role == KEY_WORKER;
    if (!has_seen(p, KEY_ROLE) || !has_seen(p, KEY_SHA256))
        return error_set(p->err, ST_INVALID_ARGUMENT, "key %s has no %s", key->id,
                         key_settings[has_seen(p, KEY_ROLE) ? KEY_SHA256 : KEY_ROLE]);
    if (is_worker && has_seen(p, KEY_TENANT))
        return error_set(p->err, ST_INVALID_ARGUMENT, "key %s has a tenant, but is for a worker",
                         key->id);
    if (!is_worker && has_seen(p, KEY_WORKER_ID))
        return error_set(p->err, ST_INVALID_ARGUMENT,
                         "key %s names a worker, but is not for a worker", key->id);
    return is_worker || has_seen(p, KEY_TENANT) ? ST_OK : set_tenant(p, key, KEY_TENANT_DEFAULT);
}

static status end_section(parser *p)
{
    key_entry *key = p->key;
    p->key = NULL;
    p->tenant = NULL;
    if (key == NULL) return ST_OK;
    status st = check_whole(p, key);
    return st == ST_OK ? ST_OK : error_prefix(p->err, st, "%s line %u", p->file, key->line);
}

static status begin_key(parser *p, const char *id, uint32_t line)
{
    keys_file *f = p->out;
    status st = key_id_check(id, p->err);
    if (st != ST_OK) return refuse_at(p, st, line, "key");
    const key_entry *other = keys_file_find(f, text_of(id));
    if (other != NULL)
        return error_set(p->err, ST_INVALID_ARGUMENT, "%s line %u: key %s stands in line %u, too",
                         p->file, line, id, other->line);
    if (f->ids.count == LIMIT_KEYS)
        return error_set(p->err, ST_OUT_OF_RANGE, "%s line %u: more than %u keys", p->file, line,
                         LIMIT_KEYS);
    uint32_t number = name_table_add(&f->ids, id);
    if (number == p->keys_capacity) {
        p->keys_capacity = p->keys_capacity == 0 ? 16 : 2 * p->keys_capacity;
        f->keys = mem_realloc(f->keys, p->keys_capacity * sizeof *f->keys);
    }
    p->key = &f->keys[number];
    *p->key = (key_entry){.id = id, .name = "", .expires_s = KEY_NEVER_EXPIRES, .line = line};
    return ST_OK;
}

static status begin_tenant(parser *p, const char *name, uint32_t line)
{
    status st = tenant_name_check(name, p->err);
    if (st != ST_OK) return refuse_at(p, st, line, "tenant");
    uint32_t number = tenant_named(p, name);
    if (number == NAME_NONE)
        return error_set(p->err, ST_OUT_OF_RANGE, "%s line %u: more than %u tenants", p->file, line,
                         LIMIT_TENANTS);
    p->tenant = &p->out->tenants[number];
    if (p->tenant->line != 0)
        return error_set(p->err, ST_INVALID_ARGUMENT,
                         "%s line %u: tenant %s stands in line %u, too", p->file, line, name,
                         p->tenant->line);
    p->tenant->line = line;
    return ST_OK;
}

static status begin_section(parser *p, const ini_item *item)
{
    status st = end_section(p);
    if (st != ST_OK) return st;
    p->seen = 0;
    size_t word = strcspn(item->name, " \t");
    const char *rest = item->name + word;
    rest += strspn(rest, " \t");
    if (word == 3 && memcmp(item->name, "key", 3) == 0) return begin_key(p, rest, item->line);
    if (word == 6 && memcmp(item->name, "tenant", 6) == 0) return begin_tenant(p, rest, item->line);
    return error_set(p->err, ST_INVALID_ARGUMENT,
                     "%s line %u: [%s] is neither [key ID] nor [tenant NAME]", p->file, item->line,
                     item->name);
}

status keys_file_parse(keys_file *out, const char *file, const char *text, size_t size, error *err)
{
    parser p = {.out = out, .file = file, .err = err};
    ini_reader reader;
    ini_item item = {0};
    *out = (keys_file){.text = mem_strndup(text, size)};
    status st = ini_begin(&reader, file, out->text, size, err);
    while (st == ST_OK) {
        st = ini_next(&reader, &item, err);
        if (st != ST_OK || item.kind == INI_END) break;
        st = item.kind == INI_SECTION ? begin_section(&p, &item) : read_setting(&p, &item);
    }
    if (st == ST_OK) st = end_section(&p);
    if (st != ST_OK) keys_file_free(out);
    return st;
}

void keys_file_free(keys_file *f)
{
    mem_free(f->keys);
    mem_free(f->tenants);
    name_table_free(&f->ids);
    name_table_free(&f->tenant_names);
    mem_free(f->text);
    *f = (keys_file){0};
}

const key_entry *keys_file_find(const keys_file *f, text_view id)
{
    uint32_t number = name_table_find(&f->ids, id);
    return number == NAME_NONE ? NULL : &f->keys[number];
}

/* -- writing ------------------------------------------------------------------------------- */

static void append_format(buffer *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append_format(buffer *out, const char *format, ...)
{
    char line[LIMIT_NAME_BYTES + 64];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    CHECK(size >= 0 && (size_t)size < sizeof line);
    buffer_append(out, line, (size_t)size);
}

void keys_file_write_key(buffer *out, const key_entry *key, const char *tenant)
{
    char expires[EXPIRY_TEXT_SIZE];
    append_format(out, "\n[key %s]\nrole = %s\n", key->id, key_role_name(key->role));
    if (key->name[0] != '\0') append_format(out, "name = %s\n", key->name);
    if (key->role != KEY_WORKER) append_format(out, "tenant = %s\n", tenant);
    if (key->worker != NULL) append_format(out, "worker = %s\n", key->worker);
    append_format(out, "expires = %s\n", expiry_format(key->expires_s, expires));
    if (key->revoked) append_format(out, "revoked = yes\n");
    append_format(out, "sha256 = ");
    for (size_t i = 0; i < KEY_HASH_BYTES; i++)
        append_format(out, "%02x", key->sha256[i]);
    append_format(out, "\n");
}

void keys_file_write_tenant(buffer *out, const key_tenant *tenant)
{
    const tenant_limits *l = &tenant->limits, none = TENANT_LIMITS_NONE;
    append_format(out, "\n[tenant %s]\n", tenant->name);
    if (l->weight != none.weight) append_format(out, "weight = %u\n", l->weight);
    if (l->requests_per_minute != 0)
        append_format(out, "requests-per-minute = %u\n", l->requests_per_minute);
    if (l->tokens_per_minute != 0)
        append_format(out, "tokens-per-minute = %" PRIu64 "\n", l->tokens_per_minute);
    if (l->concurrent != 0) append_format(out, "concurrent = %u\n", l->concurrent);
    if (l->queued != 0) append_format(out, "queued = %u\n", l->queued);
    if (l->class_max != none.class_max)
        append_format(out, "highest-class = %s\n", class_name(l->class_max));
}

void keys_file_write_revoked(buffer *out, const char *text, size_t size, const key_entry *key)
{
    /* A `revoked = no` is replaced; without one the line goes below the section's head, which is
     * never the last line: role and hash are behind it. */
    uint32_t at = key->revoked_line != 0 ? key->revoked_line : key->line, line = 0;
    for (const char *end = text + size; text < end;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t line_size = newline != NULL ? (size_t)(newline - text) + 1 : (size_t)(end - text);
        line++;
        if (line != at || key->revoked_line == 0) buffer_append(out, text, line_size);
        if (line == at) append_format(out, "revoked = yes\n");
        text += line_size;
    }
}

/* -- tokens -------------------------------------------------------------------------------- */

text_view token_id(text_view token)
{
    static const text_view none = {NULL, 0};
    if (token.size < 5 || memcmp(token.data, "gg_", 3) != 0 || token.data[4] != '_') return none;
    const char *id = token.data + 5, *end = memchr(id, '_', token.size - 5);
    if (end == NULL || end - id > (ptrdiff_t)LIMIT_KEY_NAME_BYTES) return none;
    return (text_view){id, (size_t)(end - id)};
}

void token_hash(uint8_t out[KEY_HASH_BYTES], text_view token)
{
    CHECK(SHA256((const unsigned char *)token.data, token.size, out) != NULL);
}
