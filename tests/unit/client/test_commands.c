/* Goal: `gaggle complete`, `chat`, `ps` and `tokenize` do what their --help says, with exit status,
 * stdout and stderr each in their place.
 * Method: the real binary against a fake router that knows its answers by heart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "common/json.h"
#include "fake_service.h"
#include "run_program.h"

static fake_service service;

/* Run `gaggle WORDS --router URL`, the words separated by one space each; '+' stands for a space in
 * one. */
static int gaggle_with(program *p, const char *words, const char *input)
{
    static char line[4096];
    const char *args[64] = {GAGGLE_CLI};
    size_t count = 1;
    snprintf(line, sizeof line, "%s", words);
    for (char *word = strtok(line, " "); word != NULL; word = strtok(NULL, " ")) {
        for (char *c = word; *c != '\0'; c++)
            if (*c == '+') *c = ' ';
        args[count++] = word;
    }
    args[count] = NULL;
    setenv("GAGGLE_ROUTER", service.url, 1);
    return program_run(p, args, input);
}

static char *expected_text(uint32_t tokens)
{
    buffer text = {0};
    for (uint32_t i = 0; i < tokens; i++) {
        char piece[16];
        buffer_append(&text, piece, fake_text(i, piece));
    }
    buffer_append(&text, "", 1);
    return (char *)text.data;
}

static json_t *parsed(const program *p)
{
    json_t *json;
    error err;
    const char *text = program_out(p);
    if (json_parse(&json, text, strlen(text), "stdout", &err) != ST_OK)
        fail_msg("%s in '%s'", err.text, text);
    return json;
}

static void assert_says(const char *where, const char *what)
{
    if (strstr(where, what) == NULL) fail_msg("'%s' is not in '%s'", what, where);
}

static void test_complete_prints_the_answer_and_nothing_else(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){.tokens = 300});
    char *text = expected_text(300);
    program p;
    assert_int_equal(gaggle_with(&p, "complete Once upon a time", NULL), 0);
    assert_string_equal(program_out(&p), text);
    assert_string_equal(program_err(&p), "");
    assert_int_equal(gaggle_with(&p, "complete --raw", "a prompt on\nstdin"), 0);
    assert_string_equal(program_out(&p), text);
    assert_int_equal(gaggle_with(&p, "complete --ids 1,2,3", NULL), 0);
    assert_string_equal(program_out(&p), text);
    mem_free(text);
    fake_service_stop(&service);
}

static void test_complete_json_holds_all_there_is(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){.tokens = 40, .logprobs = true});
    program p;
    assert_int_equal(gaggle_with(&p,
                                 "complete --json --logprobs 2 --seed 18446744073709551614 -n 40 "
                                 "--stop the+end --logit-bias 5:-2.5 Once",
                                 NULL),
                     0);
    json_t *json = parsed(&p);
    char *text = expected_text(40);
    assert_string_equal(json_string_value(json_object_get(json, "text")), text);
    assert_string_equal(json_string_value(json_object_get(json, "finish_reason")), "stop");
    assert_string_equal(json_string_value(json_object_get(json, "stop_text")), "the end");
    assert_string_equal(json_string_value(json_object_get(json, "seed")), "18446744073709551614");
    json_t *ids = json_object_get(json, "ids");
    assert_int_equal(json_array_size(ids), 40);
    assert_int_equal(json_integer_value(json_array_get(ids, 39)), fake_token(39));
    assert_true(json_real_value(json_array_get(json_object_get(json, "logprobs"), 7)) == -7.0);
    json_t *top = json_array_get(json_object_get(json, "top_logprobs"), 5);
    assert_int_equal(json_array_size(top), 2);
    json_t *usage = json_object_get(json, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 40);
    assert_int_equal(json_integer_value(json_object_get(usage, "cached_tokens")), 3);
    assert_non_null(json_object_get(json_object_get(json, "timings"), "first_token_ms"));
    json_decref(json);
    mem_free(text);
    fake_service_stop(&service);
}

static void test_complete_takes_messages(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){.tokens = 3});
    char path[256], words[512];
    snprintf(path, sizeof path, "%s/messages.json", getenv("GAGGLE_TEST_TMP"));
    snprintf(words, sizeof words, "complete --messages %s", path);
    FILE *file = fopen(path, "w");
    fputs("[{\"role\": \"user\", \"content\": \"Hi\"}]", file);
    fclose(file);
    program p;
    assert_int_equal(gaggle_with(&p, words, NULL), 0);
    file = fopen(path, "w");
    fputs("[{\"role\": \"user\"}]", file);
    fclose(file);
    assert_int_equal(gaggle_with(&p, words, NULL), 2);
    assert_says(program_err(&p), "message 0 needs");
    fake_service_stop(&service);
}

static void test_interrupt_cancels_the_answer(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){.tokens = 100000, .group = 1});
    const char *args[] = {GAGGLE_CLI, "complete", "--router", service.url, "Once", NULL};
    program p;
    program_start(&p, args, NULL);
    assert_true(program_says(&p, false, " 10"));
    kill(p.pid, SIGINT);
    assert_int_equal(program_wait(&p), 130);
    fake_service_call(&service, fake_call_counts);
    assert_int_equal(service.counts.cancels, 1);
    fake_service_stop(&service);
}

static void test_refusals_go_to_stderr_with_code_and_time(void **state)
{
    (void)state;
    fake_service_start(&service,
                       &(fake_plan){.refuse = ST_RESOURCE_EXHAUSTED, .refusals = UINT32_MAX});
    program p;
    assert_int_equal(gaggle_with(&p, "complete Once", NULL), 1);
    assert_string_equal(program_out(&p), "");
    assert_says(program_err(&p), "RESOURCE_EXHAUSTED: the fake router was told to refuse");
    assert_says(program_err(&p), "try again in 0.0 s");
    assert_int_equal(gaggle_with(&p, "complete --json Once", NULL), 1);
    json_t *json = parsed(&p);
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "error"), "code")),
                        "RESOURCE_EXHAUSTED");
    json_decref(json);
    fake_service_stop(&service);

    assert_int_equal(
        gaggle_with(&p, "complete --router tcp://127.0.0.1:1 --offline-ms 200 Once", NULL), 1);
    assert_says(program_err(&p), "no router: tcp://127.0.0.1:1: ");
    assert_says(program_err(&p), "UNAVAILABLE");
}

static void test_wrong_use_exits_2_with_a_hint(void **state)
{
    (void)state;
    static const struct {
        const char *words, *hint;
    } cases[] = {
        {"cmplete", "did you mean 'complete'?"},
        {"xyzzyxyzzy", "--help lists them"},
        {"complete --tpo-p 1 Once", "did you mean --top-p?"},
        {"complete --top-p 7 Once", "--top-p is 7; it must be 0 to 1"},
        {"complete --ids 1,x", "is not a token id"},
        {"complete --ids 1 Once", "give one of PROMPT, --ids and --messages"},
        {"complete --messages /nowhere.json", "/nowhere.json"},
        {"complete --stop-token-ids x Once", "--stop-token-ids"},
        {"complete --logit-bias 5 Once", "--logit-bias"},
        {"ps extra", "extra"},
        {"tokenize", "-m DIR is needed"},
        {"up", "-m DIR is needed"},
    };
    fake_service_start(&service, &(fake_plan){0});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        program p;
        int code = gaggle_with(&p, cases[i].words, NULL);
        if (code != 2) fail_msg("'%s' ended with %d", cases[i].words, code);
        assert_string_equal(program_out(&p), "");
        assert_says(program_err(&p), cases[i].hint);
    }
    fake_service_stop(&service);
}

static void test_help_fits_a_screen(void **state)
{
    (void)state;
    static const char *const commands[] = {"--help",    "complete --help", "chat --help",
                                           "ps --help", "tokenize --help", "up --help"};
    fake_service_start(&service, &(fake_plan){0});
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        program p;
        assert_int_equal(gaggle_with(&p, commands[i], NULL), 0);
        size_t lines = 0, column = 0;
        for (const char *c = program_out(&p); *c != '\0'; c++) {
            column = *c == '\n' ? 0 : column + 1;
            lines += *c == '\n';
            assert_true(column <= 100);
        }
        assert_in_range(lines, 5, 42);
    }
    fake_service_stop(&service);
}

static void test_ps_shows_the_fleet(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){0});
    program p;
    assert_int_equal(gaggle_with(&p, "ps", NULL), 0);
    assert_says(program_out(&p), "router fake 1, up 1:02:03");
    assert_says(program_out(&p), "fake-model");
    assert_says(program_out(&p), "2+1/8");
    assert_says(program_out(&p), "25%");
    assert_says(program_out(&p), "1.5ms");
    assert_says(program_out(&p), "lost");
    assert_int_equal(gaggle_with(&p, "ps --json", NULL), 0);
    json_t *json = parsed(&p);
    assert_int_equal(json_integer_value(json_object_get(json, "tokens_total")), 5000000000);
    assert_int_equal(json_array_size(json_object_get(json, "workers")), 2);
    json_decref(json);
    fake_service_stop(&service);
}

/* Read from the terminal until `text` has come, behind what was waited for before. */
static void terminal_says(int terminal, const char *text)
{
    static char seen[1 << 20];
    static size_t used, from;
    for (;;) {
        seen[used] = '\0';
        const char *found = strstr(seen + from, text);
        if (found != NULL) {
            from = (size_t)(found - seen) + strlen(text);
            return;
        }
        ssize_t got = read(terminal, seen + used, sizeof seen - 1 - used);
        if (got <= 0) fail_msg("'%s' never came; '%s' did", text, seen + from);
        used += (size_t)got;
    }
}

static void expect_lines_within(const char *text, size_t columns)
{
    for (size_t size; *text != '\0'; text += size + (text[size] == '\n')) {
        size = strcspn(text, "\n");
        if (size > columns) fail_msg("longer than %zu: %.*s", columns, (int)size, text);
    }
}

static void test_top_takes_one_picture(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){0});
    program p;
    assert_int_equal(gaggle_with(&p, "top --once --interval 100ms", NULL), 0);
    assert_says(program_out(&p), "router fake 1, up 1:02:03");
    assert_says(program_out(&p), "2+1/8");
    assert_null(strchr(program_out(&p), '\x1b'));
    expect_lines_within(program_out(&p), 79);
    fake_service_stop(&service);
    assert_int_equal(gaggle_with(&p, "top --once --offline-ms 200", NULL), 1);
}

static void test_top_leaves_the_terminal_as_it_was(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){0});
    int terminal;
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    pid_t pid = forkpty(&terminal, NULL, NULL, &size);
    if (pid < 0) {
        printf("skipped: no pseudo-terminal here\n");
        fake_service_stop(&service);
        skip();
    }
    if (pid == 0) {
        execl(GAGGLE_CLI, GAGGLE_CLI, "top", "-i", "100ms", "--router", service.url, (char *)NULL);
        _exit(127);
    }
    alarm(60);
    terminal_says(terminal, "\x1b[?1049h");
    terminal_says(terminal, "WORKER");
    terminal_says(terminal, "\x1b[J");
    terminal_says(terminal, "WORKER"); /* and once more */
    struct termios modes;
    assert_int_equal(tcgetattr(terminal, &modes), 0);
    assert_true((modes.c_lflag & ECHO) != 0 && (modes.c_lflag & ICANON) != 0);
    assert_int_equal(write(terminal, "\x03", 1), 1);
    terminal_says(terminal, "\x1b[?25h\x1b[?1049l");
    char rest[256];
    while (read(terminal, rest, sizeof rest) > 0) {
    }
    int ended;
    assert_int_equal(waitpid(pid, &ended, 0), pid);
    assert_true(WIFEXITED(ended));
    assert_int_equal(WEXITSTATUS(ended), 130);
    alarm(0);
    close(terminal);
    fake_service_stop(&service);
}

static void test_chat_answers_line_by_line(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){.tokens = 10});
    program p;
    assert_int_equal(gaggle_with(&p, "chat --system Be+brief", "One\n\n/reset\nTwo\n"), 0);
    char *text = expected_text(10), twice[512];
    snprintf(twice, sizeof twice, "%s\n%s\n", text, text);
    assert_string_equal(program_out(&p), twice);
    mem_free(text);
    fake_service_stop(&service);
}

static void test_chat_on_a_terminal_edits_cancels_and_leaves(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){.tokens = 100000, .group = 1});
    int terminal;
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    pid_t pid = forkpty(&terminal, NULL, NULL, &size);
    if (pid < 0) {
        printf("skipped: no pseudo-terminal here\n");
        fake_service_stop(&service);
        skip();
    }
    if (pid == 0) {
        execl(GAGGLE_CLI, GAGGLE_CLI, "chat", "--router", service.url, (char *)NULL);
        _exit(127);
    }
    alarm(60); /* should nothing come for ever */
    terminal_says(terminal, "> ");
    assert_int_equal(write(terminal, "Hx\x7fi\r", 5), 5);
    terminal_says(terminal, "> Hi");
    terminal_says(terminal, " 10");
    assert_int_equal(write(terminal, "\x03", 1), 1); /* stops the answer */
    terminal_says(terminal, "[cancelled after");
    terminal_says(terminal, "> ");
    assert_int_equal(write(terminal, "abc\x03\x04", 5), 5); /* empties the line, then leaves */
    int ended;
    char rest[256];
    while (read(terminal, rest, sizeof rest) > 0) {
    }
    assert_int_equal(waitpid(pid, &ended, 0), pid);
    assert_true(WIFEXITED(ended));
    assert_int_equal(WEXITSTATUS(ended), 0);
    alarm(0);
    close(terminal);
    fake_service_call(&service, fake_call_counts);
    assert_int_equal(service.counts.cancels, 1);
    fake_service_stop(&service);
}

static void test_tokenize_goes_there_and_back(void **state)
{
    (void)state;
    fake_service_start(&service, &(fake_plan){0});
    char words[512];
    const char *source = getenv("GAGGLE_SOURCE_DIR");
    snprintf(words, sizeof words, "tokenize -m %s/models/gosling --no-special", source);
    program p;
    assert_int_equal(
        gaggle_with(&p, words, "{\"text\": \"What is <|bos|>?\"}\n\n{\"text\": \"\"}\n"), 0);
    char *lines = mem_strdup(program_out(&p));
    assert_says(lines, "{\"ids\":[");
    assert_says(lines, "\n{\"ids\":[]}\n");
    snprintf(words, sizeof words, "tokenize -m %s/models/gosling --decode", source);
    assert_int_equal(gaggle_with(&p, words, lines), 0);
    assert_string_equal(program_out(&p), "{\"text\":\"What is <|bos|>?\"}\n{\"text\":\"\"}\n");
    mem_free(lines);

    assert_int_equal(gaggle_with(&p, words, "{\"ids\": []}\n{\"ids\": [99999999]}\n"), 1);
    assert_says(program_err(&p), "line 2: \"ids\"[0] is not a token id");
    assert_int_equal(gaggle_with(&p, words, "{\"text\": 1}\n"), 1);
    snprintf(words, sizeof words, "tokenize -m %s/models/gosling", source);
    assert_int_equal(gaggle_with(&p, words, "{\"ids\": 1}\n"), 1);
    assert_says(program_err(&p), "line 1: \"text\" must be there");
    assert_int_equal(gaggle_with(&p, words, "no json\n"), 1);
    assert_int_equal(gaggle_with(&p, "tokenize -m /nowhere", NULL), 1);
    fake_service_stop(&service);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete_prints_the_answer_and_nothing_else),
        cmocka_unit_test(test_complete_json_holds_all_there_is),
        cmocka_unit_test(test_complete_takes_messages),
        cmocka_unit_test(test_interrupt_cancels_the_answer),
        cmocka_unit_test(test_refusals_go_to_stderr_with_code_and_time),
        cmocka_unit_test(test_wrong_use_exits_2_with_a_hint),
        cmocka_unit_test(test_help_fits_a_screen),
        cmocka_unit_test(test_ps_shows_the_fleet),
        cmocka_unit_test(test_top_takes_one_picture),
        cmocka_unit_test(test_top_leaves_the_terminal_as_it_was),
        cmocka_unit_test(test_chat_answers_line_by_line),
        cmocka_unit_test(test_chat_on_a_terminal_edits_cancels_and_leaves),
        cmocka_unit_test(test_tokenize_goes_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
