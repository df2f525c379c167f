/* What dlopen finds: libraries of CUDA are this program, unless EMULATED_WITHOUT names them. Callers are compiled with -Ddlopen=emulated_dlopen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cublasLt.h"
#include "cudnn_graph.h"
#include "nccl.h"

#define FUNCTION(name) {#name, (void *)name}
static const struct { const char *name; void *function; } functions[] = {
    FUNCTION(cublasLtCreate), FUNCTION(cublasLtDestroy), FUNCTION(cublasLtGetVersion), FUNCTION(cublasLtGetStatusString),
    FUNCTION(cublasLtMatmulDescCreate), FUNCTION(cublasLtMatmulDescDestroy), FUNCTION(cublasLtMatmulDescSetAttribute),
    FUNCTION(cublasLtMatrixLayoutCreate), FUNCTION(cublasLtMatrixLayoutDestroy), FUNCTION(cublasLtMatmulPreferenceCreate),
    FUNCTION(cublasLtMatmulPreferenceDestroy), FUNCTION(cublasLtMatmulPreferenceSetAttribute), FUNCTION(cublasLtMatmulAlgoGetHeuristic),
    FUNCTION(cublasLtMatmul),
    FUNCTION(ncclGetVersion), FUNCTION(ncclGetUniqueId), FUNCTION(ncclGetErrorString), FUNCTION(ncclGetLastError), FUNCTION(ncclCommInitRankConfig),
    FUNCTION(ncclCommFinalize), FUNCTION(ncclCommDestroy), FUNCTION(ncclCommAbort), FUNCTION(ncclCommGetAsyncError), FUNCTION(ncclCommRegister),
    FUNCTION(ncclCommDeregister), FUNCTION(ncclAllGather), FUNCTION(ncclBroadcast), FUNCTION(ncclSend), FUNCTION(ncclRecv), FUNCTION(ncclGroupStart),
    FUNCTION(ncclGroupEnd),
    FUNCTION(cudnnGetVersion), FUNCTION(cudnnGetErrorString), FUNCTION(cudnnGetLastErrorString), FUNCTION(cudnnCreate), FUNCTION(cudnnDestroy),
    FUNCTION(cudnnSetStream), FUNCTION(cudnnBackendCreateDescriptor), FUNCTION(cudnnBackendDestroyDescriptor), FUNCTION(cudnnBackendSetAttribute),
    FUNCTION(cudnnBackendGetAttribute), FUNCTION(cudnnBackendFinalize), FUNCTION(cudnnBackendExecute),
};

static char failure[300];

extern "C" {

void *emulated_dlopen(const char *file, int)
{
    const char *base = strrchr(file, '/');
    base = base ? base + 1 : file;
    static const char *const known[] = {"cublasLt", "cudnn", "nccl"};
    const char *without = getenv("EMULATED_WITHOUT");
    for (const char *name : known)
        if (strncmp(base, "lib", 3) == 0 && strncmp(base + 3, name, strlen(name)) == 0 && !(without && strstr(without, name))) return &failure;
    snprintf(failure, sizeof(failure), "%s: cannot open shared object file: No such file or directory", file);
    return NULL;
}

void *emulated_dlsym(void *, const char *name)
{
    for (auto &f : functions)
        if (strcmp(f.name, name) == 0) return f.function;
    snprintf(failure, sizeof(failure), "undefined symbol: %s", name);
    return NULL;
}

char *emulated_dlerror(void) { return failure; }

int emulated_dlclose(void *) { return 0; }

} // extern "C"
