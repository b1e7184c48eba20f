/* find_model: the folder of what --model names. A worker asks no network: a model that is not here
 * is pulled by the `gaggle` command, where that is installed. */
#ifndef GAGGLE_WORKER_FIND_MODEL_H
#define GAGGLE_WORKER_FIND_MODEL_H

#include "common/status.h"

/* mem_free(*dir). `gaggle` is looked for beside this program, then in PATH; what it says goes to
 * stderr, and this waits until it is done. Errors: model_find()'s where there is no such command;
 * ST_UNAVAILABLE when the pull failed. It forks, and the child becomes the command at once, so that
 * a driver's threads do not matter. */
MUST_USE status find_model(char **dir, const char *text, error *err);

#endif
