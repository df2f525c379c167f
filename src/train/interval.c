#include "train/interval_impl.h"

#include <math.h>

double sgc_interval_s(double cost_s, double mtbf_s)
{
    if (cost_s >= 2 * mtbf_s) return mtbf_s;
    double x = cost_s / (2 * mtbf_s);
    return sqrt(2 * cost_s * mtbf_s) * (1 + sqrt(x) / 3 + x / 9) - cost_s;
}

int64_t sgc_interval_updates(double cost_s, double duration_s, double update_s, double mtbf_s)
{
    double wanted_s = sgc_interval_s(cost_s, mtbf_s);
    if (wanted_s < duration_s) wanted_s = duration_s;
    double updates = ceil(wanted_s / (update_s > 1e-9 ? update_s : 1e-9));
    return updates < 1 ? 1 : updates > 1e15 ? (int64_t)1e15 : (int64_t)updates;
}
