/* CUDA's vector types: plain structs with the alignment that 64- and 128-bit accesses need. */
#ifndef EMULATED_VECTOR_TYPES_H
#define EMULATED_VECTOR_TYPES_H

#define EMULATED_ALIGN(n) __attribute__((aligned(n)))

typedef struct EMULATED_ALIGN(2) char2 { signed char x, y; } char2;
typedef struct char3 { signed char x, y, z; } char3;
typedef struct EMULATED_ALIGN(4) char4 { signed char x, y, z, w; } char4;
typedef struct EMULATED_ALIGN(2) uchar2 { unsigned char x, y; } uchar2;
typedef struct uchar3 { unsigned char x, y, z; } uchar3;
typedef struct EMULATED_ALIGN(4) uchar4 { unsigned char x, y, z, w; } uchar4;
typedef struct EMULATED_ALIGN(4) short2 { short x, y; } short2;
typedef struct short3 { short x, y, z; } short3;
typedef struct EMULATED_ALIGN(8) short4 { short x, y, z, w; } short4;
typedef struct EMULATED_ALIGN(4) ushort2 { unsigned short x, y; } ushort2;
typedef struct ushort3 { unsigned short x, y, z; } ushort3;
typedef struct EMULATED_ALIGN(8) ushort4 { unsigned short x, y, z, w; } ushort4;
typedef struct EMULATED_ALIGN(8) int2 { int x, y; } int2;
typedef struct int3 { int x, y, z; } int3;
typedef struct EMULATED_ALIGN(16) int4 { int x, y, z, w; } int4;
typedef struct EMULATED_ALIGN(8) uint2 { unsigned int x, y; } uint2;
typedef struct uint3 { unsigned int x, y, z; } uint3;
typedef struct EMULATED_ALIGN(16) uint4 { unsigned int x, y, z, w; } uint4;
typedef struct EMULATED_ALIGN(8) float2 { float x, y; } float2;
typedef struct float3 { float x, y, z; } float3;
typedef struct EMULATED_ALIGN(16) float4 { float x, y, z, w; } float4;
typedef struct EMULATED_ALIGN(16) longlong2 { long long x, y; } longlong2;
typedef struct longlong3 { long long x, y, z; } longlong3;
typedef struct EMULATED_ALIGN(16) longlong4 { long long x, y, z, w; } longlong4;
typedef struct EMULATED_ALIGN(16) ulonglong2 { unsigned long long x, y; } ulonglong2;
typedef struct ulonglong3 { unsigned long long x, y, z; } ulonglong3;
typedef struct EMULATED_ALIGN(16) ulonglong4 { unsigned long long x, y, z, w; } ulonglong4;
typedef struct EMULATED_ALIGN(16) double2 { double x, y; } double2;
typedef struct double3 { double x, y, z; } double3;
typedef struct EMULATED_ALIGN(16) double4 { double x, y, z, w; } double4;

#ifdef __cplusplus
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned int x, unsigned int y) { return {x, y}; }
static inline uint3 make_uint3(unsigned int x, unsigned int y, unsigned int z) { return {x, y, z}; }
static inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }
static inline longlong4 make_longlong4(long long x, long long y, long long z, long long w) { return {x, y, z, w}; }
static inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }
static inline ulonglong4 make_ulonglong4(unsigned long long x, unsigned long long y, unsigned long long z, unsigned long long w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }
static inline double4 make_double4(double x, double y, double z, double w) { return {x, y, z, w}; }
static inline short2 make_short2(short x, short y) { return {x, y}; }
static inline short4 make_short4(short x, short y, short z, short w) { return {x, y, z, w}; }
static inline ushort2 make_ushort2(unsigned short x, unsigned short y) { return {x, y}; }
static inline ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) { return {x, y, z, w}; }
#else
typedef struct dim3 { unsigned x, y, z; } dim3;
#endif

#endif
