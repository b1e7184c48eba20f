#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATION_ASAN 1
#endif
#endif
#ifdef EMULATION_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation
{

/* Kernels keep whole tiles in local arrays, and sanitizers pad every one of them. */
static const size_t stack_bytes = 512 * 1024;

#if defined(__x86_64__)

/* Push what a callee must preserve, exchange stacks, pop the same from the other one. */
extern "C" void emulation_switch_stacks(void **save, void *next);
asm(".text\n"
    ".globl emulation_switch_stacks\n"
    ".type emulation_switch_stacks,@function\n"
    "emulation_switch_stacks:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size emulation_switch_stacks,.-emulation_switch_stacks\n");

#endif

void fiber_create(fiber *f, void (*main)())
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = static_cast<char *>(mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
        perror("cuda emulation: stack of a thread");
        abort();
    }
    f->stack_bottom = memory + page;
    f->stack_size = stack_bytes;
#if defined(__x86_64__)
    /* As if `main` had been called: its return address lies 8 below a multiple of 16. */
    void **top = reinterpret_cast<void **>(memory + page + stack_bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(main);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f->stack_pointer = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack_bottom;
    f->context.uc_stack.ss_size = f->stack_size;
    f->context.uc_link = nullptr;
    makecontext(&f->context, main, 0);
#endif
}

void fiber_entered()
{
#ifdef EMULATION_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void fiber_adopt_thread(fiber *f)
{
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        fprintf(stderr, "cuda emulation: pthread_getattr_np failed\n");
        abort();
    }
    pthread_attr_getstack(&attributes, &f->stack_bottom, &f->stack_size);
    pthread_attr_destroy(&attributes);
}

void fiber_switch(fiber *from, fiber *to)
{
#ifdef EMULATION_ASAN
    __sanitizer_start_switch_fiber(&from->sanitizer_stack, to->stack_bottom, to->stack_size);
#endif
#if defined(__x86_64__)
    emulation_switch_stacks(&from->stack_pointer, to->stack_pointer);
#else
    swapcontext(&from->context, &to->context);
#endif
#ifdef EMULATION_ASAN
    __sanitizer_finish_switch_fiber(from->sanitizer_stack, nullptr, nullptr);
#endif
}

} // namespace emulation
