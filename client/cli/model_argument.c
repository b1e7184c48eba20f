#include "client/cli/model_argument.h"

#include "client/cli/cli.h"
#include "client/pull/pull.h"

static status pull_it(char **dir, const char *command, const model_ref *ref, error *err)
{
    hub_settings hub;
    status st = hub_settings_read(&hub, err);
    if (st != ST_OK) return st;
    pull_options options = pull_options_default(command);
    interrupt_watch();
    options.stopped = interrupt_taken;
    pull_result result;
    st = pull_model(&result, ref, &hub, &options, err);
    hub_settings_free(&hub);
    *dir = result.dir;
    return st;
}

int model_open(char **dir, const char *command, const char *text)
{
    model_ref ref;
    error err;
    status st = model_find(dir, &ref, text, &err);
    if (st == ST_NOT_FOUND && ref.name[0] != '\0') {
        cli_say(command, "there is no folder %s here; pulling the model of that name", text);
        st = pull_it(dir, command, &ref, &err);
    }
    if (st == ST_OK) return EXIT_DONE;
    cli_say(command, "%s", err.text);
    return st == ST_CANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
}
