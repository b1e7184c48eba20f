/* gaggle certs: a private CA in a folder, and the certificates of a fleet.
 *
 * Three CAs and not one: the router's, the workers' and the clients'. A listener that demands a
 * certificate of the workers' CA is closed to whoever has a client's, so that TLS itself keeps the
 * roles apart; and no worker can pose as the router. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/dispatch.h"
#include "client/cli/make_certificate.h"
#include "client/cli/safe_file.h"
#include "common/json.h"
#include "common/limits.h"

enum { CA_DAYS = 3650, DAYS_DEFAULT = 730, PATH_BYTES = 4096, STEM_BYTES = 96 };

static option_list hosts;
static uint32_t days = DAYS_DEFAULT;
static bool force;

/* clang-format off */
#define COMMON_ROWS                                                                                \
    {"days", 0, OPTION_U32, &days, "N", .help = "how long certificates are valid [730]",           \
     .min = 1, .max = CA_DAYS},                                                                    \
    {"force", 0, OPTION_FLAG, &force, NULL, .help = "replace files that are there"}

#define HOST_ROW                                                                                   \
    {"host", 0, OPTION_LIST, &hosts, "NAME",                                                       \
     .help = "name or address that is dialled; may be repeated [this machine's name]"}

static const option_row router_rows[] = {HOST_ROW, COMMON_ROWS};
static const option_row dialler_rows[] = {COMMON_ROWS};
/* clang-format on */

static const option_table init_table = {
    .usage = "gaggle certs init DIR [--host NAME]... [options]",
    .about = "Makes CAs for the router, the workers and the clients, and a certificate for each.\n"
             "localhost, 127.0.0.1 and ::1 are always among the router's names.",
    .rows = router_rows,
    .row_count = CLI_COUNT(router_rows),
};

static const option_table router_table = {
    .usage = "gaggle certs router DIR [--host NAME]... [options]",
    .about = "Makes the router's certificate anew, by the CA in DIR.",
    .rows = router_rows,
    .row_count = CLI_COUNT(router_rows),
};

static const option_table worker_table = {
    .usage = "gaggle certs worker DIR NAME [options]",
    .about = "Makes a certificate for another worker: DIR/worker-NAME.pem and .key.",
    .rows = dialler_rows,
    .row_count = CLI_COUNT(dialler_rows),
};

static const option_table client_table = {
    .usage = "gaggle certs client DIR NAME [options]",
    .about = "Makes a certificate for another client: DIR/client-NAME.pem and .key.",
    .rows = dialler_rows,
    .row_count = CLI_COUNT(dialler_rows),
};

/* -- files ---------------------------------------------------------------------------------- */

static char *file_in(const char *dir, const char *stem, const char *suffix, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/%s%s", dir, stem, suffix);
    return out;
}

static status read_pair(certificate_pem *out, const char *dir, const char *stem, error *err)
{
    char path[PATH_BYTES], *bytes;
    size_t size;
    *out = (certificate_pem){0};
    for (int i = 0; i < 2; i++) {
        status st = file_read(&bytes, &size, file_in(dir, stem, i == 0 ? ".pem" : ".key", path),
                              LIMIT_CONFIG_FILE_BYTES, err);
        if (st != ST_OK) {
            certificate_pem_free(out);
            return st;
        }
        buffer_append(i == 0 ? &out->cert : &out->key, bytes, size);
        mem_free(bytes);
    }
    return ST_OK;
}

static status write_pair(const certificate_pem *pem, const char *dir, const char *stem, error *err)
{
    char path[PATH_BYTES];
    status st = safe_file_write(file_in(dir, stem, ".key", path), pem->key.data, pem->key.size,
                                0600, force, err);
    if (st != ST_OK) return st;
    return safe_file_write(file_in(dir, stem, ".pem", path), pem->cert.data, pem->cert.size, 0644,
                           force, err);
}

static status refuse_to_replace(const char *dir, const char *stem, error *err)
{
    static const char *const suffixes[] = {".pem", ".key"};
    char path[PATH_BYTES];
    for (size_t i = 0; !force && i < CLI_COUNT(suffixes); i++)
        if (access(file_in(dir, stem, suffixes[i], path), F_OK) == 0)
            return error_set(err, ST_ALREADY_EXISTS, "%s is there; --force replaces it", path);
    return ST_OK;
}

/* -- making --------------------------------------------------------------------------------- */

/* Whose signature a listener looks for. */
typedef enum ca { CA_ROUTERS, CA_WORKERS, CA_CLIENTS, CA_COUNT, CA_ITSELF } ca;

static const char *const ca_stems[CA_COUNT] = {"ca", "worker-ca", "client-ca"};

typedef struct pair {
    const char *stem; /* of its two files */
    ca issuer;
    certificate_wish wish;
} pair;

/* By a CA of the folder. */
static status make_pair(const char *dir, const pair *p, error *err)
{
    certificate_pem made, issuer;
    status st = refuse_to_replace(dir, p->stem, err);
    if (st != ST_OK) return st;
    st = read_pair(&issuer, dir, ca_stems[p->issuer], err);
    if (st == ST_NOT_FOUND) return error_prefix(err, st, "gaggle certs init makes the CA");
    if (st != ST_OK) return st;
    st = certificate_make(&made, &p->wish, &issuer, time(NULL), err);
    certificate_pem_free(&issuer);
    if (st != ST_OK) return st;
    st = write_pair(&made, dir, p->stem, err);
    certificate_pem_free(&made);
    return st;
}

enum { INIT_PAIRS = 6 };

/* The CAs and what they sign: all is made before anything is written. */
static status make_all(const char *dir, const pair pairs[INIT_PAIRS], error *err)
{
    certificate_pem made[INIT_PAIRS] = {0};
    status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < INIT_PAIRS; i++)
        st = refuse_to_replace(dir, pairs[i].stem, err);
    for (size_t i = 0; st == ST_OK && i < INIT_PAIRS; i++)
        st = certificate_make(&made[i], &pairs[i].wish,
                              pairs[i].issuer != CA_ITSELF ? &made[pairs[i].issuer] : NULL,
                              time(NULL), err);
    if (st == ST_OK && mkdir(dir, 0700) != 0 && errno != EEXIST)
        st = error_set(err, ST_UNAVAILABLE, "cannot make %s: %s", dir, strerror(errno));
    for (size_t i = 0; st == ST_OK && i < INIT_PAIRS; i++)
        st = write_pair(&made[i], dir, pairs[i].stem, err);
    for (size_t i = 0; i < INIT_PAIRS; i++)
        certificate_pem_free(&made[i]);
    return st;
}

/* What the router is dialled by: what was asked for, or this machine's name, and what it always
 * is. The texts live as long as the process. */
static size_t router_hosts(const char *out[CERTIFICATE_HOSTS_MAX])
{
    static const char *const always[] = {"localhost", "127.0.0.1", "::1"};
    static char name[256];
    size_t count = 0;
    for (size_t i = 0; i < hosts.count; i++)
        out[count++] = hosts.items[i];
    if (count == 0 && gethostname(name, sizeof name - 1) == 0) out[count++] = name;
    for (size_t i = 0; i < CLI_COUNT(always); i++)
        out[count++] = always[i];
    return count;
}

_Static_assert(OPTION_LIST_MAX + 3 <= CERTIFICATE_HOSTS_MAX, "hosts that are given and usual ones");

static pair router_pair(const char *names[CERTIFICATE_HOSTS_MAX])
{
    size_t count = router_hosts(names);
    return (pair){"router", CA_ROUTERS, {CERTIFICATE_ROUTER, "gaggle-router", names, count, days}};
}

static int end(const char *command, status st, const error *err)
{
    if (st == ST_OK) return EXIT_DONE;
    cli_say(command, "%s", err->text);
    return st == ST_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

/* DIR and, for another worker or client, NAME. */
static bool parse(const char *command, const option_table *table, int argc, char **argv, int wanted)
{
    int rest;
    if (!cli_parse(command, table, argc, argv, &rest)) return false;
    if (rest != wanted)
        cli_say(command, "%s", wanted == 1 ? "one DIR is needed" : "DIR and NAME are needed");
    else if (strlen(argv[1]) + STEM_BYTES >= PATH_BYTES)
        cli_say(command, "DIR has %zu bytes; it may have %d", strlen(argv[1]),
                PATH_BYTES - STEM_BYTES - 1);
    else
        return true;
    return false;
}

static void say_how(const char *dir)
{
    fprintf(stderr,
            "The files are in %s. On the router:\n"
            "  gaggle-router --listen tls+tcp://0.0.0.0:7400 --worker-listen "
            "tls+tcp://0.0.0.0:7410 \\\n"
            "      --tls-cert %s/router.pem --tls-key %s/router.key \\\n"
            "      --worker-ca %s/worker-ca.pem --client-ca %s/client-ca.pem --keys FILE\n"
            "Take ca.pem, worker.pem and worker.key to a worker; ca.pem, client.pem and client.key "
            "to a client:\n"
            "  gaggle-worker -m MODEL --router tls+tcp://HOST:7410 --tls-ca ca.pem \\\n"
            "      --tls-cert worker.pem --tls-key worker.key --join-token TOKEN\n"
            "  gaggle chat --router tls+tcp://HOST:7400 --tls-ca ca.pem \\\n"
            "      --tls-cert client.pem --tls-key client.key --token TOKEN\n"
            "ca.key, worker-ca.key and client-ca.key make more of them: keep them to yourself.\n",
            dir, dir, dir, dir, dir);
}

static int certs_init(int argc, char **argv)
{
    error err;
    const char *names[CERTIFICATE_HOSTS_MAX];
    if (!parse("certs init", &init_table, argc, argv, 1)) return EXIT_USAGE;
    const char *dir = argv[1];
    const pair pairs[INIT_PAIRS] = {
        {ca_stems[CA_ROUTERS],
         CA_ITSELF,
         {CERTIFICATE_CA, "gaggle CA of routers", NULL, 0, CA_DAYS}},
        {ca_stems[CA_WORKERS],
         CA_ITSELF,
         {CERTIFICATE_CA, "gaggle CA of workers", NULL, 0, CA_DAYS}},
        {ca_stems[CA_CLIENTS],
         CA_ITSELF,
         {CERTIFICATE_CA, "gaggle CA of clients", NULL, 0, CA_DAYS}},
        router_pair(names),
        {"worker", CA_WORKERS, {CERTIFICATE_DIALLER, "worker", NULL, 0, days}},
        {"client", CA_CLIENTS, {CERTIFICATE_DIALLER, "client", NULL, 0, days}},
    };
    status st = make_all(dir, pairs, &err);
    if (st == ST_OK) say_how(dir);
    return end("certs init", st, &err);
}

static int certs_router(int argc, char **argv)
{
    error err;
    const char *names[CERTIFICATE_HOSTS_MAX];
    if (!parse("certs router", &router_table, argc, argv, 1)) return EXIT_USAGE;
    const pair p = router_pair(names);
    return end("certs router", make_pair(argv[1], &p, &err), &err);
}

/* It becomes part of a file's name. */
static status check_name(const char *name, error *err)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t size = strlen(name);
    if (size > 0 && size <= CERTIFICATE_NAME_BYTES && strspn(name, letters) == size) return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT,
                     "NAME is '%s'; it must be 1 to %d letters, digits, '.', '_' or '-'", name,
                     CERTIFICATE_NAME_BYTES);
}

static int make_dialler(const char *kind, ca issuer, const option_table *table, int argc,
                        char **argv)
{
    error err;
    char command[16], stem[STEM_BYTES];
    snprintf(command, sizeof command, "certs %s", kind);
    if (!parse(command, table, argc, argv, 2)) return EXIT_USAGE;
    status st = check_name(argv[2], &err);
    if (st != ST_OK) return end(command, st, &err);
    snprintf(stem, sizeof stem, "%s-%s", kind, argv[2]);
    const pair p = {stem, issuer, {CERTIFICATE_DIALLER, argv[2], NULL, 0, days}};
    return end(command, make_pair(argv[1], &p, &err), &err);
}

static int certs_worker(int argc, char **argv)
{
    return make_dialler("worker", CA_WORKERS, &worker_table, argc, argv);
}

static int certs_client(int argc, char **argv)
{
    return make_dialler("client", CA_CLIENTS, &client_table, argc, argv);
}

int cli_certs(int argc, char **argv)
{
    static const cli_command commands[] = {
        {"init", certs_init, "make the CAs and a certificate of each kind"},
        {"router", certs_router, "make the router's certificate anew"},
        {"worker", certs_worker, "make one for another worker"},
        {"client", certs_client, "make one for another client"},
    };
    return dispatch("gaggle certs", commands, CLI_COUNT(commands),
                    "`gaggle certs COMMAND --help` lists a command's options.", argc, argv);
}
