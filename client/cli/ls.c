/* gaggle ls: the models in this machine's cache. */
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/fleet_text.h"
#include "client/pull/cache_list.h"
#include "client/pull/disk.h"

static bool as_json;

static const option_row rows[] = {
    {"json", 0, OPTION_FLAG, &as_json, NULL, .help = "a JSON list instead of a table"},
};

static const option_table table = {
    "gaggle ls [options]",
    "The models in the cache, and what those lack that cannot be served.",
    rows,
    CLI_COUNT(rows),
    "Hugging Face's tools share the cache. It is HF_HUB_CACHE, or HF_HOME/hub, or\n"
    "~/.cache/huggingface/hub.",
};

static void print_json(const cache_list *list)
{
    json_t *all = json_array();
    for (size_t i = 0; i < list->count; i++) {
        const cached_model *m = &list->models[i];
        json_t *snapshots = json_array();
        for (size_t k = 0; k < m->snapshot_count; k++) {
            const cached_snapshot *s = &m->snapshots[k];
            json_t *item = json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:b}", "commit", s->commit,
                                     "refs", s->refs, "dir", json_text(s->dir, strlen(s->dir)),
                                     "bytes", (json_int_t)s->size, "files", (json_int_t)s->files,
                                     "changed", (json_int_t)s->changed, "whole", s->whole);
            if (!s->whole)
                json_object_set_new(item, "lacks", json_text(s->missing, strlen(s->missing)));
            json_array_append_new(snapshots, item);
        }
        json_array_append_new(all,
                              json_pack("{s:s, s:I, s:I, s:o}", "name", m->name, "bytes_on_disk",
                                        (json_int_t)m->size, "unfinished_bytes",
                                        (json_int_t)m->unfinished, "snapshots", snapshots));
    }
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

static void print_cell(const char *text, size_t width)
{
    buffer cell = {0};
    fleet_name(&cell, text, width);
    printf("%.*s  ", (int)cell.size, (const char *)cell.data);
    buffer_free(&cell);
}

static void print_row(const cached_model *m, const cached_snapshot *s, size_t name_width)
{
    char size[BYTES_TEXT_SIZE], when[32] = "-", revision[13];
    print_cell(m->name, name_width);
    if (s == NULL) {
        printf("%-12s  %9s  %-16s  unfinished\n", "-", bytes_text(size, m->unfinished), when);
        return;
    }
    struct tm local;
    localtime_r(&s->changed, &local);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
    snprintf(revision, sizeof revision, "%.12s", s->commit);
    print_cell(s->refs[0] != '\0' ? s->refs : revision, 12);
    printf("%9s  %-16s  ", bytes_text(size, s->size), when);
    if (s->whole)
        puts("whole");
    else
        printf("%s\n", s->missing);
}

static void print_table(const cache_list *list, const char *root)
{
    if (list->count == 0) {
        cli_say("ls", "no models in %s; gaggle pull ORG/NAME fetches one", root);
        return;
    }
    size_t width = 5;
    for (size_t i = 0; i < list->count; i++)
        if (strlen(list->models[i].name) > width) width = strlen(list->models[i].name);
    if (width > 48) width = 48;
    printf("%-*s  %-12s  %9s  %-16s  %s\n", (int)width, "MODEL", "REVISION", "SIZE", "CHANGED",
           "STATE");
    for (size_t i = 0; i < list->count; i++) {
        const cached_model *m = &list->models[i];
        for (size_t k = 0; k < m->snapshot_count; k++)
            print_row(m, &m->snapshots[k], width);
        if (m->unfinished > 0) print_row(m, NULL, width);
    }
}

int cli_ls(int argc, char **argv)
{
    if (!cli_parse("ls", &table, argc, argv, NULL)) return EXIT_USAGE;
    char *root = hub_cache_root();
    cache_list list;
    error err;
    int result = EXIT_DONE;
    if (cache_list_read(&list, root, NULL, &err) != ST_OK) {
        cli_say("ls", "%s", err.text);
        result = EXIT_FAILED;
    } else if (as_json) {
        print_json(&list);
    } else {
        print_table(&list, root);
    }
    cache_list_free(&list);
    mem_free(root);
    return result;
}
