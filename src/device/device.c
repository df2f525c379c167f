/* Opening a device by its name. */
#include "device/device.h"

#include <string.h>

#include "device/device_impl.h"

static const struct backend {
    const sgc_device_ops *ops;
    sgc_status (*open)(sgc_device *d); /* NULL: nothing to do */
    void (*close)(sgc_device *d);
} backends[] = {
    {&sgc_cpu_ops, sgc_cpu_open, sgc_cpu_close},
    {&sgc_cpu_bf16_ops, sgc_cpu_open, sgc_cpu_close},
    {&sgc_ref32_ops, NULL, NULL},
    {&sgc_ref64_ops, NULL, NULL},
    {&sgc_null_ops, NULL, NULL},
};

static const struct backend *find(const char *name)
{
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
        if (strcmp(backends[i].ops->name, name) == 0) return &backends[i];
    return NULL;
}

sgc_status sgc_device_open(sgc_device *d, const char *name, bool full_determinism)
{
    const struct backend *b = find(name);
    *d = (sgc_device){0};
    if (!b) return sgc_err(SGC_EARG, "there is no device '%s'; write cpu, cpu_bf16, ref32, ref64 or null", name);
    d->ops = b->ops;
    d->exact_threads = full_determinism;
    sgc_status st = b->open ? b->open(d) : SGC_OK;
    if (st != SGC_OK) *d = (sgc_device){0};
    return st;
}

void sgc_device_close(sgc_device *d)
{
    if (!d->ops) return;
    const struct backend *b = find(d->ops->name);
    if (b && b->close) b->close(d);
    *d = (sgc_device){0};
}
