/*
 * Kernels on the host: what tests use of the emulation beside CUDA's own names.
 *
 * A launch runs the blocks of the grid one after the other; the threads of a block are fibres, which run one at a time, each until it comes
 * to a barrier or an exchange of its warp. Which goes first is drawn anew each time, and warps do not keep pace, so a kernel that lacks a barrier reads what is not there
 * yet: shared memory begins as bytes 0xff, which are NaN in every type. Exit status 86 and a message that names kernel, block, thread and line:
 * a barrier or exchange that can never be complete, a lane that is not in its own mask, or more than a GPU has.
 *
 * Environment:
 *     EMULATED_ORDER=N         draws the order of threads and blocks; 0: as they are numbered. 1 if not set.
 *     EMULATED_LAZY=N          when work is done, see stream.cc: 0, at once (the default); 1: as late as may be; more: at random
 *     EMULATED_GUARD=0         lets the host touch memory of the device (which else ends it by SIGSEGV)
 *     EMULATED_GPUS=N          how many GPUs there are; 1 if not set. CUDA_VISIBLE_DEVICES chooses among them.
 *     EMULATED_MEMORY=BYTES    of a GPU; every process has all of it. EMULATED_PINNED=BYTES: of the host, that a process can pin
 *     EMULATED_CAPABILITY=8.0  compute capability; 9.0 if not set
 *     EMULATED_COMPUTE_MODE=N  as cudaComputeMode
 *     EMULATED_BUSY=1          another process holds the GPU
 *     EMULATED_NO_DRIVER=1     there is no driver; EMULATED_DRIVER=11000: it is of that version
 *     EMULATED_WITHOUT=NAMES   libraries that cannot be opened: cublasLt, cudnn, nccl
 *     EMULATED_CUDNN_VERSION=N of the library, as 91900; EMULATED_CUDNN_WILD=1: no engine of it repeats itself; EMULATED_CUDNN_STUCK=1: it makes no handle
 *     EMULATED_CUDNN_SLICE=BYTES that a slice of attention's gradient may take: what is emulated does not come near what is set otherwise
 *     EMULATED_LT=plain        cuBLASLt does nothing with a product, not even add a bias; =late: its heuristic does not know that
 *     EMULATED_NCCL_VERSION=N  of the library, as 22809
 *     EMULATED_NCCL_DEAF=R     rank R never connects; EMULATED_NCCL_REFUSES=R: it fails to
 *     EMULATED_NCCL_REJECTS=R:K  the K-th ncclSend or ncclRecv of rank R fails at once
 *     EMULATED_NCCL_HANGS=R:K  the K-th collective or group of calls of rank R never ends; EMULATED_NCCL_FAILS=R:K: it fails while under way
 *     EMULATED_FAIL_CAPTURE=K  the K-th capture of a stream is invalid
 *     EMULATED_REQUESTS=FILE   to which is added how many calls have asked the GPU for something: kernels, copies, events, graphs
 *     EMULATED_FAIL_LAUNCH=K   the K-th kernel fails, and everything after it; with EMULATED_FAIL_WITH=214 by that error, else 700
 */
#ifndef EMULATION_H
#define EMULATION_H

#ifdef __cplusplus
extern "C" {
#endif

enum { EMULATED_DEFECT_STATUS = 86 };

/* Another order of threads from the next launch on. */
void emulated_set_order(unsigned order);
/* As EMULATED_LAZY, from the next work on. */
void emulated_set_lazy(long n);
/* Ends the process: "emulated GPU: kernel k, block (x, y, z), thread (x, y, z), file:line: ..." */
void emulated_defect(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#ifdef __cplusplus
}
#endif

#endif
