/* model_argument: what a person names as a model becomes a folder, pulled when it is not here. */
#ifndef GAGGLE_CLIENT_MODEL_ARGUMENT_H
#define GAGGLE_CLIENT_MODEL_ARGUMENT_H

/* EXIT_DONE: *dir is the folder; mem_free(). Otherwise the exit status of `command`, which has said
 * why. Ctrl-C ends a pull. */
int model_open(char **dir, const char *command, const char *text);

#endif
