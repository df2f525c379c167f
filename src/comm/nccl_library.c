#include <stdbool.h>
#include <stddef.h>

#include "comm/nccl_impl.h"
#include "device/cuda/loader.h"

#define LIBRARY "libnccl.so.2"
enum { OLDEST = NCCL_VERSION(2, 18, 1) };

#define F(name) {"nccl" #name, offsetof(sgc_nccl_library, name)},
static const sgc_loader_function needed[] = {SGC_NCCL_FUNCTIONS(F)};
static const sgc_loader_function optional[] = {SGC_NCCL_OPTIONAL_FUNCTIONS(F){NULL, 0}}; /* an array is never empty */
#undef F

sgc_status sgc_nccl_open(const sgc_nccl_library **library)
{
    static sgc_nccl_library opened;
    static bool is_open;
    char why[SGC_LOADER_WHY];
    *library = &opened;
    if (is_open) return SGC_OK;
    void *handle = sgc_loader_open(LIBRARY, SGC_NCCL_LIBDIR, why);
    if (!handle)
        return sgc_err(SGC_EDEVICE, "NCCL cannot be opened: %s (nor is it in " SGC_NCCL_LIBDIR "); load its module or add its directory to LD_LIBRARY_PATH, or "
                       "write --comm.backend mpi", why);
    const char *missing = sgc_loader_find(handle, &opened, needed, sizeof(needed) / sizeof(needed[0]));
    if (missing) return sgc_err(SGC_EDEVICE, "this " LIBRARY " lacks %s: load NCCL 2.18 or newer, or write --comm.backend mpi", missing);
    sgc_loader_find(handle, &opened, optional, sizeof(optional) / sizeof(optional[0]) - 1);
    if (opened.GetVersion(&opened.version) != ncclSuccess || opened.version < OLDEST)
        return sgc_err(SGC_EDEVICE, "this " LIBRARY " is of version %d.%d: load NCCL 2.18 or newer, or write --comm.backend mpi", opened.version / 10000,
                       opened.version / 100 % 100);
    is_open = true;
    return SGC_OK;
}
