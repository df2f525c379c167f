#include "async_copies.h"

#include <string.h>
#include <vector>

namespace emulated {

struct copy {
    void *to;
    const void *from;
    int bytes;
    bool is_there;
    long group;
};

struct copies {
    std::vector<copy> pending;
    long group; /* that the next one belongs to */
};

static copies of_thread[1024];
static bool any;
static long n_conflicts;

void copy_later(void *to, const void *from, int bytes, bool is_there, place where)
{
    if ((uintptr_t)to % (unsigned)bytes != 0 || (uintptr_t)from % (unsigned)bytes != 0)
        emulated_defect("cp.async at %s:%d: %p or %p is not aligned to %d bytes", where.file, where.line, to, from, bytes);
    copies &c = of_thread[thread_number()];
    c.pending.push_back({to, from, bytes, is_there, c.group});
    any = true;
}

void commit_copies() { of_thread[thread_number()].group++; }

void wait_for_copies(int n)
{
    copies &c = of_thread[thread_number()];
    size_t kept = 0;
    for (copy &x : c.pending) {
        if (x.group >= c.group - n) c.pending[kept++] = x;
        else if (x.is_there) memcpy(x.to, x.from, (size_t)x.bytes);
        else memset(x.to, 0, (size_t)x.bytes);
    }
    c.pending.resize(kept);
}

void drop_copies()
{
    if (any)
        for (copies &c : of_thread) {
            c.pending.clear();
            c.group = 0;
        }
    any = false;
}

void count_conflicts(const char *const *rows)
{
    for (int i = 0; i < 8; i++) {
        bool conflict = false;
        for (int j = 0; j < i; j++) conflict |= rows[i] != rows[j] && (uintptr_t)rows[i] / 16 % 8 == (uintptr_t)rows[j] / 16 % 8;
        n_conflicts += conflict;
    }
}

} // namespace emulated

extern "C" long emulated_bank_conflicts(void)
{
    long n = emulated::n_conflicts;
    emulated::n_conflicts = 0;
    return n;
}
