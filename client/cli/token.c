/* gaggle token: makes, lists and revokes the keys of a router's keys file (router/keys_file.h).
 *
 * Several may run at once: each holds a lock on the file while it reads, changes and replaces it.
 * Routers and people who only read need no lock: the file is replaced as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/dispatch.h"
#include "client/cli/safe_file.h"
#include "common/check.h"
#include "common/json.h"
#include "router/keys_file.h"

enum {
    ID_LETTERS = 10,     /* 51 bits: two keys of a file hardly ever meet */
    SECRET_LETTERS = 43, /* of 62: 256.03 bits */
    TOKEN_SIZE = 64,
};
#define EXPIRES_DEFAULT "90d"

static const char *keys_path;
static const char *role_text, *label, *tenant, *worker;
static const char *expires = EXPIRES_DEFAULT;
static const char *highest_class = "interactive";
static tenant_limits limits = TENANT_LIMITS_NONE;

#define KEYS_ROW                                                                                   \
    {                                                                                              \
        "keys", 'k', OPTION_TEXT, &keys_path, "FILE",                                              \
            .help = "the keys file, which gaggle-router is given as --keys"                        \
    }

/* clang-format off */
static const option_row new_rows[] = {
    KEYS_ROW,
    {"role", 0, OPTION_TEXT, &role_text, "ROLE", .help = "client, worker or admin"},
    {"name", 0, OPTION_TEXT, &label, "TEXT", .help = "whose it is, for people"},
    {"expires", 0, OPTION_TEXT, &expires, "WHEN",
     .help = "12h, 30d, 2027-01-31T12:00:00Z or never [" EXPIRES_DEFAULT "]"},
    {"worker", 0, OPTION_TEXT, &worker, "ID", .help = "the only --name that a worker may use [any]"},
    {"tenant", 0, OPTION_TEXT, &tenant, "NAME",
     .help = "who shares limits and is told apart from others [" KEY_TENANT_DEFAULT "]"},
    {"weight", 0, OPTION_U32, &limits.weight, "N",
     .help = "a new tenant's share among those that wait [100]", .min = 1,
     .max = LIMIT_TENANT_WEIGHT},
    {"requests-per-minute", 0, OPTION_U32, &limits.requests_per_minute, "N",
     .help = "a new tenant's; 0 = no limit, here and below [0]"},
    {"tokens-per-minute", 0, OPTION_U64, &limits.tokens_per_minute, "N",
     .help = "prompts and answers [0]", .max = (double)INT64_MAX},
    {"concurrent", 0, OPTION_U32, &limits.concurrent, "N", .help = "requests that run [0]"},
    {"queued", 0, OPTION_U32, &limits.queued, "N", .help = "requests that wait [0]"},
    {"highest-class", 0, OPTION_TEXT, &highest_class, "CLASS",
     .help = "interactive, standard or batch [interactive]"},
};

static const option_row file_rows[] = {KEYS_ROW};
/* clang-format on */

static const option_table new_table = {
    .usage = "gaggle token new --keys FILE --role ROLE [options]",
    .about = "Adds a key to the file, which is made when it is not there, and prints its token:\n"
             "once, for the file holds only the token's hash. kill -HUP makes a router read it.",
    .rows = new_rows,
    .row_count = CLI_COUNT(new_rows),
};

static const option_table ls_table = {
    .usage = "gaggle token ls --keys FILE",
    .about = "Lists the keys of the file.",
    .rows = file_rows,
    .row_count = CLI_COUNT(file_rows),
};

static const option_table revoke_table = {
    .usage = "gaggle token revoke --keys FILE ID",
    .about =
        "Revokes a key: nobody gets in with it any more, and who is in is put out, as soon as\n"
        "kill -HUP has made the router read the file. ID may also be the token.",
    .rows = file_rows,
    .row_count = CLI_COUNT(file_rows),
};

static bool parse(const char *command, const option_table *table, int argc, char **argv, int *rest)
{
    if (!cli_parse(command, table, argc, argv, rest)) return false;
    if (keys_path == NULL) cli_say(command, "--keys FILE is needed");
    return keys_path != NULL;
}

/* -- the file ------------------------------------------------------------------------------ */

typedef struct keys_text {
    int lock;   /* the open file; -1: none */
    char *path; /* of the file itself, not of a link to it */
    char *text;
    size_t size;
    keys_file parsed;
} keys_text;

static void keys_text_close(keys_text *k)
{
    keys_file_free(&k->parsed);
    mem_free(k->text);
    free(k->path);
    if (k->lock >= 0) close(k->lock);
}

/* Lock the file that has this name: while we waited for the lock, another may have taken its
 * place. */
static status lock_file(keys_text *k, const char *path, bool make, error *err)
{
    for (;;) {
        k->lock = open(path, O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0600);
        if (k->lock < 0)
            return error_set(err, errno == ENOENT ? ST_NOT_FOUND : ST_PERMISSION_DENIED,
                             "cannot open %s: %s", path, strerror(errno));
        struct stat locked, named;
        while (flock(k->lock, LOCK_EX) != 0)
            if (errno != EINTR)
                return error_set(err, ST_UNAVAILABLE, "cannot lock %s: %s", path, strerror(errno));
        if (fstat(k->lock, &locked) == 0 && stat(path, &named) == 0 &&
            locked.st_dev == named.st_dev && locked.st_ino == named.st_ino)
            break;
        close(k->lock);
    }
    k->path = realpath(path, NULL);
    if (k->path != NULL) return ST_OK;
    return error_set(err, ST_UNAVAILABLE, "cannot find %s: %s", path, strerror(errno));
}

static status read_file(keys_text *k, const char *path, error *err)
{
    status st = file_read(&k->text, &k->size, path, LIMIT_KEYS_FILE_BYTES, err);
    return st == ST_OK ? keys_file_parse(&k->parsed, path, k->text, k->size, err) : st;
}

/* For changing it; keys_text_close() it also when this fails. */
static status open_for_change(keys_text *k, bool make, error *err)
{
    *k = (keys_text){.lock = -1};
    status st = lock_file(k, keys_path, make, err);
    return st == ST_OK ? read_file(k, keys_path, err) : st;
}

/* Replace the file, if a router will take it. */
static status replace_file(const keys_text *k, const buffer *text, error *err)
{
    keys_file again;
    if (text->size > LIMIT_KEYS_FILE_BYTES)
        return error_set(err, ST_OUT_OF_RANGE, "%s would have %zu bytes; the limit is %u", k->path,
                         text->size, LIMIT_KEYS_FILE_BYTES);
    status st = keys_file_parse(&again, k->path, (const char *)text->data, text->size, err);
    if (st != ST_OK) return st;
    keys_file_free(&again);
    return safe_file_write(k->path, text->data, text->size, 0600, true, err);
}

/* -- new ----------------------------------------------------------------------------------- */

/* Letters that nobody can guess: each of `count` ones with the same chance. */
static void random_letters(char *out, size_t size, size_t count)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint8_t bytes[64];
    for (size_t used = 0; used < size;) {
        CHECK(getrandom(bytes, sizeof bytes, 0) == sizeof bytes);
        for (size_t i = 0; i < sizeof bytes && used < size; i++)
            if (bytes[i] < 256 / count * count) out[used++] = letters[bytes[i] % count];
    }
    out[size] = '\0';
}

static status parse_span(int64_t *out, const char *text, int64_t now_s, error *err)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'m', 60}, {'h', 3600}, {'d', 86400}};
    char *end;
    errno = 0;
    long count = strtol(text, &end, 10);
    bool good = text[0] >= '0' && text[0] <= '9' && end[0] != '\0' && end[1] == '\0';
    for (size_t i = 0; good && i < CLI_COUNT(units); i++) {
        if (*end != units[i].unit) continue;
        const long days = 36500;
        if (errno != 0 || count < 1 || count > days * 86400 / units[i].seconds)
            return error_set(err, ST_INVALID_ARGUMENT, "'%s' must be 1m to %ldd", text, days);
        *out = now_s + count * units[i].seconds;
        return ST_OK;
    }
    return error_set(err, ST_INVALID_ARGUMENT,
                     "'%s' is no span like 90m, 12h or 30d, no time in UTC like "
                     "2027-01-31T12:00:00Z, and not never",
                     text);
}

static status parse_expires(int64_t *out, const char *text, error *err)
{
    int64_t now_s = time(NULL);
    char now[EXPIRY_TEXT_SIZE];
    if (expiry_parse(out, text, NULL) != ST_OK) return parse_span(out, text, now_s, err);
    if (*out > now_s) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "'%s' is past: it is %s", text,
                     expiry_format(now_s, now));
}

static bool has_limits(void)
{
    const tenant_limits none = TENANT_LIMITS_NONE;
    return limits.weight != none.weight || limits.requests_per_minute != 0 ||
           limits.tokens_per_minute != 0 || limits.concurrent != 0 || limits.queued != 0 ||
           limits.class_max != none.class_max;
}

/* The options, as far as they can be judged without the file. */
static status check_new(key_entry *key, error *err)
{
    if (role_text == NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "--role is needed: client, worker or admin");
    status st = key_role_parse(&key->role, role_text, err);
    if (st != ST_OK) return error_prefix(err, st, "--role");
    if ((st = parse_expires(&key->expires_s, expires, err)) != ST_OK)
        return error_prefix(err, st, "--expires");
    if ((st = class_parse(&limits.class_max, highest_class, err)) != ST_OK)
        return error_prefix(err, st, "--highest-class");
    key->name = label != NULL ? label : "";
    if (label != NULL && (st = key_label_check(label, err)) != ST_OK)
        return error_prefix(err, st, "--name");
    key->worker = worker;
    if (worker != NULL && (st = key_label_check(worker, err)) != ST_OK)
        return error_prefix(err, st, "--worker");
    if (tenant != NULL && (st = tenant_name_check(tenant, err)) != ST_OK)
        return error_prefix(err, st, "--tenant");
    if (key->role == KEY_WORKER && (tenant != NULL || has_limits()))
        return error_set(err, ST_INVALID_ARGUMENT,
                         "a worker has no tenant and no limits: leave out --tenant and the like");
    if (key->role != KEY_WORKER && worker != NULL)
        return error_set(err, ST_INVALID_ARGUMENT, "--worker is for --role worker only");
    if (tenant == NULL) tenant = KEY_TENANT_DEFAULT;
    return ST_OK;
}

/* The section of a tenant that gets limits, unless it has one. */
static status add_tenant(buffer *text, const keys_text *k, error *err)
{
    if (!has_limits()) return ST_OK;
    const keys_file *f = &k->parsed;
    uint32_t number = name_table_find(&f->tenant_names, text_of(tenant));
    if (number != NAME_NONE && f->tenants[number].line != 0)
        return error_set(err, ST_ALREADY_EXISTS,
                         "the limits of tenant %s stand in %s, line %u: change them there", tenant,
                         k->path, f->tenants[number].line);
    const key_tenant fresh = {.name = tenant, .limits = limits};
    keys_file_write_tenant(text, &fresh);
    return ST_OK;
}

static status add_key(keys_text *k, key_entry *key, char token[TOKEN_SIZE], error *err)
{
    static char id[ID_LETTERS + 1];
    char secret[SECRET_LETTERS + 1];
    if (k->parsed.ids.count == LIMIT_KEYS)
        return error_set(err, ST_OUT_OF_RANGE, "%s has %u keys, and may not have more", k->path,
                         LIMIT_KEYS);
    do
        random_letters(id, ID_LETTERS, 36);
    while (keys_file_find(&k->parsed, text_of(id)) != NULL);
    random_letters(secret, SECRET_LETTERS, 62);
    snprintf(token, TOKEN_SIZE, "gg_%c_%s_%s", key_role_letter(key->role), id, secret);
    key->id = id;
    token_hash(key->sha256, text_of(token));

    static const char head[] =
        "# Who may connect: gaggle-router --keys. Edit it as you like, and make\n"
        "# the router read it by kill -HUP.\n";
    buffer text = {0};
    if (k->size == 0) buffer_append(&text, head, sizeof head - 1);
    buffer_append(&text, k->text, k->size);
    status st = add_tenant(&text, k, err);
    if (st == ST_OK) {
        keys_file_write_key(&text, key, tenant);
        st = replace_file(k, &text, err);
    }
    buffer_free(&text);
    return st;
}

static int token_new(int argc, char **argv)
{
    error err;
    key_entry key = {0};
    keys_text k;
    char token[TOKEN_SIZE], when[EXPIRY_TEXT_SIZE];
    if (!parse("token new", &new_table, argc, argv, NULL)) return EXIT_USAGE;
    if (check_new(&key, &err) != ST_OK) {
        cli_say("token new", "%s", err.text);
        return EXIT_USAGE;
    }
    status st = open_for_change(&k, true, &err);
    if (st == ST_OK) st = add_key(&k, &key, token, &err);
    if (st == ST_OK) {
        printf("%s\n", token);
        cli_say("token new", "key %s for a%s %s, expires: %s. kill -HUP makes a router read it",
                key.id, key.role == KEY_ADMIN ? "n" : "", key_role_name(key.role),
                expiry_format(key.expires_s, when));
    } else {
        cli_say("token new", "%s", err.text);
    }
    keys_text_close(&k);
    return st == ST_OK ? EXIT_DONE : EXIT_FAILED;
}

/* -- ls and revoke --------------------------------------------------------------------------- */

static const char *state_of(const key_entry *key, int64_t now_s)
{
    if (key->revoked) return "revoked";
    return now_s >= key->expires_s ? "expired" : "valid";
}

static int token_ls(int argc, char **argv)
{
    error err;
    keys_text k = {.lock = -1};
    if (!parse("token ls", &ls_table, argc, argv, NULL)) return EXIT_USAGE;
    status st = read_file(&k, keys_path, &err);
    if (st != ST_OK) cli_say("token ls", "%s", err.text);
    const char *row = "%-12s %-7s %-8s %-21s %-16s %s\n";
    if (st == ST_OK) printf(row, "ID", "ROLE", "STATE", "EXPIRES", "TENANT OR WORKER", "NAME");
    for (uint32_t i = 0; st == ST_OK && i < k.parsed.ids.count; i++) {
        const key_entry *key = &k.parsed.keys[i];
        char when[EXPIRY_TEXT_SIZE];
        const char *whose = key->worker != NULL       ? key->worker
                            : key->role == KEY_WORKER ? "any"
                                                      : k.parsed.tenants[key->tenant].name;
        printf(row, key->id, key_role_name(key->role), state_of(key, time(NULL)),
               expiry_format(key->expires_s, when), whose, key->name);
    }
    keys_text_close(&k);
    return st == ST_OK ? EXIT_DONE : EXIT_FAILED;
}

static status revoke_key(keys_text *k, text_view id, error *err)
{
    const key_entry *key = keys_file_find(&k->parsed, id);
    if (key == NULL)
        return error_set(err, ST_NOT_FOUND, "%s has no key %.*s; gaggle token ls lists them",
                         k->path, (int)id.size, id.data);
    if (key->revoked) return ST_OK;
    buffer text = {0};
    keys_file_write_revoked(&text, k->text, k->size, key);
    status st = replace_file(k, &text, err);
    buffer_free(&text);
    return st;
}

static int token_revoke(int argc, char **argv)
{
    error err;
    keys_text k;
    int rest;
    if (!parse("token revoke", &revoke_table, argc, argv, &rest)) return EXIT_USAGE;
    if (rest != 1) {
        cli_say("token revoke", "one ID is needed; gaggle token ls lists them");
        return EXIT_USAGE;
    }
    text_view given = text_of(argv[1]), id = token_id(given);
    if (id.size == 0) id = given;
    status st = open_for_change(&k, false, &err);
    if (st == ST_OK) st = revoke_key(&k, id, &err);
    if (st == ST_OK)
        cli_say("token revoke", "key %.*s is revoked. kill -HUP makes a router read it",
                (int)id.size, id.data);
    else
        cli_say("token revoke", "%s", err.text);
    keys_text_close(&k);
    return st == ST_OK ? EXIT_DONE : EXIT_FAILED;
}

int cli_token(int argc, char **argv)
{
    static const cli_command commands[] = {
        {"new", token_new, "add a key and print its token"},
        {"ls", token_ls, "list the keys"},
        {"revoke", token_revoke, "revoke a key"},
    };
    return dispatch("gaggle token", commands, CLI_COUNT(commands),
                    "`gaggle token COMMAND --help` lists a command's options.", argc, argv);
}
