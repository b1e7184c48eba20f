/* CHECK: what our own code promises itself.
 *
 * On in every build, release included: a process that restarts is kinder than one
 * that guesses. Never for input from outside; that is a status. */
#ifndef GAGGLE_COMMON_CHECK_H
#define GAGGLE_COMMON_CHECK_H

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) check_failed(#condition, __FILE__, __LINE__);       \
    } while (0)

/* A place that our own code never reaches; `why` is a literal. */
#define UNREACHABLE(why) check_failed(why, __FILE__, __LINE__)

/* Writes one line to stderr and aborts. */
void check_failed(const char *condition, const char *file, int line)
    __attribute__((noreturn, cold));

#endif
