/* The emulation finds what it is there to find: planted defects, each beside a right counterpart that passes. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cudnn_graph.h"
#include "defects.h"
#include "emulation.h"
#include "sanitizer.h"
#include "unit.h"

enum { N = N_DEFECT_THREADS };

static float *managed(void)
{
    void *p;
    ck_assert_int_eq(cudaMallocManaged(&p, N * sizeof(float), cudaMemAttachGlobal), cudaSuccess);
    return p;
}

static cudaStream_t stream(void)
{
    cudaStream_t s;
    ck_assert_int_eq(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    return s;
}

static void ok(cudaError_t rc) { ck_assert_msg(rc == cudaSuccess, "%s", cudaGetErrorString(rc)); }

/* What a child process says and how it ends when it runs f. */
static int end_of(void (*f)(void), char *said, size_t bytes)
{
    int ends[2], status = 0;
    ssize_t n;
    size_t n_said = 0;
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        f();
        _exit(0);
    }
    close(ends[1]);
    while ((n = read(ends[0], said + n_said, bytes - 1 - n_said)) > 0) n_said += (size_t)n;
    said[n_said] = '\0';
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

/* The process ends by the emulation's own message, which holds these words. */
static void is_found(void (*f)(void), const char *const *words)
{
    char said[4096];
    int status = end_of(f, said, sizeof(said));
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == EMULATED_DEFECT_STATUS, "status %x: %s", (unsigned)status, said);
    for (; *words; words++) ck_assert_msg(strstr(said, *words), "no '%s' in: %s", *words, said);
}
#define FOUND(f, ...) is_found(f, (const char *const[]){__VA_ARGS__, NULL})

/* The process is ended by the system or a sanitizer. */
static void crashes(void (*f)(void))
{
    char said[4096];
    int status = end_of(f, said, sizeof(said));
    ck_assert_msg(WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV : WEXITSTATUS(status) != 0 && (strstr(said, "AddressSanitizer") || strstr(said, "out of bounds")), "status %x: %s",
                  (unsigned)status, said);
}

START_TEST(a_missing_barrier_gives_other_numbers_in_another_order)
{
    float *out = managed();
    for (int has_barrier = 0; has_barrier < 2; has_barrier++) {
        int n_wrong = 0;
        for (unsigned order = 0; order < 4; order++) {
            emulated_set_order(order);
            ok(reverse(NULL, out, has_barrier));
            for (int i = 0; i < N; i++) n_wrong += !(out[i] == N - 1 - i);
        }
        if (has_barrier) ck_assert_int_eq(n_wrong, 0);
        else ck_assert_int_gt(n_wrong, 0);
    }
    cudaFree(out);
}
END_TEST

START_TEST(warps_work_together)
{
    float *out = managed();
    void *wrong;
    ok(cudaMallocManaged(&wrong, sizeof(int), cudaMemAttachGlobal));
    for (unsigned order = 0; order < 4; order++) {
        emulated_set_order(order);
        for (int in_shared_memory = 0; in_shared_memory < 2; in_shared_memory++) {
            ok(warp_sums(NULL, out, in_shared_memory));
            for (int i = 0; i < N; i++) ck_assert_double_eq(out[i], 496);
        }
        *(int *)wrong = 0;
        ok(primitives(NULL, wrong));
        ck_assert_int_eq(*(int *)wrong, 0);
    }
    cudaFree(wrong);
    cudaFree(out);
}
END_TEST

static void run_half_a_barrier(void) { half_a_barrier(NULL, managed()); }
static void run_early_return(void) { early_return(NULL, managed()); }
static void run_two_barriers(void) { two_barriers(NULL, managed()); }

START_TEST(a_barrier_that_not_all_threads_reach_is_found)
{
    FOUND(run_half_a_barrier, "kernel half_a_barrier_kernel", "32 of 96", "__syncthreads at defects.cu", "have returned");
    FOUND(run_early_return, "kernel early_return_kernel", "64 of 96", "have returned");
    FOUND(run_two_barriers, "kernel two_barriers_kernel", "32 of 96", "64 of 96");
}
END_TEST

static void run_half_a_shuffle(void) { half_a_shuffle(NULL, managed()); }
static void run_foreign_mask(void) { foreign_mask(NULL, managed()); }
static void run_masked_source(void) { masked_source(NULL, managed()); }

START_TEST(an_exchange_with_missing_lanes_is_found)
{
    FOUND(run_half_a_shuffle, "kernel half_a_shuffle_kernel", "__shfl_xor_sync at defects.cu", "have returned");
    FOUND(run_foreign_mask, "kernel foreign_mask_kernel", "is not in its own mask 0000ffff");
    FOUND(run_masked_source, "kernel masked_source_kernel", "which is not in the mask 0000ffff");
}
END_TEST

static void write_beyond_memory(void) { beyond_memory(NULL, managed(), 64 * ((N + 63) / 64)); } /* rounded up to 256 bytes */

START_TEST(accesses_beyond_an_allocation_end_the_program)
{
    float *out = managed();
    ok(beyond_memory(NULL, out, N - 1));
    ok(beyond_shared(NULL, out, N - 1));
    cudaFree(out);
    crashes(write_beyond_memory);
}
END_TEST

#ifdef EMULATED_WITH_ASAN
static void write_one_beyond_memory(void) { beyond_memory(NULL, managed(), N); }
static void write_one_before_memory(void) { beyond_memory(NULL, managed(), -1); }
static void write_one_beyond_shared(void) { beyond_shared(NULL, managed(), N); }

START_TEST(the_address_sanitizer_sees_the_first_element_beyond)
{
    crashes(write_one_beyond_memory);
    crashes(write_one_before_memory);
    crashes(write_one_beyond_shared);
}
END_TEST
#endif

static void read_on_the_host(void)
{
    void *p;
    cudaMalloc(&p, 4);
    printf("%g\n", (double)*(volatile float *)p);
}

START_TEST(the_host_cannot_touch_the_devices_memory) { crashes(read_on_the_host); }
END_TEST

START_TEST(copies_that_are_not_waited_for_are_not_there)
{
    float *out = managed(), *in = managed();
    for (int i = 0; i < N; i++) in[i] = (float)i;
    for (int waits = 0; waits < 2; waits++) {
        int n_right = 0;
        ok(copies(NULL, out, in, waits));
        for (int i = 0; i < N; i++) n_right += out[i] == N - 1 - i;
        if (waits) ck_assert_int_eq(n_right, N);
        else ck_assert_int_lt(n_right, N);
    }
    cudaFree(in);
    cudaFree(out);
}
END_TEST

START_TEST(a_missing_wait_between_streams_is_found)
{
    cudaStream_t first = stream(), second = stream();
    cudaEvent_t event;
    float *a = managed(), *b = managed(), *c = managed();
    ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    for (int waits = 0; waits < 2; waits++) {
        for (int i = 0; i < N; i++) a[i] = (float)i, b[i] = c[i] = -1;
        emulated_set_lazy(1);
        ok(add_one(first, b, a));
        ok(cudaEventRecord(event, first));
        if (waits) ok(cudaStreamWaitEvent(second, event, 0));
        ok(add_one(second, c, b));
        ck_assert_double_eq(c[3], -1); /* nothing has been done yet */
        ok(cudaStreamSynchronize(second));
        ck_assert_double_eq(c[3], waits ? 5 : 0);
        ok(cudaDeviceSynchronize());
        ck_assert_double_eq(b[3], 4);
    }
    ok(cudaEventDestroy(event));
    ok(cudaStreamDestroy(first));
    ok(cudaStreamDestroy(second));
    cudaFree(a), cudaFree(b), cudaFree(c);
}
END_TEST

START_TEST(what_the_host_reads_too_early_is_not_there)
{
    cudaStream_t s = stream();
    cudaEvent_t event;
    void *device, *pinned;
    float pageable[N];
    ok(cudaMalloc(&device, N * sizeof(float)));
    ok(cudaMallocHost(&pinned, N * sizeof(float)));
    ok(cudaEventCreate(&event));
    float *host = pinned;
    emulated_set_lazy(1);
    for (int i = 0; i < N; i++) host[i] = (float)i;
    ok(cudaMemcpyAsync(device, host, N * sizeof(float), cudaMemcpyHostToDevice, s));
    host[5] = 7; /* too early: still to be read */
    ok(cudaMemcpyAsync(host + 10, device, sizeof(float), cudaMemcpyDeviceToHost, s));
    ok(cudaEventRecord(event, s));
    ck_assert_double_eq(host[10], 10);
    ck_assert_int_eq(cudaEventQuery(event), cudaErrorNotReady);
    ok(cudaEventSynchronize(event));
    ck_assert_double_eq(host[10], 0);
    ok(cudaMemcpyAsync(pageable, device, sizeof(pageable), cudaMemcpyDeviceToHost, s)); /* this the driver waits for */
    ck_assert_double_eq(pageable[5], 7);
    for (int i = 0; i < N; i++) pageable[i] = 1;
    ok(cudaMemcpyAsync(device, pageable, sizeof(pageable), cudaMemcpyHostToDevice, s)); /* this it takes at once */
    pageable[3] = 2;
    ok(cudaMemcpyAsync(host, device, sizeof(pageable), cudaMemcpyDeviceToHost, s));
    ok(cudaStreamSynchronize(s));
    ck_assert_double_eq(host[3], 1);
    ok(cudaEventDestroy(event));
    ok(cudaStreamDestroy(s));
    ok(cudaFree(device));
    ok(cudaFreeHost(pinned));
}
END_TEST

/* to = from + 2 by way of `between`, but to[1] = 0 */
static cudaGraphExec_t captured(cudaStream_t s, float *to, float *between, const float *from)
{
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    ok(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    ok(add_one(s, between, from));
    ok(add_one(s, to, between));
    ok(cudaMemsetAsync((void *)(to + 1), 0, sizeof(*to), s));
    ok(cudaStreamEndCapture(s, &graph));
    ok(cudaGraphInstantiate(&executable, graph, 0));
    ok(cudaGraphDestroy(graph));
    return executable;
}

START_TEST(a_graph_does_what_was_captured_when_it_is_launched)
{
    cudaStream_t s = stream();
    float *a = managed(), *b = managed(), *c = managed();
    for (long lazy = 0; lazy < 4; lazy++) {
        for (int i = 0; i < N; i++) a[i] = (float)i, c[i] = -1;
        emulated_set_lazy(lazy);
        cudaGraphExec_t executable = captured(s, c, b, a);
        ok(cudaStreamSynchronize(s));
        ck_assert_double_eq(c[3], -1);
        for (int round = 0; round < 3; round++) {
            ok(cudaGraphLaunch(executable, s));
            ok(cudaStreamSynchronize(s));
            ck_assert_double_eq(c[3], 3 + round + 2);
            ck_assert_double_eq(c[1], 0);
            for (int i = 0; i < N; i++) a[i] += 1; /* what arguments point to is read anew */
        }
        ok(cudaGraphExecDestroy(executable));
    }
    ok(cudaStreamDestroy(s));
    cudaFree(a), cudaFree(b), cudaFree(c);
}
END_TEST

static void capture_many(void)
{
    cudaStream_t first = stream(), second = stream();
    cudaEvent_t event;
    ok(cudaEventCreate(&event));
    ok(cudaStreamBeginCapture(first, cudaStreamCaptureModeThreadLocal));
    ok(cudaEventRecord(event, first));
    cudaStreamWaitEvent(second, event, 0);
}

/* Each ends the capture, and nothing else. */
START_TEST(what_does_not_go_with_a_capture_makes_it_invalid)
{
    enum { MALLOC, WAIT, WAIT_FOR_ALL, QUERY, EVENT, FOREIGN_EVENT, CAPTURED_EVENT, N_CALLS };
    cudaStream_t s = stream(), other = stream();
    cudaEvent_t event, inside;
    cudaGraph_t graph;
    float *a = managed(), *b = managed();
    void *p;
    ok(cudaEventCreate(&event));
    ok(cudaEventCreate(&inside));
    ok(cudaEventRecord(event, other));
    for (int call = 0; call < N_CALLS; call++) {
        ok(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
        ck_assert_int_eq(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), cudaErrorStreamCaptureUnsupported);
        cudaGetLastError();
        ok(add_one(other, a, a)); /* another stream goes on */
        ok(cudaEventRecord(inside, s));
        switch (call) {
        case MALLOC: ck_assert_int_eq(cudaMalloc(&p, 4), cudaErrorStreamCaptureUnsupported); break;
        case WAIT: ck_assert_int_eq(cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported); break;
        case WAIT_FOR_ALL: ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported); break;
        case QUERY: ck_assert_int_eq(cudaStreamQuery(s), cudaErrorStreamCaptureUnsupported); break;
        case EVENT: ck_assert_int_eq(cudaEventQuery(event), cudaErrorStreamCaptureUnsupported); break;
        case FOREIGN_EVENT: ck_assert_int_eq(cudaStreamWaitEvent(s, event, 0), cudaErrorStreamCaptureIsolation); break;
        default: ck_assert_int_eq(cudaEventSynchronize(inside), cudaErrorStreamCaptureUnsupported); break;
        }
        ck_assert_int_eq(add_one(s, b, a), cudaErrorStreamCaptureInvalidated);
        ck_assert_int_eq(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
        ck_assert_ptr_null(graph);
        ck_assert_int_eq(cudaEventQuery(inside), cudaErrorCapturedEvent);
        cudaGetLastError();
        ok(add_one(s, b, a));
        ok(cudaStreamSynchronize(s));
    }
    ck_assert_int_eq(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureUnmatched);
    FOUND(capture_many, "a capture of several streams is not emulated");
    cudaGetLastError();
    ok(cudaEventDestroy(event));
    ok(cudaEventDestroy(inside));
    ok(cudaStreamDestroy(s));
    ok(cudaStreamDestroy(other));
    cudaFree(a), cudaFree(b);
}
END_TEST

START_TEST(copies_must_be_what_they_say)
{
    void *device, *pinned;
    ok(cudaMalloc(&device, 100));
    ok(cudaMallocHost(&pinned, 200));
    ck_assert_int_eq(cudaMemcpyAsync(device, pinned, 101, cudaMemcpyHostToDevice, NULL), cudaErrorInvalidValue); /* too long */
    ck_assert_int_eq(cudaMemcpyAsync(device, pinned, 100, cudaMemcpyDeviceToHost, NULL), cudaErrorInvalidValue); /* the wrong way round */
    ck_assert_int_eq(cudaMemcpyAsync(device, pinned, 100, cudaMemcpyDeviceToDevice, NULL), cudaErrorInvalidValue);
    ok(cudaMemcpyAsync(device, pinned, 100, cudaMemcpyHostToDevice, NULL));
    ck_assert_int_eq(cudaFree(pinned), cudaErrorInvalidValue);
    ok(cudaFreeHost(pinned));
    ok(cudaFree(device));
}
END_TEST

START_TEST(launches_beyond_a_gpu_are_refused)
{
    float *out = managed();
    ok(launch_of(NULL, out, 1, 1024, 100 * 1024));
    ck_assert_int_eq(launch_of(NULL, out, 1, 1025, 0), cudaErrorInvalidConfiguration);
    ck_assert_int_eq(launch_of(NULL, out, 0, 32, 0), cudaErrorInvalidConfiguration);
    ck_assert_int_eq(launch_of(NULL, out, 1, 32, 228 * 1024), cudaErrorInvalidConfiguration);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorInvalidConfiguration);
    setenv("EMULATED_CAPABILITY", "8.0", 1);
    ck_assert_int_eq(launch_of(NULL, out, 1, 32, 200 * 1024), cudaErrorInvalidConfiguration);
    unsetenv("EMULATED_CAPABILITY");
    cudaGetLastError();
    ok(launch_of(NULL, out, 1, 32, 200 * 1024));
    cudaFree(out);
}
END_TEST

START_TEST(a_failed_kernel_is_the_answer_to_everything_after)
{
    float *out = managed();
    cudaStream_t s = stream();
    setenv("EMULATED_FAIL_LAUNCH", "2", 1);
    emulated_set_lazy(1);
    ok(launch_of(s, out, 1, 32, 0));
    ok(launch_of(s, out, 1, 32, 0)); /* nobody knows yet */
    ck_assert_int_eq(cudaStreamSynchronize(s), cudaErrorIllegalAddress);
    ck_assert_int_eq(launch_of(s, out, 1, 32, 0), cudaErrorIllegalAddress);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorIllegalAddress);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorIllegalAddress);
    cudaStreamDestroy(s);
}
END_TEST

START_TEST(memory_has_an_end)
{
    void *p, *q;
    size_t n_free, n_total;
    setenv("EMULATED_MEMORY", "1000000", 1);
    ok(cudaMalloc(&p, 600000));
    ck_assert_int_eq(cudaMalloc(&q, 600000), cudaErrorMemoryAllocation);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
    ck_assert_int_eq(cudaGetLastError(), cudaSuccess);
    ok(cudaMemGetInfo(&n_free, &n_total));
    ck_assert_int_eq(n_total, 1000000);
    ck_assert_int_lt(n_free, 400001);
    ok(cudaFree(p));
    ok(cudaMalloc(&q, 600000));
    ok(cudaFree(q));
}
END_TEST

static cudnnBackendDescriptor_t descriptor(cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d;
    ck_assert_int_eq(cudnnBackendCreateDescriptor(type, &d), CUDNN_STATUS_SUCCESS);
    return d;
}

static void make_tensor(cudnnBackendDescriptor_t d, int64_t uid, bool is_virtual)
{
    const int64_t n[4] = {1, 1, 2, 2}, strides[4] = {4, 4, 2, 1}, alignment = 16;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    ck_assert_int_eq(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, n), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual), CUDNN_STATUS_SUCCESS);
    ck_assert_int_ne(cudnnBackendFinalize(d), CUDNN_STATUS_SUCCESS); /* it has no id */
    ck_assert_int_eq(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendFinalize(d), CUDNN_STATUS_SUCCESS);
}

static void leave_a_descriptor(void)
{
    cudnnHandle_t handle;
    cudnnCreate(&handle);
    descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cudnnDestroy(handle);
}

START_TEST(descriptors_of_cudnn_are_held_to_its_rules)
{
    cudnnBackendDescriptor_t x = descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR), y = descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cudnnBackendDescriptor_t node = descriptor(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR), graph = descriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    const int64_t five = 5;
    cudnnHandle_t handle;
    ck_assert_int_eq(cudnnCreate(&handle), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendSetAttribute(x, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_INT64, 1, &five), CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
    ck_assert_int_eq(cudnnBackendSetAttribute(x, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 1, &five), CUDNN_STATUS_BAD_PARAM);
    ck_assert_int_eq(cudnnBackendSetAttribute(x, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_TYPE_INT64, 1, &five), CUDNN_STATUS_BAD_PARAM);
    ck_assert_int_eq(cudnnBackendSetAttribute(node, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
    make_tensor(x, 1, true);
    make_tensor(y, 2, false);
    ck_assert_int_eq(cudnnBackendSetAttribute(x, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &five), CUDNN_STATUS_NOT_SUPPORTED);
    ck_assert_int_eq(cudnnBackendSetAttribute(node, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendFinalize(node), CUDNN_STATUS_BAD_PARAM); /* of nothing */
    ck_assert_int_eq(cudnnBackendSetAttribute(node, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendFinalize(node), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendSetAttribute(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendSetAttribute(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &node), CUDNN_STATUS_SUCCESS);
    ck_assert_int_ne(cudnnBackendFinalize(graph), CUDNN_STATUS_SUCCESS); /* nothing writes x, which is virtual */
    char why[200];
    cudnnGetLastErrorString(why, sizeof(why));
    ck_assert_str_eq(why, "nothing writes a virtual tensor that is read");
    cudnnBackendDescriptor_t const all[] = {graph, node, y, x};
    for (int i = 0; i < 4; i++) cudnnBackendDestroyDescriptor(all[i]);
    cudnnDestroy(handle);
    FOUND(leave_a_descriptor, "cuDNN: 1 descriptors outlive the handle");
}
END_TEST

UNIT_MAIN("emulated GPU", a_missing_barrier_gives_other_numbers_in_another_order,
          warps_work_together,
          a_barrier_that_not_all_threads_reach_is_found,
          an_exchange_with_missing_lanes_is_found,
          accesses_beyond_an_allocation_end_the_program,
#ifdef EMULATED_WITH_ASAN
          the_address_sanitizer_sees_the_first_element_beyond,
#endif
          the_host_cannot_touch_the_devices_memory,
          copies_that_are_not_waited_for_are_not_there,
          a_missing_wait_between_streams_is_found,
          what_the_host_reads_too_early_is_not_there,
          a_graph_does_what_was_captured_when_it_is_launched,
          what_does_not_go_with_a_capture_makes_it_invalid,
          copies_must_be_what_they_say,
          launches_beyond_a_gpu_are_refused,
          a_failed_kernel_is_the_answer_to_everything_after,
          memory_has_an_end,
          descriptors_of_cudnn_are_held_to_its_rules)
