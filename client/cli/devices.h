/* devices: what a worker could run on here. */
#ifndef GAGGLE_CLIENT_CLI_DEVICES_H
#define GAGGLE_CLIENT_CLI_DEVICES_H

#include <stdint.h>

/* Ask `worker` (the path of gaggle-worker): lines of `gaggle-worker devices` that name a GPU. 0
 * also when it cannot be asked; it says why when it is started. Waits for its answer, some tenths
 * of a second where there is a driver. */
uint32_t devices_count_gpus(const char *worker);

#endif
