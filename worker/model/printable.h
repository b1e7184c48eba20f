/* printable: foreign text made fit to stand in an error sentence or a log line. Any thread. */
#ifndef GAGGLE_WORKER_MODEL_PRINTABLE_H
#define GAGGLE_WORKER_MODEL_PRINTABLE_H

#define PRINTABLE_SIZE 96

/* Copy `text` to `out`, what is not printable ASCII as '?', an overlong rest as "...". Returns
 * `out`, so that it can stand among a sentence's arguments. */
const char *printable(char out[PRINTABLE_SIZE], const char *text);

#endif
