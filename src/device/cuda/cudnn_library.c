#include "device/cuda/cudnn_library.h"

#include <stdbool.h>
#include <stddef.h>

#include "device/cuda/loader.h"

/* The interface is that of a major version, and the values of its constants are kept within it. It finds its parts beside itself. */
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcudnn.so." TEXT(CUDNN_MAJOR)

/* The first in which a gradient that is the same every time takes no care of the caller's. */
enum { OLDEST = 90600 };

static const sgc_loader_function functions[] = {
#define F(name) {"cudnn" #name, offsetof(sgc_cudnn, name)},
    SGC_CUDNN_FUNCTIONS(F)
#undef F
};

sgc_status sgc_cudnn_open(const sgc_cudnn **library)
{
    static sgc_cudnn opened;
    static bool is_open;
    char why[SGC_LOADER_WHY];
    *library = &opened;
    if (is_open) return SGC_OK;
    void *handle = sgc_loader_open(LIBRARY, SGC_CUDNN_LIBDIR, why);
    if (!handle)
        return sgc_err(SGC_EDEVICE, "cuDNN cannot be opened: %s (nor is it in " SGC_CUDNN_LIBDIR "); load its module or add its directory to "
                       "LD_LIBRARY_PATH, or write --device.attention own", why);
    const char *missing = sgc_loader_find(handle, &opened, functions, sizeof(functions) / sizeof(functions[0]));
    if (missing) return sgc_err(SGC_EDEVICE, "this " LIBRARY " lacks %s: load cuDNN 9.6 or newer, or write --device.attention own", missing);
    opened.version = opened.GetVersion();
    if (opened.version < OLDEST || opened.version == 91000 || opened.version == 91001) /* those two are known for wrong attention */
        return sgc_err(SGC_EDEVICE, "this " LIBRARY " is of version %zu.%zu.%zu, which attention cannot use: load cuDNN 9.6 or newer, but not 9.10.0 or 9.10.1, or write "
                       "--device.attention own", opened.version / 10000, opened.version / 100 % 100, opened.version % 100);
    is_open = true;
    return SGC_OK;
}
