#include "device/cuda/library.h"

#include <stdbool.h>
#include <stddef.h>

#include "device/cuda/loader.h"

/* Functions may change from one major version to the next: only that of the header will do. */
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

static const sgc_loader_function functions[] = {
#define F(name) {"cublasLt" #name, offsetof(sgc_cublaslt, name)},
    SGC_CUBLASLT_FUNCTIONS(F)
#undef F
};

sgc_status sgc_cublaslt_open(const sgc_cublaslt **library)
{
    static sgc_cublaslt opened;
    static bool is_open;
    char why[SGC_LOADER_WHY];
    *library = &opened;
    if (is_open) return SGC_OK;
    void *handle = sgc_loader_open(LIBRARY, SGC_CUDA_LIBDIR, why);
    if (!handle)
        return sgc_err(SGC_EDEVICE, "matrix products on GPUs need cuBLASLt, which cannot be opened: %s (nor is it in " SGC_CUDA_LIBDIR
                       "); load the module of CUDA %d, or add its lib64 to LD_LIBRARY_PATH", why, CUBLAS_VER_MAJOR);
    const char *missing = sgc_loader_find(handle, &opened, functions, sizeof(functions) / sizeof(functions[0]));
    if (missing) return sgc_err(SGC_EDEVICE, "this " LIBRARY " lacks %s; load the module of the CUDA that stagecoach was built with", missing);
    is_open = true;
    return SGC_OK;
}
