/* Scalar formulas of the toolkit, written once for host and device: no array
 * loops, no memory, no Python.  A function that cannot answer returns NaN.
 *
 * Conventions for the log-ratio law of a radial noise, density proportional to
 * exp(-h(|z|)), h(s) = k log s + (s/scale)^power, shifted by delta of size r:
 *   v    log(g / a), where g = (s/scale)^power ~ Gamma(a), a = (dim - k)/power
 *   w    log(s / r), so that rho = r/s = exp(-w) and 1 - rho = -expm1(-w)
 *   u    log(x / s) for a threshold x on |z - delta|
 * Distances are never formed and subtracted: everything small is an expm1 or a
 * log1p of u and w, which is what keeps p_min right for r near 0 and dim near 1e5.
 */
#ifndef CERT_CORE_FORMULAS_H
#define CERT_CORE_FORMULAS_H

#include "portable.h"

#define CC_CAP_TERMS 8

/* exp(v) - 1 - v, without cancellation near v = 0. */
CC_FN double cc_phi(double v) {
  if (fabs(v) > 0.5) return expm1(v) - v;
  double sum = 1.0;
#define CC_TERM(n) sum = 1.0 + sum * (v * (1.0 / n))
  CC_TERM(15), CC_TERM(14), CC_TERM(13), CC_TERM(12), CC_TERM(11), CC_TERM(10), CC_TERM(9);
  CC_TERM(8), CC_TERM(7), CC_TERM(6), CC_TERM(5), CC_TERM(4), CC_TERM(3);
#undef CC_TERM
  return 0.5 * v * v * sum;
}

/* g (exp(z) - 1) with log g given too, so that a g that underflows does no harm. */
CC_FN double cc_scaled_expm1(double g, double log_g, double z) {
  return z > 1.0 ? exp(log_g + z) - g : g * expm1(z);
}

/* h(s e^u) - h(s) = k u + g expm1(power u); u = -inf is x = 0. */
CC_FN double cc_h_change(double k, double power, double g, double log_g, double u) {
  double tail = cc_scaled_expm1(g, log_g, power * u);
  return k > 0.0 ? k * u + tail : tail;
}

/* The u with h(s e^u) - h(s) = -t: l <= t exactly where |z - delta| >= s e^u.
 * -inf where h never falls that far (k = 0 and t >= g).  Convex and increasing
 * in u, and the start lies right of the root, so the iteration cannot leave. */
CC_FN double cc_threshold(double k, double power, double g, double log_g, double t) {
  if (t == 0.0) return 0.0;
  if (k == 0.0) {
    if (t >= g) return -INFINITY;
    if (-t > 1e3 * g) return (log(g - t) - log_g) / power;
    return log1p(-t / g) / power;
  }
  double u = -t / (k + g * power);
  double bound = t < 0.0 ? (log(g - t) - log_g) / power : (g - t) / k;
  if (bound < u) u = bound;
  for (int i = 0; i < 60; ++i) {
    double rise = cc_scaled_expm1(g, log_g, power * u);
    double slope = k + power * (rise + g);
    double newton = (k * u + rise + t) / slope;
    double bend = 1.0 - 0.5 * newton * power * power * (rise + g) / slope;
    double step = newton / (bend > 0.5 ? (bend < 2.0 ? bend : 2.0) : 0.5);
    u -= step;
    /* of third order: what is left is below the cube of the last step */
    if (fabs(step) <= 1e-6 * fabs(u)) return u;
  }
  return NAN;
}

/* log |1 - rho| from w; -inf at rho = 1. */
CC_FN double cc_log_gap(double w) {
  if (w > 0.7) return log1p(-exp(-w));
  double gap = fabs(expm1(-w));
  return gap > 0.0 ? log(gap) : -INFINITY;
}

/* log(1 + rho) from w, also where rho overflows. */
CC_FN double cc_log_sum(double w) { return w < -30.0 ? -w : log1p(exp(-w)); }

/* Sphere: the cosine c with |z - delta| >= s e^u  <=>  cos(z, delta) <= c, and
 * 1 - c, 1 + c in factored form, so that both are right to the last digits near
 * the poles.  Values outside [-1, 1] mean always or never. */
CC_FN double cc_cosine(double u, double w, double* one_minus, double* one_plus) {
  if (u == -INFINITY) {
    *one_minus = 0.0;
    *one_plus = 2.0;
    return 1.0;
  }
  double rho = exp(-w);
  double c = rho <= 1.0 ? 0.5 * (rho - expm1(2.0 * u) / rho)
                        : 0.5 * (1.0 / rho - rho * expm1(2.0 * (u + w)));
  *one_minus = 1.0 - c;
  *one_plus = 1.0 + c;
  if (fabs(c) > 0.7) {
    double x = exp(u), change = expm1(u), gap = -expm1(-w);
    double inner = u > -0.7 ? change + rho : x - gap;
    if (c > 0.0)
      *one_minus = 0.5 * inner * (x + gap) / rho;
    else
      *one_plus = 0.5 * (rho - change) * (1.0 + rho + x) / rho;
  }
  return c;
}

/* P(0 <= Y <= c) for Y with density prop. to (1 - y^2)^((dim-3)/2), dim >= 100,
 * c >= 0, and P(Y > c).  With 1 - y^2 = exp(-q^2) the density becomes that of a
 * normal of variance 1/M, M = dim - 3/2, times sqrt(y/sinh y) at y = q^2/2, a
 * series in q^4; its moments give one polynomial (cc_cap_polynomial).
 * Relative error below 1e-14 to 1e-13 for tails down to 1e-15 (1e-10 at 1e-19). */
CC_FN void cc_cap(const double* polynomial, double m, double c, double* central, double* upper) {
  if (c >= 1.0) {
    *central = 0.5;
    *upper = 0.0;
    return;
  }
  double square = -m * log1p(-c * c);
  double zeta = sqrt(square);
  double sum = 0.0;
  for (int i = 2 * CC_CAP_TERMS - 1; i >= 0; --i) sum = sum * square + polynomial[i];
  double correction = 0.3989422804014326779 * exp(-0.5 * square) * zeta * sum;
  /* the smaller one in its own digits; the larger is at least 1/4, and loses none by it */
  if (square < 0.4) {
    *central = 0.5 * erf(zeta * 0.70710678118654752440) - correction;
    *upper = 0.5 - *central;
  } else {
    *upper = 0.5 * erfc(zeta * 0.70710678118654752440) + correction;
    *central = 0.5 - *upper;
  }
}

/* Coefficients of cc_cap's polynomial in zeta^2 for M = m. */
CC_FN void cc_cap_polynomial(double m, double* polynomial) {
  /* Taylor coefficients of sqrt(y/sinh y), y = x/2, in x^2. */
  const double series[CC_CAP_TERMS + 1] = {1.0,
                                           -1.0 / 48.0,
                                           1.0 / 2560.0,
                                           -7.8796709656084656085e-6,
                                           1.6967665791721781305e-7,
                                           -3.8050641917219065657e-9,
                                           8.7483775963154073041e-11,
                                           -2.0445233594119738176e-12,
                                           4.8333517979677044083e-14};
  double total = 0.0;
  for (int i = 0; i < 2 * CC_CAP_TERMS; ++i) polynomial[i] = 0.0;
  for (int j = CC_CAP_TERMS; j >= 0; --j) {
    double term = series[j];
    for (int i = 2 * j - 1; i >= 0; --i) {
      polynomial[i] += term;
      term *= (2 * i + 1) / m;
    }
    total += term;
  }
  double power = 1.0;
  for (int i = 0; i < 2 * CC_CAP_TERMS; ++i) {
    power *= m;
    polynomial[i] /= total * power;
  }
}
#endif
