/* memory: how much this process may still take, and large zeroed memory that costs nothing until
 * it is touched. Any thread. */
#ifndef GAGGLE_WORKER_CPU_MEMORY_H
#define GAGGLE_WORKER_CPU_MEMORY_H

#include <stdint.h>

/* Bytes: the system's MemAvailable, or what the cgroup leaves when that is less. 0 = unknown. */
uint64_t memory_available(void);

/* Zeroed, page-aligned, backed by huge pages where the system has them; NULL when the address
 * space or the commit limit refuses. size >= 1. */
void *memory_reserve(uint64_t size);
void memory_release(void *pointer, uint64_t size); /* NULL is fine */

#endif
