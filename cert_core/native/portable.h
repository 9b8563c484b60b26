/* The one header that knows where the formulas are compiled: by a C or C++ compiler for the
 * host, by nvcc or NVRTC for a GPU.  NVRTC has no standard headers. */
#ifndef CERT_CORE_PORTABLE_H
#define CERT_CORE_PORTABLE_H

typedef unsigned int cc_u32;
typedef unsigned long long cc_u64;
typedef int cc_i32;
typedef long long cc_i64;

#ifdef __CUDACC__

#define CC_FN __device__ __forceinline__
#define CC_UNROLL _Pragma("unroll")
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif

CC_FN cc_u32 cc_bits32(float x) { return __float_as_uint(x); }
CC_FN float cc_float(cc_u32 bits) { return __uint_as_float(bits); }
CC_FN cc_u64 cc_bits64(double x) { return (cc_u64)__double_as_longlong(x); }
CC_FN double cc_double(cc_u64 bits) { return __longlong_as_double((cc_i64)bits); }

/* The two halves of a product.  Of 64-bit factors the compiler adds up what it knows to be 0. */
CC_FN void cc_wide(cc_u32 a, cc_u32 b, cc_u32* high, cc_u32* low) {
  asm("{ .reg .u64 p; mul.wide.u32 p, %2, %3; mov.b64 {%1, %0}, p; }"
      : "=r"(*high), "=r"(*low)
      : "r"(a), "r"(b));
}

/* (x & mask) | bits in one instruction, of which the compiler makes two. */
CC_FN cc_u32 cc_masked_or(cc_u32 x, cc_u32 mask, cc_u32 bits) {
  cc_u32 result;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(result) : "r"(x), "r"(mask), "r"(bits));
  return result;
}

/* 1/x to a relative 2^-23, of normal numbers. */
CC_FN float cc_inverse32(float x) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
}

/* The root to a relative 2^-23, of normal numbers and 0. */
CC_FN float cc_root32(float x) {
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

/* -log x to 2.3e-7 max(1, -log x), of normal numbers up to 1 (all of them tried on an H200). */
CC_FN float cc_rough_log32(float x) {
  float power;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return -0.693147182f * power;
}

/* Products that no later sum swallows: rounded by themselves. */
CC_FN float cc_product32(float a, float b) { return __fmul_rn(a, b); }
CC_FN double cc_product64(double a, double b) { return __dmul_rn(a, b); }

#else

#include <math.h>
#include <string.h>

#define CC_FN static inline
#define CC_UNROLL

CC_FN cc_u32 cc_bits32(float x) {
  cc_u32 bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

CC_FN float cc_float(cc_u32 bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

CC_FN cc_u64 cc_bits64(double x) {
  cc_u64 bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

CC_FN double cc_double(cc_u64 bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

CC_FN void cc_wide(cc_u32 a, cc_u32 b, cc_u32* high, cc_u32* low) {
  cc_u64 product = (cc_u64)a * b;
  *high = (cc_u32)(product >> 32);
  *low = (cc_u32)product;
}

CC_FN cc_u32 cc_masked_or(cc_u32 x, cc_u32 mask, cc_u32 bits) { return (x & mask) | bits; }
CC_FN float cc_inverse32(float x) { return 1.0f / x; }
CC_FN float cc_root32(float x) { return sqrtf(x); }
CC_FN float cc_rough_log32(float x) { return -logf(x); }
CC_FN float cc_product32(float a, float b) { return a * b; }
CC_FN double cc_product64(double a, double b) { return a * b; }

#endif
#endif
