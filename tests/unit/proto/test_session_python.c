/* Goal: a client in another language, on an ordinary PAIR0 socket, holds a whole conversation on
 * all five schemes: Hello, Submit, tokens under a window, a reconnect with Resume, Finish, Bye.
 * Method: python_peer.py over ctypes and, where it is installed, over pynng. Skipped where there is
 * no Python with protobuf, or no protoc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <nng/nng.h>

#include "session_support.h"

enum { TOTAL = 200, WINDOW = 32, BATCH = 8, NOT_INSTALLED = 77 };

static uv_loop_t loop;
static session_hub *hub;
static const char *python;
static char proto_dir[512], script_path[512];

/* -- a worker in one struct ---------------------------------------------------------------- */

typedef struct answer {
    session *out;
    uint32_t next, acked;
    bool finished;
    id128 request_id;
    unsigned submits, resumes;
} answer;

static uint32_t token_at(uint32_t index)
{
    return index * 7 + 1;
}

static void send_tokens(answer *a)
{
    uint32_t token[BATCH], length[BATCH], stream = 1, count = 0;
    while (count < BATCH && a->next + count < TOTAL && a->next + count < a->acked + WINDOW) {
        token[count] = token_at(a->next + count);
        length[count++] = 1;
    }
    if (count == 0) return;
    envelope e = {.kind = ENVELOPE_TOKENS,
                  .tokens = {.stream = &stream,
                             .first_index = &a->next,
                             .count = &count,
                             .groups = 1,
                             .token = token,
                             .text_len = length,
                             .tokens = count,
                             .text = (const uint8_t *)"abcdefgh",
                             .text_size = count}};
    session_send(a->out, &e);
    a->next += count;
}

static void send_finish(answer *a)
{
    uint32_t ids[TOTAL];
    for (uint32_t i = 0; i < TOTAL; i++)
        ids[i] = token_at(i);
    envelope e = {.kind = ENVELOPE_FINISH,
                  .finish = {.stream = 1,
                             .total = TOTAL,
                             .reason = FINISH_LENGTH,
                             .crc = ids_crc32c(0, ids, TOTAL)}};
    session_send(a->out, &e);
    a->finished = true;
}

static void flush(answer *a)
{
    if (a->out == NULL || !session_is_idle(a->out)) return;
    if (a->next < TOTAL)
        send_tokens(a);
    else if (!a->finished)
        send_finish(a);
}

static void take(talker *t, const envelope *e)
{
    answer *a = t->arg;
    envelope accepted = {.kind = ENVELOPE_ACCEPTED, .accepted.stream = 1};
    switch (e->kind) {
    case ENVELOPE_SUBMIT:
        assert_true(text_equal(e->submit.text, text_of("Grüße")));
        assert_int_equal(e->submit.window, WINDOW);
        a->request_id = e->submit.request_id;
        a->out = t->s;
        a->submits++;
        session_send(t->s, &accepted);
        break;
    case ENVELOPE_RESUME:
        assert_true(id128_equal(&a->request_id, e->resume.request_id));
        a->out = t->s;
        a->next = a->acked = e->resume.next_wanted[0];
        a->finished = false;
        a->resumes++;
        accepted.accepted.resumed = true;
        session_send(t->s, &accepted);
        break;
    case ENVELOPE_ACK:
        if (a->out == t->s) a->acked = e->ack.next_wanted[0];
        break;
    default:
        fail_msg("%s", envelope_kind_name(e->kind));
    }
    flush(a);
}

static void idle(talker *t)
{
    flush(t->arg);
}

static void down(talker *t)
{
    answer *a = t->arg;
    if (t->house->talkers == t) a->out = NULL; /* the newest */
}

/* -- the process --------------------------------------------------------------------------------
 */

typedef struct child {
    uv_process_t process;
    unsigned exited;
    int64_t code;
} child;

static void on_child_exit(uv_process_t *process, int64_t code, int signal)
{
    child *c = process->data;
    c->exited = 1;
    c->code = signal != 0 ? 1000 + signal : code;
    uv_close((uv_handle_t *)process, NULL);
}

static int64_t run_peer(const char *backend, scheme s, const char *url)
{
    const link_tls *tls = client_tls(s);
    const char *args[] = {python,
                          script_path,
                          backend,
                          proto_dir,
                          url,
                          tls != NULL ? tls->ca_file : NULL,
                          tls != NULL ? tls->cert_file : NULL,
                          tls != NULL ? tls->key_file : NULL,
                          tls != NULL ? tls->server_name : NULL,
                          NULL};
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = 2},
                                     {.flags = UV_INHERIT_FD, .data.fd = 2}};
    uv_process_options_t options = {.exit_cb = on_child_exit,
                                    .file = python,
                                    .args = (char **)args,
                                    .stdio_count = 3,
                                    .stdio = stdio};
    static child c;
    c = (child){.process.data = &c};
    assert_int_equal(uv_spawn(&loop, &c.process, &options), 0);
    assert_true(run_until_at_least(&loop, &c.exited, 1));
    return c.code;
}

static void converse(const char *backend)
{
    for (scheme s = 0; s < scheme_count(); s++) {
        answer a = {0};
        house h = {.on_envelope = take, .on_idle = idle, .on_down = down, .arg = &a};
        house_open(&h, hub, s, "python");
        test_url url = dial_url(s, "python", session_listener_port(h.listener));
        int64_t code = run_peer(backend, s, url.text);
        if (code == NOT_INSTALLED) {
            print_message("skipped: %s is not installed\n", backend);
            session_listener_close(h.listener);
            house_free(&h);
            skip();
        }
        if (code != 0) fail_msg("%s on %s: exit %d", backend, scheme_names[s], (int)code);
        assert_int_equal(a.submits, 1);
        assert_int_equal(a.resumes, 1);
        assert_true(a.finished);
        assert_true(run_until_at_least(&loop, &h.downs, h.ups));
        session_listener_close(h.listener);
        house_free(&h);
    }
}

static void test_a_python_client_over_ctypes(void **state)
{
    (void)state;
    if (python == NULL) skip();
    converse("ctypes");
}

static void test_a_python_client_over_pynng(void **state)
{
    (void)state;
    if (python == NULL) skip();
    converse("pynng");
}

/* -- finding Python -----------------------------------------------------------------------------
 */

/* Leaves `python` NULL when something is missing. */
static void prepare(void)
{
    const char *source = getenv("GAGGLE_SOURCE_DIR"), *tmp = getenv("GAGGLE_TEST_TMP");
    if (source == NULL || tmp == NULL) {
        print_message("skipped: GAGGLE_SOURCE_DIR and GAGGLE_TEST_TMP are not set\n");
        return;
    }
    snprintf(script_path, sizeof script_path, "%s/tests/unit/proto/python_peer.py", source);
    snprintf(proto_dir, sizeof proto_dir, "%s", tmp);
    char command[2048];
    snprintf(command, sizeof command,
             "protoc --proto_path='%s/proto' --python_out='%s' gaggle.proto 2>/dev/null", source,
             tmp);
    if (system(command) != 0) {
        print_message("skipped: there is no protoc\n");
        return;
    }
    static const char *const candidates[] = {"python3", "/usr/bin/python3"};
    for (size_t i = 0; i < 2 && python == NULL; i++) {
        snprintf(command, sizeof command, "%s -c 'import google.protobuf' 2>/dev/null",
                 candidates[i]);
        if (system(command) == 0) python = candidates[i];
    }
    if (python == NULL) print_message("skipped: there is no Python with protobuf\n");
}

int main(void)
{
    make_certificates();
    prepare();
    hub = open_sessions(&loop);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_python_client_over_ctypes),
        cmocka_unit_test(test_a_python_client_over_pynng),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    close_sessions(&loop, hub);
    nng_fini(); /* so that a leak checker sees what it had left to free */
    return failed;
}
