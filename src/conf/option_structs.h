/* Makes the option structs out of options.def: each group takes its own rows. */
#ifndef SGC_CONF_OPTION_STRUCTS_H
#define SGC_CONF_OPTION_STRUCTS_H

#include <stdbool.h>
#include <stdint.h>

#define BOOL(g, k, d, h) SGC_IN_##g(bool k;)
#define INT(g, k, d, lo, hi, u, h) SGC_IN_##g(int64_t k;)
#define FLOAT(g, k, d, lo, hi, u, h) SGC_IN_##g(double k;)
#define STRING(g, k, d, h) SGC_IN_##g(const char *k;)
#define CHOICE(g, k, d, c, h) SGC_IN_##g(int k;)
#define OPTINT(g, k, lo, hi, u, h) SGC_IN_##g(bool has_##k; int64_t k;)
#define OPTFLOAT(g, k, lo, hi, u, h) SGC_IN_##g(bool has_##k; double k;)
#define OPTFLOAT_DEFAULT(g, k, d, lo, hi, u, h) SGC_IN_##g(bool has_##k; double k;)
#define OPTBOOL(g, k, h) SGC_IN_##g(bool has_##k; bool k;)

#define SGC_IN_model(x)
#define SGC_IN_data(x)
#define SGC_IN_training(x)
#define SGC_IN_zero(x)
#define SGC_IN_checkpoint(x)
#define SGC_IN_comm(x)
#define SGC_IN_device(x)

#undef SGC_IN_model
#define SGC_IN_model(x) x
typedef struct sgc_model_options {
#include "conf/options.def"
} sgc_model_options;
#undef SGC_IN_model
#define SGC_IN_model(x)

#undef SGC_IN_data
#define SGC_IN_data(x) x
typedef struct sgc_data_options {
#include "conf/options.def"
} sgc_data_options;
#undef SGC_IN_data
#define SGC_IN_data(x)

#undef SGC_IN_training
#define SGC_IN_training(x) x
typedef struct sgc_training_options {
#include "conf/options.def"
} sgc_training_options;
#undef SGC_IN_training
#define SGC_IN_training(x)

#undef SGC_IN_zero
#define SGC_IN_zero(x) x
typedef struct sgc_zero_options {
#include "conf/options.def"
} sgc_zero_options;
#undef SGC_IN_zero
#define SGC_IN_zero(x)

#undef SGC_IN_checkpoint
#define SGC_IN_checkpoint(x) x
typedef struct sgc_checkpoint_options {
#include "conf/options.def"
} sgc_checkpoint_options;
#undef SGC_IN_checkpoint
#define SGC_IN_checkpoint(x)

#undef SGC_IN_comm
#define SGC_IN_comm(x) x
typedef struct sgc_comm_options {
#include "conf/options.def"
} sgc_comm_options;
#undef SGC_IN_comm
#define SGC_IN_comm(x)

#undef SGC_IN_device
#define SGC_IN_device(x) x
typedef struct sgc_device_options {
#include "conf/options.def"
} sgc_device_options;
#undef SGC_IN_device

#undef SGC_IN_model
#undef SGC_IN_data
#undef SGC_IN_training
#undef SGC_IN_zero
#undef SGC_IN_checkpoint
#undef SGC_IN_comm
#undef BOOL
#undef INT
#undef FLOAT
#undef STRING
#undef CHOICE
#undef OPTINT
#undef OPTFLOAT
#undef OPTFLOAT_DEFAULT
#undef OPTBOOL

#endif
