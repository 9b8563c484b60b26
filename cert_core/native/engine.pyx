# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Laws of the log-likelihood ratio of radial noises, by quadrature.

Given |z| = s, the distance |z - delta| has an explicit law (a spherical cap, or
a power of a uniform); what is left is one integral over the generalised-gamma
law of s, taken in log s.  The design:

* panels are cut at every kink and jump of the integrand, which are the roots of
  h(s+r) - h(s) = +-t and h(|s-r|) - h(s) = +-t, and each panel is mapped by
  y = (3x - x^3)/2, which turns the square-root ends of even dimensions analytic;
* each panel carries two Gauss-Legendre rules of different nodes (16 and 20), whose
  difference might vanish by chance; its error is the distance of all 36 values from the
  polynomials of degree 29, six independent conditions (rules.py), which is never below
  that difference.  The worst panel is halved until the error is below the tolerance, and
  the sum of the errors is returned beside the value, never hidden;
* panels near s = r measure log(s/r) from r, the others from the typical radius:
  s - r keeps its digits where all of a tail lives within |s - r| << r;
* shells ask for the same integrals with |z| or |z - delta| between two thresholds, which
  cut the range and add kinks of their own;
* cone noises (1-balls along an axis, max-balls along a diagonal, which share one
  law given s) have half their mass at |z - delta| = s + r exactly.  The bounds pair
  it with its mirror image, so that their integrands are continuous.

Measured and left out: scipy's quad (60-230 s a radius in published code), fixed
nodes without cuts (error 1/N at jumps), boost's incomplete beta for dim >= 100
(2 us and 1e-13 where cc_cap takes 50 ns and 1e-15).
"""

from libc.math cimport INFINITY, NAN, exp, expm1, fabs, isnan, lgamma, log, log1p, sqrt
from scipy.special.cython_special cimport betainc

from cert_core.native.rules import distance, gauss

cdef extern from "formulas.h" nogil:
    double cc_phi(double v)
    double cc_h_change(double k, double power, double g, double log_g, double u)
    double cc_threshold(double k, double power, double g, double log_g, double t)
    double cc_log_gap(double w)
    double cc_log_sum(double w)
    double cc_cosine(double u, double w, double *one_minus, double *one_plus)
    void cc_cap(const double *polynomial, double m, double c, double *central, double *upper)
    void cc_cap_polynomial(double m, double *polynomial)

cdef enum:
    LOW = 16
    HIGH = 20
    DEGREE = 29
    MISSES = LOW + HIGH - 1 - DEGREE
    CUTS = 200
    MARKS = 11
    PANELS = 900
    PARTS = 5
    SEARCHED = 4  # the part of a bound that only steers a search: no error is kept
    SPHERE = 0
    CONE = 1
    EDGE = 2

GEOMETRIES = {"sphere": SPHERE, "cone": CONE, "edge": EDGE}

cdef double OMITTED = 85.0  # the radius range leaves out mass below 2 exp(-85) = 2.5e-37
cdef double SHORT = 1e-13   # a panel so short matters to no digit (its width to the power 3/2)
cdef double FLOOR = 1e-40   # values below this are not resolved further
cdef double ABSOLUTE = 1e-15  # the same for what is added to other shells
cdef double NEAR = 0.7      # |log(s/r)| below which panels measure from r
cdef double EPS = 2.220446049250313e-16
cdef double[7] TURNS = [0.0, 1.5, 4.0, 8.0, -1.5, -4.0, -8.0]  # of a cap in many dimensions

POINTS, POINT_WEIGHTS = gauss(LOW, HIGH)
cdef double[::1] NODES = POINTS
cdef double[::1] WEIGHTS = POINT_WEIGHTS
# by node; twice the distance, in the weights of both rules, bounds their difference too
cdef double[:, ::1] MISS = (2.0 * distance(POINTS, 0.5 * POINT_WEIGHTS, DEGREE)).T.copy()


cdef struct Law:
    int geometry
    bint flat            # power 1 and k = 0: h(s+r) - h(s) = r/scale for every s
    double dim, power, k, a
    double log_reach     # log(r / s_a), s_a the radius where g = a
    double log_a, mass   # log a; peak of the density of v
    double step          # (r/scale)^power
    double turn          # log(s/r) where h(s+r) - h(s) turns, or NAN
    double paired        # omega, the mass with |z - delta| = s + r exactly
    double cap_m
    double[16] cap_polynomial


cdef struct Panel:
    double low, high     # the whole panel between two cuts, in eta
    double left, right   # the part of it, in the mapped variable on [-1, 1]
    bint near            # eta = log(s/r), else log(s/s_a)
    double[PARTS] value
    double[PARTS] coarse  # by the rule of fewer nodes
    double[PARTS] error
    double[PARTS] noise  # rounding, which no halving removes


cdef struct Job:
    const Law *law
    bint dual            # the integrals of a bound, else cdf and sf
    bint moved           # P(l >= t) with |z - delta| between low and high, else
    double first, last   # log(s/s_a) of the range of s
    double low, high     # log(|z - delta|/r)
    double t
    double tolerance
    int parts
    double[PARTS] floor
    double[PARTS] value
    double[PARTS] error


cdef struct Split:
    double above, below  # P(x' >= x), P(x' < x) (or >, <=) over the unpaired mass
    # above - (1/2 - paired) = base (1/2 - paired) + small, where base is 0 but for edges:
    # 1 where l <= t takes in l = 0, else -1
    double base, small
    double noise         # rounding error of small, and of above and below beyond their own ulps


cdef inline void locate(const Law *law, double eta, bint near, double *v, double *w) noexcept nogil:
    if near:
        w[0] = eta
        v[0] = law.power * (eta + law.log_reach)
    else:
        w[0] = eta - law.log_reach
        v[0] = law.power * eta


cdef inline double weight(const Law *law, double v) noexcept nogil:
    return law.power * law.mass * exp(-law.a * cc_phi(v))


cdef inline double outer_change(const Law *law, double v, double w) noexcept nogil:
    """h(s+r) - h(s)."""
    if law.flat:
        return law.step
    return cc_h_change(law.k, law.power, law.a * exp(v), law.log_a + v, cc_log_sum(w))


cdef inline double inner_change(const Law *law, double v, double w) noexcept nogil:
    """h(|s-r|) - h(s)."""
    if law.flat and w >= 0.0:
        return -law.step
    return cc_h_change(law.k, law.power, law.a * exp(v), law.log_a + v, cc_log_gap(w))


# ---- the law of |z - delta| given |z| = s, at a threshold s e^u ----

cdef void sphere_split(const Law *law, double u, double w, double blur, Split *out) noexcept nogil:
    cdef double one_minus, one_plus, c, side, central, upper
    if w < -40.0:
        c = 1.0 if u + w <= 0.0 else -1.0
        one_minus = 1.0 - c
        one_plus = 1.0 + c
    else:
        c = cc_cosine(u, w, &one_minus, &one_plus)
    side = one_minus if c > 0.0 else one_plus
    if side <= 0.0:
        central, upper = 0.5, 0.0
    elif law.dim >= 100.0:
        cc_cap(law.cap_polynomial, law.cap_m, fabs(c), &central, &upper)
    elif c * c * law.dim < 2.0 and fabs(c) < 0.5:
        central = 0.5 * betainc(0.5, 0.5 * (law.dim - 1.0), c * c)
        upper = 0.5 - central
    else:
        upper = 0.5 * betainc(0.5 * (law.dim - 1.0), 0.5, side * (2.0 - side))
        central = 0.5 - upper
    out.base = 0.0
    if c > 0.0:
        out.above, out.below, out.small = 0.5 + central, upper, central
    else:
        out.above, out.below, out.small = upper, 0.5 + central, -central
    out.noise = (2.0 * EPS + law.dim * blur) * upper


cdef inline double atom_log(const Law *law, double w) noexcept nogil:
    """log (1 - rho)_+^(dim-1), the mirror image of the paired mass."""
    if w < 0.0:
        return -INFINITY
    return (law.dim - 1.0) * cc_log_gap(w) if law.dim > 1.0 else 0.0


cdef void cone_split(const Law *law, double u, double w, double blur, Split *out) noexcept nogil:
    """|z - delta| = s (2q - 1) + r, q = U^(1/(dim-1)), within |s-r| < |z - delta| < s+r."""
    cdef double rho = exp(-w), change = expm1(u), atom = atom_log(law, w)
    cdef double whole = -0.5 * expm1(atom), half = 0.5 * (change - rho)
    cdef double x = exp(u), gap = -expm1(-w), q = 1.0, power, spread
    out.noise = 0.0
    if w < -40.0:
        half, x, gap = (0.0 if u + w > 0.0 else -rho), 0.0, -rho
    if half >= 0.0:
        power = 0.0
    elif half > -0.5:
        q = 1.0 + half
        power = log1p(half)
    else:
        q = 0.5 * (x + gap)
        power = log(q) if q > 0.0 else -INFINITY
    if law.dim > 1.0:
        power *= law.dim - 1.0
    elif power > -INFINITY:
        power = 0.0
    if power <= atom:
        out.above, out.below = whole, 0.0
    else:
        out.above = -0.5 * expm1(power)
        out.below = -0.5 * exp(power) * expm1(atom - power)
        if half < 0.0:
            spread = fabs(change) + rho if half > -0.5 else x + fabs(gap)
            out.noise = exp(power) * 0.5 * law.dim * (EPS * spread + x * blur) / q
    out.base, out.small = 0.0, out.above


cdef void edge_split(const Law *law, double u, double w, double blur, bint strict, Split *out) noexcept nogil:
    """Max-balls along an axis: coordinate 1 is the largest with probability 1/dim (its
    negative half is paired), else the distance is max(s, |z_1 - r|), z_1 uniform."""
    cdef double rho = exp(-w), atom = atom_log(law, w), far = 1.0 - 1.0 / law.dim
    cdef double whole = -expm1(atom), power, top, top_below, moved
    if u > 0.0:
        power = 0.0
    else:
        power = (law.dim - 1.0) * u
    if w < 0.0 and u + w <= log1p(-exp(w)):
        top, top_below = 1.0, 0.0
    elif power <= atom:
        top, top_below = whole, 0.0
    else:
        top, top_below = -expm1(power), -exp(power) * expm1(atom - power)
    out.below = law.paired * top_below
    out.noise = 0.0
    if top_below > 0.0 and u <= blur:  # beyond, the power is 1 whatever the threshold is
        out.noise = law.paired * exp(power) * (law.dim * blur - 2.0 * EPS * power)
    if u > 0.0 or (u == 0.0 and strict):
        moved = 0.5 * (rho - expm1(u)) if w >= -40.0 else (1.0 if u + w <= 0.0 else 0.0)
        moved = 0.0 if moved < 0.0 else (1.0 if moved > 1.0 else moved)
        out.base, out.small = -1.0, law.paired * top + far * moved
        out.above = out.small
        out.below += far * (1.0 - moved)
        out.noise += far * (EPS * rho + exp(u) * blur) if 0.0 < moved < 1.0 else 0.0
    else:
        out.base, out.small = 1.0, law.paired * top
        out.above = out.small + far


cdef inline void split_at(
    const Law *law, double u, double w, double blur, bint strict, Split *out
) noexcept nogil:
    """The unpaired mass split at |z - delta| = s e^u."""
    if law.geometry == SPHERE:
        sphere_split(law, u, w, blur, out)
    elif law.geometry == CONE:
        cone_split(law, u, w, blur, out)
    else:
        edge_split(law, u, w, blur, strict, out)
    if not out.noise < 1.0:  # nor can a probability err by more, where a threshold is anywhere
        out.noise = 1.0


cdef inline double threshold(const Law *law, double t, double v, double *blur) noexcept nogil:
    """The u where l = t, and its rounding error."""
    cdef double g = law.a * exp(v)
    cdef double u = cc_threshold(law.k, law.power, g, law.log_a + v, t)
    cdef double slope = law.k + law.power * exp(law.log_a + v + law.power * u)
    blur[0] = 0.0
    if slope > 0.0:
        blur[0] = EPS * (fabs(t) + fabs(law.k * u)) * (1.0 + fabs(v)) / slope
    return u


cdef inline void split(
    const Law *law, double t, double v, double w, bint strict, Split *out
) noexcept nogil:
    """The unpaired mass split at l <= t (strict: l < t) and its complement."""
    cdef double blur, u = threshold(law, t, v, &blur)
    split_at(law, u, w, blur, strict, out)


# ---- integrands ----

cdef void distribution(
    const Law *law, double t, double v, double w, double *out, double *noise
) noexcept nogil:
    """P(l <= t) and P(l > t) given s."""
    cdef Split here
    cdef double mirror
    split(law, t, v, w, False, &here)
    out[0], out[1] = here.above, here.below
    noise[0] = here.noise + 2.0 * EPS * here.above
    noise[1] = here.noise + 2.0 * EPS * here.below
    if law.paired == 0.0:
        return
    out[0 if -outer_change(law, v, w) <= t else 1] += law.paired
    if w > 0.0:
        mirror = law.paired * exp(atom_log(law, w))
        out[0 if -inner_change(law, v, w) <= t else 1] += mirror


cdef void moved_shell(const Job *job, double v, double w, double *out, double *noise) noexcept nogil:
    """P(l >= t, low < log(|z - delta|/r) <= high) given s."""
    cdef const Law *law = job.law
    cdef Split upper, lower
    cdef double blur = 0.0, place, u = INFINITY
    cdef double low = job.low - w, high = job.high - w
    out[0] = noise[0] = 0.0
    if job.t > -INFINITY:
        u = threshold(law, job.t, v, &blur)
    if high < u:
        u, blur = high, 2.0 * EPS * (fabs(job.high) + fabs(w))
    if law.paired > 0.0:
        place = cc_log_sum(w)
        if low < place <= high and -outer_change(law, v, w) >= job.t:
            out[0] += law.paired
        place = cc_log_gap(w)
        if w > 0.0 and low < place <= high and -inner_change(law, v, w) >= job.t:
            out[0] += law.paired * exp(atom_log(law, w))
    if u > low:
        split_at(law, u, w, blur, True, &upper)
        if low == -INFINITY:
            out[0] += upper.below
            noise[0] = upper.noise
        else:
            split_at(law, low, w, 2.0 * EPS * (fabs(job.low) + fabs(w)), False, &lower)
            noise[0] = upper.noise + lower.noise
            if upper.below <= lower.above:
                out[0] += upper.below - lower.below
                noise[0] += 2.0 * EPS * lower.below
            else:
                out[0] += lower.above - upper.above
                noise[0] += 2.0 * EPS * lower.above
    noise[0] += 2.0 * EPS * out[0]


cdef void bounds(
    const Law *law, double tau, double v, double w, double *out, double *noise
) noexcept nogil:
    """Given s, for lam = exp(tau) >= 1 and by the symmetry z -> delta - z:
    0: D(lam)/lam + 1/(2 lam) - 1/2, the excess of p_min over 1/2;
    1: 1 - D(lam)/lam = E min(1, W/lam);
    2, 3: two positive parts whose difference is lam D(1/lam) = E (1 - lam W)_+;
    4: P(l < -tau) - 1/2, for searches: 0 at the best lambda of p_min."""
    cdef Split near, far
    cdef double inverse = exp(-tau), outer, ratio, hinge = 0.0
    split(law, tau, v, w, False, &near)
    split(law, -tau, v, w, True, &far)
    out[0] = near.small + inverse * far.small
    out[1] = near.below + inverse * far.below
    out[2] = far.above
    out[3] = exp(tau) * near.below
    out[4] = far.small
    noise[0] = 2.0 * EPS * (fabs(near.small) + inverse * fabs(far.small))
    if law.paired > 0.0:
        if near.base != 0.0:  # base is 1 above, -1 beyond
            out[0] += (0.5 - law.paired) * -expm1(-tau)
        out[4] += far.base * (0.5 - law.paired)
        outer = outer_change(law, v, w)
        ratio = exp(-outer)
        out[1] += law.paired * inverse * ratio
        if outer <= tau:
            out[4] -= law.paired
        if outer < tau:
            hinge = law.paired * inverse * expm1(tau - outer)
            out[1] += law.paired * inverse
        else:
            out[1] += law.paired * ratio
            out[2] += law.paired * -expm1(tau - outer)
        out[0] += hinge
        noise[0] += near.noise + inverse * far.noise + 2.0 * EPS * hinge
    noise[1] = near.noise + inverse * far.noise + 2.0 * EPS * out[1]
    noise[2] = far.noise + 2.0 * EPS * out[2]
    noise[3] = exp(tau) * near.noise + 2.0 * EPS * out[3]


# ---- where the integrand bends or jumps ----

cdef double gap(const Law *law, int side, double target, double eta, bint near) noexcept nogil:
    """h(s+r) - h(s) - target (side 1) or h(|s-r|) - h(s) - target (side -1)."""
    cdef double v, w
    locate(law, eta, near, &v, &w)
    if side > 0:
        return outer_change(law, v, w) - target
    return inner_change(law, v, w) - target


cdef double bisect(
    const Law *law, int side, double target, bint near, double low, double high
) noexcept nogil:
    """The sign change of gap between low and high, by the Illinois rule; between two
    ends of one sign and different size, by their geometric mean, for roots near s = r."""
    cdef double at_low = gap(law, side, target, low, near)
    cdef double at_high = gap(law, side, target, high, near)
    cdef double middle, here
    cdef int i, last = 0
    if isnan(at_low) or isnan(at_high) or (at_low > 0.0) == (at_high > 0.0):
        return NAN
    for i in range(200):
        if low * high >= 0.0 and (fabs(low) > 8.0 * fabs(high) or fabs(high) > 8.0 * fabs(low)):
            middle = sqrt(fabs(low if low != 0.0 else 1e-300)) * sqrt(fabs(high if high != 0.0 else 1e-300))
            if low + high < 0.0:
                middle = -middle
        elif i % 3 == 2 or not (fabs(at_low) < 1e300 and fabs(at_high) < 1e300):
            middle = 0.5 * (low + high)
        else:
            middle = low - at_low * (high - low) / (at_high - at_low)
        if not (low < middle < high):
            middle = 0.5 * (low + high)
            if middle == low or middle == high:
                return middle
        here = gap(law, side, target, middle, near)
        if here == 0.0 or high - low <= 2.0 * EPS * fabs(middle):
            return middle
        if (here > 0.0) == (at_low > 0.0):
            if last == 1:
                at_high *= 0.5
            low, at_low, last = middle, here, 1
        else:
            if last == -1:
                at_low *= 0.5
            high, at_high, last = middle, here, -1
    return 0.5 * (low + high)


cdef double turning_point(const Law *law) noexcept nogil:
    """log(s/r) where h'(s+r) = h'(s), the only turn of h(s+r) - h(s); NAN if it has none."""
    cdef double low = -700.0, high = 700.0, middle, sum_log, growth
    cdef double constant = log(law.power / law.k) + law.power * law.log_reach + law.log_a
    cdef int _i
    for _i in range(100):
        middle = 0.5 * (low + high)
        sum_log = cc_log_sum(middle)
        growth = (law.power - 1.0) * sum_log
        if growth < 30.0:
            growth = log(expm1(growth))
        if constant + (law.power + 1.0) * middle + sum_log + growth > 0.0:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high)


cdef int insert(double *cuts, int count, double value, double low, double high) noexcept nogil:
    """Keep cuts[:count] sorted, with value in it when it lies inside (low, high)."""
    cdef int i = count
    if not (low < value < high) or count >= CUTS - 1:
        return count
    while i > 0 and cuts[i - 1] > value:
        cuts[i] = cuts[i - 1]
        i -= 1
    cuts[i] = value
    return count + 1


cdef int cut_segment(const Job *job, double low, double high, bint near, double *cuts) noexcept nogil:
    """Every kink and jump of the integrand inside one segment, sorted, ends included."""
    cdef const Law *law = job.law
    cdef double shift = 0.0 if near else law.log_reach
    cdef double[8] monotone
    cdef double[MARKS] marks
    cdef int pieces, count, i, j
    cdef double root, outer = job.t if job.dual else -job.t
    cuts[0], cuts[1] = low, high
    count = 2
    monotone[0], monotone[1] = low, high
    pieces = insert(monotone, 2, shift, low, high)
    if not isnan(law.turn):
        pieces = insert(monotone, pieces, law.turn + shift, low, high)
        pieces = insert(monotone, pieces, law.turn + cc_log_sum(law.turn) + shift, low, high)
    count = insert(cuts, count, shift, low, high)
    if law.geometry == EDGE:
        count = insert(cuts, count, shift - 0.69314718055994530942, low, high)
    for i in range(pieces - 1):
        root = bisect(law, 1, outer, near, monotone[i], monotone[i + 1])
        count = insert(cuts, count, root, low, high)
        root = bisect(law, -1, outer, near, monotone[i], monotone[i + 1])
        count = insert(cuts, count, root, low, high)
        if job.dual:
            root = bisect(law, -1, -outer, near, monotone[i], monotone[i + 1])
            count = insert(cuts, count, root, low, high)
    if job.moved:
        for i in range(2):
            root = job.high if i else job.low
            if fabs(root) < INFINITY:
                pieces = shell_marks(job, root, marks)
                for j in range(pieces):
                    count = insert(cuts, count, marks[j] + shift, low, high)
    return count


cdef int shell_marks(const Job *job, double threshold, double *marks) noexcept nogil:
    """log(s/r) where |z - delta| = threshold bends or turns sharply; threshold is log(T/r).
    There s = T, s + r = T and |s - r| = T; where h(T) - h(s) is what l = t asks for; and, in
    many dimensions, where the law of |z - delta| given s turns from 0 to 1."""
    cdef const Law *law = job.law
    cdef double ratio = exp(threshold), spread, root, c
    cdef double v = law.power * (threshold + law.log_reach)
    cdef int i, count = 0
    marks[0] = threshold
    marks[1] = log1p(ratio)
    marks[2] = log(fabs(expm1(threshold)))
    marks[3] = threshold + cc_threshold(law.k, law.power, law.a * exp(v), law.log_a + v, -job.t)
    count = 4
    for i in range(7):
        spread = TURNS[i]
        if law.geometry == SPHERE:
            c = spread / sqrt(law.dim)  # its standard deviation
            root = ratio * ratio - 1.0 + c * c
            if fabs(c) >= 1.0 or root < 0.0:
                continue
            root = c + sqrt(root) if c > 0.0 or ratio > 1.0 else c - sqrt(root)
        elif spread <= 0.0:
            continue
        elif law.geometry == CONE:
            root = (ratio - 1.0) / (1.0 - 10.0 * spread / law.dim)
        else:
            root = ratio * (1.0 + 5.0 * spread / law.dim)
        if root > 0.0:
            marks[count] = log(root)
            count += 1
    return count


cdef int grade(double *cuts, int count) noexcept nogil:
    """Cut the neighbours of a short panel geometrically: a kink just beyond an end is too
    near for the nodes of a long panel, and both rules would miss it alike."""
    cdef double[CUTS] given
    cdef double step, room
    cdef int i, total = count
    for i in range(count):
        given[i] = cuts[i]
    for i in range(1, count - 1):
        step, room = given[i] - given[i - 1], given[i + 1] - given[i]
        if SHORT < step < 0.1 * room:
            step *= 8.0
            while step < 0.5 * room:
                total = insert(cuts, total, given[i] + step, given[0], given[count - 1])
                step *= 8.0
        step, room = given[i + 1] - given[i], given[i] - given[i - 1]
        if SHORT < step < 0.1 * room:
            step *= 8.0
            while step < 0.5 * room:
                total = insert(cuts, total, given[i] - step, given[0], given[count - 1])
                step *= 8.0
    return total


# ---- quadrature ----

cdef void integrate(Job *job, Panel *panel) noexcept nogil:
    """One panel's integral, and the distance of its values from polynomials."""
    cdef const Law *law = job.law
    cdef double middle = 0.5 * (panel.low + panel.high), reach = 0.5 * (panel.high - panel.low)
    cdef double centre = 0.5 * (panel.left + panel.right), half = 0.5 * (panel.right - panel.left)
    cdef double x, v, w, mass, scale
    cdef double[PARTS] here
    cdef double[PARTS] noise
    cdef double[PARTS][MISSES] miss
    cdef int i, j, n
    panel.value[SEARCHED] = 0.0
    for j in range(job.parts):
        panel.value[j] = panel.coarse[j] = panel.noise[j] = 0.0
        for n in range(MISSES):
            miss[j][n] = 0.0
    for i in range(LOW + HIGH):
        x = centre + half * NODES[i]
        locate(law, middle + reach * 0.5 * x * (3.0 - x * x), panel.near, &v, &w)
        scale = half * reach * 1.5 * (1.0 - x * x) * weight(law, v)
        if scale == 0.0:
            continue
        if job.moved:
            moved_shell(job, v, w, here, noise)
        elif job.dual:
            bounds(law, job.t, v, w, here, noise)
        else:
            distribution(law, job.t, v, w, here, noise)
        mass = scale * WEIGHTS[i]
        if job.dual and i >= LOW:
            panel.value[SEARCHED] += mass * here[SEARCHED]
        for j in range(job.parts):
            for n in range(MISSES):
                miss[j][n] += scale * here[j] * MISS[i, n]
            if i < LOW:
                panel.coarse[j] += mass * here[j]
            else:
                panel.value[j] += mass * here[j]
                panel.noise[j] += mass * noise[j]
    for j in range(job.parts):
        panel.error[j] = 0.0
        for n in range(MISSES):
            panel.error[j] += miss[j][n] * miss[j][n]
        panel.error[j] = sqrt(panel.error[j])


cdef double excess(const Job *job, const Panel *panel, int parts) noexcept nogil:
    """The panel's error above what rounding leaves, as a share of the tolerance."""
    cdef double worst = 0.0, share
    cdef int j
    for j in range(parts):
        if panel.error[j] > panel.noise[j]:
            share = panel.error[j] / (job.tolerance * fabs(job.value[j]) + job.floor[j])
            if share > worst:
                worst = share
    return worst


cdef void total(Job *job, const Panel *panels, int count) noexcept nogil:
    cdef int i, j
    job.value[SEARCHED] = 0.0
    for i in range(count):
        job.value[SEARCHED] += panels[i].value[SEARCHED]
    for j in range(job.parts):
        job.value[j] = job.error[j] = 0.0
        for i in range(count):
            job.value[j] += panels[i].value[j]
            job.error[j] += panels[i].error[j] + panels[i].noise[j]


cdef int refine(Job *job, Panel *panels, int count, int parts) noexcept nogil:
    """Halve the worst panel until the summed errors of the first parts are within the
    tolerance."""
    cdef int i, worst
    cdef double share, high, sum_of_shares
    while count < PANELS:
        total(job, panels, count)
        worst, high, sum_of_shares = -1, 0.0, 0.0
        for i in range(count):
            share = excess(job, &panels[i], parts)
            sum_of_shares += share
            if share > high and panels[i].right - panels[i].left > 1e-9:
                worst, high = i, share
        if worst < 0 or sum_of_shares <= 1.0:
            break
        panels[count] = panels[worst]
        panels[worst].right = panels[count].left = 0.5 * (panels[worst].left + panels[worst].right)
        integrate(job, &panels[worst])
        integrate(job, &panels[count])
        count += 1
    total(job, panels, count)
    return count


cdef int cover(Job *job, double level, Panel *panels) noexcept nogil:
    """First panels: the radius range cut at quantiles, where panels change base, and
    at every kink and jump.  P(v <= -x) and P(v >= x) are at most exp(-a phi(x))."""
    cdef const Law *law = job.law
    cdef double[CUTS] cuts
    cdef double[4] ends
    cdef double[6] marks
    cdef double[4] bends
    cdef double low, high, base
    cdef int segments, i, j, n_cuts, count = 0
    cdef bint near
    for i in range(3):
        high = 3.0 if i == 0 else 20.0 if i == 1 else level
        marks[2 - i] = phi_inverse(high / law.a, -1) / law.power
        marks[3 + i] = phi_inverse(high / law.a, 1) / law.power
    # a range of millions (a near 0) hides from every node what bends within a few units of
    # s = scale or of s = r: beyond these marks the integrand is a power of s
    bends[0], bends[1] = (-law.log_a - 36.0) / law.power, (-law.log_a - 4.0) / law.power
    bends[2], bends[3] = law.log_reach - 36.0, law.log_reach + 36.0
    ends[0] = job.first if job.first > marks[0] else marks[0]
    ends[1] = job.last if job.last < marks[5] else marks[5]
    if ends[0] >= ends[1]:
        return 0
    segments = insert(ends, 2, law.log_reach - NEAR, ends[0], ends[1])
    segments = insert(ends, segments, law.log_reach + NEAR, ends[0], ends[segments - 1])
    for i in range(segments - 1):
        near = fabs(0.5 * (ends[i] + ends[i + 1]) - law.log_reach) < NEAR
        base = law.log_reach if near else 0.0
        low, high = ends[i] - base, ends[i + 1] - base
        n_cuts = cut_segment(job, low, high, near, cuts)
        for j in range(1, 5):
            n_cuts = insert(cuts, n_cuts, marks[j] - base, low, high)
        for j in range(4):
            n_cuts = insert(cuts, n_cuts, bends[j] - base, low, high)
        n_cuts = grade(cuts, n_cuts)
        for j in range(n_cuts - 1):
            if cuts[j] < cuts[j + 1]:
                panels[count].low, panels[count].high = cuts[j], cuts[j + 1]
                panels[count].left, panels[count].right = -1.0, 1.0
                panels[count].near = near
                integrate(job, &panels[count])
                count += 1
    return count


cdef class RadialLaw:
    """The compiled law of one radial noise under one shift (see cert_core.laws)."""
    cdef Law law
    cdef tuple arguments

    def __cinit__(self, str geometry, double dim, double power, double k, double reach):
        """reach = |delta|/scale in the norm of the noise (cone: r of the diagonal)."""
        cdef Law *law = &self.law
        self.arguments = geometry, dim, power, k, reach
        law.geometry = GEOMETRIES[geometry]
        law.dim, law.power, law.k = dim, power, k
        law.a = (dim - k) / power
        law.log_a = log(law.a)
        law.mass = exp(law.a * law.log_a - law.a - lgamma(law.a)) if law.a < 10.0 else (
            sqrt(law.a / 6.283185307179586477) * exp(-stirling(law.a)))
        law.log_reach = log(reach) - law.log_a / power
        law.flat = power == 1.0 and k == 0.0
        law.step = reach ** power
        law.turn = turning_point(law) if k > 0.0 and power > 1.0 else NAN
        law.paired = 0.0 if law.geometry == SPHERE else 0.5 if law.geometry == CONE else 0.5 / dim
        law.cap_m = dim - 1.5
        if dim >= 100.0:
            cc_cap_polynomial(law.cap_m, law.cap_polynomial)

    def __reduce__(self):
        return RadialLaw, self.arguments

    cdef void prepare(
        self, Job *job, bint dual, double t, double tolerance, int parts
    ) noexcept nogil:
        cdef int j
        job.law = &self.law
        job.dual, job.t, job.tolerance = dual, t, tolerance
        job.moved = False
        job.first, job.last = -INFINITY, INFINITY
        job.parts = parts
        for j in range(PARTS):
            job.floor[j] = FLOOR
        if dual:
            job.floor[1] *= exp(-t)

    cdef Job run(self, bint dual, double t, double tolerance, int parts) noexcept nogil:
        cdef Job job
        self.prepare(&job, dual, t, tolerance, parts)
        self.evaluate(&job)
        return job

    cdef void evaluate(self, Job *job) noexcept nogil:
        cdef Panel[PANELS] panels
        cdef int count, j
        count = cover(job, OMITTED + job.t if job.dual else OMITTED, panels)
        count = refine(job, panels, count, min(2, job.parts))
        if job.parts > 2:
            refine(job, panels, count, job.parts)
        for j in range(job.parts):
            job.error[j] += 2.0 * exp(-OMITTED - (job.t if job.dual and j == 1 else 0.0))

    cdef double place(self, double threshold, double *error) noexcept nogil:
        """log(T/s_a) of T in scales; what its rounding moves is added to error."""
        cdef double value
        if threshold <= 0.0 or threshold == INFINITY:
            return -INFINITY if threshold <= 0.0 else INFINITY
        value = log(threshold) - self.law.log_a / self.law.power
        error[0] += 4.0 * EPS * (1.0 + fabs(value)) * weight(&self.law, self.law.power * value)
        return value

    cdef double shell(
        self, Job *job, bint moved, double t, double low, double high, double tolerance
    ) noexcept nogil:
        """Prepare the integrals of a shell; what the rounding of its edges moves."""
        cdef double error = 0.0, peak = 4.0 * EPS * self.law.power * self.law.mass
        self.prepare(job, False, -t if moved else t, tolerance, 2)
        low, high = self.place(low, &error), self.place(high, &error)
        if not moved:
            job.first, job.last = low, high
            return error
        job.moved, job.parts, job.floor[0] = True, 1, ABSOLUTE
        job.low, job.high = low - self.law.log_reach, high - self.law.log_reach
        error = 0.0
        if fabs(low) < INFINITY:
            error += peak * (1.0 + fabs(job.low))
        if fabs(high) < INFINITY:
            error += peak * (1.0 + fabs(job.high))
        return error

    def within(self, double t, double low, double high, double tolerance=4e-15):
        """(F, S, error of F, error of S): P(l <= t) and P(l > t) with low < |z| <= high, in
        scales."""
        cdef Job job
        cdef double error
        with nogil:
            error = self.shell(&job, False, t, low, high, tolerance)
            self.evaluate(&job)
        return job.value[0], job.value[1], job.error[0] + error, job.error[1] + error

    def arriving(self, double t, double low, double high, double tolerance=4e-15):
        """(G, error): P(l >= -t) with low < |z - delta| <= high, in scales."""
        cdef Job job
        cdef double error
        with nogil:
            error = self.shell(&job, True, t, low, high, tolerance)
            self.evaluate(&job)
        return job.value[0], job.error[0] + error

    def distribution(self, double t, double tolerance=4e-15):
        """(F, S, error of F, error of S) with F = P(l <= t), S = P(l > t)."""
        cdef Job job
        with nogil:
            job = self.run(False, t, tolerance, 2)
        return job.value[0], job.value[1], job.error[0], job.error[1]

    def bounds(self, double tau, double tolerance=4e-15, int parts=4):
        """(values, errors) of the integrals of `bounds` at tau >= 0: of the first two or four,
        and the last, which has no error."""
        cdef Job job
        with nogil:
            job = self.run(True, tau, tolerance, parts)
        values = [job.value[j] for j in range(parts)]
        values.append(job.value[SEARCHED])
        return values, [job.error[j] for j in range(parts)]

    def first_panels(self, bint dual, double t):
        """[(value, value by fewer nodes, error)] of the first integral on the panels that
        refinement starts from: where an adversary looks for rules that agree by chance."""
        cdef Job job
        self.prepare(&job, dual, t, 0.0, 2)
        return first_panels(&job, OMITTED + t if dual else OMITTED)

    def first_shell_panels(self, bint moved, double t, double low, double high):
        """The same of `within` or, moved, of `arriving`."""
        cdef Job job
        self.shell(&job, moved, t, low, high, 0.0)
        return first_panels(&job, OMITTED)


cdef list first_panels(Job *job, double level):
    cdef Panel[PANELS] panels
    cdef int i, count = cover(job, level, panels)
    return [(panels[i].value[0], panels[i].coarse[0], panels[i].error[0]) for i in range(count)]


cdef double stirling(double a):
    """lgamma(a) - [(a - 1/2) log a - a + log(2 pi)/2] for a >= 10 (DLMF 5.11.1)."""
    cdef double y = 1.0 / (a * a)
    return (1/12. - y * (1/360. - y * (1/1260. - y * (1/1680. - y * (1/1188. - y * (
        691/360360. - y * (1/156. - y * 3617/122400.))))))) / a


cdef double phi_inverse(double level, int sign) noexcept nogil:
    """The v of the given sign with exp(v) - 1 - v = level, by Newton's method."""
    cdef double v = sqrt(2.0 * level), previous = 0.0
    cdef int _i
    if sign < 0:
        v = -level - 1.0 if level > 1.0 else -v
    elif level > 1.0:
        v = log(level + 1.0 + v)
    for _i in range(60):
        if v == previous:
            break
        previous = v
        v -= (cc_phi(v) - level) / expm1(v)
    return v
