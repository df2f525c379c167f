#include "train/control_impl.h"

#include <string.h>

#include "base/log.h"
#include "train/signals_impl.h"

_Static_assert(sizeof(sgc_control) == sizeof(int64_t) * (2 * (size_t)SGC_EXACT_N_INT64 + 5), "the control word is an array of int64_t");

void sgc_control_clear(sgc_control *c)
{
    memset(c, 0, sizeof(*c));
    sgc_exact_zero(&c->loss);
    sgc_exact_zero(&c->square);
}

void sgc_control_add_losses(sgc_control *c, const double *loss, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sgc_exact_add(&c->loss, loss[i]);
    sgc_exact_normalize(&c->loss);
}

sgc_status sgc_control_agree(sgc_control *c, sgc_group *group, bool has_written)
{
    size_t bytes;
    sgc_log_pending(&bytes);
    c->n_stop = sgc_signals_stop() != 0;
    c->n_save = sgc_signals_take_save();
    c->n_bad_loss = c->loss.n_nan + c->loss.n_pos_inf + c->loss.n_neg_inf > 0;
    c->n_log = bytes > 0;
    c->n_written = has_written;
    sgc_exact_normalize(&c->loss);
    sgc_exact_normalize(&c->square);
    return sgc_sum_int64(group, (int64_t *)c, (int)(sizeof(*c) / sizeof(int64_t)));
}
