#include "device/cuda/loader.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *sgc_loader_open(const char *name, const char *directory, char why[SGC_LOADER_WHY])
{
    char path[4096];
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle) return handle;
    snprintf(why, SGC_LOADER_WHY, "%s", dlerror());
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

const char *sgc_loader_find(void *handle, void *table, const sgc_loader_function *functions, size_t n)
{
    const char *missing = NULL;
    for (size_t i = 0; i < n; i++) {
        void *address = dlsym(handle, functions[i].name);
        memcpy((char *)table + functions[i].offset, &address, sizeof(address)); /* C has no cast from object to function pointers */
        if (!address && !missing) missing = functions[i].name;
    }
    return missing;
}
