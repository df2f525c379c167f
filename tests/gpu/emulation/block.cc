/* Blocks one after the other; the threads of one as fibres that take turns in a random order. */
#include "block.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fibre.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulated {

enum state { READY, AT_BARRIER, IN_EXCHANGE, DONE };
enum { MAX_THREADS = 1024, MAX_DECLARATIONS = 64, MAX_OPEN = 32 };

struct thread {
    fibre *stack;
    state now;
    uint3 index;
    const char *what; /* it waits for */
    place where;
    int counted;
};

struct warp {
    exchange *open[MAX_OPEN]; /* not complete, or not yet read by all */
    int n_open;
};

struct declaration {
    const void *key;
    void *p;
    size_t bytes;
};

static thread threads[MAX_THREADS];
static warp warps[MAX_THREADS / N_LANES];
static exchange *spare[MAX_THREADS]; /* exchanges to use again */
static int n_spare;
static declaration declarations[MAX_DECLARATIONS];
static int n_declarations;
static void *dynamic_memory;
static int n_threads, running; /* running: -1 between threads */
static int n_done, n_at_barrier, count, last_count;
static const grid *now;
static const kernel_call *body;
static unsigned order = 1;
static bool order_is_set;
static uint64_t random_state;

static uint32_t draw(uint32_t n) /* below n */
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 32) * n >> 32);
}

static unsigned order_of_environment()
{
    if (!order_is_set) {
        const char *text = getenv("EMULATED_ORDER");
        if (text) order = (unsigned)strtoul(text, NULL, 10);
        order_is_set = true;
    }
    return order;
}

static void say_thread(int i)
{
    const uint3 t = threads[i].index;
    fprintf(stderr, "thread (%u, %u, %u)", t.x, t.y, t.z);
}

static void say_place(place where)
{
    const char *name = strrchr(where.file, '/');
    fprintf(stderr, "%s:%d", name ? name + 1 : where.file, where.line);
}

static void say_kernel()
{
    fprintf(stderr, "emulated GPU: ");
    if (now) fprintf(stderr, "kernel %s, block (%u, %u, %u), ", now->name, blockIdx.x, blockIdx.y, blockIdx.z);
}

[[noreturn]] static void end()
{
    fflush(stderr);
    _exit(EMULATED_DEFECT_STATUS);
}

[[noreturn]] static void defect_at(place where, const char *format, ...) __attribute__((format(printf, 2, 3)));
[[noreturn]] static void defect_at(place where, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say_kernel();
    if (running >= 0) say_thread(running), fprintf(stderr, ", ");
    if (where.file) say_place(where), fprintf(stderr, ": ");
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    end();
}

/* Every distinct thing that threads wait for, with the first thread that does. */
[[noreturn]] static void defect_of_waiting()
{
    say_kernel();
    fprintf(stderr, "threads wait for each other forever:");
    for (int i = 0; i < n_threads; i++) {
        bool told = false;
        int n = 0;
        for (int j = 0; j < n_threads; j++) {
            bool same = threads[j].now == threads[i].now && (threads[i].now == DONE || (threads[j].where.line == threads[i].where.line && threads[j].what == threads[i].what));
            if (same && j < i) told = true;
            n += same;
        }
        if (told) continue;
        fprintf(stderr, "\n    %d of %d, the first being ", n, n_threads);
        say_thread(i);
        if (threads[i].now == DONE) fprintf(stderr, ", have returned");
        else fprintf(stderr, ", in %s at ", threads[i].what), say_place(threads[i].where);
    }
    fputc('\n', stderr);
    end();
}

static void thread_body(void *argument)
{
    thread *t = (thread *)argument;
    for (;;) {
        body->run();
        t->now = DONE;
        n_done++;
        fibre_yield();
    }
}

static void wait_as(state why, const char *what, place where)
{
    thread *t = &threads[running];
    t->now = why;
    t->what = what;
    t->where = where;
    fibre_yield();
}

static void open_barrier()
{
    for (int i = 1; i < n_threads; i++)
        if (threads[i].where.line != threads[0].where.line || threads[i].what != threads[0].what) defect_of_waiting();
    for (int i = 0; i < n_threads; i++) threads[i].now = READY;
    last_count = count;
    n_at_barrier = count = 0;
}

static bool is_ready(int warp_number)
{
    for (int i = warp_number * N_LANES; i < n_threads && i < (warp_number + 1) * N_LANES; i++)
        if (threads[i].now == READY) return true;
    return false;
}

/* Gives ready threads a turn; false if there were none. In a random order one warp goes on alone, mostly until it waits for others: warps need not
 * keep pace with each other, so what lacks a barrier is far behind or ahead. */
static bool turn(int *permutation)
{
    static int warp_number;
    bool ran = false;
    int first = 0, end = n_threads;
    if (order) {
        const int n_warps = (n_threads + N_LANES - 1) / N_LANES;
        if (warp_number >= n_warps || draw(64) == 0) warp_number = (int)draw((uint32_t)n_warps);
        for (int k = 0; k < n_warps && !is_ready(warp_number); k++) warp_number = (warp_number + 1) % n_warps;
        first = warp_number * N_LANES;
        if (end > first + N_LANES) end = first + N_LANES;
        for (int i = end - 1; i > first; i--) {
            int j = first + (int)draw((uint32_t)(i - first) + 1), swapped = permutation[i];
            permutation[i] = permutation[j];
            permutation[j] = swapped;
        }
    }
    for (int i = first; i < end; i++) {
        running = permutation[i];
        if (threads[running].now != READY) continue;
        threadIdx = threads[running].index;
        fibre_run(threads[running].stack);
        ran = true;
    }
    running = -1;
    return ran;
}

static void run_block()
{
    static int permutation[MAX_THREADS];
    for (int i = 0; i < n_declarations; i++) memset(declarations[i].p, 0xff, declarations[i].bytes);
    if (now->shared_bytes) memset(dynamic_memory, 0xff, now->shared_bytes);
    for (int i = 0; i < n_threads; i++) {
        threads[i].now = READY;
        permutation[i] = i;
    }
    n_done = n_at_barrier = count = 0;
    while (n_done < n_threads) {
        if (!turn(permutation)) defect_of_waiting();
        if (n_at_barrier == n_threads) open_barrier();
    }
    for (int w = 0; w < (n_threads + N_LANES - 1) / N_LANES; w++)
        if (warps[w].n_open) defect_at(warps[w].open[0]->where, "an exchange was left open");
}

void run_grid(const grid &g, const kernel_call &call)
{
    const dim3 n = g.blocks, t = g.threads;
    const uint64_t n_blocks = (uint64_t)n.x * n.y * n.z;
    now = &g;
    body = &call;
    blockDim = t;
    gridDim = n;
    n_threads = (int)(t.x * t.y * t.z);
    for (int i = 0; i < n_threads; i++) {
        threads[i].index = {(unsigned)i % t.x, (unsigned)i / t.x % t.y, (unsigned)i / (t.x * t.y)};
        if (!threads[i].stack) threads[i].stack = fibre_make(thread_body, &threads[i]);
    }
    if (g.shared_bytes && posix_memalign(&dynamic_memory, 128, g.shared_bytes) != 0) abort();
    random_state = order_of_environment() * 0x9E3779B97F4A7C15u;
    /* Every block once, in a random order: steps of a number that has no factor in common with theirs. */
    uint64_t first = order ? draw((uint32_t)n_blocks) : 0, step = 1;
    if (order)
        for (step = n_blocks > 2 ? n_blocks / 2 + draw((uint32_t)(n_blocks / 2)) : 1;; step++) {
            uint64_t a = step, b = n_blocks;
            while (b) {
                uint64_t rest = a % b;
                a = b;
                b = rest;
            }
            if (a == 1) break;
        }
    for (uint64_t i = 0; i < n_blocks; i++) {
        uint64_t b = (first + i * step) % n_blocks;
        blockIdx = {(unsigned)(b % n.x), (unsigned)(b / n.x % n.y), (unsigned)(b / n.x / n.y)};
        run_block();
    }
    for (int i = 0; i < n_declarations; i++) free(declarations[i].p);
    n_declarations = 0;
    if (g.shared_bytes) free(dynamic_memory);
    now = NULL;
}

int lane() { return running % N_LANES; }

void barrier(const char *what, place where)
{
    n_at_barrier++;
    wait_as(AT_BARRIER, what, where);
}

int barrier_count(const char *what, int n, place where)
{
    count += n;
    barrier(what, where);
    return last_count;
}

static unsigned lanes_of(int warp_number)
{
    int n = n_threads - warp_number * N_LANES;
    return n >= N_LANES ? 0xffffffffu : (1u << n) - 1;
}

exchange *meet(const char *what, unsigned mask, const void *value, size_t bytes, place where)
{
    const int w = running / N_LANES;
    const unsigned bit = 1u << lane();
    if (!(mask & bit)) defect_at(where, "%s: lane %d is not in its own mask %08x", what, lane(), mask);
    if (mask & ~lanes_of(w)) defect_at(where, "%s: the mask %08x names lanes that the block does not have", what, mask);
    exchange *e = NULL;
    for (int i = 0; i < warps[w].n_open && !e; i++) {
        exchange *other = warps[w].open[i];
        if (other->what == what && other->mask == mask && other->where.line == where.line && !(other->arrived & bit)) e = other;
    }
    if (!e) {
        if (warps[w].n_open == MAX_OPEN) defect_of_waiting();
        e = n_spare ? spare[--n_spare] : (exchange *)malloc(sizeof(exchange));
        if (!e) abort();
        e->what = what;
        e->mask = mask;
        e->arrived = e->left = 0;
        e->where = where;
        warps[w].open[warps[w].n_open++] = e;
    }
    e->arrived |= bit;
    if (bytes) memcpy(e->values[lane()], value, bytes);
    if (e->arrived != mask) {
        wait_as(IN_EXCHANGE, what, where);
        return e;
    }
    for (int i = 0; i < N_LANES; i++)
        if (mask & ~bit & 1u << i) threads[w * N_LANES + i].now = READY;
    return e;
}

void leave(exchange *e)
{
    warp *w = &warps[running / N_LANES];
    e->left |= 1u << lane();
    if (e->left != e->mask) return;
    for (int i = 0; i < w->n_open; i++)
        if (w->open[i] == e) w->open[i] = w->open[--w->n_open];
    spare[n_spare++] = e;
}

void *shared(const void *key, size_t bytes, size_t alignment)
{
    for (int i = 0; i < n_declarations; i++)
        if (declarations[i].key == key) return declarations[i].p;
    size_t sum = bytes;
    for (int i = 0; i < n_declarations; i++) sum += declarations[i].bytes;
    if (sum > MOST_WITHOUT_ASKING || sum + now->shared_bytes > (now->asks_for_shared ? most_shared_bytes() : (size_t)MOST_WITHOUT_ASKING))
        defect_at({NULL, 0}, "%zu bytes of shared memory are declared beside %zu of the launch, more than a block has", sum, now->shared_bytes);
    declaration *d = &declarations[n_declarations];
    if (n_declarations++ == MAX_DECLARATIONS) defect_at({NULL, 0}, "more than %d declarations of shared memory", (int)MAX_DECLARATIONS);
    *d = {key, NULL, bytes};
    if (posix_memalign(&d->p, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0) abort();
    memset(d->p, 0xff, bytes);
    return d->p;
}

void *dynamic_shared()
{
    if (!now->shared_bytes) defect_at({NULL, 0}, "uses dynamic shared memory, but was launched with none");
    return dynamic_memory;
}

} // namespace emulated

extern "C" void emulated_set_order(unsigned order)
{
    emulated::order = order;
    emulated::order_is_set = true;
}

extern "C" void emulated_defect(const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    emulated::defect_at({NULL, 0}, "%s", text);
}
