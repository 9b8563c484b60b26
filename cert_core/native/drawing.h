/* Words and coordinates of the noises, once for host and device; kernels/__init__.py says how
 * words are numbered, kernels/reference.py defines what becomes of them.  Polynomials are
 * minimax fits, the same as in kernels/tiles.py; the comments give their error. */
#ifndef CERT_CORE_DRAWING_H
#define CERT_CORE_DRAWING_H

#include "portable.h"

enum { CC_NORMAL, CC_EXPONENTIAL, CC_UNIFORM, CC_TRUNCATED };

typedef struct {
  cc_u32 w[4];
} cc_words;

/* What truncates a normal: erf and erfc of rho/sqrt 2, and rho, in its standard deviations. */
typedef struct {
  double inside, outside, rho;
  cc_u32 least; /* doubles from a high word below it are NaN; 0: none are */
} cc_bounds;

/* Philox4x32-10 (Salmon et al. 2011). */
CC_FN cc_words cc_philox(cc_u32 c0, cc_u32 c1, cc_u32 c2, cc_u32 c3, cc_u64 key) {
  cc_u32 k0 = (cc_u32)key, k1 = (cc_u32)(key >> 32);
  CC_UNROLL
  for (int round = 0; round < 10; ++round) {
    cc_u32 high0, high1, low0, low1;
    cc_wide(c0, 0xD2511F53u, &high0, &low0);
    cc_wide(c2, 0xCD9E8D57u, &high1, &low1);
    c0 = high1 ^ c1 ^ k0;
    c2 = high0 ^ c3 ^ k1;
    c1 = low1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  cc_words words = {{c0, c1, c2, c3}};
  return words;
}

/* The four words of one block of one sample. */
CC_FN cc_words cc_block(cc_u64 sample, cc_u32 block, cc_u32 stream, cc_u64 key) {
  return cc_philox((cc_u32)sample, (cc_u32)(sample >> 32), block, stream, key);
}

/* ---- single precision ---- */

/* -log v of v = u 2^-power in [2^-42, 1]: error 1.5e-7 max(1, -log v), and 4e-7 of itself. */
CC_FN float cc_minus_log32(float u, cc_u32 power) {
  /* exponent of it relative to sqrt(1/2), times 2^23: mantissa in [sqrt(1/2), sqrt 2) */
  cc_u32 exponent = (cc_bits32(u) - (0x3F3504F3u + (power << 23))) & 0xFF800000u;
  float f = cc_float(cc_bits32(u) - exponent - (power << 23)) - 1.0f;
  /* 2 artanh of -f/(2 + f) */
  float t = f * cc_inverse32(fmaf(f, -0.5f, -1.0f)), y = t * t;
  float p = fmaf(t * y, fmaf(y, 0.0129023530f, 0.0833167806f), t);
  return fmaf((float)(cc_i32)exponent, -0.693147182f * 0x1p-23f, p);
}

/* cos and sin of an angle of 24 bits, the word's high ones, over root 1/2 and without the sign that
 * the highest gives to both: error 3e-7. */
CC_FN void cc_turn32(cc_u32 word, float* x, float* z) {
  /* in units of pi/2^31, and then less a quarter of pi: within half pi of 0 */
  const float unit = 3.14159265358979f * 0x1p-31f;
  float t = fmaf((float)(cc_i32)cc_masked_or(word, 0x7FFFFF00u, 0x80u), unit, -0x1p30f * unit);
  float y = t * t;
  float s = fmaf(y, 2.60893194e-06f, -0.000198111127f);
  s = fmaf(y, s, 0.0083330879f);
  s = fmaf(y, s, -0.166666612f);
  s = fmaf(t * y, s, t);
  float c = fmaf(y, 2.31943795e-05f, -0.00138559274f);
  c = fmaf(y, c, 0.0416639894f);
  c = fmaf(y, c, -0.499999315f);
  c = fmaf(y, c, 1.0f);
  *x = c - s;
  *z = c + s;
}

/* The low 8 bits of a word and a half, over 2^8. */
CC_FN float cc_low32(cc_u32 word) {
  return cc_float(cc_masked_or(word, 255u, 0x47000000u)) - (0x1p15f - 0x1p-9f);
}

/* (0, 2^31] from 31 bits of a word and, below them, 8 of its neighbour. */
CC_FN float cc_uniform32(cc_u32 word, cc_u32 neighbour) {
  return (float)(cc_i32)(word >> 1) + cc_low32(neighbour);
}

/* The magnitude with the sign of the word's lowest bit. */
CC_FN float cc_signed32(float magnitude, cc_u32 word) {
  return cc_float(cc_bits32(magnitude) ^ (word << 31));
}

/* Two normals: radius from a word and the low 8 bits of the next, angle from its others. */
CC_FN void cc_normals32(cc_u32 a, cc_u32 b, float* out) {
  float radius = cc_root32(cc_minus_log32((float)a + cc_low32(b), 32)), x, z;
  radius = cc_float(cc_bits32(radius) ^ (b & 0x80000000u));
  cc_turn32(b, &x, &z);
  out[0] = radius * x;
  out[1] = radius * z;
}

/* For a standard normal, |x| with P(|x'| > x) = outside + share u, share up to inside/u: (w, y)
 * with y = erf(x/root 2), w = -log(1 - y^2). */
CC_FN float cc_level32(float u, float share, float inside, float outside, float* y) {
  *y = fmaf(-share, u, inside);
  return cc_rough_log32(fmaf(share, u, outside) * (1.0f + *y));
}

/* x/y for w below CC_FAR; relative error 5e-7 of x. */
CC_FN float cc_near32(float w) {
  float v = w - 2.5f;
  float p = 4.035374175e-08f;
  p = fmaf(p, v, 4.861047459e-07f);
  p = fmaf(p, v, -4.990552342e-06f);
  p = fmaf(p, v, -6.218003051e-06f);
  p = fmaf(p, v, 0.0003091501439f);
  p = fmaf(p, v, -0.001773010118f);
  p = fmaf(p, v, -0.005908170884f);
  p = fmaf(p, v, 0.3488026599f);
  return fmaf(p, v, 2.123313567f);
}

/* x/y for the others. */
CC_FN float cc_far32(float w) {
  float v = cc_root32(w) - 4.0f;
  float q = 9.0904838e-06f;
  q = fmaf(q, v, 5.273342949e-05f);
  q = fmaf(q, v, -0.0001370267416f);
  q = fmaf(q, v, 7.439334781e-06f);
  q = fmaf(q, v, -3.778988104e-05f);
  q = fmaf(q, v, 0.0005299187743f);
  q = fmaf(q, v, -0.001297559385f);
  q = fmaf(q, v, 0.001754470819f);
  q = fmaf(q, v, 1.427648975f);
  return fmaf(q, v, 5.430275853f);
}

#define CC_FAR 5.0f

/* Four of them, u in (0, 2^31]: the far ones are few, and most blocks have none. */
CC_FN void cc_truncated32(const float* u, cc_bounds bounds, float* out) {
  const float inside = (float)bounds.inside, outside = (float)bounds.outside;
  float w[4], y[4], most = 0.0f;
  CC_UNROLL
  for (int slot = 0; slot < 4; ++slot) {
    w[slot] = cc_level32(u[slot], 0x1p-31f * inside, inside, outside, &y[slot]);
    most = fmaxf(most, w[slot]);
    out[slot] = y[slot] * cc_near32(w[slot]);
  }
  if (most >= CC_FAR) {
    CC_UNROLL
    for (int slot = 0; slot < 4; ++slot) {
      if (w[slot] >= CC_FAR) out[slot] = y[slot] * cc_far32(w[slot]);
    }
  }
  CC_UNROLL
  for (int slot = 0; slot < 4; ++slot) out[slot] = fminf(out[slot], (float)bounds.rho);
}

/* The four coordinates of a block. */
CC_FN void cc_values32(int kind, cc_words words, cc_bounds bounds, float* out) {
  const cc_u32* w = words.w;
  if (kind == CC_NORMAL) {
    cc_normals32(w[0], w[1], out);
    cc_normals32(w[2], w[3], out + 2);
    return;
  }
  CC_UNROLL
  for (int slot = 0; slot < 4; ++slot) out[slot] = cc_uniform32(w[slot], w[slot ^ 1]);
  if (kind == CC_TRUNCATED) cc_truncated32(out, bounds, out);
  CC_UNROLL
  for (int slot = 0; slot < 4; ++slot) {
    float u = out[slot];
    if (kind == CC_UNIFORM) u *= 0x1p-31f;
    if (kind == CC_EXPONENTIAL) u = cc_minus_log32(u, 31);
    out[slot] = cc_signed32(u, w[slot]);
  }
}

/* ---- double precision ---- */

/* -log u to 2e-16 max(1, -log u), u in (0, 1]. */
CC_FN double cc_minus_log64(double u) {
  cc_u64 shifted = cc_bits64(u) - 0x3FE6A09E667F3BCDull;
  double exponent = (double)(cc_i32)((cc_i64)shifted >> 52);
  double f = cc_double((shifted & 0xFFFFFFFFFFFFFull) + 0x3FE6A09E667F3BCDull) - 1.0;
  double s = f / (2.0 + f), y = s * s;
  double p = 0.14617731718969093893;
  p = fma(p, y, 0.15331608391353953875);
  p = fma(p, y, 0.1818289287401125198);
  p = fma(p, y, 0.22222211077584150275);
  p = fma(p, y, 0.2857142862637008708);
  p = fma(p, y, 0.39999999999898509517);
  p = fma(p, y, 0.66666666666666697267);
  /* log(1 + f) = f - s (f - y p), as 2s = f - s f */
  double mantissa = f - s * (f - y * p);
  return -(exponent * 0.6931471803691238 + (mantissa + exponent * 1.9082149292705877e-10));
}

/* cos and sin of an angle of 53 bits from two words. */
CC_FN void cc_turn64(cc_u32 high, cc_u32 low, double* x, double* z) {
  cc_u64 bits = (cc_u64)high << 32 | low;
  double t = (double)(cc_i64)((bits >> 11) & 0x7FFFFFFFFFFFFull) + (0.5 - 0x1p50);
  t *= 1.5707963267948966 * 0x1p-51;
  double y = t * t;
  double s = -7.5867010019315249811e-13;
  s = fma(s, y, 1.6058531690867897519e-10);
  s = fma(s, y, -2.5052106232946424114e-8);
  s = fma(s, y, 2.7557319219340762145e-6);
  s = fma(s, y, -0.00019841269841267065254);
  s = fma(s, y, 0.0083333333333333314933);
  s = fma(s, y, -0.16666666666666666666);
  s = fma(t * y, s, t);
  double c = 4.7458738452760601834e-14;
  c = fma(c, y, -1.1470460923571420221e-11);
  c = fma(c, y, 2.0876755791329988768e-9);
  c = fma(c, y, -2.7557319221403622656e-7);
  c = fma(c, y, 0.000024801587301584647582);
  c = fma(c, y, -0.0013888888888888887866);
  c = fma(c, y, 0.041666666666666666666);
  c = fma(fma(y, c, -0.5), y, 1.0);
  cc_u64 odd = high & 0x40000000u, flip = high & 0x80000000u;
  *x = cc_double(cc_bits64(odd ? s : c) ^ (flip ^ odd << 1) << 32);
  *z = cc_double(cc_bits64(odd ? c : s) ^ flip << 32);
}

/* (0, 1) in 53 bits from two words. */
CC_FN double cc_uniform64(cc_u32 high, cc_u32 low) {
  cc_u64 bits = ((cc_u64)high << 32 | low) >> 11;
  return ((double)(cc_i64)bits + 0.5) * 0x1p-53;
}

/* The magnitude with the sign of the word's lowest bit. */
CC_FN double cc_signed64(double magnitude, cc_u32 word) {
  return cc_double(cc_bits64(magnitude) ^ (cc_u64)word << 63);
}

/* Two normals from the four words of a block. */
CC_FN void cc_normals64(cc_words words, double* first, double* second) {
  const cc_u32* w = words.w;
  double radius = sqrt(2.0 * cc_minus_log64(cc_uniform64(w[0], w[1]))), x, z;
  cc_turn64(w[2], w[3], &x, &z);
  *first = radius * x;
  *second = radius * z;
}

/* |x| of a truncated normal: the single-precision value, and one Halley step. */
CC_FN double cc_truncated64(double u, cc_bounds bounds) {
  double inside = bounds.inside, tail = bounds.outside + inside * u;
  float y, w = cc_level32((float)u, (float)inside, (float)inside, (float)bounds.outside, &y);
  double x = y * (w < CC_FAR ? cc_near32(w) : cc_far32(w));
  double scaled = x * 0.70710678118654752440;
  double gap = tail > 0.5 ? erf(scaled) - inside * (1.0 - u) : tail - erfc(scaled);
  double newton = gap / (0.79788456080286535588 * exp(-0.5 * x * x));
  return fmin(x - newton / (1.0 + 0.5 * x * newton), bounds.rho);
}

/* The two coordinates of a block. */
CC_FN void cc_values64(int kind, cc_words words, cc_bounds bounds, double* out) {
  const cc_u32* w = words.w;
  if (kind == CC_NORMAL) {
    cc_normals64(words, out, out + 1);
    int lost = bounds.least > 0 && (w[0] < bounds.least || w[0] == 0xFFFFFFFFu);
    if (lost) out[0] = out[1] = NAN;
    return;
  }
  CC_UNROLL
  for (int slot = 0; slot < 2; ++slot) {
    double u = cc_uniform64(w[2 * slot], w[2 * slot + 1]);
    if (kind == CC_EXPONENTIAL) u = cc_minus_log64(u);
    if (kind == CC_TRUNCATED) u = cc_truncated64(u, bounds);
    out[slot] = w[2 * slot] < bounds.least ? NAN : cc_signed64(u, w[2 * slot + 1]);
  }
}
#endif
