/* How rows of noise are spread over threads.
 *
 * A CUDA block has 256 threads, as many as a tile of the contract's layout has blocks of words:
 * in a row of one tile or more, thread j makes block j of each tile, and its values go to as
 * many coalesced streams as a block has.  Narrower rows take the least power of two of threads
 * that holds their blocks (`width`), and stand side by side.  A CUDA block takes `rows` rows:
 * their radii, faces and bounds are first drawn one a thread, then the rows follow, as many at a
 * time as stand side by side.
 *
 * Sums are in double precision and in one order, whatever the grid; every thread of a block
 * comes to every barrier.  Indices into arrays are 64-bit. */
#ifndef CERT_CORE_THREADS_CUH
#define CERT_CORE_THREADS_CUH

#include "ratios.h"

#define CC_THREADS 256
#define CC_RESIDENT 3 /* CUDA blocks on a multiprocessor, at least: 85 registers a thread */

/* What all rows of a launch share; unit is the noise's scale. */
struct Task {
  cc_i64 n, dim;
  cc_u64 start, key;
  cc_u32 stream;
  cc_table radius;
  double unit;
  int width, rows;
};

/* What one row needs before its coordinates. */
struct Head {
  double radius, sign;
  cc_bounds bounds;
  cc_i64 face;
};

template <typename Real>
struct Layout {
  static const int slots = 16 / sizeof(Real);
  static const int span = CC_THREADS * slots;  // coordinates in a tile
};

__device__ inline int cc_tiles(cc_i64 dim, int span) { return (int)((dim + span - 1) / span); }

/* A thread's block of words in one tile: its values go to coordinates base + lane + slot m. */
struct Place {
  cc_i64 base;
  int lane, m, count;

  __device__ bool holds(int slot) const { return lane < m && lane + slot * m < count; }
  __device__ cc_i64 coordinate(int slot) const { return base + lane + slot * m; }
};

template <typename Real>
__device__ inline Place place_of(cc_i64 dim, int tile, int lane) {
  const cc_i64 base = (cc_i64)tile * Layout<Real>::span;
  const int count = (int)(dim - base < Layout<Real>::span ? dim - base : Layout<Real>::span);
  const int slots = Layout<Real>::slots;
  return Place{base, lane, (count + slots - 1) / slots, count};
}

template <int kind>
__device__ inline void fill_block(cc_words words, cc_bounds bounds, float* out) {
  cc_values32(kind, words, bounds, out);
}

template <int kind>
__device__ inline void fill_block(cc_words words, cc_bounds bounds, double* out) {
  cc_values64(kind, words, bounds, out);
}

/* The raw values of a thread's block; 0 beyond the end of the row. */
template <int kind, typename Real>
__device__ inline void raw_values(const Task& task, cc_u64 sample, cc_bounds bounds,
                                  const Place& place, Real* out) {
  const int slots = Layout<Real>::slots;
  CC_UNROLL
  for (int slot = 0; slot < slots; ++slot) out[slot] = 0;
  if (place.lane >= place.m) return;
  const cc_u32 block = (cc_u32)(place.base / slots) + place.lane;
  fill_block<kind>(cc_block(sample, block, task.stream, task.key), bounds, out);
  CC_UNROLL
  for (int slot = 0; slot < slots; ++slot) out[slot] = place.holds(slot) ? out[slot] : (Real)0;
}

template <int kind>
__device__ inline Head head_of(const Task& task, cc_u64 sample) {
  Head head = {0.0, 1.0, {0.0, 0.0, 0.0, 0}, -1};
  double score, unused;
  cc_row_normals(sample, task.stream, task.key, &score, &unused);
  const double rho = exp(cc_quantile(task.radius, score));
  head.radius = task.unit * rho;
  if (kind == CC_TRUNCATED) {
    const double scaled = rho * 0.70710678118654752440;
    head.bounds = cc_bounds{erf(scaled), erfc(scaled), rho, 0};
  }
  if (kind == CC_UNIFORM || kind == CC_TRUNCATED) {
    const cc_choices choices = cc_row_choices(sample, task.stream, task.key);
    head.face = cc_face(choices, task.dim);
    head.sign = choices.sign ? -1.0 : 1.0;
  }
  return head;
}

/* The heads of rows first, first + 1, ...: one a thread. */
template <int kind>
__device__ inline void fill_heads(const Task& task, cc_i64 first, Head* heads) {
  __syncthreads();  // those of the rows before are read no more
  const int t = threadIdx.x;
  if (t < task.rows) heads[t] = head_of<kind>(task, task.start + (cc_u64)(first + t));
  __syncthreads();
}

__device__ inline float product(float a, float b) { return cc_product32(a, b); }
__device__ inline double product(double a, double b) { return cc_product64(a, b); }

/* A coordinate of the noise from its raw value. */
template <int kind, typename Real>
__device__ inline Real coordinate_of(const Head& head, Real factor, Real raw, cc_i64 index) {
  const bool face = (kind == CC_UNIFORM || kind == CC_TRUNCATED) && index == head.face;
  return face ? (Real)(head.sign * head.radius) : product(factor, raw);
}

__device__ inline double join(double a, double b) { return a + b; }
__device__ inline cc_i64 join(cc_i64 a, cc_i64 b) { return a + b; }
__device__ inline cc_sums join(cc_sums a, cc_sums b) { return cc_join(a, b); }

/* `mine` of all threads of a row, joined in a fixed order; every thread gets the result. */
template <typename T>
__device__ inline T fold(T* part, T mine, int lane, int width) {
  if (width == 1) return mine;
  const int few = width < 16 ? width : 16;
  T* row = part + (threadIdx.x - lane);
  row[lane] = mine;
  __syncthreads();
  if (lane < few) {
    for (int i = lane + few; i < width; i += few) mine = join(mine, row[i]);
    row[lane] = mine;
  }
  __syncthreads();
  T total = row[0];
  for (int i = 1; i < few; ++i) total = join(total, row[i]);
  __syncthreads();
  return total;
}

/* What a row's values are summed by, to be scaled. */
template <int kind>
__device__ inline double size_part(double value) {
  return kind == CC_NORMAL ? value * value : fabs(value);
}

/* For a row of zeros, whose uniforms all round to 1: the direction of its first block, that of
 * the same words but for the size in the first of them.  Returns the row's sum; `kept` as in
 * factor_of. */
template <int kind, int held, typename Real>
__device__ inline double turn_from_zero(const Task& task, cc_u64 sample, cc_bounds bounds, int lane,
                                        Real* kept) {
  const Place place = place_of<Real>(task.dim, 0, 0);
  cc_words words = cc_block(sample, 0, task.stream, task.key);
  words.w[0] &= 1u;
  Real first[Layout<Real>::slots];
  fill_block<kind>(words, bounds, first);
  double sum = 0.0;
  for (int slot = 0; slot < Layout<Real>::slots; ++slot) {
    if (!place.holds(slot)) continue;
    sum += size_part<kind>(first[slot]);
    if (held && lane == 0) kept[slot] = first[slot];
  }
  return sum;
}

/* The factor from raw values to noise, where it needs a sum over the row; `kept`, of `held`
 * tiles, keeps the values for whoever asks next. */
template <int kind, bool independent, int held, typename Real>
__device__ inline Real factor_of(const Task& task, const Head& head, cc_u64 sample, int lane,
                                 double* part, Real* kept) {
  if (independent || kind == CC_TRUNCATED) return (Real)task.unit;
  if (kind == CC_UNIFORM) return (Real)head.radius;
  const int slots = Layout<Real>::slots;
  const int tiles = held ? held : cc_tiles(task.dim, Layout<Real>::span);
  double sum = 0.0;
#pragma unroll(held ? held : 1)
  for (int tile = 0; tile < tiles; ++tile) {
    Real* values = kept + (held ? tile * slots : 0);
    raw_values<kind>(task, sample, head.bounds, place_of<Real>(task.dim, tile, lane), values);
    CC_UNROLL
    for (int slot = 0; slot < slots; ++slot) sum += size_part<kind>(values[slot]);
  }
  sum = fold(part, sum, lane, task.width);
  if (sum == 0.0) sum = turn_from_zero<kind, held>(task, sample, head.bounds, lane, kept);
  return (Real)(head.radius / (kind == CC_NORMAL ? sqrt(sum) : sum));
}
#endif
