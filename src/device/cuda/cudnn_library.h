/* cuDNN's graph interface, opened when attention may be left to it: the program starts on nodes that have none. */
#ifndef SGC_DEVICE_CUDA_CUDNN_LIBRARY_H
#define SGC_DEVICE_CUDA_CUDNN_LIBRARY_H

#include <cudnn_graph.h>

#include "base/status.h"

/* What is used of it: cudnnNAME. */
#define SGC_CUDNN_FUNCTIONS(F) \
    F(GetVersion) F(GetErrorString) F(GetLastErrorString) F(Create) F(Destroy) F(SetStream) \
    F(BackendCreateDescriptor) F(BackendDestroyDescriptor) F(BackendSetAttribute) F(BackendGetAttribute) F(BackendFinalize) F(BackendExecute)

typedef struct sgc_cudnn {
#define F(name) __typeof__(&cudnn##name) name;
    SGC_CUDNN_FUNCTIONS(F)
#undef F
    size_t version;          /* 91900: 9.19.0 */
} sgc_cudnn;

/* The library is opened once and stays. SGC_EDEVICE: it is not there, lacks a function or is one that computes wrong numbers; the message says
 * where it was looked for. */
sgc_status sgc_cudnn_open(const sgc_cudnn **library);

#endif
