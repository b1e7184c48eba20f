/* gaggle tokenize: JSON lines through a model's tokenizer, in either direction. */
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/model_argument.h"
#include "common/json.h"
#include "common/limits.h"
#include "worker/text/tokenizer.h"

static const char *model;
static bool special = true, decode, skip_special;

static const option_row rows[] = {
    {"model", 'm', OPTION_TEXT, &model, "MODEL",
     .help = "folder with tokenizer.json, or ORG/NAME, pulled when missing"},
    {"special", 0, OPTION_FLAG, &special, NULL,
     .help = "add and recognise special tokens [yes]; --no-special: neither"},
    {"decode", 0, OPTION_FLAG, &decode, NULL, .help = "ids to text"},
    {"skip-special", 0, OPTION_FLAG, &skip_special, NULL,
     .help = "leave special tokens out of the text"},
};

static const option_table table = {
    "gaggle tokenize -m DIR [options] < LINES",
    "Reads {\"text\": ...} lines and writes {\"ids\": [...]} lines; with --decode the other way "
    "round.\n\"text_pair\" beside \"text\" makes a pair.",
    rows,
    CLI_COUNT(rows),
    NULL,
};

static json_t *encode_line(const tokenizer *t, const json_t *line, error *err)
{
    const json_t *text = json_object_get(line, "text");
    const json_t *pair = json_object_get(line, "text_pair");
    if (!json_is_string(text) || (pair != NULL && !json_is_string(pair))) {
        error_set(err, ST_INVALID_ARGUMENT, "\"text\" must be there and be a string%s",
                  pair != NULL ? ", and \"text_pair\" a string" : "");
        return NULL;
    }
    unsigned flags = special ? TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL : 0;
    token_list ids = {0};
    if (pair != NULL)
        tokenizer_encode_pair(t, json_string_value(text), json_string_length(text),
                              json_string_value(pair), json_string_length(pair), flags, &ids);
    else
        tokenizer_encode(t, json_string_value(text), json_string_length(text), flags, &ids);
    json_t *array = json_array();
    for (size_t i = 0; i < ids.count; i++)
        json_array_append_new(array, json_integer(ids.ids[i]));
    token_list_free(&ids);
    return json_pack("{s:o}", "ids", array);
}

static json_t *decode_line(const tokenizer *t, const json_t *line, error *err)
{
    const json_t *array = json_object_get(line, "ids");
    if (!json_is_array(array)) {
        error_set(err, ST_INVALID_ARGUMENT, "\"ids\" must be there and be an array");
        return NULL;
    }
    token_list ids = {0};
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *id = json_array_get(array, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= (json_int_t)tokenizer_vocab_size(t)) {
            error_set(err, ST_INVALID_ARGUMENT, "\"ids\"[%zu] is not a token id, 0 to %u", i,
                      tokenizer_vocab_size(t) - 1);
            token_list_free(&ids);
            return NULL;
        }
        token_list_push(&ids, (uint32_t)json_integer_value(id));
    }
    size_t size;
    char *text = tokenizer_decode(t, ids.ids, ids.count, skip_special, &size);
    token_list_free(&ids);
    json_t *out = json_pack("{s:o}", "text", json_text(text, size));
    mem_free(text);
    return out;
}

static bool line_run(const tokenizer *t, const char *bytes, size_t size, error *err)
{
    json_t *line, *out = NULL;
    if (json_parse(&line, bytes, size, "the line", err) == ST_OK) {
        out = decode ? decode_line(t, line, err) : encode_line(t, line, err);
        json_decref(line);
    }
    if (out == NULL) return false;
    json_dumpf(out, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(out);
    return true;
}

int cli_tokenize(int argc, char **argv)
{
    if (!cli_parse("tokenize", &table, argc, argv, NULL)) return EXIT_USAGE;
    if (model == NULL) {
        cli_say("tokenize", "-m DIR is needed: the folder with tokenizer.json");
        return EXIT_USAGE;
    }
    error err;
    tokenizer *t;
    char *dir;
    int opened = model_open(&dir, "tokenize", model);
    if (opened != EXIT_DONE) return opened;
    status st = tokenizer_load(&t, dir, &err);
    mem_free(dir);
    if (st != ST_OK) {
        cli_say("tokenize", "%s", err.text);
        return EXIT_FAILED;
    }
    int result = EXIT_DONE;
    char *line = NULL;
    size_t capacity = 0, number = 0;
    for (ssize_t size; result == EXIT_DONE && (size = getline(&line, &capacity, stdin)) >= 0;) {
        number++;
        if (strspn(line, " \t\r\n") == (size_t)size) continue;
        if (!line_run(t, line, (size_t)size, &err)) {
            cli_say("tokenize", "line %zu: %s", number, err.text);
            result = EXIT_FAILED;
        }
    }
    free(line);
    tokenizer_destroy(t);
    return result;
}
