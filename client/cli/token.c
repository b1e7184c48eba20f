/* gaggle token: makes, lists and revokes the keys of a router's keys file (router/keys_file.h),
 * which keys_change.h changes. */
#include <time.h>

#include "client/cli/cli.h"
#include "client/cli/dispatch.h"
#include "client/cli/keys_change.h"

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

/* -- new ----------------------------------------------------------------------------------- */

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
    if ((st = keys_change_expiry(&key->expires_s, expires, err)) != ST_OK)
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

static int token_new(int argc, char **argv)
{
    error err;
    key_entry key = {0};
    keys_change k;
    char token[KEY_TOKEN_SIZE], when[EXPIRY_TEXT_SIZE];
    if (!parse("token new", &new_table, argc, argv, NULL)) return EXIT_USAGE;
    if (check_new(&key, &err) != ST_OK) {
        cli_say("token new", "%s", err.text);
        return EXIT_USAGE;
    }
    status st = keys_change_open(&k, keys_path, true, &err);
    const key_tenant fresh = {.name = tenant, .limits = limits};
    if (st == ST_OK)
        st = keys_change_add(&k, &key, tenant, has_limits() ? &fresh : NULL, token, &err);
    if (st == ST_OK) {
        printf("%s\n", token);
        cli_say("token new", "key %s for a%s %s, expires: %s. kill -HUP makes a router read it",
                key.id, key.role == KEY_ADMIN ? "n" : "", key_role_name(key.role),
                expiry_format(key.expires_s, when));
    } else {
        cli_say("token new", "%s", err.text);
    }
    keys_change_close(&k);
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
    keys_change k;
    if (!parse("token ls", &ls_table, argc, argv, NULL)) return EXIT_USAGE;
    status st = keys_change_look(&k, keys_path, &err);
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
    keys_change_close(&k);
    return st == ST_OK ? EXIT_DONE : EXIT_FAILED;
}

static int token_revoke(int argc, char **argv)
{
    error err;
    keys_change k;
    int rest;
    if (!parse("token revoke", &revoke_table, argc, argv, &rest)) return EXIT_USAGE;
    if (rest != 1) {
        cli_say("token revoke", "one ID is needed; gaggle token ls lists them");
        return EXIT_USAGE;
    }
    text_view given = text_of(argv[1]), id = token_id(given);
    if (id.size == 0) id = given;
    status st = keys_change_open(&k, keys_path, false, &err);
    if (st == ST_OK) st = keys_change_revoke(&k, id, &err);
    if (st == ST_OK)
        cli_say("token revoke", "key %.*s is revoked. kill -HUP makes a router read it",
                (int)id.size, id.data);
    else
        cli_say("token revoke", "%s", err.text);
    keys_change_close(&k);
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
