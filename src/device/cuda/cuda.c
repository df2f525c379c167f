/* The CUDA devices: their ops tables, which GPU a rank takes, and what becomes of failures. */
#include "device/cuda/cuda_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"

/* 13010 -> "13.1" */
static const char *version_text(int version, char out[16])
{
    snprintf(out, 16, "%d.%d", version / 1000, version % 1000 / 10);
    return out;
}

static sgc_status refuse_driver(cudaError_t rc)
{
    char built[16], has[16];
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (rc == cudaErrorInsufficientDriver)
        return sgc_err(SGC_EDEVICE, "the NVIDIA driver of node %s is too old: it is for CUDA %s, this stagecoach was built with CUDA %s; have the driver "
                       "renewed, build with an older toolkit, or write --use_cpu true", sgc_node_name(), version_text(driver, has),
                       version_text(CUDART_VERSION, built));
    return sgc_err(SGC_EDEVICE, "the NVIDIA driver of node %s does not work: %s (%s); have the node checked, or write --use_cpu true", sgc_node_name(),
                   cudaGetErrorString(rc), cudaGetErrorName(rc));
}

sgc_status sgc_cuda_gpus(sgc_gpus *gpus)
{
    int driver = 0;
    struct cudaDeviceProp properties;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    *gpus = (sgc_gpus){.n = 0};
    cudaError_t rc = cudaGetDeviceCount(&gpus->n);
    cudaGetLastError(); /* told here; later calls would tell it again */
    if (rc != cudaSuccess) gpus->n = 0;
    if (rc == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
        snprintf(gpus->none, sizeof(gpus->none), "it has no NVIDIA driver");
        return SGC_OK;
    }
    if (rc != cudaSuccess && rc != cudaErrorNoDevice) return refuse_driver(rc);
    if (gpus->n == 0) {
        if (visible) snprintf(gpus->none, sizeof(gpus->none), "CUDA_VISIBLE_DEVICES is '%.80s'", visible);
        else snprintf(gpus->none, sizeof(gpus->none), "its driver shows none");
        return SGC_OK;
    }
    if (gpus->n > SGC_MAX_GPUS) gpus->n = SGC_MAX_GPUS;
    for (int i = 0; i < gpus->n; i++) {
        if ((rc = cudaGetDeviceProperties(&properties, i)) != cudaSuccess) return refuse_driver(rc);
        memcpy(gpus->id[i], properties.uuid.bytes, sizeof(gpus->id[i]));
    }
    return SGC_OK;
}

/* is_shared: another rank takes the same. */
static sgc_status choose(sgc_cuda *cuda, const sgc_device_spec *spec, bool *is_shared)
{
    sgc_gpus gpus;
    sgc_status st = sgc_cuda_gpus(&gpus);
    if (st != SGC_OK) return st;
    if (gpus.n == 0)
        return sgc_err(SGC_EDEVICE, "node %s has no GPU for this job: %s; ask for one, or write --use_cpu true", sgc_node_name(), gpus.none);
    *is_shared = spec->node_size > gpus.n;
    if (*is_shared && !spec->share)
        return sgc_err(SGC_EDEVICE, "%d ranks of node %s see %d GPU%s: start at most %d rank%s per node (mpirun --map-by ppr:%d:node, srun --ntasks-per-node=%d), "
                       "or write --device.share true", spec->node_size, sgc_node_name(), gpus.n, gpus.n == 1 ? "" : "s", gpus.n, gpus.n == 1 ? "" : "s",
                       gpus.n, gpus.n);
    cuda->ordinal = spec->node_rank % gpus.n;
    return SGC_OK;
}

/* What a GPU must be able to do, and allow. */
static sgc_status check(const sgc_cuda *cuda, bool is_shared)
{
    const int capability = cuda->capability, least = sgc_cuda_architectures[0] / 10;
    int mode = cudaComputeModeDefault;
    cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, cuda->ordinal);
    if (mode == cudaComputeModeProhibited)
        return sgc_err(SGC_EDEVICE, "GPU %d (%s) of node %s is in compute mode 'prohibited', which lets no program use it: have it set to default "
                       "(nvidia-smi -c 0), or leave it out of CUDA_VISIBLE_DEVICES", cuda->ordinal, cuda->name, sgc_node_name());
    if (mode != cudaComputeModeDefault && is_shared)
        return sgc_err(SGC_EDEVICE, "--device.share true: GPU %d (%s) of node %s is in an exclusive compute mode, for one process alone: have it set to "
                       "default (nvidia-smi -c 0), or start one rank per GPU", cuda->ordinal, cuda->name, sgc_node_name());
    if (capability < 80)
        return sgc_err(SGC_EDEVICE, "GPU %d (%s) of node %s has compute capability %d.%d; the kernels of this program, bf16 and TF32 need 8.0 or newer: use "
                       "another GPU, or write --use_cpu true", cuda->ordinal, cuda->name, sgc_node_name(), capability / 10, capability % 10);
    if (capability < least)
        return sgc_err(SGC_EDEVICE, "GPU %d (%s) of node %s has compute capability %d.%d, this stagecoach was built for %d.%d and newer: build it with "
                       "./configure --with-cuda-arch=%d, or write --use_cpu true", cuda->ordinal, cuda->name, sgc_node_name(), capability / 10,
                       capability % 10, least / 10, least % 10, capability);
    return SGC_OK;
}

static sgc_status refuse_start(const sgc_cuda *cuda, cudaError_t rc)
{
    if (rc == cudaErrorDevicesUnavailable)
        return sgc_err(SGC_EDEVICE, "GPU %d (%s) of node %s is busy or held by another process (nvidia-smi lists them): wait for it, choose another by "
                       "CUDA_VISIBLE_DEVICES, or write --use_cpu true", cuda->ordinal, cuda->name, sgc_node_name());
    return sgc_err(SGC_EDEVICE, "GPU %d (%s) of node %s cannot be used: %s (%s); choose another by CUDA_VISIBLE_DEVICES, or write --use_cpu true",
                   cuda->ordinal, cuda->name, sgc_node_name(), cudaGetErrorString(rc), cudaGetErrorName(rc));
}

static sgc_status start(sgc_cuda *cuda)
{
    char total[32], left[32], driver_text[16];
    size_t n_free = 0, n_total = 0;
    int driver = 0;
    cudaError_t rc = cudaSetDevice(cuda->ordinal);
    if (rc == cudaSuccess) rc = cudaFree(NULL); /* before CUDA 12 this is what makes the context */
    if (rc == cudaSuccess) rc = cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking);
    if (rc == cudaSuccess) rc = cudaMemGetInfo(&n_free, &n_total);
    if (rc != cudaSuccess) {
        cudaGetLastError();
        return refuse_start(cuda, rc);
    }
    cudaDriverGetVersion(&driver);
    sgc_log_info("GPU: %s, %s of memory, %s of it free; driver for CUDA %s", cuda->name, sgc_format_bytes((double)n_total, total),
                 sgc_format_bytes((double)n_free, left), version_text(driver, driver_text));
    return SGC_OK;
}

/* What can be known of a GPU before it is used. */
static sgc_status look_at(sgc_cuda *cuda)
{
    struct cudaDeviceProp properties;
    cudaError_t rc = cudaGetDeviceProperties(&properties, cuda->ordinal);
    if (rc != cudaSuccess) return refuse_driver(rc);
    snprintf(cuda->name, sizeof(cuda->name), "%.100s", properties.name);
    cuda->capability = 10 * properties.major + properties.minor;
    cuda->n_sms = properties.multiProcessorCount;
    return SGC_OK;
}

void sgc_cuda_close(sgc_device *d)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    if (cuda->stream) cudaStreamSynchronize(cuda->stream);
    sgc_cuda_attention_close(d);
    sgc_cuda_matmul_close(d);
    sgc_device_free(d, cuda->scratch);
    if (cuda->stream) cudaStreamDestroy(cuda->stream);
    free(cuda);
    d->state = NULL;
}

sgc_status sgc_cuda_open(sgc_device *d, const sgc_device_spec *spec)
{
    sgc_status st;
    bool is_shared;
    sgc_cuda *cuda = calloc(1, sizeof(*cuda));
    if (!cuda) return sgc_err(SGC_ENOMEM, "no memory for a GPU's state");
    d->state = cuda;
    cuda->tf32 = spec->tf32;
    cuda->graphs = spec->graphs;
    SGC_TRY(choose(cuda, spec, &is_shared));
    SGC_TRY(look_at(cuda));
    SGC_TRY(check(cuda, is_shared));
    SGC_TRY(start(cuda));
    snprintf(d->isa, sizeof(d->isa), "sm_%d, %d SMs", cuda->capability, cuda->n_sms);
    snprintf(d->about, sizeof(d->about), "%.60s (%s)", cuda->name, d->isa);
    SGC_TRY(sgc_cuda_matmul_open(d));
    SGC_TRY(sgc_cuda_attention_open(d, spec->attention));
done:
    if (st != SGC_OK) sgc_cuda_close(d);
    return st;
}

void sgc_cuda_fail(sgc_device *d, const char *what, const char *why)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    if (d->is_recording) {
        if (!cuda->refusal[0]) snprintf(cuda->refusal, sizeof(cuda->refusal), "%s: %s", what, why);
        return;
    }
    if (cuda->failed) return;
    cuda->failed = true;
    snprintf(cuda->failure, sizeof(cuda->failure), "%s: %s", what, why);
}

/* What a user can do about it; "": nothing in particular. */
static const char *advice(cudaError_t rc)
{
    switch (rc) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorHardwareStackError:
        return "; the GPU is faulty: have the node checked, and go on from the last checkpoint without it";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
        return "; this may be of an earlier call: CUDA_LAUNCH_BLOCKING=1 tells which";
    case cudaErrorLaunchTimeout:
        return "; the GPU drives a display, whose driver ends long kernels";
    default:
        return "";
    }
}

bool sgc_cuda_check(sgc_device *d, cudaError_t rc, const char *what)
{
    char why[400];
    if (rc == cudaSuccess) return true;
    cudaGetLastError(); /* what is not sticky is told here once */
    snprintf(why, sizeof(why), "%s (%s)%s", cudaGetErrorString(rc), cudaGetErrorName(rc), advice(rc));
    sgc_cuda_fail(d, what, why);
    return false;
}

sgc_status sgc_cuda_status(sgc_device *d)
{
    const sgc_cuda *cuda = sgc_cuda_of(d);
    if (!cuda->failed) return SGC_OK;
    return sgc_err(SGC_EDEVICE, "GPU %d (%s) of node %s failed in %s", cuda->ordinal, cuda->name, sgc_node_name(), cuda->failure);
}

#define CUDA_OPS(device, value_type) \
    { \
        .name = device, .value = value_type, .wide = SGC_F32, .memory = &sgc_cuda_memory, .chunk_bytes = (size_t)1 << 30, .row_multiple = 64, .largest_head = 256, \
        .attention_prepare = sgc_cuda_attention_prepare, \
        .scratch_bytes = sgc_cuda_scratch_bytes, \
        .embedding_forward = sgc_cuda_embedding_forward, \
        .embedding_backward = sgc_cuda_embedding_backward, \
        .layer_norm_forward = sgc_cuda_layer_norm_forward, \
        .layer_norm_backward = sgc_cuda_layer_norm_backward, \
        .residual_norm_forward = sgc_cuda_residual_norm_forward, \
        .residual_norm_backward = sgc_cuda_residual_norm_backward, \
        .matmul = sgc_cuda_matmul, \
        .attention_forward = sgc_cuda_attention_forward, \
        .attention_backward = sgc_cuda_attention_backward, \
        .attention_cached = sgc_cuda_attention_cached, \
        .activation_forward = sgc_cuda_activation_forward, \
        .activation_backward = sgc_cuda_activation_backward, \
        .add = sgc_cuda_add, \
        .dropout = sgc_cuda_dropout, \
        .cross_entropy = sgc_cuda_cross_entropy, \
        .adamw = sgc_cuda_adamw, \
        .block_square_sums = sgc_cuda_block_square_sums, \
        .narrow = sgc_cuda_narrow, \
        .add_into = sgc_cuda_add_into, \
    }

const sgc_device_ops sgc_cuda_ops = CUDA_OPS("cuda", SGC_F32);
const sgc_device_ops sgc_cuda_bf16_ops = CUDA_OPS("cuda_bf16", SGC_BF16);
const sgc_device_ops sgc_cuda_fp16_ops = CUDA_OPS("cuda_fp16", SGC_F16);
