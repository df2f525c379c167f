#include <math.h>

#include "optim/optim.h"

/* As torch.amp.GradScaler, which the Trainer uses. */
enum { GROWTH_INTERVAL = 2000 };
static const double GROWTH = 2, BACKOFF = 0.5;

void sgc_loss_scale_start(sgc_loss_scale *s) { *s = (sgc_loss_scale){.scale = 65536}; }

void sgc_loss_scale_update(sgc_loss_scale *s, bool has_overflow)
{
    if (has_overflow) {
        s->scale *= BACKOFF;
        s->n_good = 0;
        return;
    }
    if (++s->n_good < GROWTH_INTERVAL) return;
    if (isfinite((float)(s->scale * GROWTH))) s->scale *= GROWTH;
    s->n_good = 0;
}
