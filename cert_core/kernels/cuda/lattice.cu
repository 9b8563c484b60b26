/* Noise on a lattice: out = center + floor(noise/h + 1/2), and which rows have a coordinate that
 * their margins leave undecided (kernels/integers.py says what these are).
 *
 * Radii come from the host, which knows their errors.  Where a direction is scaled by a sum
 * over its row, its values are made twice. */
#include "threads.cuh"

/* What all rows share besides; raw is the error of a raw coordinate, inverse 1/h. */
struct Margins {
  cc_u32 least;
  double raw, inverse;
  const double* radius;
  const double* relative;
};

/* A row's factor from raw values, and its margins in steps: a number, and a share of each. */
struct Rounding {
  double factor, fixed, share;
};

/* What a row needs before its coordinates, its radius being known. */
template <int kind>
__device__ inline Head lattice_head(const Task& task, const Margins& margins, cc_i64 row) {
  Head head = {0.0, 1.0, {0.0, 0.0, 0.0, margins.least}, -1};
  if (row >= task.n) return head;
  const cc_u64 sample = task.start + (cc_u64)row;
  head.radius = margins.radius[row];
  if (kind == CC_TRUNCATED) {
    const double rho = head.radius / task.unit, scaled = rho * 0.70710678118654752440;
    head.bounds = cc_bounds{erf(scaled), erfc(scaled), rho, margins.least};
  }
  if (kind == CC_UNIFORM || kind == CC_TRUNCATED) {
    const cc_choices choices = cc_row_choices(sample, task.stream, task.key);
    head.face = cc_face(choices, task.dim);
    head.sign = choices.sign ? -1.0 : 1.0;
  }
  return head;
}

template <int kind, bool independent>
__device__ inline Rounding rounding_of(const Task& task, const Margins& margins, const Head& head,
                                       cc_i64 row, int lane, double* part) {
  const double unit = task.unit, inverse = margins.inverse;
  if (independent) return Rounding{unit, margins.raw * unit * inverse, 0x1p-44};
  const double share = 1.05 * (row < task.n ? margins.relative[row] : 0.0) + 0x1p-44;
  if (kind == CC_TRUNCATED) {
    return Rounding{unit, (margins.raw * unit + share * head.radius) * inverse, share};
  }
  if (kind == CC_UNIFORM) {
    return Rounding{head.radius, margins.raw * head.radius * inverse, share};
  }
  double sum = 0.0;
  const int tiles = cc_tiles(task.dim, Layout<double>::span);
  for (int tile = 0; tile < tiles; ++tile) {
    double values[Layout<double>::values];
    raw_values<kind>(task, task.start + (cc_u64)row, head.bounds,
                     place_of<double, ANY>(task.dim, tile, lane), values);
    sum += size_of<kind, Layout<double>::values>(values);
  }
  sum = fold(part, sum, lane, task.width);
  const double dim = (double)task.dim, size = kind == CC_NORMAL ? sqrt(sum) : sum;
  const double moved = (kind == CC_NORMAL ? sqrt(dim) : dim) * margins.raw / size;
  const double factor = head.radius / size;
  return Rounding{factor, margins.raw * factor * inverse, share + 1.05 * moved + dim * 0x1p-52};
}

template <int kind, bool independent>
__device__ inline void lattice_row(const Task& task, const Margins& margins, cc_i64 row, int lane,
                                   double* part, cc_i64* counts, const int* center, int* out,
                                   unsigned char* undecided) {
  const Head head = lattice_head<kind>(task, margins, row);
  const Rounding how = rounding_of<kind, independent>(task, margins, head, row, lane, part);
  const int tiles = cc_tiles(task.dim, Layout<double>::span);
  cc_i64 count = 0;
  for (int tile = 0; row < task.n && tile < tiles; ++tile) {
    const Place<double, ANY> place = place_of<double, ANY>(task.dim, tile, lane);
    double values[Layout<double>::values];
    raw_values<kind>(task, task.start + (cc_u64)row, head.bounds, place, values);
    scale_values<kind>(head, how.factor, place, values);
    for (int v = 0; v < Layout<double>::values; ++v) {
      if (!place.holds(v)) continue;
      const cc_i64 at = place.base + place.offset(v);
      const double steps = values[v] * margins.inverse, whole = floor(steps + 0.5);
      const double slack = 0.5 - fabs(steps - whole);
      const bool told = slack > how.fixed + how.share * fabs(steps) && fabs(steps) < 0x1p30 - 2.0;
      count += told ? 0 : 1;
      out[row * task.dim + at] = (center ? center[at] : 0) + (told ? (int)whole : 0);
    }
  }
  count = fold(counts, count, lane, task.width);
  if (lane == 0 && row < task.n) undecided[row] = count > 0;
}

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS, CC_RESIDENT)
    entry(cc_i64 n, cc_i64 dim, cc_u64 start, cc_u64 key, cc_u32 stream, double unit, int width,
          cc_u32 least, double raw, double inverse, const double* __restrict__ radius,
          const double* __restrict__ relative, const int* __restrict__ center,
          int* __restrict__ out, unsigned char* __restrict__ undecided) {
  __shared__ double part[CC_THREADS];
  __shared__ cc_i64 counts[CC_THREADS];
  const Task task = {n, dim, start, key, stream, {0, 0, 0.0}, unit, width, 1};
  const Margins margins = {least, raw, inverse, radius, relative};
  const int lane = threadIdx.x % width, beside = threadIdx.x / width, side = CC_THREADS / width;
  const cc_i64 stride = (cc_i64)gridDim.x * side;
  for (cc_i64 first = (cc_i64)blockIdx.x * side; first < n; first += stride) {
    lattice_row<CC_KIND, CC_INDEPENDENT>(task, margins, first + beside, lane, part, counts, center,
                                         out, undecided);
  }
}
#endif
