/* Row quantities of the noises and their log ratios, once for host and device; the functions
 * of the same meaning in kernels/reference.py define them.
 *
 * s = |z|, change = |z - delta| - s (formed without subtracting norms: atoms are exact),
 * r the size of the shift, along = z . delta / r. */
#ifndef CERT_CORE_RATIOS_H
#define CERT_CORE_RATIOS_H

#include "drawing.h"
#include "formulas.h"

enum { CC_SPHERE, CC_CONE, CC_EDGE };

/* A table of log-quantiles: four coefficients an interval of normal scores in [-reach, reach]. */
typedef struct {
  const double* cubics;
  cc_i32 intervals;
  double reach;
} cc_table;

CC_FN double cc_quantile(cc_table table, double normal_score) {
  int n = table.intervals;
  double reach = table.reach;
  double place = (fmin(fmax(normal_score, -reach), reach) + reach) * (n / (2.0 * reach));
  int i = (int)place;
  if (i > n - 1) i = n - 1;
  double x = place - i;
  const double* c = table.cubics + 4 * i;
  return ((c[0] * x + c[1]) * x + c[2]) * x + c[3];
}

/* Two standard normals of a sample: the scores of its radius and of its cosine. */
CC_FN void cc_row_normals(cc_u64 sample, cc_u32 stream, cc_u64 key, double* first, double* second) {
  cc_normals64(cc_block(sample, 0, stream + 1, key), first, second);
}

typedef struct {
  double u, v;
  int sign;
} cc_choices;

/* Two uniforms of a sample, and a sign bit. */
CC_FN cc_choices cc_row_choices(cc_u64 sample, cc_u32 stream, cc_u64 key) {
  cc_words words = cc_block(sample, 1, stream + 1, key);
  const cc_u32* w = words.w;
  cc_choices choices = {cc_uniform64(w[0], w[1]), cc_uniform64(w[2], w[3]), (int)(w[3] & 1u)};
  return choices;
}

/* The coordinate that is the largest of its row. */
CC_FN cc_i64 cc_face(cc_choices choices, cc_i64 dim) {
  cc_i64 face = (cc_i64)(choices.u * (double)dim);
  return face < dim ? face : dim - 1;
}

/* ---- the change of the norm, drawn given s where its law is closed ---- */

/* From artanh of the cosine between z and delta. */
CC_FN double cc_sphere_change(double s, double r, double artanh) {
  double x = sqrt((r - s) * (r - s) + 4.0 * r * s / (exp(2.0 * artanh) + 1.0));
  return r * (r - 2.0 * s * tanh(artanh)) / (x + s);
}

/* Half the mass at s + r; else |z - delta| = s (2q - 1) + r, q = u^(1/(dim-1)). */
CC_FN double cc_cone_change(double s, double r, cc_choices choices, double dim) {
  if (choices.sign) return r;
  double lost = dim > 1.0 ? -expm1(log(choices.u) / (dim - 1.0)) : 1.0;
  return fmax(r - 2.0 * s * lost, -r);
}

/* Coordinate 1 is the largest with probability 1/dim, and then has either sign. */
CC_FN double cc_edge_change(double s, double r, cc_choices choices, double dim) {
  if (choices.u < 0.5 / dim) return r;
  if (choices.u >= 1.0 / dim) return fmax(0.0, r - 2.0 * s * choices.v);
  double gap = s > r ? -r : r - 2.0 * s;
  return fmax(gap, s * expm1(log(choices.v) / (dim - 1.0)));
}

/* ---- the change of the norm, from sums over a row ---- */

/* What a row is reduced to; axis: the shift is along the first coordinate, which then
 * stands apart from `size` (2-norm) and `high` (max-norm). */
typedef struct {
  double size;      /* sum of |z| or z^2 */
  double moved;     /* sum of |z - r| - |z| or (z - r)^2; diagonal shifts */
  double along;     /* sum of z; diagonal shifts */
  double low, high; /* least and largest z; axis: high is the largest |z| */
  double first;     /* z_1; axis shifts */
} cc_sums;

CC_FN cc_sums cc_no_sums(void) {
  cc_sums none = {0.0, 0.0, 0.0, INFINITY, -INFINITY, 0.0};
  return none;
}

CC_FN double cc_move(double z, double r) { return fmin(fmax(r - 2.0 * z, -r), r); }

/* One more coordinate; norm is 0 (max), 1 or 2. */
CC_FN void cc_add(int norm, int axis, cc_sums* sums, double z, int is_first, double r) {
  if (axis && is_first) {
    sums->first = z;
    if (norm != 1) return;
  }
  if (norm == 1) sums->size += fabs(z);
  if (norm == 2) sums->size += z * z;
  if (axis) {
    sums->high = fmax(sums->high, fabs(z));
    return;
  }
  sums->along += z;
  if (norm == 1) sums->moved += cc_move(z, r);
  if (norm == 2) sums->moved += (z - r) * (z - r);
  if (norm == 0) sums->low = fmin(sums->low, z);
  if (norm == 0) sums->high = fmax(sums->high, z);
}

CC_FN cc_sums cc_join(cc_sums a, cc_sums b) {
  cc_sums sums = {a.size + b.size,    a.moved + b.moved,    a.along + b.along,
                  fmin(a.low, b.low), fmax(a.high, b.high), a.first + b.first};
  return sums;
}

/* s and change of the row. */
CC_FN void cc_row_change(int norm, int axis, cc_sums sums, double r, double dim, double* s,
                         double* change) {
  double first = sums.first;
  if (norm == 1) {
    *s = sums.size;
    *change = axis ? cc_move(first, r) : sums.moved;
  } else if (norm == 2) {
    double moved = axis ? sums.size + (first - r) * (first - r) : sums.moved;
    *s = sqrt(axis ? sums.size + first * first : sums.size);
    double move = r * r * (axis ? 1.0 : dim) - 2.0 * r * (axis ? first : sums.along);
    *change = move / (*s + sqrt(moved));
  } else if (axis) {
    double rest = fmax(sums.high, 0.0);
    *s = fmax(rest, fabs(first));
    *change = fmax(rest - *s, first < r ? r - (first + *s) : first - *s - r);
  } else {
    *s = fmax(-sums.low, sums.high);
    *change = fmax(sums.high - *s - r, r - (sums.low + *s));
  }
}

/* ---- log ratios ---- */

/* A density: |z|^-k exp(-(|z|/scale)^power), or (mixed) |z|_inf^-k exp(-|z|_2^2 / 2 scale^2). */
typedef struct {
  double k, power, scale;
  cc_i32 mixed;
} cc_density;

/* log((s + change)/s); +inf at s = 0. */
CC_FN double cc_log_growth(double s, double change) { return log1p(fmax(change / s, -1.0)); }

/* h(s) - h(s + change), h(s) = k log s + (s/scale)^power, from log(s/scale) too. */
CC_FN double cc_radial_log_ratio(cc_density law, double s, double log_s, double change) {
  if (law.power == 1.0 && law.k == 0.0) return -change / law.scale;
  if (!(s > 0.0)) return law.k > 0.0 ? -INFINITY : -pow(fabs(change) / law.scale, law.power);
  double log_g = law.power * log_s;
  return -cc_h_change(law.k, law.power, exp(log_g), log_g, cc_log_growth(s, change));
}

/* The log ratio of a row; square = |delta|_2^2, along = z . delta / r. */
CC_FN double cc_log_ratio(cc_density law, double s, double change, double r, double along,
                          double square) {
  if (!law.mixed) return cc_radial_log_ratio(law, s, log(s / law.scale), change);
  double gaussian = (r * along - 0.5 * square) / (law.scale * law.scale);
  return law.k > 0.0 ? gaussian - law.k * cc_log_growth(s, change) : gaussian;
}
#endif
