#include "pull_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "common/mem.h"

char big[BIG_BYTES], small[SMALL_BYTES];

static const char index_text[] =
    "{\"weight_map\": {\"a\": \"" BIG "\", \"b\": \"" SMALL "\", \"c\": \"" BIG "\"}}";

typedef struct text_file {
    const char *path, *text;
} text_file;

static const text_file needed[] = {
    {"config.json", "{\"model_type\": \"gosling\"}\n"},
    {"generation_config.json", "{}"},
    {"tokenizer.json", "{\"version\": \"1.0\"}"},
    {"tokenizer_config.json", "{\"version\": \"1.0\"}"}, /* the same content: one blob */
    {"chat_template.jinja", "{{ messages }}"},
    {"additional_chat_templates/tool_use.jinja", "{{ tools }}"},
    {INDEX, index_text},
};

static const char *const others[] = {
    "README.md",       ".gitattributes",           "pytorch_model.bin",
    "model.gguf",      "original/params.json",     "vocab.json",
    "onnx/model.onnx", "consolidated.safetensors",
};

enum { NEEDED = sizeof needed / sizeof *needed, OTHERS = sizeof others / sizeof *others };

static void fill(char *bytes, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (char)(seed >> 56);
    }
}

static void remove_tree(const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0) return;
    if (!S_ISDIR(info.st_mode)) {
        unlink(path);
        return;
    }
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char inner[2048];
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        remove_tree(inner);
    }
    if (folder != NULL) closedir(folder);
    rmdir(path);
}

int fixture_start(void **state)
{
    fixture *f = mem_calloc(1, sizeof *f);
    *state = f;
    fill(big, sizeof big, 1);
    fill(small, sizeof small, 2);
    f->hub = hub_start();
    for (size_t i = 0; i < NEEDED; i++)
        hub_put(f->hub, needed[i].path, needed[i].text, strlen(needed[i].text), false);
    for (size_t i = 0; i < OTHERS; i++)
        hub_put(f->hub, others[i], small, 100 + i, i > 2);
    hub_put(f->hub, BIG, big, sizeof big, true);
    hub_put(f->hub, SMALL, small, sizeof small, true);

    snprintf(f->cache, sizeof f->cache, "%s/hub", getenv("GAGGLE_TEST_TMP"));
    remove_tree(f->cache);
    static const char *const foreign[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE",
                                          "HF_HOME",  "XDG_CACHE_HOME",         "GAGGLE_CONFIG"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        unsetenv(foreign[i]);
    setenv("HF_TOKEN_PATH", "/nowhere/token", 1);
    setenv("HF_HUB_CACHE", f->cache, 1);
    setenv("HF_ENDPOINT", hub_url(f->hub), 1);
    setenv("no_proxy", "*", 1);
    return 0;
}

int fixture_stop(void **state)
{
    fixture *f = *state;
    hub_stop(f->hub);
    remove_tree(f->cache);
    mem_free(f);
    return 0;
}

void gaggle_begin(fixture *f, program *p, const char *const *args)
{
    (void)f;
    const char *line[ARGS_MAX + 2] = {GAGGLE_CLI};
    for (size_t i = 0; args[i] != NULL && i < ARGS_MAX; i++)
        line[i + 1] = args[i];
    program_start(p, line, NULL);
}

int gaggle(fixture *f, const char *const *args)
{
    gaggle_begin(f, &f->program, args);
    f->code = program_wait(&f->program);
    return f->code;
}

int pull(fixture *f)
{
    return gaggle(f, (const char *const[]){PULL_ARGS, NULL});
}

void assert_said(const fixture *f, const char *text)
{
    const char *said = program_err(&f->program);
    if (strstr(said, text) == NULL) fail_msg("'%s' is not in:\n%s", text, said);
}

const char *in_model(const fixture *f, const char *name)
{
    static char paths[4][1024];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof *paths, "%s/models--geese--gosling/%s", f->cache, name);
    return path;
}

const char *blob_of(const fixture *f, const char *path)
{
    char name[128];
    snprintf(name, sizeof name, "blobs/%s", hub_etag(f->hub, path));
    return in_model(f, name);
}

void assert_file(const char *path, const void *bytes, size_t size)
{
    char *found;
    size_t found_size;
    error err;
    if (file_read(&found, &found_size, path, 64 << 20, &err) != ST_OK) fail_msg("%s", err.text);
    assert_int_equal(found_size, size);
    assert_memory_equal(found, bytes, size);
    mem_free(found);
}

bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static void assert_linked(const fixture *f, const char *path, const void *bytes, size_t size)
{
    char name[512], expected[256], target[256] = "";
    snprintf(name, sizeof name, "snapshots/" HUB_COMMIT "/%s", path);
    snprintf(expected, sizeof expected, "%s../../blobs/%s", strchr(path, '/') ? "../" : "",
             hub_etag(f->hub, path));
    assert_true(readlink(in_model(f, name), target, sizeof target - 1) > 0);
    assert_string_equal(target, expected);
    assert_file(in_model(f, name), bytes, size);
}

void assert_whole(const fixture *f)
{
    for (size_t i = 0; i < NEEDED; i++)
        assert_linked(f, needed[i].path, needed[i].text, strlen(needed[i].text));
    assert_linked(f, BIG, big, sizeof big);
    assert_linked(f, SMALL, small, sizeof small);
    for (size_t i = 0; i < OTHERS; i++) {
        char name[512];
        snprintf(name, sizeof name, "snapshots/" HUB_COMMIT "/%s", others[i]);
        assert_false(exists(in_model(f, name)));
        assert_false(exists(blob_of(f, others[i])));
    }
    assert_file(in_model(f, "refs/main"), HUB_COMMIT, 40);
    DIR *blobs = opendir(in_model(f, "blobs"));
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(blobs)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        assert_null(strchr(entry->d_name, '.')); /* nothing unfinished */
        count++;
    }
    closedir(blobs);
    assert_int_equal(count, NEEDED - 1 + 2);
}

void assert_pulled(fixture *f)
{
    if (f->code != 0) fail_msg("ended with %d: %s", f->code, program_err(&f->program));
    assert_whole(f);
}

void assert_failed(fixture *f, const char *words)
{
    assert_int_equal(f->code, 1);
    assert_said(f, words);
    assert_false(exists(in_model(f, "refs/main")));
}
