/* Goal: what scripts read of gaggle-router's start can be read, and what neither it nor
 * gaggle-worker can start with is refused in words. Method: the programs themselves. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

enum { LINE = 1024, ARGS = 12 };

/* Start `program` with at most `descriptors` (0: as many as we have) and read the first line that
 * it writes to stdout or stderr. */
static pid_t start(const char *program, const char *const *args, rlim_t descriptors,
                   char line[LINE])
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", getenv("GAGGLE_BIN_DIR"), program);
        const char *argv[ARGS + 2] = {path};
        for (size_t i = 0; args[i] != NULL && i < ARGS; i++)
            argv[i + 1] = args[i];
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        const struct rlimit limit = {descriptors, descriptors};
        if (descriptors > 0) setrlimit(RLIMIT_NOFILE, &limit);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(ends[1]);
    FILE *f = fdopen(ends[0], "r");
    assert_non_null(f);
    if (fgets(line, LINE, f) == NULL) line[0] = '\0';
    for (char rest[LINE]; strstr(line, "\"ready\"") == NULL && fgets(rest, LINE, f) != NULL;)
        continue; /* so that it is not ended by SIGPIPE */
    fclose(f);
    return pid;
}

/* It must end by itself; returns its exit code. */
static int run(const char *program, const char *const *args, rlim_t descriptors, char line[LINE])
{
    int how;
    pid_t pid = start(program, args, descriptors, line);
    if (strstr(line, "\"ready\"") != NULL) kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    if (!WIFEXITED(how)) fail_msg("%s was ended by signal %d: %s", program, WTERMSIG(how), line);
    return WEXITSTATUS(how);
}

static const char *bundled_model(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/models/gosling", getenv("GAGGLE_SOURCE_DIR"));
    return path;
}

static void test_the_ready_line_is_json_whatever_the_url(void **state)
{
    (void)state;
    char url[256], line[LINE];
    snprintf(url, sizeof url, "ipc:///tmp/gaggle \"quoted\" \\ name-%d", (int)getpid());
    pid_t pid = start("gaggle-router",
                      (const char *[]){"--listen", url, "--worker-listen", "tcp://127.0.0.1:0",
                                       "--log-level", "error", NULL},
                      0, line);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    json_error_t why;
    json_t *ready = json_loads(line, 0, &why);
    if (ready == NULL) fail_msg("%s: %s", why.text, line);
    assert_true(json_is_true(json_object_get(ready, "ready")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(ready, "listen"), 0)),
                        url);
    const char *worker =
        json_string_value(json_array_get(json_object_get(ready, "worker_listen"), 0));
    unsigned port = 0;
    assert_int_equal(sscanf(worker, "tcp://127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    json_decref(ready);
}

static void test_a_queue_without_room_is_refused(void **state)
{
    (void)state;
    static const char *const options[] = {"--max-queue-bytes", "--max-queue"};
    for (size_t i = 0; i < 2; i++) {
        char line[LINE];
        const char *const args[] = {"--listen",
                                    "tcp://127.0.0.1:0",
                                    "--worker-listen",
                                    "tcp://127.0.0.1:0",
                                    "--log-level",
                                    "error",
                                    options[i],
                                    "0",
                                    NULL};
        assert_int_equal(run("gaggle-router", args, 0, line), 2);
        assert_non_null(strstr(line, options[i]));
        assert_non_null(strstr(line, "must be 1 to"));
    }
}

static void test_a_name_the_wire_does_not_carry_is_refused(void **state)
{
    (void)state;
    char line[LINE], folder[512];
    static const char *const options[] = {"--served-model-name", "--name"};
    static const char *const names[] = {"caf\xe9", ""};
    for (size_t i = 0; i < 4; i++) {
        const char *const args[] = {"-m", bundled_model(), options[i / 2], names[i % 2], NULL};
        assert_int_equal(run("gaggle-worker", args, 0, line), 2);
        assert_non_null(strstr(line, options[i / 2]));
    }
    /* The folder's name is the model's where none is given. */
    snprintf(folder, sizeof folder, "%s/caf\xe9", getenv("GAGGLE_TEST_TMP"));
    unlink(folder);
    assert_int_equal(symlink(bundled_model(), folder), 0);
    const char *const args[] = {"-m", folder, "--log-level", "error", NULL};
    assert_int_equal(run("gaggle-worker", args, 0, line), 2);
    assert_non_null(strstr(line, "byte 3 is 0xe9"));
}

/* Wherever it stops, it says why and ends; with enough of them, it is the URL that is refused. With
 * fewer than eight libuv itself gives up. */
static void test_too_few_descriptors_end_the_start_in_words(void **state)
{
    (void)state;
    char line[LINE];
    unsigned kinds = 0;
    for (rlim_t descriptors = 8; descriptors < 24; descriptors++) {
        const char *const router[] = {"--listen", "nonsense://x", "--log-level", "error", NULL};
        assert_int_not_equal(run("gaggle-router", router, descriptors, line), 0);
        assert_non_null(strstr(line, "gaggle-router: "));
        const char *const worker[] = {"-m",          bundled_model(), "--router", "nonsense://x",
                                      "--log-level", "error",         NULL};
        assert_int_not_equal(run("gaggle-worker", worker, descriptors, line), 0);
        assert_non_null(strstr(line, "gaggle-worker: "));
        kinds |= strstr(line, "starting nng") != NULL ? 1 : 0;
        kinds |= strstr(line, "nonsense") != NULL ? 2 : 0;
    }
    assert_int_equal(kinds, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_ready_line_is_json_whatever_the_url),
        cmocka_unit_test(test_a_queue_without_room_is_refused),
        cmocka_unit_test(test_a_name_the_wire_does_not_carry_is_refused),
        cmocka_unit_test(test_too_few_descriptors_end_the_start_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
