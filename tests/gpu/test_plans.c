/*
 * The real cuDNN, where it is installed, recognises our graphs as attention and has engines for them, on GPUs that need not be here: it is told their
 * properties. Exit status 77 where the library, or what it needs for that, is not to be had.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cuda/cudnn_impl.h"
#include "unit.h"

typedef struct gpu {
    const char *name;
    int version, n_sms, shared_bytes, l2_bytes;
} gpu;

static const gpu gpus[] = {
    {"A100", 800, 108, 166912, 41943040},
    {"H100", 900, 132, 232448, 52428800},
    {"B200", 1000, 148, 232448, 132644864},
};
enum { N_GPUS = sizeof(gpus) / sizeof(gpus[0]) };

/* B, T, H, D; the last as a slice, of as many heads again */
static const int64_t sizes[][4] = {{32, 1024, 12, 64}, {2, 1024, 25, 64}, {4, 1000, 16, 128}, {2, 17, 3, 64}, {1, 8192, 6, 64}};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static bool describe(sgc_cudnn_target *t, const gpu *g)
{
    char text[1024];
    if (sgc_cudnn_open(&t->library) != SGC_OK) return false;
    const int n = snprintf(text, sizeof(text),
        "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":%d,\"warpSize\":32,"
        "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,"
        "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,"
        "\"totalGlobalMem\":80000000000,\"smClockRateKHz\":1500000,\"memClockRateKHz\":2000000,\"l2CacheSize\":%d,\"cudaDeviceId\":0,\"deviceVer\":%d,"
        "\"driverVer\":13000,\"deviceName\":\"%s\"}", g->n_sms, g->shared_bytes, g->l2_bytes, g->version, g->name);
    const sgc_cudnn *library = t->library;
    return library->BackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &t->properties) == CUDNN_STATUS_SUCCESS &&
           library->BackendSetAttribute(t->properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, n + 1, text) == CUDNN_STATUS_SUCCESS &&
           library->BackendFinalize(t->properties) == CUDNN_STATUS_SUCCESS;
}

static int64_t up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

START_TEST(the_library_has_engines_for_our_graphs)
{
    for (int i = 0; i < N_GPUS; i++) {
        sgc_cudnn_target t = {0};
        ck_assert(describe(&t, &gpus[i]));
        for (int k = 0; k < N_SIZES; k++)
            for (int backward = 0; backward <= 1; backward++) {
                const int64_t *n = sizes[k];
                const sgc_cudnn_shape s = {.B = n[0], .T = n[1], .H = n[2], .D = n[3], .C = n[2] * n[3] * (k == N_SIZES - 1 ? 2 : 1),
                                           .value = k == 2 ? SGC_F16 : SGC_BF16};
                sgc_cudnn_plan p;
                sgc_cudnn_plan_make(&p, &t, &s, backward);
                ck_assert_msg(p.execution != NULL, "%s, size %d, %s: %s", gpus[i].name, k, backward ? "backward" : "forward", p.none);
                /* It keeps no more than a matrix of every head, and that in the gradient alone. */
                const size_t most = backward ? (size_t)(s.B * s.H * up(s.T, 128) * up(s.T, 128) * 2) + 4096 : 65536;
                ck_assert_msg(p.workspace_bytes <= most, "%s, size %d, backward %d: %zu bytes", gpus[i].name, k, backward, p.workspace_bytes);
                sgc_cudnn_plan_free(&p);
            }
        t.library->BackendDestroyDescriptor(t.properties);
    }
}
END_TEST

START_TEST(heads_that_it_does_not_take_are_told)
{
    sgc_cudnn_target t = {0};
    sgc_cudnn_plan p;
    const sgc_cudnn_shape s = {.B = 2, .T = 64, .H = 2, .D = 36, .C = 72, .value = SGC_BF16};
    ck_assert(describe(&t, &gpus[1]));
    for (int backward = 0; backward <= 1; backward++) {
        sgc_cudnn_plan_make(&p, &t, &s, backward);
        ck_assert(!p.execution && p.none[0]);
        sgc_cudnn_plan_free(&p);
    }
    t.library->BackendDestroyDescriptor(t.properties);
}
END_TEST

/* A library by its name, or beside the toolkit's others; cuDNN then finds it loaded. */
static bool load(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", SGC_CUDA_LIBDIR, name);
    return dlopen(name, RTLD_NOW | RTLD_GLOBAL) || dlopen(path, RTLD_NOW | RTLD_GLOBAL);
}

static int can_describe(void)
{
    int status = 1;
    pid_t child = fork();
    if (child == 0) {
        sgc_cudnn_target t = {0};
        const bool can = describe(&t, &gpus[0]);
        if (!can) fprintf(stderr, "test_plans: %s\n", t.library->version ? "this cuDNN does not take these properties of GPUs" : sgc_err_message());
        _exit(can ? 0 : 1);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

#define main with_library
UNIT_MAIN("plans of cuDNN", the_library_has_engines_for_our_graphs,
          heads_that_it_does_not_take_are_told)
#undef main

int main(int argc, char **argv)
{
    char compiler[64], driver[512];
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    snprintf(driver, sizeof(driver), "%.*s/driver.so", slash ? (int)(slash - argv[0]) : 1, slash ? argv[0] : ".");
    snprintf(compiler, sizeof(compiler), "libnvrtc.so.%d", CUDART_VERSION / 1000);
    if (!can_describe()) return 77;
    if (!dlopen(driver, RTLD_NOW | RTLD_GLOBAL) || !load(compiler)) {
        fprintf(stderr, "test_plans: %s\n", dlerror());
        return 77;
    }
    return with_library();
}
