/* cp.async: copies of a thread that happen when it waits for them; and counted bank conflicts. */
#ifndef EMULATED_ASYNC_COPIES_H
#define EMULATED_ASYNC_COPIES_H

#include "block.h"

namespace emulated {

void copy_later(void *to, const void *from, int bytes, bool is_there, place where);
/* What was asked for since the last commit is a group. */
void commit_copies();
/* Until all but the last n groups of this thread have arrived. */
void wait_for_copies(int n);
/* Of threads that have ended without waiting. */
void drop_copies();

/* rows: [8] addresses of 16 bytes each */
void count_conflicts(const char *const *rows);

} // namespace emulated

#endif
