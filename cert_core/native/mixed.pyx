# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The mixed family's law of the log ratio, given the largest coordinate's size rho.

Lengths in units of rho, whose logarithm is what is given: rho itself may underflow.
Given |z|_inf = 1, the coordinate of that size is -1 or +1 with probability 1/2 each.  Let
m be the least of the others and U the sum of the d - 2 that remain, which are independent
normals truncated to [m, 1].  Under delta = (R, ..., R), R = r/rho,

    sign -:  |z - delta|_inf = 1 + R,               sum z = -1 + m + U,
    sign +:  |z - delta|_inf = max(1 - R, R - m),   sum z =  1 + m + U,
    l = -k log |z - delta|_inf + r rho (sum z - d R / 2),

increasing in m and in U both.  At sign -, and at sign + beyond the kink m = 2R - 1, m tells
no more than m + U, the sum of d - 1 independent normals truncated to [-1, 1], S.  So with the
threshold X(m) of m + U at sign +,

    2 P(l <= t | rho) = P(S <= ...) + P(S <= X(1))
                        + int P(U <= X(m) - m) - P(U <= X(1) - m) dP(m)

over m up to the kink; where all m lie below that, the integral is over all, without X(1).
It is taken by a Gauss-Lobatto rule of 25 nodes (15 in few dimensions) on panels that are split
about where the threshold enters and leaves the law of U, wherever the values are too far from
a polynomial (rules.py), and wherever the threshold runs through more than a few standard
deviations from one node to the next.  Both ends of a panel are nodes, so no jump lies beside all of them.
Either probability falls in m: where the ends of a panel show that it hardly does, they and
the mass of m between them are enough.

The laws of U and S are tables of sums.py, the first of Chebyshev polynomials in m: of the
coefficients of a Fourier series, summed at all nodes of a panel at once, or, for few terms, of polynomials
between the knots j m + (n - j).
"""

from libc.math cimport INFINITY, cos, erf, exp, fabs, log, log1p, sin, sqrt

import numpy as np

from cert_core.native.rules import distance, lobatto

cdef enum:
    STACK = 200
    COUNT = 25  # nodes of a rule at most
    MISSES = 5  # conditions of its error, likewise
    TERMS = 64  # of a table at most
    ROWS = 132  # likewise, of a series
    INSIDE = 24  # nodes of a panel but for its ends, and one more: three blocks
    BLOCK = 8  # of them, whose sums stay in registers

cdef double ROOT_HALF = 0.7071067811865476
cdef double LN_2PI_HALF = 0.9189385332046727
cdef double PI = 3.141592653589793
cdef double LN_2 = 0.6931471805599453
cdef double LONG = 9.0  # standard deviations of U that one panel seldom covers
cdef double UNSEEN = 0.01  # of a tolerance may come from where P(U <= ...) is nearly level
cdef double FLAT = 1e-8  # radii over which a normal's density is level to the last digit


cdef struct Rule:
    Py_ssize_t count, misses
    double[COUNT] x
    double[COUNT] w
    double[MISSES][COUNT] far


cdef Rule gauss_lobatto(Py_ssize_t count, Py_ssize_t degree):
    """A rule whose error is 1.25 times the values' distance from polynomials of a degree."""
    cdef Rule rule
    cdef Py_ssize_t i, j
    nodes, weights = lobatto(count)
    far = 1.25 * distance(nodes, weights, degree)
    rule.count, rule.misses = count, count - 1 - degree
    for i in range(count):
        rule.x[i], rule.w[i] = nodes[i], weights[i]
        for j in range(rule.misses):
            rule.far[j][i] = far[j, i]
    return rule


# where worst placed, a fourth root errs by 1.17 distances, a square root by 1.12, a step by .70
cdef Rule SHORT = gauss_lobatto(15, 10), TALL = gauss_lobatto(25, 19)
NODES_FEW, NODES = lobatto(15)[0], lobatto(25)[0]


cdef struct Point:
    double value
    double above  # P(all others > m)
    double[2] moved  # the two thresholds in deviations
    double[2] below  # P(U <= ...) at them


cdef struct Panel:
    double low, high
    Point first, last


cdef double unseen(const double *far, Py_ssize_t misses) noexcept nogil:
    """The error of a panel of length 2."""
    cdef double total = 0.0
    cdef Py_ssize_t j
    for j in range(misses):
        total += far[j] * far[j]
    return sqrt(total)


cdef double level(const Panel *panel, double *miss) noexcept nogil:
    """The integral and its error from the ends alone: either P(U <= ...) falls in between."""
    cdef double mass = 0.5 * (panel.first.above - panel.last.above)
    cdef double least = max(panel.last.below[0] - panel.first.below[1], 0.0)
    cdef double most = panel.first.below[0] - panel.last.below[1]
    miss[0] = 0.5 * fabs(mass * (most - least))
    return 0.5 * mass * (most + least)


def panel_integral(const double[::1] values):
    """(integral, error) over [-1, 1] of the function with these values at NODES or NODES_FEW."""
    cdef const Rule *rule = &TALL if values.shape[0] == TALL.count else &SHORT
    cdef double[MISSES] far
    cdef double total = 0.0
    cdef Py_ssize_t i, j
    for j in range(rule.misses):
        far[j] = 0.0
    for i in range(rule.count):
        total += rule.w[i] * values[i]
        for j in range(rule.misses):
            far[j] += rule.far[j][i] * values[i]
    return total, unseen(far, rule.misses)


cdef double between(const double *c, Py_ssize_t degree, double v) noexcept nogil:
    """A polynomial between two knots, v in [0, 1], as the probability that it is."""
    cdef double y = 2.0 * v - 1.0, before = 1.0, now = y, after, total = c[0] + c[1] * y
    cdef Py_ssize_t j
    for j in range(2, degree):
        after = 2.0 * y * now - before
        before, now = now, after
        total += c[j] * now
    return min(max(total, 0.0), 1.0)


cdef double series(double level, double angle, const double *sines, const double *cosines,
                   Py_ssize_t harmonics) noexcept nogil:
    """A Fourier series as the probability that it is."""
    cdef double c1 = cos(angle), s1 = sin(angle), c = c1, s = s1, total = level, after
    cdef Py_ssize_t j
    for j in range(harmonics):
        total += sines[j] * s - (cosines[j] * c if cosines != NULL else 0.0)
        after = c * c1 - s * s1
        s = s * c1 + c * s1
        c = after
    return min(max(total, 0.0), 1.0)


cdef void chebyshev(const double *y, Py_ssize_t terms, double *basis) noexcept nogil:
    """Chebyshev polynomials of all y in [-1, 1], (terms, INSIDE)."""
    cdef Py_ssize_t i, k
    for i in range(INSIDE):
        basis[i], basis[INSIDE + i] = 1.0, y[i]
    for k in range(2, terms):
        for i in range(k * INSIDE, (k + 1) * INSIDE):
            basis[i] = 2.0 * y[i - k * INSIDE] * basis[i - INSIDE] - basis[i - 2 * INSIDE]


cdef void look(const double *table, Py_ssize_t stride, Py_ssize_t terms, Py_ssize_t columns,
               const double *basis, double *result) noexcept nogil:
    """Columns of a table of coefficients, (terms, stride), at all y: (columns, INSIDE)."""
    cdef double[BLOCK] total
    cdef Py_ssize_t i, j, k, block, start
    for j in range(columns):
        for block in range(INSIDE // BLOCK):
            start = block * BLOCK
            for i in range(BLOCK):
                total[i] = 0.0
            for k in range(terms):
                for i in range(BLOCK):
                    total[i] += table[k * stride + j] * basis[k * INSIDE + start + i]
            for i in range(BLOCK):
                result[j * INSIDE + start + i] = total[i]


cdef void all_series(const double *sines, const double *cosines, Py_ssize_t harmonics,
                     const double *c1, const double *s1, double *total) noexcept nogil:
    """Adds to each total its series as above, from c and s at its angle; (harmonics, INSIDE)."""
    cdef double[BLOCK] c
    cdef double[BLOCK] s
    cdef double after
    cdef Py_ssize_t i, j, block, start, at
    for block in range(INSIDE // BLOCK):
        start = block * BLOCK
        for i in range(BLOCK):
            c[i], s[i] = c1[start + i], s1[start + i]
        for j in range(harmonics):
            at = j * INSIDE + start
            for i in range(BLOCK):
                total[start + i] += sines[at + i] * s[i] - cosines[at + i] * c[i]
                after = c[i] * c1[start + i] - s[i] * s1[start + i]
                s[i] = s[i] * c1[start + i] + c[i] * s1[start + i]
                c[i] = after


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
    degree = 0: the series' constant, its sine and its cosine coefficients;
    degree > 0: Chebyshev coefficients of the sum's distribution function between its
    knots, `degree` a piece.
    whole : of the sum of all others at m = -1: degree = 0: the standard deviation and the
    sine coefficients; degree > 0: as above.
    """

    cdef double y, rho, k, dim, span, window, wide, log_mass
    cdef const Rule *rule
    cdef const double[:, ::1] table
    cdef const double[::1] whole
    cdef double[::1] work
    cdef Py_ssize_t terms, rows, harmonics, others, degree
    # of the law and the threshold asked for
    cdef double ratio, steep, minus, plus, settled

    def __init__(self, double dim, double k, double y, double span, double window, double wide,
                 const double[:, ::1] table, const double[::1] whole, Py_ssize_t degree):
        """y = log rho; span, in units of rho, is where m + 1 ends; half periods of the series."""
        self.dim, self.k, self.y, self.span, self.window, self.wide = dim, k, y, span, window, wide
        self.rho = exp(y)
        self.others = <Py_ssize_t>dim - 2
        self.rule = &SHORT if self.others < 5 else &TALL  # jumps and kinks, or hardly any
        self.table, self.whole, self.degree = table, whole, degree
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

    cdef double _series(self, double u) noexcept nogil:
        """P(U <= ...) at u standard deviations, by the table's row now in work."""
        if fabs(u) == INFINITY:
            return 1.0 if u > 0.0 else 0.0
        return series(0.5 + 0.5 * u / self.window + self.work[3], PI * u / self.window,
                      &self.work[4], &self.work[4] + self.harmonics, self.harmonics)

    cdef double _all(self, double threshold) noexcept nogil:
        """P(the sum of all others <= threshold)."""
        cdef Py_ssize_t n = self.others + 1, piece
        cdef double u = threshold / (2.0 * sqrt(<double>n))
        if self.degree > 0:
            u = 0.5 * (threshold + n)
            if u <= 0.0 or u >= n:
                return 1.0 if u > 0.0 else 0.0
            piece = <Py_ssize_t>u
            return between(&self.whole[piece * self.degree], self.degree, u - piece)
        u /= self.whole[0]
        if fabs(u) >= min(self.wide, 0.5 * sqrt(<double>n) / self.whole[0]):
            return 1.0 if u > 0.0 else 0.0
        return series(0.5 + 0.5 * u / self.wide, PI * u / self.wide, &self.whole[0] + 1, NULL,
                      self.whole.shape[0] - 1)

    cdef double _between(self, double x, double v) noexcept nogil:
        """P(U <= ...) at v lengths of [m, 1] above its lowest value."""
        if v <= 0.0 or v >= self.others:
            return 1.0 if v > 0.0 else 0.0
        cdef Py_ssize_t piece = <Py_ssize_t>v
        self._look(x, 3 + piece * self.degree, self.degree)
        return between(&self.work[3 + piece * self.degree], self.degree, v - piece)

    cdef double _scaled(self, double m, double threshold, double mean, double s) noexcept nogil:
        """The threshold of U in standard deviations from its mean, infinite where it is sure."""
        cdef double wide = 1.0 - m, root = sqrt(<double>self.others), u
        u = (threshold - self.others * m - self.others * mean * wide) / (s * wide * root)
        if u >= min(self.window, (1.0 - mean) / s * root):
            return INFINITY
        if u <= -min(self.window, mean / s * root):
            return -INFINITY
        return u

    cdef Point _at(self, double gap) noexcept nogil:
        """The integrand at gap = m + 1."""
        cdef double m = gap - 1.0, x = gap / self.span, q, u
        cdef double[2] threshold
        cdef Point point
        cdef Py_ssize_t i
        threshold[0] = self._moved(gap) - m
        threshold[1] = self.settled - m
        self._look(x, 0, 3)
        q = min(self.work[0] * x, 1.0)
        point.value = self._weight(m, q)
        point.above = self._above(q)
        if self.degree > 0:  # lengths of [m, 1], whose normal is nearly uniform
            for i in range(2):
                u = (threshold[i] - self.others * m) / (1.0 - m)
                point.below[i] = self._between(x, u)
                point.moved[i] = min(max(u, 0.0), self.others) * sqrt(12.0 / self.others)
        else:
            for i in range(2):
                point.moved[i] = self._scaled(m, threshold[i], self.work[1], self.work[2])
            if fabs(point.moved[0]) != INFINITY or fabs(point.moved[1]) != INFINITY:
                self._look(x, 3, self.rows - 3)
            for i in range(2):
                point.below[i] = self._series(point.moved[i])
                point.moved[i] = min(max(point.moved[i], -8.0), 8.0)
        point.value *= point.below[0] - point.below[1]
        return point

    cdef double _above(self, double q) noexcept nogil:
        """P(all others are above m), a coordinate being below with probability q."""
        return exp((self.others + 1) * log1p(-q)) if q < 1.0 else 0.0

    cdef double _weight(self, double m, double q) noexcept nogil:
        """The density of the least of the others, in half of all cases."""
        if q >= 1.0:
            return 0.0
        return 0.5 * (self.dim - 1) * exp(
            self.others * log1p(-q) - 0.5 * (self.rho * m) ** 2 - self.log_mass)

    cdef void _inside(self, double centre, double half, Point *points) noexcept nogil:
        """The integrand at the nodes of a panel but for its ends, by the series."""
        cdef double[INSIDE] gap
        cdef double[INSIDE] y
        cdef double[TERMS * INSIDE] basis
        cdef double[ROWS * INSIDE] rows
        cdef double m, q
        cdef Py_ssize_t i
        cdef bint sure = True
        for i in range(INSIDE):
            gap[i] = centre + half * self.rule.x[min(i + 1, COUNT - 2)]
            y[i] = 2.0 * gap[i] / self.span - 1.0
        chebyshev(y, self.terms, basis)
        look(&self.table[0, 0], self.rows, self.terms, 3, basis, rows)
        for i in range(INSIDE):
            m = gap[i] - 1.0
            q = rows[i] * gap[i] / self.span
            points[i].value = self._weight(m, q)
            points[i].above = 1.0
            if i == COUNT // 2 - 1:  # it may become an end
                points[i].above = self._above(q)
            points[i].moved[0] = self._scaled(
                m, self._moved(gap[i]) - m, rows[INSIDE + i], rows[2 * INSIDE + i])
            points[i].moved[1] = self._scaled(
                m, self.settled - m, rows[INSIDE + i], rows[2 * INSIDE + i])
            sure = sure and fabs(points[i].moved[0]) == fabs(points[i].moved[1]) == INFINITY
        if not sure:
            look(&self.table[0, 3], self.rows, self.terms, self.rows - 3, basis, rows)
        for i in range(2):
            self._sums(i, rows, points)
        for i in range(INSIDE):
            points[i].value *= points[i].below[0] - points[i].below[1]

    cdef void _sums(self, Py_ssize_t j, const double *rows, Point *points) noexcept nogil:
        """P(U <= ...) at one of the two thresholds of all points."""
        cdef double[INSIDE] c
        cdef double[INSIDE] s
        cdef double[INSIDE] total
        cdef double u
        cdef Py_ssize_t i
        cdef bint sure = True
        for i in range(INSIDE):
            sure = sure and fabs(points[i].moved[j]) == INFINITY
        if not sure:
            for i in range(INSIDE):
                u = points[i].moved[j] if fabs(points[i].moved[j]) != INFINITY else 0.0
                c[i], s[i] = cos(PI * u / self.window), sin(PI * u / self.window)
                total[i] = 0.5 + 0.5 * u / self.window + rows[i]
            all_series(&rows[INSIDE], &rows[(1 + self.harmonics) * INSIDE], self.harmonics,
                       c, s, total)
        for i in range(INSIDE):
            u = points[i].moved[j]
            if fabs(u) == INFINITY:
                points[i].below[j] = 1.0 if u > 0.0 else 0.0
            else:
                points[i].below[j] = min(max(total[i], 0.0), 1.0)
            points[i].moved[j] = min(max(u, -8.0), 8.0)

    cdef double _moved(self, double gap) noexcept nogil:
        """What m + U may be at most at sign +."""
        if self.k == 0.0:
            return self.plus
        return self.plus + self.k * log1p(max(-self.ratio, self.ratio - gap)) / self.steep

    cdef double _knot(self, Py_ssize_t j) noexcept nogil:
        """Where the threshold of U equals j m + (d - 2 - j); it falls less than that."""
        cdef double low = 0.0, high = self.span, gap
        cdef Py_ssize_t _i
        for _i in range(60):
            gap = 0.5 * (low + high)
            if self._moved(gap) - (gap - 1.0) > j * (gap - 1.0) + (self.others - j):
                low = gap
            else:
                high = gap
        return low

    cdef double _deviation(self, double gap) noexcept nogil:
        """The threshold of U at sign + in standard deviations."""
        self._look(gap / self.span, 0, 3)
        return self._scaled(
            gap - 1.0, self._moved(gap) - (gap - 1.0), self.work[1], self.work[2])

    cdef double _cut(self, double u, double end) noexcept nogil:
        """About where that is u; it falls.  0 if it is nowhere more, the end if nowhere less."""
        cdef double low = 0.0, high = end, gap, here
        cdef Py_ssize_t _i
        if self._deviation(low) <= u:
            return low
        if self._deviation(high) >= u:
            return high
        for _i in range(40):
            gap = 0.5 * (low + high)
            here = self._deviation(gap)
            if fabs(here - u) < 0.2:
                return gap
            if here > u:
                low = gap
            else:
                high = gap
        return gap

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
        cdef Point[INSIDE] points
        cdef Point before = panel.first, now
        cdef Py_ssize_t i, j
        if self.degree == 0:
            self._inside(centre, half, points)
        else:
            for i in range(1, self.rule.count - 1):
                points[i - 1] = self._at(centre + half * self.rule.x[i])
        for j in range(self.rule.misses):
            far[j] = 0.0
        top[0] = jump[0] = 0.0
        for i in range(self.rule.count):
            if i == 0:
                now = panel.first
            elif i == self.rule.count - 1:
                now = panel.last
            else:
                now = points[i - 1]
            total += self.rule.w[i] * now.value
            for j in range(self.rule.misses):
                far[j] += self.rule.far[j][i] * now.value
            top[0] = max(top[0], now.value)
            for j in range(2):
                jump[0] = max(jump[0], fabs(now.moved[j] - before.moved[j]))
            before = now
        middle[0] = points[self.rule.count // 2 - 1]
        miss[0] = half * unseen(far, self.rule.misses)
        return half * total

    cdef double _conditional(self, double t, double log_r, double tolerance, double *missed):
        """P(l <= t | rho): what S tells, and the integral up to the kink."""
        cdef double[16] cut
        cdef double total, end = self.span
        self.ratio, self.steep = exp(log_r - self.y), max(exp(log_r + self.y), 1e-300)
        self.minus = (t + self.k * log1p(self.ratio)) / self.steep + 0.5 * self.dim * self.ratio + 1
        self.plus = t / self.steep + 0.5 * self.dim * self.ratio - 1
        missed[0] = 1e-15
        if self.others == 0:
            return self._two()
        total, self.settled = 0.5 * self._all(self.minus), -INFINITY
        if 2 * self.ratio < self.span:
            end, self.settled = 2 * self.ratio, self._moved(self.span)
            total += 0.5 * self._all(self.settled)
        return total + self._over(end, cut, self._cuts(end, tolerance, cut), tolerance, missed)

    cdef Py_ssize_t _cuts(self, double end, double tolerance, double *cut) noexcept nogil:
        """Where to cut the range of m + 1 to begin with."""
        cdef double reach
        cdef Py_ssize_t i
        if self.degree > 0:
            if self.others >= 5:
                return 0
            for i in range(self.others + 1):  # where either threshold passes a knot of the law of U
                cut[2 * i] = self._knot(i)
                cut[2 * i + 1] = (self.settled - self.others + i) / (1 + i) + 1
            return 2 * (self.others + 1)
        reach = sqrt(max(-2.0 * log(UNSEEN * tolerance) - 3.0, 1.0))
        cut[0], cut[1] = self._cut(reach, end), self._cut(-reach, end)
        cut[2] = 0.5 * (cut[0] + cut[1])
        return 3 if self._deviation(cut[0]) - self._deviation(cut[1]) > LONG else 2

    cdef double _over(self, double end, const double *cut, Py_ssize_t cuts, double tolerance,
                      double *missed) noexcept nogil:
        """The integral over m + 1 in [0, end]; adds its error to what is missed."""
        cdef Panel[STACK] panels
        cdef Panel panel
        cdef Point middle
        cdef double total = 0.0, value, miss, top, jump, part, half
        cdef Py_ssize_t depth = 0, i
        panel.low, panel.last = 0.0, self._at(0.0)
        while panel.low < end:
            panel.high, panel.first = end, panel.last
            for i in range(cuts):
                if panel.low < cut[i] < panel.high:
                    panel.high = cut[i]
            panel.last = self._at(panel.high)
            panels[depth] = panel
            depth += 1
            panel.low = panel.high
        while depth > 0:
            depth -= 1
            panel = panels[depth]
            half = 0.5 * (panel.high - panel.low)
            part = tolerance * (2 * half / end + 0.02)
            value = level(&panel, &miss)
            if miss > UNSEEN * part:
                value = self._integrate(&panel, &middle, &miss, &top, &jump)
                if (miss > part or (jump > 3.0 and top * half >= part)) and (
                    half >= 1e-13 * self.span and depth + 2 <= STACK
                ):
                    panels[depth], panels[depth + 1] = panel, panel
                    panels[depth].high = panels[depth + 1].low = 0.5 * (panel.low + panel.high)
                    panels[depth].last = panels[depth + 1].first = middle
                    depth += 2
                    continue
            total += value
            missed[0] += miss
        return total

    def conditional(self, double t, double log_r, double tolerance):
        """(P(l <= t | rho), error)."""
        cdef double error
        value = self._conditional(t, log_r, tolerance, &error)
        return value, error


def conditionals(list nodes, double t, double log_r, const double[::1] tolerances):
    """(P(l <= t | rho), errors) at nodes."""
    values, errors = np.empty(len(nodes)), np.empty(len(nodes))
    cdef double[::1] found = values, missed = errors
    cdef MixedNode node
    cdef Py_ssize_t i
    for i in range(len(nodes)):
        node = nodes[i]
        found[i] = node._conditional(t, log_r, tolerances[i], &missed[i])
    return values, errors
