/* How often to save. */
#ifndef SGC_TRAIN_INTERVAL_IMPL_H
#define SGC_TRAIN_INTERVAL_IMPL_H

#include <stdint.h>

/**
 * Seconds of training between saves that lose the least time to saving and to repeating what a failure destroyed.
 * @param cost_s  training time that one save costs.
 * @param mtbf_s  mean time between failures of the job.
 * Source: J. T. Daly, Future Generation Computer Systems 22 (2006) 303-312, doi 10.1016/j.future.2004.11.016, equation 37; its first
 * term is J. W. Young, Communications of the ACM 17 (1974) 530-531, doi 10.1145/361147.361115.
 */
double sgc_interval_s(double cost_s, double mtbf_s);

/* The same in updates, at least one, and not more often than a save takes (duration_s, in the background too). */
int64_t sgc_interval_updates(double cost_s, double duration_s, double update_s, double mtbf_s);

#endif
