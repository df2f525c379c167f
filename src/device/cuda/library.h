/* cuBLASLt, opened when a CUDA device is: the program starts on nodes that have none. */
#ifndef SGC_DEVICE_CUDA_LIBRARY_H
#define SGC_DEVICE_CUDA_LIBRARY_H

#include <cublasLt.h>

#include "base/status.h"

/* What is used of it: cublasLtNAME. */
#define SGC_CUBLASLT_FUNCTIONS(F) \
    F(Create) F(Destroy) F(GetVersion) F(GetStatusString) \
    F(MatmulDescCreate) F(MatmulDescDestroy) F(MatmulDescSetAttribute) \
    F(MatrixLayoutCreate) F(MatrixLayoutDestroy) \
    F(MatmulPreferenceCreate) F(MatmulPreferenceDestroy) F(MatmulPreferenceSetAttribute) \
    F(MatmulAlgoGetHeuristic) F(Matmul)

typedef struct sgc_cublaslt {
#define F(name) __typeof__(&cublasLt##name) name;
    SGC_CUBLASLT_FUNCTIONS(F)
#undef F
} sgc_cublaslt;

/* The library is opened once and stays. SGC_EDEVICE: it is not there, or lacks a function; the message says where it was looked for. */
sgc_status sgc_cublaslt_open(const sgc_cublaslt **library);

#endif
