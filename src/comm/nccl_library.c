#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "comm/nccl_impl.h"

#define LIBRARY "libnccl.so.2"
enum { OLDEST = NCCL_VERSION(2, 18, 1) };

/* SGC_NCCL_LIBDIR: where configure found it; another node may have it elsewhere. */
static const char *const places[] = {LIBRARY, SGC_NCCL_LIBDIR "/" LIBRARY};

typedef struct function {
    const char *name;
    size_t offset;
} function;

#define F(name) {"nccl" #name, offsetof(sgc_nccl_library, name)},
static const function needed[] = {SGC_NCCL_FUNCTIONS(F)};
static const function optional[] = {SGC_NCCL_OPTIONAL_FUNCTIONS(F){NULL, 0}};
#undef F

static bool find(void *handle, sgc_nccl_library *library, const function *f)
{
    void *address = dlsym(handle, f->name);
    memcpy((char *)library + f->offset, &address, sizeof(address)); /* C has no cast from object to function pointers */
    return address != NULL;
}

sgc_status sgc_nccl_open(const sgc_nccl_library **library)
{
    static sgc_nccl_library opened;
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
        return sgc_err(SGC_EDEVICE, "NCCL cannot be opened: %s (nor is it in " SGC_NCCL_LIBDIR "); load its module or add its directory to LD_LIBRARY_PATH, or "
                       "write --comm.backend mpi", why);
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        if (!find(handle, &opened, &needed[i]))
            return sgc_err(SGC_EDEVICE, "this " LIBRARY " lacks %s: load NCCL 2.18 or newer, or write --comm.backend mpi", needed[i].name);
    for (size_t i = 0; optional[i].name; i++) find(handle, &opened, &optional[i]);
    if (opened.GetVersion(&opened.version) != ncclSuccess || opened.version < OLDEST)
        return sgc_err(SGC_EDEVICE, "this " LIBRARY " is of version %d.%d: load NCCL 2.18 or newer, or write --comm.backend mpi", opened.version / 10000,
                       opened.version / 100 % 100);
    is_open = true;
    return SGC_OK;
}
