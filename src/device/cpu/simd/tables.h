/* The hot loops of one instruction set, for each type of values. V_BYTES and SIMD_TABLE are defined by the file that includes this one. */
#include "conf/config.h"
#include "device/cpu/simd.h"

#ifndef V_PAIR
#define V_PAIR 1 /* bf16 in a word of an operand of small products: see product.h */
#endif
#include "device/cpu/simd/vec.h"

#include "device/cpu/simd/formulas.h"
#include "device/cpu/simd/product.h"
#include "device/cpu/simd/sums.h"

#define TYPED_PASTE(name, suffix) name##suffix
#define TYPED_NAME(name, suffix) TYPED_PASTE(name, suffix)

#if V_PAIR == 1
#define VALUE float
#define TYPED(name) TYPED_NAME(name, _f32)
#include "device/cpu/simd/table.h"
#undef VALUE
#undef TYPED
#endif

#define VALUE sgc_bf16
#define TYPED(name) TYPED_NAME(name, _bf16)
#include "device/cpu/simd/table.h"
