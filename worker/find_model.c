#include "worker/find_model.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/hub_cache.h"
#include "common/log.h"

enum { NO_SUCH_COMMAND = 127 };

/* In the child; ends with this program. Stdout is this program's data: what is said goes to stderr.
 */
static void become_gaggle(const char *beside, const char *text)
{
    char *const args[] = {"gaggle", "pull", (char *)text, NULL};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    execv(beside, args);
    execvp("gaggle", args);
    _exit(NO_SUCH_COMMAND);
}

/* "" where /proc does not tell. */
static void path_beside(char out[PATH_MAX + 8])
{
    ssize_t size = readlink("/proc/self/exe", out, PATH_MAX);
    out[size > 0 ? size : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash != NULL) memcpy(slash, "/gaggle", sizeof "/gaggle");
}

/* Exit status of `gaggle pull`, or -1. */
static int run_pull(const char *text)
{
    char beside[PATH_MAX + 8];
    path_beside(beside);
    int how = 0;
    pid_t child = fork();
    if (child == 0) become_gaggle(beside, text);
    while (child > 0 && waitpid(child, &how, 0) < 0)
        if (errno != EINTR) return -1;
    return child > 0 && WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

status find_model(char **dir, const char *text, error *err)
{
    model_ref ref;
    status st = model_find(dir, &ref, text, err);
    if (st != ST_NOT_FOUND || ref.name[0] == '\0') return st;
    log_info("model=%s is not here and is pulled", text);
    int code = run_pull(text);
    if (code == 0)
        st = model_find(dir, &ref, text, err);
    else if (code != NO_SUCH_COMMAND)
        st = error_set(err, ST_UNAVAILABLE, "`gaggle pull %s` failed and says why above", text);
    return st;
}
