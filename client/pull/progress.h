/* progress: how far a pull is, for people: one line that renews itself on a terminal, otherwise a
 * line every 5 s. On stderr. */
#ifndef GAGGLE_PULL_PROGRESS_H
#define GAGGLE_PULL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#define PROGRESS_SAMPLES 16

typedef struct progress {
    const char *command; /* "pull": who says it */
    const char *label;   /* what is fetched */
    bool is_terminal, shown;
    uint64_t total;
    uint64_t begin_ms, said_ms;
    /* About a second apart; the rate is taken over all of them. */
    struct {
        uint64_t at_ms, done;
    } samples[PROGRESS_SAMPLES];
    uint32_t sample_count;
} progress;

void progress_begin(progress *p, const char *command, const char *label, uint64_t done,
                    uint64_t total);
/* `checking`: a file's hash is being taken. As often as you like. */
void progress_show(progress *p, uint64_t done, bool checking);
/* Before anything else is written to the terminal. */
void progress_clear(progress *p);

/* "gaggle pull: sentence", above the line. */
void progress_say(progress *p, const char *sentence);

#endif
