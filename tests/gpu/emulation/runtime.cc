/* Devices, versions and errors. */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch_emulated.h"

using namespace emulated;

static cudaError_t last_error, sticky_error;
static int current_device;
static long n_launches, n_requests;

namespace emulated {

long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

cudaError_t told(cudaError_t error)
{
    if (error != cudaSuccess) last_error = error;
    return error;
}

void fail_for_good(cudaError_t error)
{
    if (sticky_error == cudaSuccess) sticky_error = error;
}

static int driver_version() { return setting("EMULATED_NO_DRIVER", 0) ? 0 : (int)setting("EMULATED_DRIVER", CUDART_VERSION); }

cudaError_t usable()
{
    if (driver_version() < CUDART_VERSION) return cudaErrorInsufficientDriver;
    return sticky_error;
}

static void write_requests()
{
    FILE *f = fopen(getenv("EMULATED_REQUESTS"), "a");
    if (!f) return;
    fprintf(f, "%ld\n", n_requests);
    fclose(f);
}

void count_request()
{
    if (n_requests++ == 0 && getenv("EMULATED_REQUESTS")) atexit(write_requests);
}

bool fails_here()
{
    return ++n_launches == setting("EMULATED_FAIL_LAUNCH", 0);
}

} // namespace emulated

/* The numbers in CUDA_VISIBLE_DEVICES up to the first that is none of a GPU. */
static int visible(int physical[64])
{
    const int n_gpus = (int)setting("EMULATED_GPUS", 1);
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    int n = 0;
    if (!text) {
        for (n = 0; n < n_gpus && n < 64; n++) physical[n] = n;
        return n;
    }
    while (n < 64) {
        char *end;
        long i = strtol(text, &end, 10);
        if (end == text || i < 0 || i >= n_gpus) break;
        physical[n++] = (int)i;
        if (*end != ',') break;
        text = end + 1;
    }
    return n;
}

extern "C" {

cudaError_t cudaGetDeviceCount(int *n)
{
    int physical[64];
    *n = 0;
    cudaError_t rc = usable();
    if (rc != cudaSuccess) return told(rc);
    *n = visible(physical);
    return told(*n ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *ordinal)
{
    *ordinal = current_device;
    return told(usable());
}

static cudaError_t check_ordinal(int ordinal)
{
    int n;
    cudaError_t rc = cudaGetDeviceCount(&n);
    if (rc == cudaSuccess && (ordinal < 0 || ordinal >= n)) rc = cudaErrorInvalidDevice;
    return told(rc);
}

cudaError_t cudaSetDevice(int ordinal)
{
    cudaError_t rc = check_ordinal(ordinal);
    if (rc == cudaSuccess && setting("EMULATED_BUSY", 0)) rc = cudaErrorDevicesUnavailable;
    if (rc == cudaSuccess) current_device = ordinal;
    return told(rc);
}

cudaError_t cudaSetDeviceFlags(unsigned) { return told(usable()); }

static void capability(int *major, int *minor)
{
    const char *text = getenv("EMULATED_CAPABILITY");
    *major = 9;
    *minor = 0;
    if (text && sscanf(text, "%d.%d", major, minor) != 2) emulated_defect("EMULATED_CAPABILITY is '%s', not like 8.0", text);
}

} // extern "C"

size_t emulated::most_shared_bytes()
{
    int major, minor;
    capability(&major, &minor);
    return (size_t)(major >= 9 ? 227 : major == 8 && minor == 0 ? 163 : major == 8 ? 99 : 96) * 1024;
}

extern "C" {

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int ordinal)
{
    int physical[64];
    cudaError_t rc = check_ordinal(ordinal);
    if (rc != cudaSuccess) return rc;
    visible(physical);
    memset(p, 0, sizeof(*p));
    snprintf(p->name, sizeof(p->name), "Emulated GPU");
    memcpy(p->uuid.bytes, "EMULATED GPU", 12);
    p->uuid.bytes[15] = (char)physical[ordinal];
    p->totalGlobalMem = (size_t)setting("EMULATED_MEMORY", 16L << 30);
    p->sharedMemPerBlock = 48 * 1024;
    p->sharedMemPerBlockOptin = most_shared_bytes();
    p->sharedMemPerMultiprocessor = p->sharedMemPerBlockOptin + 1024;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->multiProcessorCount = 8;
    p->regsPerMultiprocessor = 65536;
    p->l2CacheSize = 4 << 20;
    p->pciBusID = physical[ordinal];
    p->managedMemory = 1;
    capability(&p->major, &p->minor);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int ordinal)
{
    struct cudaDeviceProp p;
    cudaError_t rc = cudaGetDeviceProperties(&p, ordinal);
    *value = 0;
    if (rc != cudaSuccess) return rc;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrComputeMode: *value = (int)setting("EMULATED_COMPUTE_MODE", cudaComputeModeDefault); break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    default: return told(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int ordinal)
{
    struct cudaDeviceProp p;
    cudaError_t rc = cudaGetDeviceProperties(&p, ordinal);
    if (rc == cudaSuccess) snprintf(text, (size_t)bytes, "%04x:%02x:00.0", p.pciDomainID, p.pciBusID);
    return rc;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = driver_version();
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = sticky_error != cudaSuccess ? sticky_error : last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return sticky_error != cudaSuccess ? sticky_error : last_error; }

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "capture was not initiated in this stream"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"},
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (auto &e : errors)
        if (e.error == error) return e.name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (auto &e : errors)
        if (e.error == error) return e.text;
    return "unrecognized error code";
}

} // extern "C"

namespace emulated {

bool fits(const grid &g)
{
    const uint64_t n = (uint64_t)g.threads.x * g.threads.y * g.threads.z, blocks = (uint64_t)g.blocks.x * g.blocks.y * g.blocks.z;
    return n > 0 && n <= 1024 && g.threads.z <= 64 && blocks > 0 && g.blocks.x <= 0x7fffffff && g.blocks.y <= 65535 && g.blocks.z <= 65535 &&
           g.shared_bytes <= most_shared_bytes();
}

} // namespace emulated
