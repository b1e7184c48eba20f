/* generate: `gaggle-worker generate`, the engine alone, without a router.
 *
 * Reads requests as lines of JSON (prompt_line.h), runs them all through one engine, and prints
 * one line of JSON for each on stdout, in the order of the input. */
#ifndef GAGGLE_WORKER_GENERATE_H
#define GAGGLE_WORKER_GENERATE_H

/* argv[0] is "generate". Returns the exit status: 0; 1 when a line was refused or the run broke;
 * 2 for wrong flags. */
int worker_generate(int argc, char **argv);

#endif
