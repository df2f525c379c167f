/* Libraries of GPUs, opened when a device is: the program starts on nodes that have none. */
#ifndef SGC_DEVICE_CUDA_LOADER_H
#define SGC_DEVICE_CUDA_LOADER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sgc_loader_function {
    const char *name;
    size_t offset; /* of its pointer in the table */
} sgc_loader_function;

enum { SGC_LOADER_WHY = 512 };

/* Where the loader looks for `name`, then in `directory`, where configure found it; another node may have it elsewhere. It stays open.
 * NULL: why is what the loader said at first. */
void *sgc_loader_open(const char *name, const char *directory, char why[SGC_LOADER_WHY]);

/* Fills the table; what the library lacks is NULL there. Returns the name of the first such function, NULL if all are there. */
const char *sgc_loader_find(void *handle, void *table, const sgc_loader_function *functions, size_t n);

#ifdef __cplusplus
}
#endif

#endif
