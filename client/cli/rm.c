/* gaggle rm: a model out of this machine's cache. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/pull/cache_list.h"
#include "client/pull/disk.h"
#include "client/pull/pull_lock.h"

static bool yes, unfinished;

static const option_row rows[] = {
    {"yes", 'y', OPTION_FLAG, &yes, NULL, .help = "do not ask"},
    {"unfinished", 0, OPTION_FLAG, &unfinished, NULL,
     .help = "remove only what pulls have left off"},
};

static const option_table table = {
    "gaggle rm ORG/NAME[:REVISION] [options]",
    "Remove a model from the cache, or one of its revisions and what only that one uses.",
    rows,
    CLI_COUNT(rows),
    "The cache is shared: Hugging Face's tools lose the model, too. Who\n"
    "runs it keeps it until it ends.",
};

/* What is to go; NULL for `snapshot`: the whole model. */
typedef struct target {
    const cached_model *model;
    const cached_snapshot *snapshot;
    uint64_t bytes;
} target;

static bool names(const cached_snapshot *s, const char *revision)
{
    if (strcmp(s->commit, revision) == 0) return true;
    size_t size = strlen(revision);
    for (const char *at = s->refs; *at != '\0';) {
        size_t length = strcspn(at, ",");
        if (length == size && memcmp(at, revision, size) == 0) return true;
        at += length + (at[length] == ',');
    }
    /* As `gaggle ls` shows it. */
    return size >= 7 && strncmp(s->commit, revision, size) == 0;
}

static status choose(target *out, const cache_list *list, const model_ref *ref, bool one,
                     error *err)
{
    if (list->count == 0)
        return error_set(err, ST_NOT_FOUND, "%s is not in the cache; gaggle ls shows what is",
                         ref->name);
    const cached_model *m = &list->models[0];
    *out = (target){.model = m, .bytes = unfinished ? m->unfinished : m->size};
    if (!one || unfinished) return ST_OK;
    for (size_t i = 0; i < m->snapshot_count; i++)
        if (names(&m->snapshots[i], ref->revision)) out->snapshot = &m->snapshots[i];
    if (out->snapshot == NULL)
        return error_set(err, ST_NOT_FOUND, "%s:%s is not in the cache; gaggle ls shows what is",
                         ref->name, ref->revision);
    out->bytes = out->snapshot->alone;
    return ST_OK;
}

/* EXIT_DONE: go on. */
static int ask(const target *t, const model_ref *ref)
{
    if (yes) return EXIT_DONE;
    char size[BYTES_TEXT_SIZE];
    bytes_text(size, t->bytes);
    if (!isatty(STDIN_FILENO)) {
        cli_say("rm", "this would free %s; --yes does it", size);
        return EXIT_USAGE;
    }
    fprintf(stderr, "remove %s%s%s%s (%s)? [y/N] ", unfinished ? "the unfinished files of " : "",
            ref->name, t->snapshot != NULL ? ":" : "", t->snapshot != NULL ? ref->revision : "",
            size);
    char line[16] = "";
    if (fgets(line, sizeof line, stdin) == NULL || (line[0] != 'y' && line[0] != 'Y'))
        return EXIT_FAILED;
    return EXIT_DONE;
}

static status remove_it(const target *t, error *err)
{
    if (unfinished) return cached_unfinished_remove(t->model, err);
    bool last = t->snapshot != NULL && t->model->snapshot_count == 1;
    if (t->snapshot == NULL || last) return cached_model_remove(t->model, err);
    return cached_snapshot_remove(t->model, t->snapshot, err);
}

static int run(const char *root, const model_ref *ref, bool one)
{
    error err;
    cache_list list = {0};
    target t;
    int lock = -1, result = EXIT_FAILED;
    /* Once before the lock, which makes a file: what is not there leaves no trace. */
    status st = cache_list_read(&list, root, ref->name, &err);
    if (st == ST_OK) st = choose(&t, &list, ref, one, &err);
    if (st == ST_OK) st = pull_lock_take(&lock, root, ref->name, false, &err);
    if (st == ST_OK) {
        cache_list_free(&list);
        st = cache_list_read(&list, root, ref->name, &err);
    }
    if (st == ST_OK) st = choose(&t, &list, ref, one, &err);
    if (st == ST_OK) {
        result = ask(&t, ref);
        if (result == EXIT_DONE) st = remove_it(&t, &err);
    }
    if (st == ST_OK && result == EXIT_DONE) {
        char size[BYTES_TEXT_SIZE];
        cli_say("rm", "%s freed", bytes_text(size, t.bytes));
    } else if (st != ST_OK) {
        cli_say("rm", "%s", err.text);
        result = EXIT_FAILED;
    }
    cache_list_free(&list);
    if (lock >= 0) close(lock);
    return result;
}

int cli_rm(int argc, char **argv)
{
    int rest;
    if (!cli_parse("rm", &table, argc, argv, &rest)) return EXIT_USAGE;
    error err;
    model_ref ref;
    if (rest != 1 || model_ref_parse(&ref, argv[1], &err) != ST_OK) {
        cli_say("rm", "%s",
                rest == 1 ? err.text : "name one model: ORG/NAME, or ORG/NAME:REVISION");
        return EXIT_USAGE;
    }
    char *root = hub_cache_root();
    int result = run(root, &ref, strchr(argv[1], ':') != NULL);
    mem_free(root);
    return result;
}
