/* The hot loops in the instructions that every CPU of the architecture has. */
#define V_BYTES 16
#define SIMD_TABLE sgc_simd_portable
#include "device/cpu/simd/tables.h"
