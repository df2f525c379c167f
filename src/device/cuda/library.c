#include "device/cuda/library.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Functions may change from one major version to the next: only that of the header will do. */
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

/* SGC_CUDA_LIBDIR: where configure found it; another node may have it elsewhere. */
static const char *const places[] = {LIBRARY, SGC_CUDA_LIBDIR "/" LIBRARY};

static const struct { const char *name; size_t offset; } functions[] = {
#define F(name) {"cublasLt" #name, offsetof(sgc_cublaslt, name)},
    SGC_CUBLASLT_FUNCTIONS(F)
#undef F
};

sgc_status sgc_cublaslt_open(const sgc_cublaslt **library)
{
    static sgc_cublaslt opened;
    static bool is_open;
    char why[512] = "";
    void *handle = NULL;
    *library = &opened;
    if (is_open) return SGC_OK;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && !handle; i++) {
        handle = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
        if (!handle && !why[0]) snprintf(why, sizeof(why), "%s", dlerror());
    }
    if (!handle)
        return sgc_err(SGC_EDEVICE, "matrix products on GPUs need cuBLASLt, which cannot be opened: %s (nor is it in " SGC_CUDA_LIBDIR
                       "); load the module of CUDA %d, or add its lib64 to LD_LIBRARY_PATH", why, CUBLAS_VER_MAJOR);
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *function = dlsym(handle, functions[i].name);
        if (!function) return sgc_err(SGC_EDEVICE, "this " LIBRARY " lacks %s; load the module of the CUDA that stagecoach was built with", functions[i].name);
        memcpy((char *)&opened + functions[i].offset, &function, sizeof(function)); /* C has no cast from object to function pointers */
    }
    is_open = true;
    return SGC_OK;
}
