/*
 * The hot loops of one instruction set for one type of values: VALUE, and TYPED(name), the name of a function or table for it, are
 * defined by the file that includes this one.
 */
#include "device/cpu/simd/attention.h"
#include "device/cpu/simd/elementwise.h"
#include "device/cpu/simd/rows.h"

const sgc_simd TYPED(SIMD_TABLE) = {
    .activation_forward = TYPED(activation_forward),
    .activation_backward = TYPED(activation_backward),
    .add = TYPED(add),
    .add_to_wide = TYPED(add_to_wide),
    .widen = TYPED(widen),
    .narrow = TYPED(narrow),
    .dropout = TYPED(dropout),
    .residual = TYPED(residual),
    .adamw = TYPED(adamw),
    .square_sum = TYPED(square_sum),
    .layer_norm_forward = TYPED(layer_norm_forward),
    .layer_norm_backward = TYPED(layer_norm_backward),
    .column_sums = TYPED(column_sums),
    .add_rows = add_rows,
    .cross_entropy = TYPED(cross_entropy),
    .attention_forward = TYPED(attention_forward),
    .attention_backward = TYPED(attention_backward),
    .attend = TYPED(attend),
};
