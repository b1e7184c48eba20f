/* gaggle chat: a conversation. The whole of it is sent each time; the router's prefix cache makes
 * that cheap. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/line_editor.h"
#include "common/limits.h"

static connect_options link_options = CONNECT_DEFAULTS;
static request_options options = REQUEST_DEFAULTS;
static const char *system_text;

static const option_row rows[] = {
    {"system", 0, OPTION_TEXT, &system_text, "TEXT", .help = "system message"},
    REQUEST_ROWS(options),
    CONNECT_ROWS(link_options),
};

static const option_table table = {
    "gaggle chat [options]",
    "Talk to a model. Ctrl-C stops an answer, Ctrl-D leaves; /reset forgets what was said.",
    rows,
    CLI_COUNT(rows),
    NULL,
};

/* What was said, in turn. Strings are owned. */
typedef struct conversation {
    gaggle_message messages[LIMIT_MESSAGES];
    size_t count;
} conversation;

static void talk_add(conversation *t, const char *role, const char *content, size_t size)
{
    t->messages[t->count++] = (gaggle_message){role, mem_strndup(content, size)};
}

static void talk_drop_last(conversation *t)
{
    mem_free((void *)t->messages[--t->count].content);
}

static void talk_reset(conversation *t)
{
    while (t->count > 0)
        talk_drop_last(t);
    if (system_text != NULL) talk_add(t, "system", system_text, strlen(system_text));
}

/* Print the answer as it comes and append it to the talk. A question that was refused is taken
 * back, so that the next one has a chance. */
static int answer_question(conversation *t, gaggle_client *client, gaggle_request *request)
{
    request->messages = t->messages;
    request->message_count = t->count;
    gaggle_stream *stream;
    gaggle_error err;
    if (gaggle_submit(&stream, client, request, &err) != GAGGLE_OK) {
        talk_drop_last(t);
        return cli_fail("chat", &err);
    }
    buffer text = {0};
    gaggle_event event;
    interrupt_reset();
    for (;;) {
        answer_next(stream, &event);
        if (event.type == GAGGLE_FINISH) break;
        buffer_append(&text, event.text, event.text_size);
        fwrite(event.text, 1, event.text_size, stdout);
        fflush(stdout);
    }
    putchar('\n');
    fflush(stdout);
    int result = EXIT_DONE;
    if (event.reason == GAGGLE_FINISH_FAILED) {
        talk_drop_last(t);
        result = cli_fail("chat", event.error);
    } else {
        talk_add(t, "assistant", (const char *)text.data, text.size);
        if (event.reason != GAGGLE_FINISH_STOP)
            cli_say("chat", "[%s after %u tokens]", gaggle_finish_reason_name(event.reason),
                    event.total_tokens);
    }
    buffer_free(&text);
    gaggle_stream_close(stream);
    return result;
}

static void greet(gaggle_client *client)
{
    enum { GREETING_MS = 3000 };
    gaggle_report *report;
    gaggle_error err;
    if (gaggle_query_wait(&report, client, GREETING_MS, &err) != GAGGLE_OK) {
        cli_fail("chat", &err); /* the first question may still find the router */
        return;
    }
    const char *model = "no model yet";
    for (size_t i = report->worker_count; i-- > 0;)
        if (report->workers[i].model_count > 0) model = report->workers[i].models[0].name;
    fprintf(stderr, "%s. Ctrl-C stops an answer, Ctrl-D leaves, /reset begins anew.\n",
            options.model != NULL ? options.model : model);
    gaggle_report_free(report);
}

int cli_chat(int argc, char **argv)
{
    if (!cli_parse("chat", &table, argc, argv, NULL)) return EXIT_USAGE;
    gaggle_request request;
    if (!request_fill(&request, &options, "chat")) return EXIT_USAGE;
    gaggle_client *client = connect_client("chat", &link_options);
    if (client == NULL) return EXIT_FAILED;
    interrupt_watch();
    if (isatty(STDIN_FILENO)) greet(client);

    static conversation talk;
    talk_reset(&talk);
    line_editor editor = {0};
    int result = EXIT_DONE;
    char *line = NULL;
    for (line_result got; (got = line_read(&editor, "> ", &line)) != LINE_END;) {
        if (got == LINE_INTERRUPTED) continue;
        if (strcmp(line, "/reset") == 0) {
            talk_reset(&talk);
        } else if (talk.count + 2 > LIMIT_MESSAGES) {
            cli_say("chat", "%u messages were exchanged, no more are allowed; /reset begins anew",
                    LIMIT_MESSAGES);
        } else if (line[0] != '\0') {
            talk_add(&talk, "user", line, strlen(line));
            result = answer_question(&talk, client, &request);
        }
        mem_free(line);
    }
    line_editor_free(&editor);
    while (talk.count > 0)
        talk_drop_last(&talk);
    gaggle_client_destroy(client);
    return result;
}
