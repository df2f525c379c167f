/* NCCL, for src/comm/nccl_* only: the library, one communicator with its stream, and what is under way on it. */
#ifndef SGC_COMM_NCCL_IMPL_H
#define SGC_COMM_NCCL_IMPL_H

#include <nccl.h>
#include <pthread.h>

#include "comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is used of it: ncclNAME. */
#define SGC_NCCL_FUNCTIONS(F) \
    F(GetVersion) F(GetUniqueId) F(GetErrorString) F(GetLastError) \
    F(CommInitRankConfig) F(CommFinalize) F(CommDestroy) F(CommAbort) F(CommGetAsyncError) \
    F(AllGather) F(Broadcast) F(Send) F(Recv) F(GroupStart) F(GroupEnd)
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 19, 0)
#define SGC_NCCL_OPTIONAL_FUNCTIONS(F) F(CommRegister) F(CommDeregister) /* may be NULL: the library may be older than the header */
#else
#define SGC_NCCL_OPTIONAL_FUNCTIONS(F)
#endif

typedef struct sgc_nccl_library {
#define F(name) __typeof__(&nccl##name) name;
    SGC_NCCL_FUNCTIONS(F)
    SGC_NCCL_OPTIONAL_FUNCTIONS(F)
#undef F
    int version;
} sgc_nccl_library;

/* The library is opened once and stays. SGC_EDEVICE: it is not there, too old, or lacks a function; the message says what to do. */
sgc_status sgc_nccl_open(const sgc_nccl_library **library);

/* Sums of n elements over parts, of which the own one lies apart; several at once. */
typedef struct sgc_parts {
    sgc_dtype type;          /* of the parts; sums are floats                                                           */
    float *sum;              /* segment s: sum + s * sum_step                                                           */
    const void *own;         /* segment s: own + s * own_step                                                           */
    const void *others;      /* segment s of the j-th other part: others + j * other_size + s * others_step             */
    int64_t n, sum_step, own_step, others_step, other_size;
    int n_parts, own_index;  /* the own part is the own_index-th of all                                                 */
    int n_segments;
} sgc_parts;

/* Queues the sums along the tree of reduce_scatter, comm.h. A failed launch is a failure of the device. Sums of floats may replace the own parts or the
 * first of the others. */
void sgc_nccl_sum(struct sgc_device *d, cudaStream_t stream, const sgc_parts *p);

enum { SGC_NCCL_SPANS = 128, SGC_NCCL_LENT = 16 };

/* Two points of a stream. */
typedef struct sgc_nccl_span {
    cudaEvent_t start, end;  /* owned */
    sgc_collective kind;
    bool is_traced;
} sgc_nccl_span;

/* The last spans of a kind, by number; those before n_ended are known to be over. */
typedef struct sgc_nccl_spans {
    sgc_nccl_span last[SGC_NCCL_SPANS];
    int64_t n, n_ended;
} sgc_nccl_spans;

/* A communicator: the backend's part of a group. */
typedef struct sgc_nccl {
    const sgc_nccl_library *library;
    struct sgc_device *device; /* borrowed */
    int ordinal;             /* of the GPU among the visible ones */
    int ranks_per_node;      /* a power of two above 1, consecutive; 0: sums take no account of nodes */
    int n_ranks;
    double timeout_s;
    pthread_t thread;        /* the one that calls NCCL */
    ncclComm_t comm;         /* owned; NULL: not yet connected, or given up */
    bool is_in_use;          /* connected and tried */
    char failure[1024];      /* why it was given up; "": it was not */
    cudaStream_t compute;    /* borrowed: what the device computes */
    cudaStream_t stream;     /* owned: collectives, in the order of their calls */
    cudaEvent_t ready;       /* owned: how far compute was at the last call */
    sgc_nccl_spans flights;  /* collectives on the stream */
    sgc_nccl_spans waits;    /* of compute, for collectives; only while a trace is on */
    double moved_s, watched_s; /* when a collective was last seen to end, and when somebody last looked */
    cudaEvent_t zero;        /* owned: a point in time that the host knows as zero_s; 0: not yet in this trace */
    double zero_s;
    struct { void *memory, *handle; } lent[SGC_NCCL_LENT];
    int n_lent;
} sgc_nccl;

/* nccl_communicator.c. A failure gives the communicator up, so that the device comes to an end; all that follows fails by the same text: SGC_ECOMM,
 * which cannot be agreed on, or as long as it is not in use SGC_EDEVICE. */
sgc_status sgc_nccl_make(sgc_nccl **s, sgc_group *g, const sgc_nccl_spec *spec); /* local: library, stream, events */
sgc_status sgc_nccl_connect(sgc_nccl *s, sgc_group *g);                          /* collective */
void sgc_nccl_free(sgc_nccl *s);
void sgc_nccl_give_up(sgc_nccl *s);
sgc_status sgc_nccl_fail(sgc_nccl *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends when NCCL has taken what call asked for: of a group of calls, when all its kernels are queued. */
sgc_status sgc_nccl_settle(sgc_nccl *s, ncclResult_t rc, const char *call);
sgc_status sgc_nccl_check_cuda(sgc_nccl *s, cudaError_t rc, const char *call);
/* SGC_ECOMM if NCCL has failed, or if a collective has begun and none has ended for timeout_s while this was called again and again. */
sgc_status sgc_nccl_watch(sgc_nccl *s);
#define SGC_NCCL(s, name, ...) SGC_TRY(sgc_nccl_settle((s), (s)->library->name(__VA_ARGS__), "nccl" #name))
#define SGC_CUDA(s, call) SGC_TRY(sgc_nccl_check_cuda((s), (call), #call))

/* nccl_spans.c: what is under way, and what the trace is told of it. */
sgc_status sgc_nccl_spans_make(sgc_nccl *s);
void sgc_nccl_spans_free(sgc_nccl *s);
/* Opens a collective on the stream, behind what compute was asked for so far; between these two its calls are queued. number: for the wait. */
sgc_status sgc_nccl_take_off(sgc_nccl *s, sgc_collective kind);
sgc_status sgc_nccl_land(sgc_nccl *s, int64_t *number);
/* What compute is asked for from here on waits for that collective. */
sgc_status sgc_nccl_join(sgc_nccl *s, sgc_collective kind, int64_t number);
/* Looks which are over. */
void sgc_nccl_look(sgc_nccl *s);

#ifdef __cplusplus
}
#endif

#endif
