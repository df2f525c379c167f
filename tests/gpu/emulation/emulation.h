/*
 * Kernels on the host: what tests use of the emulation beside CUDA's own names.
 *
 * A launch runs the blocks of the grid one after the other; the threads of a block are fibres, which run one at a time, each until it comes
 * to a barrier or an exchange of its warp. Which goes first is drawn anew each time, so a kernel that lacks a barrier reads what is not there
 * yet: shared memory begins as bytes 0xff, which are NaN in every type. Exit status 86 and a message that names kernel, block, thread and line:
 * a barrier or exchange that can never be complete, a lane that is not in its own mask, or more than a GPU has.
 *
 * Environment:
 *     EMULATED_ORDER=N         draws the order of threads and blocks; 0: as they are numbered. 1 if not set.
 */
#ifndef EMULATION_H
#define EMULATION_H

#ifdef __cplusplus
extern "C" {
#endif

enum { EMULATED_DEFECT_STATUS = 86 };

/* Another order of threads from the next launch on. */
void emulated_set_order(unsigned order);
/* Ends the process: "emulated GPU: kernel k, block (x, y, z), thread (x, y, z), file:line: ..." */
void emulated_defect(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#ifdef __cplusplus
}
#endif

#endif
