/* The hot loops for one instruction set: V_BYTES, SIMD_TABLE and SIMD_NAME are defined by the file that includes this one. */
#include "conf/config.h"
#include "device/cpu/simd.h"
#include "device/cpu/simd/vec.h"

#include "device/cpu/simd/attention.h"
#include "device/cpu/simd/elementwise.h"
#include "device/cpu/simd/rows.h"

const sgc_simd SIMD_TABLE = {
    .name = SIMD_NAME,
    .activation_forward = activation_forward,
    .activation_backward = activation_backward,
    .add = add,
    .dropout = dropout,
    .adamw = adamw,
    .square_sum = square_sum,
    .layer_norm_forward = layer_norm_forward,
    .layer_norm_backward = layer_norm_backward,
    .layer_norm_columns = layer_norm_columns,
    .column_sums = column_sums,
    .cross_entropy = cross_entropy,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .attend = attend,
};
