/* host_facts: what the kernel says of this machine.
 *
 * The parsers are pure: the text of a file of /proc or /sys in, facts out, and any text is fine.
 * The readers take the folder that is the root: "" for this machine's, another one in tests. */
#ifndef GAGGLE_DOCTOR_HOST_FACTS_H
#define GAGGLE_DOCTOR_HOST_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- texts -------------------------------------------------------------------------------- */

/* /proc/driver/nvidia/version: "580.65.06". */
bool driver_version_parse(char out[32], const char *text);

typedef struct memory_facts {
    uint64_t total, available; /* bytes */
    uint64_t limit;            /* of the container; 0 = none below total */
} memory_facts;

/* /proc/meminfo; false: it has not both. */
bool memory_parse(memory_facts *out, const char *text);

typedef struct cpu_facts {
    char name[64];          /* "" = not said */
    bool x86, avx2, avx512; /* what the CPU backend asks for: with FMA and F16C; F, VL, BW, DQ */
} cpu_facts;

/* /proc/cpuinfo. */
void cpu_parse(cpu_facts *out, const char *text);
/* Which of its kernels the CPU backend takes, as worker/cpu/kernels calls them. */
const char *cpu_kernels_name(const cpu_facts *cpu);

/* cpu.max of a control group, in hundredths of a CPU; 0 = no limit. */
uint32_t cpu_quota_parse(const char *text);

/* /proc/net/tcp or tcp6: the inode of the socket that listens on `port`. */
bool listener_inode(uint64_t *inode, const char *text, uint16_t port);

/* -- this machine -------------------------------------------------------------------------- */

/* The beginning of a file, at most 1 MiB of it; NULL: it cannot be read. mem_free(). */
char *host_read(const char *root, const char *path);
bool host_has(const char *root, const char *path);

bool host_memory(memory_facts *out, const char *root);
uint32_t host_cpu_quota(const char *root);

/* Display controllers and accelerators of NVIDIA on the PCI bus. */
uint32_t host_nvidia_cards(const char *root);

typedef struct port_holder {
    uint64_t pid; /* 0: somebody else's, who cannot be seen */
    char name[32];
} port_holder;

/* Who listens on a TCP port; false: nobody that /proc shows. */
bool host_port_holder(port_holder *out, const char *root, uint16_t port);

#endif
