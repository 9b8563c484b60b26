/* How rows of noise are spread over threads.
 *
 * A CUDA block has 256 threads, as many as a tile of the contract's layout has blocks of words:
 * in a row of one tile or more, a thread makes one block of each tile (float32: four that are
 * neighbours, for stores of 16 bytes), and its values go to as many coalesced streams as a block
 * has.  A row takes the least power of two of threads that holds the blocks of a tile (`width`),
 * and rows stand side by side.  A CUDA block takes `rows` rows:
 * their radii, faces and bounds are first drawn one a thread, then the rows follow, as many at a
 * time as stand side by side.
 *
 * Sums are in double precision and in one order, whatever the grid; every thread of a block
 * comes to every barrier.  Indices into arrays are 64-bit. */
#ifndef CERT_CORE_THREADS_CUH
#define CERT_CORE_THREADS_CUH

#include "ratios.h"

#define CC_THREADS 256
#define CC_RESIDENT 3 /* CUDA blocks on a multiprocessor, at least: 80 registers a thread */

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

/* A thread makes `beside` neighbouring blocks of a tile: 16 bytes of each of their streams. */
template <typename Real>
struct Layout {
  static const int slots = 16 / sizeof(Real);
  static const int span = CC_THREADS * slots;  // coordinates in a tile
  static const int beside = sizeof(Real) == 4 ? 4 : 1;
  static const int values = slots * beside;  // of a thread in a tile
};

__device__ inline int cc_tiles(cc_i64 dim, int span) { return (int)((dim + span - 1) / span); }

/* How a row ends: anywhere; so that a thread has all values of a tile or none (and then they are
 * written 16 bytes at a time); with a tile. */
enum { ANY, WHOLE, FULL };

/* A thread's blocks of words in one tile, `block` the first: value v is at coordinate
 * base + block + v % beside + v / beside m. */
template <typename Real, int ends>
struct Place {
  static const int beside = Layout<Real>::beside;
  cc_i64 base;
  int block, m, count;

  __device__ bool any() const { return ends == FULL || block < m; }
  __device__ int offset(int v) const { return block + v % beside + v / beside * m; }
  __device__ bool holds(int v) const {
    return ends != ANY ? any() : block + v % beside < m && offset(v) < count;
  }
};

template <typename Real, int ends>
__device__ inline Place<Real, ends> place_of(cc_i64 dim, int tile, int lane) {
  const int slots = Layout<Real>::slots, block = lane * Layout<Real>::beside;
  const cc_i64 base = (cc_i64)tile * Layout<Real>::span;
  if (ends == FULL) return Place<Real, ends>{base, block, CC_THREADS, Layout<Real>::span};
  const int count = (int)(dim - base < Layout<Real>::span ? dim - base : Layout<Real>::span);
  return Place<Real, ends>{base, block, (count + slots - 1) / slots, count};
}

template <int kind>
__device__ inline void fill_block(cc_words words, cc_bounds bounds, float* out) {
  cc_values32(kind, words, bounds, out);
}

template <int kind>
__device__ inline void fill_block(cc_words words, cc_bounds bounds, double* out) {
  cc_values64(kind, words, bounds, out);
}

/* The raw values of a thread's blocks; 0 beyond the end of the row. */
template <int kind, typename Real, int ends>
__device__ inline void raw_values(const Task& task, cc_u64 sample, cc_bounds bounds,
                                  const Place<Real, ends>& place, Real* out) {
  typedef Layout<Real> L;
  if (ends == ANY || !place.any()) {
    CC_UNROLL
    for (int v = 0; v < L::values; ++v) out[v] = 0;
    if (!place.any()) return;
  }
  const cc_u32 block = (cc_u32)(place.base / L::slots) + place.block;
  CC_UNROLL
  for (int b = 0; b < L::beside; ++b) {
    Real made[L::slots];
    fill_block<kind>(cc_block(sample, block + b, task.stream, task.key), bounds, made);
    CC_UNROLL
    for (int slot = 0; slot < L::slots; ++slot) {
      const int v = slot * L::beside + b;
      if (ends != ANY || place.holds(v)) out[v] = made[slot];
    }
  }
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

/* Coordinates of the noise from a thread's raw values, in their place. */
template <int kind, typename Real, int ends>
__device__ inline void scale_values(const Head& head, Real factor, const Place<Real, ends>& place,
                                    Real* values) {
  typedef Layout<Real> L;
  CC_UNROLL
  for (int v = 0; v < L::values; ++v) values[v] = product(factor, values[v]);
  if (kind == CC_NORMAL || kind == CC_EXPONENTIAL) return;
  const cc_i64 face = head.face - place.base;
  if (face < 0 || face >= place.count) return;
  const int from = (int)face % place.m - place.block;  // of the blocks, the face's
  if (from < 0 || from >= L::beside) return;
  const Real value = (Real)(head.sign * head.radius);
  CC_UNROLL
  for (int v = 0; v < L::values; ++v) {
    if (place.offset(v) == (int)face) values[v] = value;
  }
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

/* What a row's values are summed by, to be scaled; in their own precision over a few. */
template <int kind, int count, typename Real>
__device__ inline double size_of(const Real* values) {
  Real sum = 0;
  CC_UNROLL
  for (int i = 0; i < count; ++i) {
    sum = kind == CC_NORMAL ? fma(values[i], values[i], sum) : sum + fabs(values[i]);
  }
  return (double)sum;
}

/* For a row of zeros, whose uniforms all round to 1: the direction of its first block, that of
 * the same words but for the size in the first of them.  Returns the row's sum; `kept` as in
 * factor_of. */
template <int kind, int held, int ends, typename Real>
__device__ inline double turn_from_zero(const Task& task, cc_u64 sample, cc_bounds bounds, int lane,
                                        Real* kept) {
  typedef Layout<Real> L;
  const Place<Real, ends> place = place_of<Real, ends>(task.dim, 0, 0);
  cc_words words = cc_block(sample, 0, task.stream, task.key);
  words.w[0] &= 1u;
  Real first[L::slots];
  fill_block<kind>(words, bounds, first);
  double sum = 0.0;
  for (int slot = 0; slot < L::slots; ++slot) {
    if (!place.holds(slot * L::beside)) continue;
    sum += size_of<kind, 1>(first + slot);
    if (held && lane == 0) kept[slot * L::beside] = first[slot];
  }
  return sum;
}

/* The factor from raw values to noise, where it needs a sum over the row; `kept`, of `held`
 * tiles, keeps the values for whoever asks next. */
template <int kind, bool independent, int held, int ends, typename Real>
__device__ inline Real factor_of(const Task& task, const Head& head, cc_u64 sample, int lane,
                                 double* part, Real* kept) {
  if (independent || kind == CC_TRUNCATED) return (Real)task.unit;
  if (kind == CC_UNIFORM) return (Real)head.radius;
  typedef Layout<Real> L;
  const int tiles = held ? held : cc_tiles(task.dim, L::span);
  double sum = 0.0;
#pragma unroll(held ? held : 1)
  for (int tile = 0; tile < tiles; ++tile) {
    Real* values = kept + (held ? tile * L::values : 0);
    raw_values<kind>(task, sample, head.bounds, place_of<Real, ends>(task.dim, tile, lane), values);
    CC_UNROLL
    for (int v = 0; v < L::values; v += 4)
      sum += size_of < kind, L::values<4 ? L::values : 4>(values + v);
  }
  sum = fold(part, sum, lane, task.width);
  if (sum == 0.0) {
    sum = turn_from_zero<kind, held, ends>(task, sample, head.bounds, lane, kept);
  }
  return (Real)(head.radius / (kind == CC_NORMAL ? sqrt(sum) : sum));
}
#endif
