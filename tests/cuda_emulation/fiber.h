/* fiber: stacks that take turns on one OS thread. A fiber runs `main` for ever; it is resumed by
 * fiber_switch() and gives up its turn in the same way. On x86-64 a switch is a dozen instructions;
 * elsewhere it is ucontext. AddressSanitizer is told about every switch. */
#ifndef GAGGLE_TESTS_CUDA_EMULATION_FIBER_H
#define GAGGLE_TESTS_CUDA_EMULATION_FIBER_H

#include <cstddef>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulation
{

struct fiber {
    void *stack_pointer = nullptr;
    void *stack_bottom = nullptr; /* lowest address */
    size_t stack_size = 0;
    void *sanitizer_stack = nullptr;
#if !defined(__x86_64__)
    ucontext_t context;
#endif
};

/* Give `f` a stack of its own with a guard page; its first turn enters `main`, which never returns
 * and calls fiber_entered() first. Stacks live as long as the process. */
void fiber_create(fiber *f, void (*main)());
void fiber_entered();

/* Make `f` describe the OS thread that calls. */
void fiber_adopt_thread(fiber *f);

/* Leave `from`, which must be running, and go on with `to`. */
void fiber_switch(fiber *from, fiber *to);

} // namespace emulation

#endif
