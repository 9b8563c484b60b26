# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The mixed family's law of the log ratio, given the largest coordinate's size rho.

Lengths in units of rho, whose logarithm is what is given: rho itself may underflow.
Given |z|_inf = 1, the coordinate of that size is -1 or +1 with probability 1/2 each.  Let
m be the least of the others and U the sum of the d - 2 that remain, which are independent
normals truncated to [m, 1].  Under delta = (R, ..., R), R = r/rho,

    sign -:  |z - delta|_inf = 1 + R,               sum z = -1 + m + U,
    sign +:  |z - delta|_inf = max(1 - R, R - m),   sum z =  1 + m + U,
    l = -k log |z - delta|_inf + r rho (sum z - d R / 2),

increasing in m and in U both.  So P(l <= t | rho) is one integral over m of the law of U
at a threshold; it is taken by a Gauss-Lobatto rule of 15 nodes on panels that are split at
the kink m = 2R - 1, wherever the values are too far from a polynomial (rules.py), and
wherever the threshold runs through more than a few standard deviations from one node to
the next.  Both ends of a panel are nodes, so no jump lies beside all of them.

The law of U is a table of sums.py, Chebyshev polynomials in m: of the coefficients of a
Fourier series, or, for few terms, of polynomials between the knots j m + (n - j).
"""

from libc.math cimport INFINITY, cos, erf, exp, fabs, log, log1p, sin, sqrt

import numpy as np

from cert_core.native.rules import distance, lobatto

cdef enum:
    STACK = 200
    COUNT = 15
    MIDDLE = COUNT // 2
    DEGREE = 10
    MISSES = COUNT - 1 - DEGREE

cdef double ROOT_HALF = 0.7071067811865476
cdef double LN_2PI_HALF = 0.9189385332046727
cdef double LN_2 = 0.6931471805599453
cdef double FLAT = 1e-8  # radii over which a normal's density is level to the last digit

NODES, RULE = lobatto(COUNT)
cdef double[::1] X = NODES
cdef double[::1] W = RULE
# where worst placed, a fourth root errs by 1.13 distances, a square root by 1.09, a step by .70
cdef double[:, ::1] FAR = 1.25 * distance(NODES, RULE, DEGREE)


cdef struct Point:
    double value
    double[2] moved  # the two thresholds in deviations


cdef struct Panel:
    double low, high
    Point first, last


cdef double unseen(const double *far) noexcept nogil:
    """The error of a panel of length 2: its values' distance from polynomials of DEGREE."""
    cdef double total = 0.0
    cdef Py_ssize_t j
    for j in range(MISSES):
        total += far[j] * far[j]
    return sqrt(total)


def panel_integral(const double[::1] values):
    """(integral, error) over [-1, 1] of the function with these values at NODES."""
    cdef double[MISSES] far
    cdef double total = 0.0
    cdef Py_ssize_t i, j
    for j in range(MISSES):
        far[j] = 0.0
    for i in range(COUNT):
        total += W[i] * values[i]
        for j in range(MISSES):
            far[j] += FAR[j, i] * values[i]
    return total, unseen(far)


cdef double share(double rho, double x) noexcept nogil:
    """P(z <= x) for a normal truncated to [-rho, rho], x in units of rho."""
    if x <= -1.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if rho < FLAT:
        return 0.5 * (1.0 + x)
    return 0.5 * (1.0 + erf(ROOT_HALF * rho * x) / erf(ROOT_HALF * rho))


cdef class MixedNode:
    """P(l <= t | rho) for one rho.

    table : (terms, rows) Chebyshev coefficients over m of P(min < m)/x, the mean and the
    standard deviation of a coordinate in [m, 1], in units of its length, and then
    degree = 0: the series' constant, its cosine and its sine coefficients;
    degree > 0: Chebyshev coefficients of the sum's distribution function between its
    knots, `degree` a piece.
    """

    cdef double y, rho, k, dim, span, window, log_mass
    cdef const double[:, ::1] table
    cdef double[::1] work
    cdef Py_ssize_t terms, rows, harmonics, others, degree
    # of the law and the threshold asked for
    cdef double ratio, steep, minus, plus

    def __init__(self, double dim, double k, double y, double span, double window,
                 const double[:, ::1] table, Py_ssize_t degree):
        """y = log rho; span, in units of rho, is where m + 1 ends."""
        self.dim, self.k, self.y, self.span, self.window = dim, k, y, span, window
        self.rho = exp(y)
        self.others = <Py_ssize_t>dim - 2
        self.table, self.degree = table, degree
        self.terms, self.rows = table.shape[0], table.shape[1]
        self.harmonics = (self.rows - 4) // 2
        self.work = np.empty(self.rows)
        # log of 1/(the density of a coordinate at 0), over [-1, 1]
        self.log_mass = LN_2 if self.rho < FLAT else (
            log(erf(ROOT_HALF * self.rho)) + LN_2PI_HALF - y)

    cdef void _look(self, double x, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        """Rows of the table at m = -1 + span x, into work."""
        cdef double y = 2.0 * x - 1.0, before = 1.0, now = y, after
        cdef double *work = &self.work[first]
        cdef const double *row = &self.table[0, first]
        cdef Py_ssize_t i, j
        for j in range(count):
            work[j] = row[j]
        for i in range(1, self.terms):
            row = &self.table[i, first]
            for j in range(count):
                work[j] += now * row[j]
            after = 2.0 * y * now - before
            before, now = now, after

    cdef void _series(self, const double *u, double *result) noexcept nogil:
        """P(U <= ...) at two u in standard deviations, by the table's row now in work; at
        infinite ones it is sure."""
        cdef double[2] c1
        cdef double[2] s1
        cdef double[2] c
        cdef double[2] s
        cdef double[2] total
        cdef double angle, next_c
        cdef const double *a = &self.work[4]
        cdef const double *b = &self.work[4] + self.harmonics
        cdef Py_ssize_t i, j
        for i in range(2):
            angle = 3.141592653589793 * u[i] / self.window if fabs(u[i]) != INFINITY else 0.0
            c[i] = c1[i] = cos(angle)
            s[i] = s1[i] = sin(angle)
            total[i] = 0.5 + 0.15915494309189535 * angle + self.work[3]
        for j in range(self.harmonics):
            for i in range(2):
                total[i] += a[j] * s[i] - b[j] * c[i]
                next_c = c[i] * c1[i] - s[i] * s1[i]
                s[i] = s[i] * c1[i] + c[i] * s1[i]
                c[i] = next_c
        for i in range(2):
            result[i] = min(max(total[i], 0.0), 1.0)
            if fabs(u[i]) == INFINITY:
                result[i] = 1.0 if u[i] > 0.0 else 0.0

    cdef double _between(self, double x, double v) noexcept nogil:
        """P(U <= ...) at v lengths of [m, 1] above its lowest value."""
        cdef Py_ssize_t piece = <Py_ssize_t>v, j
        if v <= 0.0:
            return 0.0
        if v >= self.others:
            return 1.0
        cdef double y = 2.0 * (v - piece) - 1.0, before = 1.0, now = y, after, total
        cdef const double *c = &self.work[3 + piece * self.degree]
        self._look(x, 3 + piece * self.degree, self.degree)
        total = c[0] + c[1] * y
        for j in range(2, self.degree):
            after = 2.0 * y * now - before
            before, now = now, after
            total += c[j] * now
        return min(max(total, 0.0), 1.0)

    cdef double _scaled(self, double m, double threshold) noexcept nogil:
        """The threshold of U in standard deviations from its mean, cut where it is sure."""
        cdef double wide = 1.0 - m, root = sqrt(<double>self.others)
        cdef double s = self.work[2], mean = self.work[1], u
        u = (threshold - self.others * m - self.others * mean * wide) / (s * wide * root)
        if u >= min(self.window, (1.0 - mean) / s * root):
            return INFINITY
        if u <= -min(self.window, mean / s * root):
            return -INFINITY
        return u

    cdef Point _at(self, double gap) noexcept nogil:
        """The integrand at gap = m + 1."""
        cdef double m = gap - 1.0, x = gap / self.span, total = 0.0, q, weight, u
        cdef double[2] threshold
        cdef Point point
        cdef Py_ssize_t i
        threshold[0] = self.minus - m
        threshold[1] = self._moved(gap) - m
        self._look(x, 0, 3)
        q = min(self.work[0] * x, 1.0)
        weight = (self.dim - 1) * exp(-0.5 * (self.rho * m) ** 2 - self.log_mass)
        weight *= exp(self.others * log1p(-q)) if q < 1.0 else 0.0
        point.moved = [0.0, 0.0]
        point.value = 0.5 * weight
        if weight * self.span < 1e-15:  # adds nothing, whatever the sum's law
            return point
        for i in range(2):
            if self.degree > 0:  # lengths of [m, 1], whose normal is nearly uniform
                u = (threshold[i] - self.others * m) / (1.0 - m)
                total += self._between(x, u)
                point.moved[i] = min(max(u, 0.0), self.others) * sqrt(12.0 / self.others)
            else:
                point.moved[i] = self._scaled(m, threshold[i])
        if self.degree == 0:
            if fabs(point.moved[0]) != INFINITY or fabs(point.moved[1]) != INFINITY:
                self._look(x, 3, self.rows - 3)
                self._series(point.moved, threshold)
                total = threshold[0] + threshold[1]
            else:
                total = (point.moved[0] > 0.0) + (point.moved[1] > 0.0)
            for i in range(2):
                point.moved[i] = min(max(point.moved[i], -8.0), 8.0)
        point.value = 0.5 * weight * total
        return point

    cdef double _moved(self, double gap) noexcept nogil:
        """What m + U may be at most at sign +."""
        if self.k == 0.0:
            return self.plus
        return self.plus + self.k * log1p(max(-self.ratio, self.ratio - gap)) / self.steep

    cdef double _knot(self, Py_ssize_t j, bint sign) noexcept nogil:
        """Where the threshold of U equals j m + (d - 2 - j); it falls less than that."""
        cdef double low = 0.0, high = self.span, gap, threshold
        cdef Py_ssize_t _i
        for _i in range(60):
            gap = 0.5 * (low + high)
            threshold = (self._moved(gap) if sign else self.minus) - (gap - 1.0)
            if threshold > j * (gap - 1.0) + (self.others - j):
                low = gap
            else:
                high = gap
        return low

    cdef double _two(self) noexcept nogil:
        """P(l <= t | rho) for d = 2, where U is empty: l <= t up to some m."""
        cdef double low = 0.0, high = 2.0, gap
        cdef Py_ssize_t _i
        for _i in range(100):
            gap = 0.5 * (low + high)
            if gap - 1.0 <= self._moved(gap):
                low = gap
            else:
                high = gap
        return 0.5 * (share(self.rho, self.minus) + share(self.rho, low - 1.0))

    cdef double _integrate(self, const Panel *panel, Point *middle, double *miss,
                           double *top, double *jump) noexcept nogil:
        """A panel's integral; its error, its largest value, and how far
        the thresholds run between nodes."""
        cdef double half = 0.5 * (panel.high - panel.low)
        cdef double centre = 0.5 * (panel.low + panel.high), total = 0.0
        cdef double[MISSES] far
        cdef Point before = panel.first, now
        cdef Py_ssize_t i, j
        for j in range(MISSES):
            far[j] = 0.0
        top[0] = jump[0] = 0.0
        for i in range(COUNT):
            if i == 0:
                now = panel.first
            elif i == COUNT - 1:
                now = panel.last
            else:
                now = self._at(centre + half * X[i])
            if i == MIDDLE:
                middle[0] = now
            total += W[i] * now.value
            for j in range(MISSES):
                far[j] += FAR[j, i] * now.value
            top[0] = max(top[0], now.value)
            for j in range(2):
                jump[0] = max(jump[0], fabs(now.moved[j] - before.moved[j]))
            before = now
        miss[0] = half * unseen(far)
        return half * total

    def conditional(self, double t, double log_r, double tolerance):
        """(P(l <= t | rho), error): the integral over m + 1 in [0, span]."""
        cdef Panel[STACK] panels
        cdef Panel panel
        cdef Point middle
        cdef double[16] cut
        cdef double total = 0.0, error = 0.0, value, miss, top, jump, part, half
        cdef Py_ssize_t depth = 0, count = 3, i
        self.ratio, self.steep = exp(log_r - self.y), max(exp(log_r + self.y), 1e-300)
        self.minus = (t + self.k * log1p(self.ratio)) / self.steep + 0.5 * self.dim * self.ratio + 1
        self.plus = t / self.steep + 0.5 * self.dim * self.ratio - 1
        if self.others == 0:
            return self._two(), 1e-15
        cut[0], cut[1], cut[2] = self.span / 6, 2 * self.ratio, self.span
        if self.others < 5:  # where a threshold passes a knot of the law of U
            for i in range(self.others + 1):
                cut[count], cut[count + 1] = self._knot(i, False), self._knot(i, True)
                count += 2
        panel.low, panel.last = 0.0, self._at(0.0)
        while panel.low < self.span:
            panel.high, panel.first = self.span, panel.last
            for i in range(count):
                if panel.low < cut[i] < panel.high:
                    panel.high = cut[i]
            panel.last = self._at(panel.high)
            panels[depth] = panel
            depth += 1
            panel.low = panel.high
        while depth > 0:
            depth -= 1
            panel = panels[depth]
            value = self._integrate(&panel, &middle, &miss, &top, &jump)
            half = 0.5 * (panel.high - panel.low)
            part = tolerance * (2 * half / self.span + 0.02)
            if (miss <= part and (jump <= 3.0 or top * half < part)) or (
                half < 1e-13 * self.span or depth + 2 > STACK
            ):
                total += value
                error += miss
            else:
                panels[depth], panels[depth + 1] = panel, panel
                panels[depth].high = panels[depth + 1].low = 0.5 * (panel.low + panel.high)
                panels[depth].last = panels[depth + 1].first = middle
                depth += 2
        return total, error
