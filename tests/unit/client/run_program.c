#include "run_program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"

enum { SAYS_MS = 30000, WAIT_MS = 60000, LOOK_MS = 5 };

static void look_later(void)
{
    poll(NULL, 0, LOOK_MS);
}

void program_start(program *p, const char *const *args, const char *input)
{
    const char *folder = getenv("GAGGLE_TEST_TMP");
    if (folder == NULL) folder = "/tmp";
    static unsigned number;
    number++;
    char in_path[256];
    snprintf(in_path, sizeof in_path, "%s/%d.%u.in", folder, (int)getpid(), number);
    snprintf(p->out_path, sizeof p->out_path, "%s/%d.%u.out", folder, (int)getpid(), number);
    snprintf(p->err_path, sizeof p->err_path, "%s/%d.%u.err", folder, (int)getpid(), number);
    FILE *in = fopen(in_path, "wb");
    CHECK(in != NULL);
    if (input != NULL) fputs(input, in);
    fclose(in);

    p->pid = fork();
    CHECK(p->pid >= 0);
    if (p->pid != 0) return;
    int files[3] = {open(in_path, O_RDONLY), open(p->out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600),
                    open(p->err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600)};
    for (int i = 0; i < 3; i++)
        dup2(files[i], i);
    execv(args[0], (char *const *)args);
    _exit(127);
}

static const char *contents(const char *path, char **kept)
{
    mem_free(*kept);
    *kept = NULL;
    size_t size;
    if (file_read(kept, &size, path, 16 << 20, NULL) != ST_OK) *kept = mem_strdup("");
    return *kept;
}

const char *program_out(const program *p)
{
    static char *kept;
    return contents(p->out_path, &kept);
}

const char *program_err(const program *p)
{
    static char *kept;
    return contents(p->err_path, &kept);
}

bool program_says(const program *p, bool on_stderr, const char *text)
{
    uint64_t until_ms = clock_now_ms() + SAYS_MS;
    while (clock_now_ms() < until_ms) {
        if (strstr(on_stderr ? program_err(p) : program_out(p), text) != NULL) return true;
        look_later();
    }
    return false;
}

int program_wait(program *p)
{
    uint64_t until_ms = clock_now_ms() + WAIT_MS;
    int ended;
    while (waitpid(p->pid, &ended, WNOHANG) == 0) {
        if (clock_now_ms() >= until_ms) kill(p->pid, SIGKILL);
        look_later();
    }
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : -WTERMSIG(ended);
}

int program_run(program *p, const char *const *args, const char *input)
{
    program_start(p, args, input);
    return program_wait(p);
}

pid_t child_of(pid_t parent, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *children = fopen(path, "r");
    int pid = 0, found = 0;
    while (children != NULL && found == 0 && fscanf(children, "%d", &pid) == 1) {
        char line[4096] = "";
        snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
        FILE *command = fopen(path, "r");
        if (command == NULL) continue;
        size_t size = fread(line, 1, sizeof line - 1, command);
        fclose(command);
        if (memmem(line, size, name, strlen(name)) != NULL) found = pid;
    }
    if (children != NULL) fclose(children);
    return found;
}
