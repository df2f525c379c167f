#include "device/cuda/cudnn_library.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The interface is that of a major version, and the values of its constants are kept within it. */
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcudnn.so." TEXT(CUDNN_MAJOR)

/* The first in which a gradient that is the same every time takes no care of the caller's. */
enum { OLDEST = 90600 };

/* SGC_CUDNN_LIBDIR: where configure found it; another node may have it elsewhere. It finds its parts beside itself. */
static const char *const places[] = {LIBRARY, SGC_CUDNN_LIBDIR "/" LIBRARY};

static const struct { const char *name; size_t offset; } functions[] = {
#define F(name) {"cudnn" #name, offsetof(sgc_cudnn, name)},
    SGC_CUDNN_FUNCTIONS(F)
#undef F
};

sgc_status sgc_cudnn_open(const sgc_cudnn **library)
{
    static sgc_cudnn opened;
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
        return sgc_err(SGC_EDEVICE, "cuDNN cannot be opened: %s (nor is it in " SGC_CUDNN_LIBDIR "); load its module or add its directory to "
                       "LD_LIBRARY_PATH, or write --device.attention own", why);
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *function = dlsym(handle, functions[i].name);
        if (!function) return sgc_err(SGC_EDEVICE, "this " LIBRARY " lacks %s: load cuDNN 9.6 or newer, or write --device.attention own", functions[i].name);
        memcpy((char *)&opened + functions[i].offset, &function, sizeof(function)); /* C has no cast from object to function pointers */
    }
    opened.version = opened.GetVersion();
    if (opened.version < OLDEST || opened.version == 91000 || opened.version == 91001) /* those two are known for wrong attention */
        return sgc_err(SGC_EDEVICE, "this " LIBRARY " is of version %zu.%zu.%zu, which attention cannot use: load cuDNN 9.6 or newer, but not 9.10.0 or 9.10.1, or write "
                       "--device.attention own", opened.version / 10000, opened.version / 100 % 100, opened.version % 100);
    is_open = true;
    return SGC_OK;
}
