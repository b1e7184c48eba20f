/* Goal: no template and no content of a conversation crashes, hangs or outgrows the renderer.
 * Method: the bytes are a template; what follows a line of "----" in them is the content of a
 * message. The rest of the context is fixed and has every type of JSON. */
#include <stdint.h>
#include <string.h>

#include "worker/text/chat_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char fixed_context[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be kind.\"},"
    " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Hi \\u00e9\"}]},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\":"
    " {\"name\": \"f\", \"arguments\": {\"x\": 1, \"y\": [2.5, true, null]}}}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\":"
    " {\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"integer\"}}}}}],"
    " \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\","
    " \"n\": 7, \"f\": -2.5, \"s\": \"a,b <c> \\ud83e\\udd99\", \"l\": [3, 1, 2],"
    " \"d\": {\"b\": 1, \"a\": 2}}";

static json_t *make_context(const char *content, size_t size)
{
    json_t *context = json_loads(fixed_context, 0, NULL);
    json_t *text = json_stringn(content, size); /* NULL when it is not UTF-8 */
    if (text != NULL)
        json_array_append_new(json_object_get(context, "messages"),
                              json_pack("{s:s, s:o}", "role", "user", "content", text));
    return context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char mark[] = "\n----\n";
    const uint8_t *end = memmem(data, size, mark, sizeof mark - 1);
    size_t source_size = end != NULL ? (size_t)(end - data) : size;
    chat_template *t = NULL;
    error err;
    if (chat_template_parse(&t, (const char *)data, source_size, &err) != ST_OK) return 0;
    const char *content = end != NULL ? (const char *)end + sizeof mark - 1 : "";
    json_t *context =
        make_context(content, end != NULL ? size - source_size - (sizeof mark - 1) : 0);
    buffer out = {0};
    status st = chat_template_render(t, context, 1721997296, &out, &err);
    if (st != ST_OK && out.size > 0) __builtin_trap();
    buffer_free(&out);
    json_decref(context);
    chat_template_destroy(t);
    return 0;
}
