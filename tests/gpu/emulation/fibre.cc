/* Switching stacks: a few instructions on x86-64 and aarch64, ucontext elsewhere. The address sanitizer is told of every switch. */
#include "fibre.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sanitizer.h"

#ifdef EMULATED_WITH_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#define WITH_UCONTEXT 1
#endif

namespace emulated {

struct stack {
    const void *bottom;
    size_t bytes;
    void *fake; /* of the address sanitizer */
#ifdef WITH_UCONTEXT
    ucontext_t context;
#else
    void *pointer;
#endif
};

struct fibre {
    stack own;
    void (*body)(void *);
    void *argument;
};

static stack host;
static fibre *current;

#ifdef EMULATED_WITH_ASAN
static constexpr size_t STACK_BYTES = 256 * 1024;
#else
static constexpr size_t STACK_BYTES = 128 * 1024;
#endif

#if defined(__x86_64__)
extern "C" void emulated_switch(void **save, void *load);
__asm__(".text\n.globl emulated_switch\n.type emulated_switch, @function\n.p2align 4\n"
        "emulated_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n.size emulated_switch, . - emulated_switch\n");
static constexpr int N_SAVED = 7, RETURN_SLOT = 6;
#elif defined(__aarch64__)
extern "C" void emulated_switch(void **save, void *load);
__asm__(".text\n.globl emulated_switch\n.type emulated_switch, %function\n.p2align 4\n"
        "emulated_switch:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp]\n    stp x21, x22, [sp, #16]\n    stp x23, x24, [sp, #32]\n    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n    stp d12, d13, [sp, #128]\n    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n    str x9, [x0]\n    mov sp, x1\n"
        "    ldp x19, x20, [sp]\n    ldp x21, x22, [sp, #16]\n    ldp x23, x24, [sp, #32]\n    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n    ldp d12, d13, [sp, #128]\n    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n    ret\n.size emulated_switch, . - emulated_switch\n");
static constexpr int N_SAVED = 20, RETURN_SLOT = 11;
#endif

static void change(stack *from, stack *to)
{
#ifdef EMULATED_WITH_ASAN
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->bytes);
#endif
#ifdef WITH_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    emulated_switch(&from->pointer, to->pointer);
#endif
#ifdef EMULATED_WITH_ASAN
    __sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
#endif
}

static void begin()
{
#ifdef EMULATED_WITH_ASAN
    __sanitizer_finish_switch_fiber(NULL, &host.bottom, &host.bytes);
#endif
    current->body(current->argument);
    abort();
}

fibre *fibre_make(void (*body)(void *), void *argument)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = (char *)mmap(NULL, page + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
        perror("emulated GPU: no memory for the stacks of threads");
        exit(1);
    }
    fibre *f = new fibre{};
    f->body = body;
    f->argument = argument;
    f->own.bottom = memory + page;
    f->own.bytes = STACK_BYTES;
#ifdef WITH_UCONTEXT
    getcontext(&f->own.context);
    f->own.context.uc_stack.ss_sp = memory + page;
    f->own.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->own.context, begin, 0);
#else
    /* A frame as emulated_switch leaves one, which returns into begin with the stack aligned as after a call. Stacks that began at the same place of
     * their pages would drive each other out of the cache. */
    static size_t n_fibres;
    void **frame = (void **)(memory + page + STACK_BYTES - 64 - 64 * (n_fibres++ % 61)) - N_SAVED;
#if defined(__x86_64__)
    frame = (void **)(((uintptr_t)(frame + N_SAVED) & ~(uintptr_t)15) - 8) - N_SAVED;
#endif
    for (int i = 0; i < N_SAVED; i++) frame[i] = NULL;
    frame[RETURN_SLOT] = (void *)begin;
    f->own.pointer = frame;
#endif
    return f;
}

void fibre_run(fibre *f)
{
    current = f;
    change(&host, &f->own);
    current = NULL;
}

void fibre_yield() { change(&current->own, &host); }

} // namespace emulated
