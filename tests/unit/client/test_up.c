/* Goal: `gaggle up` goes from nothing to an answer with the bundled model, watches over its
 * children, and leaves nothing behind.
 * Method: the real programs; children are killed as the world would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "common/mem.h"
#include "run_program.h"

static char port[16], model[512], url[64];

/* A port that is free, and so is the one 10 above. */
static bool both_free(uint16_t first)
{
    for (uint16_t i = 0; i <= 10; i = (uint16_t)(i + 10)) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)(first + i)),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int failed = bind(s, (struct sockaddr *)&address, sizeof address);
        close(s);
        if (failed) return false;
    }
    return true;
}

static int setup(void **state)
{
    (void)state;
    uint16_t candidate = (uint16_t)(20000 + getpid() % 20000);
    while (!both_free(candidate))
        candidate = (uint16_t)(candidate + 1);
    snprintf(port, sizeof port, "%u", candidate);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", candidate);
    snprintf(model, sizeof model, "%s/models/gosling", getenv("GAGGLE_SOURCE_DIR"));
    return 0;
}

static void assert_says(const char *where, const char *what)
{
    if (strstr(where, what) == NULL) fail_msg("'%s' is not in '%s'", what, where);
}

static void test_oneshot_answers_and_leaves(void **state)
{
    (void)state;
    const char *args[] = {GAGGLE_CLI,  "up", "-m", model,      "--port", port,
                          "--oneshot", "-n", "16", "--device", "cpu",    NULL};
    program p;
    int code = program_run(&p, args, NULL);
    if (code != 0) fail_msg("exit %d: %s", code, program_err(&p));
    assert_true(strlen(program_out(&p)) > 3);
    assert_says(program_err(&p), "model     gosling, context");
    assert_says(program_err(&p), "> What is the capital of France?");
    assert_says(program_err(&p), "tokens, the first after");
}

static void test_children_that_die_come_back_and_sigterm_stops_all(void **state)
{
    (void)state;
    const char *up[] = {GAGGLE_CLI, "up", "-m", model, "--port",    port, "--workers", "2",
                        "--prompt", "Hi", "-n", "4",   "--threads", "1",  NULL};
    const char *ask[] = {GAGGLE_CLI, "complete",     "--router", url,     "-n",
                         "4",        "--offline-ms", "20000",    "Geese", NULL};
    program p, client;
    program_start(&p, up, NULL);
    assert_true(program_says(&p, true, "serving; Ctrl-C stops"));
    pid_t worker = child_of(p.pid, "worker-0"), router = child_of(p.pid, "gaggle-router");
    assert_true(worker > 0 && router > 0);
    assert_int_equal(program_run(&client, ask, NULL), 0);

    kill(worker, SIGKILL);
    assert_true(program_says(&p, true, "worker-0 was ended by signal 9"));
    assert_true(program_says(&p, true, "worker-0 is up"));
    assert_int_equal(program_run(&client, ask, NULL), 0);

    kill(router, SIGKILL);
    assert_true(program_says(&p, true, "router was ended by signal 9"));
    /* The router is back when the client reaches it, and has workers a moment later. */
    while (program_run(&client, ask, NULL) != 0)
        assert_says(program_err(&client), "UNAVAILABLE");

    worker = child_of(p.pid, "worker-1");
    router = child_of(p.pid, "gaggle-router");
    kill(p.pid, SIGTERM);
    assert_int_equal(program_wait(&p), 0);
    assert_true(kill(worker, 0) != 0 && errno == ESRCH);
    assert_true(kill(router, 0) != 0 && errno == ESRCH);
}

/* The name of a worker that runs something; false: none does. */
static bool busy_worker(char name[64])
{
    const char *ps[] = {GAGGLE_CLI, "ps", "--json", "--router", url, NULL};
    program p;
    assert_int_equal(program_run(&p, ps, NULL), 0);
    json_t *report;
    const char *text = program_out(&p);
    assert_int_equal(json_parse(&report, text, strlen(text), "ps", NULL), ST_OK);
    json_t *workers = json_object_get(report, "workers");
    bool found = false;
    for (size_t i = 0; i < json_array_size(workers) && !found; i++) {
        json_t *w = json_array_get(workers, i);
        found = json_integer_value(json_object_get(w, "streams")) > 0;
        if (found) snprintf(name, 64, "%s", json_string_value(json_object_get(w, "worker_id")));
    }
    json_decref(report);
    return found;
}

/* Sampled with a seed, killed in the middle, and not one byte differs. */
static void test_answer_survives_the_death_of_its_worker(void **state)
{
    (void)state;
    const char *up[] = {GAGGLE_CLI,  "up", "-m", model, "--port",   port,  "--workers", "2",
                        "--threads", "1",  "-n", "4",   "--device", "cpu", NULL};
    const char *ask[] = {GAGGLE_CLI,
                         "complete",
                         "--router",
                         url,
                         "-n",
                         "400",
                         "--seed",
                         "5",
                         "-t",
                         "1",
                         "--ignore-eos",
                         "--offline-ms",
                         "30000",
                         "Once upon a time",
                         NULL};
    program p, calm, shaken;
    program_start(&p, up, NULL);
    assert_true(program_says(&p, true, "serving; Ctrl-C stops"));
    assert_int_equal(program_run(&calm, ask, NULL), 0);
    program_start(&shaken, ask, NULL);
    char name[64];
    while (!busy_worker(name)) {
    }
    kill(child_of(p.pid, name), SIGKILL);
    assert_int_equal(program_wait(&shaken), 0);
    char *expected = mem_strdup(program_out(&calm));
    assert_string_equal(program_out(&shaken), expected);
    mem_free(expected);
    kill(p.pid, SIGTERM);
    assert_int_equal(program_wait(&p), 0);
}

static void test_bad_model_is_told_at_once(void **state)
{
    (void)state;
    const char *args[] = {GAGGLE_CLI, "up", "-m", "/nowhere", "--port", port, NULL};
    program p;
    assert_int_equal(program_run(&p, args, NULL), 1);
    assert_says(program_err(&p), "/nowhere");
    assert_says(program_err(&p), "before it was ready");
    assert_string_equal(program_out(&p), "");
}

static void write_script(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s", text);
    assert_int_equal(fchmod(fileno(file), 0755), 0);
    assert_int_equal(fclose(file), 0);
}

/* A router and a worker of our own beside a copy of the program: each says that it is ready when it
 * is told to stop. Nothing may begin then, and everything must end. */
static void test_a_child_that_is_ready_too_late_starts_nothing(void **state)
{
    (void)state;
    /* KILL: a shell that has forked but not become tail yet forgets a TERM. */
    static const char late[] = "trap 'kill -KILL $!; echo \"{\\\"ready\\\": true}\"; exit 0' TERM\n"
                               "tail -f /dev/null &\n"
                               "echo waiting >&2\n"
                               "wait\n";
    static const char at_once[] = "trap 'kill -KILL $!; exit 0' TERM\n"
                                  "tail -f /dev/null &\n"
                                  "echo '{\"ready\": true}'\n"
                                  "wait\n";
    char folder[400], command[1200], program_path[512];
    snprintf(folder, sizeof folder, "%s/late", getenv("GAGGLE_TEST_TMP"));
    snprintf(program_path, sizeof program_path, "%s/gaggle", folder);
    snprintf(command, sizeof command, "mkdir -p '%s' && cp '%s' '%s'", folder, GAGGLE_CLI,
             program_path);
    assert_int_equal(system(command), 0);
    const char *args[] = {program_path, "up", "-m", model, "--port", port, "--device", "cpu", NULL};
    for (int late_worker = 0; late_worker < 2; late_worker++) {
        write_script(folder, "gaggle-router", late_worker ? at_once : late);
        write_script(folder, "gaggle-worker", late);
        program p;
        program_start(&p, args, NULL);
        assert_true(program_says(&p, true, "waiting"));
        kill(p.pid, SIGTERM);
        assert_int_equal(program_wait(&p), 0);
    }
}

/* Killed without a chance to say goodbye, it still takes its children along. */
static void test_killed_supervisor_leaves_no_orphans(void **state)
{
    (void)state;
    const char *args[] = {GAGGLE_CLI, "up", "-m", model, "--port", port, "-n", "2", NULL};
    program p;
    program_start(&p, args, NULL);
    assert_true(program_says(&p, true, "serving; Ctrl-C stops"));
    pid_t worker = child_of(p.pid, "worker-0"), router = child_of(p.pid, "gaggle-router");
    kill(p.pid, SIGKILL);
    assert_int_equal(program_wait(&p), -SIGKILL);
    /* Both drain on the SIGTERM that the kernel sends them. */
    const char *ask[] = {GAGGLE_CLI, "ps", "--router", url, "--offline-ms", "1", NULL};
    program client;
    for (int i = 0; i < 1000 && (kill(worker, 0) == 0 || kill(router, 0) == 0); i++)
        program_run(&client, ask, NULL);
    assert_int_not_equal(kill(worker, 0), 0);
    assert_int_not_equal(kill(router, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oneshot_answers_and_leaves),
        cmocka_unit_test(test_children_that_die_come_back_and_sigterm_stops_all),
        cmocka_unit_test(test_answer_survives_the_death_of_its_worker),
        cmocka_unit_test(test_bad_model_is_told_at_once),
        cmocka_unit_test(test_a_child_that_is_ready_too_late_starts_nothing),
        cmocka_unit_test(test_killed_supervisor_leaves_no_orphans),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
