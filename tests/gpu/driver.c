/*
 * What cuDNN looks for in a driver before it plans anything, without a driver: everything is loaded and nothing can be run. With it the real library
 * tells on any machine what it would do on GPUs that it only knows the properties of.
 */
#define FAILS(name) int name(void) { return 34; } /* CUDA_ERROR_STUB_LIBRARY */
#define DOES_NOTHING(name) int name(void) { return 0; }
#define GIVES(name) int name(void **out) { *out = (void *)8; return 0; }

int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return 0;
}

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
GIVES(cuLibraryLoadData) GIVES(cuLibraryGetKernel) GIVES(cuModuleLoadData) GIVES(cuModuleLoadDataEx) GIVES(cuModuleLoadFatBinary) GIVES(cuModuleGetFunction)
DOES_NOTHING(cuLibraryUnload) DOES_NOTHING(cuKernelSetAttribute) DOES_NOTHING(cuKernelGetAttribute) DOES_NOTHING(cuFuncSetAttribute)
DOES_NOTHING(cuFuncGetAttribute) DOES_NOTHING(cuModuleUnload) DOES_NOTHING(cuOccupancyMaxActiveBlocksPerMultiprocessor)
DOES_NOTHING(cuOccupancyMaxPotentialClusterSize)
FAILS(cuInit) FAILS(cuDeviceGet) FAILS(cuDeviceGetCount) FAILS(cuDeviceGetAttribute) FAILS(cuDevicePrimaryCtxRetain) FAILS(cuDevicePrimaryCtxRelease)
FAILS(cuDevicePrimaryCtxReset) FAILS(cuCtxGetCurrent) FAILS(cuCtxGetDevice) FAILS(cuCtxGetLimit) FAILS(cuCtxPushCurrent) FAILS(cuCtxPopCurrent)
FAILS(cuStreamGetCtx) FAILS(cuStreamSynchronize) FAILS(cuLaunchKernel) FAILS(cuLaunchKernelEx) FAILS(cuLaunchCooperativeKernel) FAILS(cuMemcpyDtoH_v2)
FAILS(cuLinkCreate) FAILS(cuLinkCreate_v2) FAILS(cuLinkAddData) FAILS(cuLinkAddData_v2) FAILS(cuLinkAddFile_v2) FAILS(cuLinkComplete) FAILS(cuLinkDestroy)
FAILS(cuLibraryLoadFromFile) FAILS(cuModuleGetGlobal_v2) FAILS(cuTensorMapEncodeTiled) FAILS(cuGetErrorName) FAILS(cuGetErrorString)
