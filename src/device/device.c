/* Opening a device by its name. */
#include "device/device.h"

#include <stdio.h>
#include <string.h>

#include "conf/config.h"
#include "device/device_impl.h"

/* Programs that are linked without the CUDA device have no such table. */
extern const sgc_device_ops sgc_cuda_ops __attribute__((weak)), sgc_cuda_bf16_ops __attribute__((weak)), sgc_cuda_fp16_ops __attribute__((weak));
sgc_status sgc_cuda_open(sgc_device *d, const sgc_device_spec *spec) __attribute__((weak));
void sgc_cuda_close(sgc_device *d) __attribute__((weak));
sgc_status sgc_cuda_gpus(sgc_gpus *gpus) __attribute__((weak));

static const struct backend {
    const char *name;
    const sgc_device_ops *ops; /* NULL: not in this program */
    sgc_status (*open)(sgc_device *d, const sgc_device_spec *spec); /* NULL: nothing to do */
    void (*close)(sgc_device *d);
} backends[] = {
    {"cpu", &sgc_cpu_ops, sgc_cpu_open, sgc_cpu_close},
    {"cpu_bf16", &sgc_cpu_bf16_ops, sgc_cpu_open, sgc_cpu_close},
    {"ref32", &sgc_ref32_ops, NULL, NULL},
    {"ref64", &sgc_ref64_ops, NULL, NULL},
    {"cuda", &sgc_cuda_ops, sgc_cuda_open, sgc_cuda_close},
    {"cuda_bf16", &sgc_cuda_bf16_ops, sgc_cuda_open, sgc_cuda_close},
    {"cuda_fp16", &sgc_cuda_fp16_ops, sgc_cuda_open, sgc_cuda_close},
    {"null", &sgc_null_ops, NULL, NULL},
};

static const struct backend *find(const char *name)
{
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
        if (strcmp(backends[i].name, name) == 0) return &backends[i];
    return NULL;
}

bool sgc_device_is_built(const char *name)
{
    const struct backend *b = find(name);
    return b && b->ops;
}

sgc_status sgc_device_open_spec(sgc_device *d, const sgc_device_spec *spec)
{
    const struct backend *b = find(spec->name);
    *d = (sgc_device){0};
    if (!b) return sgc_err(SGC_EARG, "there is no device '%s'; write cpu, cpu_bf16, ref32, ref64, cuda, cuda_bf16, cuda_fp16 or null", spec->name);
    if (!b->ops) return sgc_err(SGC_EDEVICE, "this stagecoach was built without CUDA; build it with ./configure --with-cuda, or write --use_cpu true");
    d->ops = b->ops;
    d->exact_threads = spec->full_determinism;
    snprintf(d->isa, sizeof(d->isa), "%s", sgc_device_isa()); /* a backend that is no CPU writes its own */
    snprintf(d->about, sizeof(d->about), "CPUs with %s instructions", d->isa);
    sgc_status st = b->open ? b->open(d, spec) : SGC_OK;
    if (st != SGC_OK) *d = (sgc_device){0};
    return st;
}

sgc_status sgc_device_gpus(sgc_gpus *gpus)
{
    *gpus = (sgc_gpus){.none = "this stagecoach was built without CUDA"};
    return sgc_cuda_gpus ? sgc_cuda_gpus(gpus) : SGC_OK;
}

sgc_status sgc_device_open(sgc_device *d, const char *name, bool full_determinism)
{
    return sgc_device_open_spec(d, &(sgc_device_spec){.name = name, .full_determinism = full_determinism, .node_size = 1, .attention = SGC_ATTENTION_OWN});
}

void sgc_device_close(sgc_device *d)
{
    if (!d->ops) return;
    const struct backend *b = find(d->ops->name);
    if (b && b->close) b->close(d);
    *d = (sgc_device){0};
}
