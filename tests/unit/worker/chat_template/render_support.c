#include "render_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

rendered render_bytes(const char *source, size_t size, const json_t *context)
{
    rendered r = {.code = ST_OK};
    chat_template *t = NULL;
    r.parsed = chat_template_parse(&t, source, size, &r.err);
    if (r.parsed == ST_OK) r.code = chat_template_render(t, context, RENDER_NOW, &r.text, &r.err);
    chat_template_destroy(t);
    buffer_append(&r.text, "", 1);
    r.text.size--;
    return r;
}

rendered render_text(const char *source, const char *context)
{
    json_error_t why;
    json_t *parsed = json_loads(context, 0, &why);
    assert_non_null(parsed);
    rendered r = render_bytes(source, strlen(source), parsed);
    json_decref(parsed);
    return r;
}

void rendered_free(rendered *r)
{
    buffer_free(&r->text);
}

static bool passes(const render_case *c, const rendered *r)
{
    bool refused = r->parsed != ST_OK || r->code != ST_OK;
    if (c->expected == NULL) return refused && r->err.text[0] != '\0' && r->text.size == 0;
    return !refused && strcmp((const char *)r->text.data, c->expected) == 0;
}

void render_cases(const render_case *cases, size_t count, const char *context)
{
    size_t failed = 0;
    for (size_t i = 0; i < count; i++) {
        rendered r = render_text(cases[i].source, context);
        if (!passes(&cases[i], &r)) {
            failed++;
            print_error("template: %s\nexpected: %s\nfound:    %s%s%s\n", cases[i].source,
                        cases[i].expected != NULL ? cases[i].expected : "(a refusal)",
                        (const char *)r.text.data, r.err.text[0] != '\0' ? " refused: " : "",
                        r.err.text);
        }
        rendered_free(&r);
    }
    assert_int_equal(failed, 0);
}
