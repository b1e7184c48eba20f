/* gaggle connect: the text that makes a place work for this router. A join token of its own goes
 * into the keys file, and what is to be pasted there goes to stdout: a notebook's cell for Kaggle
 * and Colab, commands for a shell elsewhere. What a person has to know besides goes to stderr: of a
 * notebook the token, too, which belongs among its secrets and not into a cell that gets
 * published. */
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/connect_notebook.h"
#include "client/cli/dispatch.h"
#include "client/cli/keys_change.h"
#include "common/check.h"
#include "common/json.h"

#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

static const char *keys_path, *join_token, *model, *expires, *ca_path;
static option_list routers;
static const char *source = "", *image, *modal_gpus = "L4,T4", *docker_gpu = "0";
static uint32_t worker_count = 1;
static bool whole;

/* What stands in every text. */
typedef struct connection {
    const char *command; /* "connect kaggle" */
    const char *host;    /* of ssh */
    char token[LIMIT_TOKEN_BYTES + 1];
    buffer urls; /* separated by spaces */
    char *ca;    /* PEM; "" = of a public CA */
} connection;

/* clang-format off */
#define CONNECTION_ROWS(expires_default)                                                           \
    {"router-url", 'r', OPTION_LIST, &routers, "URL",                                              \
     .help = "where workers reach the router: wss://gaggle.example.org/worker"},                   \
    {"model", 'm', OPTION_TEXT, &model, "MODEL", .help = "ORG/NAME, or a folder there"},           \
    {"keys", 'k', OPTION_TEXT, &keys_path, "FILE",                                                 \
     .help = "the router's keys file: makes a key for a worker in it"},                            \
    {"expires", 0, OPTION_TEXT, &expires, "WHEN",                                                  \
     .help = "of the key: 12h, 30d, 2027-01-31T12:00:00Z or never [" expires_default "]"},         \
    {"join-token", 0, OPTION_TEXT, &join_token, "TOKEN",                                           \
     .help = "one that there is already, instead of a new key", .rare = true},                     \
    {"tls-ca", 0, OPTION_TEXT, &ca_path, "FILE",                                                   \
     .help = "PEM of the router's CA [one that everybody trusts]"}

#define NOTEBOOK_EXPIRES "24h"
#define MACHINE_EXPIRES "90d"

static const option_row notebook_rows[] = {
    CONNECTION_ROWS(NOTEBOOK_EXPIRES),
    {"source", 0, OPTION_TEXT, &source, "URL",
     .help = "git repository to build gaggle from [an archive among the inputs]"},
    {"notebook", 0, OPTION_FLAG, &whole, NULL,
     .help = "a whole notebook, for a file, and not one cell"},
};
static const option_row docker_rows[] = {
    CONNECTION_ROWS(MACHINE_EXPIRES),
    {"gpu", 0, OPTION_TEXT, &docker_gpu, "N", .help = "which one, or none [0]"},
    {"image", 0, OPTION_TEXT, &image, "NAME",
     .help = "worker's image [localhost/gaggle-worker-cuda, or -cpu]"},
};
static const option_row ssh_rows[] = {CONNECTION_ROWS(MACHINE_EXPIRES)};
static const option_row modal_rows[] = {
    CONNECTION_ROWS(MACHINE_EXPIRES),
    {"workers", 'w', OPTION_U32, &worker_count, "N", .help = "how many [1]", .min = 1, .max = 1000},
    {"gpu", 0, OPTION_TEXT, &modal_gpus, "LIST", .help = "what to take, in this order [L4,T4]"},
};
/* clang-format on */

/* -- the parts ------------------------------------------------------------------------------- */

static bool uses_tls(const char *url)
{
    return strncmp(url, "wss://", 6) == 0 || strncmp(url, "tls+tcp://", 10) == 0;
}

static status check_url(const connection *c, const char *url, error *err)
{
    static const char *const schemes[] = {"wss://", "tls+tcp://", "ws://", "tcp://"};
    size_t at = 0;
    while (at < CLI_COUNT(schemes) && strncmp(url, schemes[at], strlen(schemes[at])) != 0)
        at++;
    if (at == CLI_COUNT(schemes) || url[strlen(schemes[at])] == '\0')
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--router-url is '%s'; it must be wss://, tls+tcp://, ws:// or tcp:// "
                         "with the router's public name",
                         url);
    if (strpbrk(url, " ,\"'\\") != NULL || text_valid_size(text_of(url)) != strlen(url))
        return error_set(err, ST_INVALID_ARGUMENT, "--router-url '%s' is no URL", url);
    if (!uses_tls(url))
        cli_say(c->command, "warning: to %s the token and all prompts travel readable", url);
    return ST_OK;
}

static status read_urls(connection *c, error *err)
{
    if (routers.count == 0)
        return error_set(err, ST_INVALID_ARGUMENT,
                         "--router-url is needed: where workers reach the router");
    for (size_t i = 0; i < routers.count; i++) {
        status st = check_url(c, routers.items[i], err);
        if (st != ST_OK) return st;
        if (i > 0) buffer_append(&c->urls, " ", 1);
        buffer_append(&c->urls, routers.items[i], strlen(routers.items[i]));
    }
    buffer_append(&c->urls, "", 1);
    return ST_OK;
}

static status check_text(const char *option, const char *text, error *err)
{
    if (text_valid_size(text_of(text)) == strlen(text) && strpbrk(text, "\r\n") == NULL)
        return ST_OK;
    return error_set(err, ST_INVALID_ARGUMENT, "%s must be one line of UTF-8", option);
}

static status read_ca(connection *c, error *err)
{
    size_t size;
    if (ca_path == NULL) {
        c->ca = mem_strdup("");
        return ST_OK;
    }
    status st = file_read(&c->ca, &size, ca_path, LIMIT_CONFIG_FILE_BYTES, err);
    if (st == ST_OK && strstr(c->ca, "-----BEGIN CERTIFICATE-----") == NULL)
        st = error_set(err, ST_INVALID_ARGUMENT, "--tls-ca: %s holds no PEM certificate", ca_path);
    if (st == ST_OK && text_valid_size(text_of(c->ca)) != size)
        st = error_set(err, ST_INVALID_ARGUMENT, "--tls-ca: %s is not UTF-8", ca_path);
    return st;
}

/* A key that is only for this, or the token that was given. */
static status get_token(connection *c, const char *expires_default, error *err)
{
    if ((keys_path != NULL) == (join_token != NULL))
        return error_set(
            err, ST_INVALID_ARGUMENT,
            "one of --keys FILE, where a key is made, and --join-token TOKEN is needed");
    if (join_token != NULL) {
        if (strlen(join_token) >= sizeof c->token || strpbrk(join_token, " \t\r\n'\"\\") != NULL)
            return error_set(err, ST_INVALID_ARGUMENT,
                             "--join-token has %zu bytes; it must have %u at most, and no blanks "
                             "and quotes",
                             strlen(join_token), LIMIT_TOKEN_BYTES);
        memcpy(c->token, join_token, strlen(join_token) + 1);
        return ST_OK;
    }
    key_entry key = {.role = KEY_WORKER, .name = c->command};
    status st =
        keys_change_expiry(&key.expires_s, expires != NULL ? expires : expires_default, err);
    if (st != ST_OK) return error_prefix(err, st, "--expires");
    keys_change k;
    st = keys_change_open(&k, keys_path, true, err);
    if (st == ST_OK) st = keys_change_add(&k, &key, KEY_TENANT_DEFAULT, NULL, c->token, err);
    char when[EXPIRY_TEXT_SIZE];
    if (st == ST_OK)
        cli_say(c->command, "key %s for a worker, expires: %s. kill -HUP makes a router read it",
                key.id, expiry_format(key.expires_s, when));
    keys_change_close(&k);
    return st;
}

static void connection_free(connection *c)
{
    buffer_free(&c->urls);
    mem_free(c->ca);
}

/* The key last: none is made for a text that cannot be. */
static status connection_make(connection *c, const char *expires_default, error *err)
{
    status st = read_urls(c, err);
    if (st == ST_OK && model == NULL)
        st = error_set(err, ST_INVALID_ARGUMENT, "--model is needed: ORG/NAME, or a folder there");
    if (st == ST_OK) st = check_text("--model", model, err);
    if (st == ST_OK) st = check_text("--source", source, err);
    if (st == ST_OK && image != NULL) st = check_text("--image", image, err);
    if (st == ST_OK) st = check_text("--gpu", modal_gpus, err);
    if (st == ST_OK) st = check_text("--gpu", docker_gpu, err);
    if (st == ST_OK) st = read_ca(c, err);
    return st == ST_OK ? get_token(c, expires_default, err) : st;
}

/* `text` as one word of a shell. */
static void put_quoted(FILE *out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "%+,-./:=@_";
    if (text[0] != '\0' && text[strspn(text, plain)] == '\0') {
        fputs(text, out);
        return;
    }
    fputc('\'', out);
    for (; *text != '\0'; text++)
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    fputc('\'', out);
}

/* The worker's options that every place shares; its CA, if it needs one, lies at `ca_there`. */
static void put_options(FILE *out, const char *model_there, const char *ca_there)
{
    fputs(" -m ", out);
    put_quoted(out, model_there);
    bool tls = false;
    for (size_t i = 0; i < routers.count; i++) {
        fputs(" --router ", out);
        put_quoted(out, routers.items[i]);
        tls = tls || uses_tls(routers.items[i]);
    }
    if (!tls) return;
    fputs(" --tls-ca ", out);
    fputs(ca_there, out);
}

/* -- the places ------------------------------------------------------------------------------- */

static void print_notebook(const connection *c, notebook which)
{
    const notebook_setting settings[] = {
        {"ROUTERS", (const char *)c->urls.data},
        {"MODEL", model},
        {"SOURCE", source},
        {"CA", c->ca},
    };
    notebook_print(stdout, which, settings, CLI_COUNT(settings), whole);
    cli_say(c->command, "the notebook's secret GAGGLE_JOIN_TOKEN (%s) is to be:\n%s",
            which == NOTEBOOK_KAGGLE ? "Add-ons > Secrets" : "the key symbol on its left side",
            c->token);
}

static void print_kaggle(const connection *c)
{
    print_notebook(c, NOTEBOOK_KAGGLE);
}

static void print_colab(const connection *c)
{
    print_notebook(c, NOTEBOOK_COLAB);
}

/* Not ORG/NAME, which is pulled. */
static bool model_is_folder(void)
{
    return strchr("/.~", model[0]) != NULL || strchr(model, '/') == NULL;
}

/* -v HERE:THERE:ro */
static void put_mount(const char *here, const char *there)
{
    char *path = realpath(here, NULL);
    fputs(" -v ", stdout);
    put_quoted(stdout, path != NULL ? path : here);
    printf(":%s:ro", there);
    free(path);
}

/* The token is passed on by name, so that no command line shows it. */
static void print_docker(const connection *c)
{
    bool on_cpu = strcmp(docker_gpu, "none") == 0;
    const char *name = image != NULL ? image
                       : on_cpu      ? "localhost/gaggle-worker-cpu"
                                     : "localhost/gaggle-worker-cuda";
    bool folder = model_is_folder();
    if (!folder) {
        fputs("docker run --rm -v gaggle-cache:/cache --entrypoint /usr/bin/gaggle ", stdout);
        put_quoted(stdout, name);
        fputs(" pull ", stdout);
        put_quoted(stdout, model);
        putchar('\n');
    }
    printf("GAGGLE_JOIN_TOKEN=%s \\\n  docker run -d --restart unless-stopped --stop-timeout 45"
           " -e GAGGLE_JOIN_TOKEN",
           c->token);
    if (!on_cpu) {
        fputs(" --gpus device=", stdout);
        put_quoted(stdout, docker_gpu);
    }
    fputs(" \\\n ", stdout);
    if (folder)
        put_mount(model, "/model");
    else
        fputs(" -v gaggle-cache:/cache", stdout);
    if (c->ca[0] != '\0') put_mount(ca_path, "/ca.pem");
    fputc(' ', stdout);
    put_quoted(stdout, name);
    fputs(" \\\n ", stdout);
    put_options(stdout, folder ? "/model" : model, c->ca[0] != '\0' ? "/ca.pem" : SYSTEM_CA);
    putchar('\n');
}

/* Through the connection's input come the token and the CA. On the other side a worker for each GPU
 * is started, or one on the CPU, and stays when the connection is gone. */
static void print_ssh(const connection *c)
{
    char *script = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&script, &size);
    CHECK(out != NULL);
    fputs("read -r GAGGLE_JOIN_TOKEN; export GAGGLE_JOIN_TOKEN; ", out);
    if (c->ca[0] != '\0') fputs("cat >\"$HOME/gaggle-ca.pem\"; ", out);
    if (!model_is_folder()) {
        fputs("gaggle pull --if-missing ", out);
        put_quoted(out, model);
        fputs(" </dev/null && ", out);
    }
    fputs("for device in $(gaggle-worker devices 2>/dev/null); do "
          "[ \"$any$device\" = yescpu ] && break; any=yes; "
          "nohup gaggle-worker --device \"$device\"",
          out);
    put_options(out, model, c->ca[0] != '\0' ? "\"$HOME/gaggle-ca.pem\"" : SYSTEM_CA);
    fputs(" >\"gaggle-worker-$device.log\" 2>&1 </dev/null & done", out);
    fclose(out);

    printf("{ echo %s; ", c->token);
    if (c->ca[0] != '\0') {
        fputs("cat ", stdout);
        put_quoted(stdout, ca_path);
        fputs("; ", stdout);
    }
    fputs("} | ssh ", stdout);
    put_quoted(stdout, c->host);
    fputs(" \\\n  ", stdout);
    put_quoted(stdout, script);
    putchar('\n');
    free(script);
}

static void print_modal(const connection *c)
{
    printf("modal secret create --force gaggle-worker GAGGLE_JOIN_TOKEN=%s", c->token);
    if (c->ca[0] != '\0') {
        fputs(" GAGGLE_CA=\"$(cat ", stdout);
        put_quoted(stdout, ca_path);
        fputs(")\"", stdout);
    }
    fputs("\nROUTERS=", stdout);
    put_quoted(stdout, (const char *)c->urls.data);
    fputs(" MODEL=", stdout);
    put_quoted(stdout, model);
    printf(" WORKERS=%u GPU=", worker_count);
    put_quoted(stdout, modal_gpus);
    fputs(" \\\n  modal deploy deploy/modal/app.py\n", stdout);
}

typedef struct place {
    const char *command, *usage, *about;
    const option_row *rows;
    size_t row_count;
    const char *expires;
    bool has_host;
    void (*print)(const connection *c);
} place;

#define PLACE_ROWS(rows) (rows), CLI_COUNT(rows)

static int connect_to(const place *p, int argc, char **argv)
{
    const option_table table = {
        .usage = p->usage, .about = p->about, .rows = p->rows, .row_count = p->row_count};
    error err;
    int rest = 0;
    if (!cli_parse(p->command, &table, argc, argv, p->has_host ? &rest : NULL)) return EXIT_USAGE;
    if (p->has_host && rest != 1) {
        cli_say(p->command, "one HOST is needed");
        return EXIT_USAGE;
    }
    connection c = {.command = p->command, .host = p->has_host ? argv[1] : NULL};
    status st = connection_make(&c, p->expires, &err);
    if (st == ST_OK)
        p->print(&c);
    else
        cli_say(p->command, "%s", err.text);
    connection_free(&c);
    if (st == ST_OK) return EXIT_DONE;
    return st == ST_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

static int connect_kaggle(int argc, char **argv)
{
    static const place kaggle = {
        "connect kaggle",
        "gaggle connect kaggle -r URL -m MODEL -k FILE [options]",
        "Prints a cell for a Kaggle notebook, whose GPUs then work for the router, each with a\n"
        "worker of its own. The join token is made here, and goes into the notebook's secrets.",
        PLACE_ROWS(notebook_rows),
        NOTEBOOK_EXPIRES,
        false,
        print_kaggle,
    };
    return connect_to(&kaggle, argc, argv);
}

static int connect_colab(int argc, char **argv)
{
    static const place colab = {
        "connect colab",
        "gaggle connect colab -r URL -m MODEL -k FILE [options]",
        "Prints a cell for a Colab notebook, whose GPU then works for the router. The join\n"
        "token is made here, and goes into the notebook's secrets.",
        PLACE_ROWS(notebook_rows),
        NOTEBOOK_EXPIRES,
        false,
        print_colab,
    };
    return connect_to(&colab, argc, argv);
}

static int connect_modal(int argc, char **argv)
{
    static const place modal = {
        "connect modal",
        "gaggle connect modal -r URL -m MODEL -k FILE [options]",
        "Prints the commands that start workers on Modal, from a folder of gaggle's source.",
        PLACE_ROWS(modal_rows),
        MACHINE_EXPIRES,
        false,
        print_modal,
    };
    return connect_to(&modal, argc, argv);
}

static int connect_docker(int argc, char **argv)
{
    static const place docker = {
        "connect docker",
        "gaggle connect docker -r URL -m MODEL -k FILE [options]",
        "Prints the commands that start a worker in a container.",
        PLACE_ROWS(docker_rows),
        MACHINE_EXPIRES,
        false,
        print_docker,
    };
    return connect_to(&docker, argc, argv);
}

static int connect_ssh(int argc, char **argv)
{
    static const place ssh = {
        "connect ssh",
        "gaggle connect ssh -r URL -m MODEL -k FILE [options] HOST",
        "Prints the command that starts workers on a machine that has gaggle: one for each\n"
        "GPU, or one on the CPU.",
        PLACE_ROWS(ssh_rows),
        MACHINE_EXPIRES,
        true,
        print_ssh,
    };
    return connect_to(&ssh, argc, argv);
}

int cli_connect(int argc, char **argv)
{
    static const cli_command commands[] = {
        {"kaggle", connect_kaggle, "a notebook's GPUs, on Kaggle"},
        {"colab", connect_colab, "a notebook's GPU, on Colab"},
        {"modal", connect_modal, "workers on Modal"},
        {"docker", connect_docker, "a worker in a container"},
        {"ssh", connect_ssh, "a machine that you log into"},
    };
    return dispatch("gaggle connect", commands, CLI_COUNT(commands),
                    "`gaggle connect PLACE --help` lists a place's options.", argc, argv);
}
