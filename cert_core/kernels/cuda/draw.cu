/* Rows of noise: out = center + noise, each value written once.
 *
 * Where the direction of a row is scaled by a sum over it (normals, exponentials), the values of
 * rows of up to `held` tiles wait in registers; those of longer ones are made again from
 * their counters, which costs less than writing and reading them. */
#include "threads.cuh"

template <typename Real>
struct alignas(sizeof(Real) * Layout<Real>::beside) Piece {
  Real v[Layout<Real>::beside];
};

/* center + noise of a thread's blocks, in pieces where it has all of each. */
template <typename Real, int ends>
__device__ inline void write_values(const Place<Real, ends>& place, const Real* noise,
                                    const Real* center, Real* row) {
  typedef Layout<Real> L;
  if (!place.any()) return;
  if (center) center += place.base;
  row += place.base;
  CC_UNROLL
  for (int v = 0; v < L::values; v += L::beside) {
    const int at = place.offset(v);
    if constexpr (ends == ANY) {
      CC_UNROLL
      for (int b = 0; b < L::beside; ++b) {
        if (place.holds(v + b)) row[at + b] = center ? center[at + b] + noise[v + b] : noise[v + b];
      }
    } else {
      Piece<Real> piece;
      CC_UNROLL
      for (int b = 0; b < L::beside; ++b) piece.v[b] = noise[v + b];
      if (center) {
        const Piece<Real> middle = *(const Piece<Real>*)(center + at);
        CC_UNROLL
        for (int b = 0; b < L::beside; ++b) piece.v[b] += middle.v[b];
      }
      *(Piece<Real>*)(row + at) = piece;
    }
  }
}

template <typename Real, int kind, bool independent, int held, int ends>
__device__ inline void draw_row(const Task& task, const Head& head, cc_i64 row, int lane,
                                double* part, const Real* center, Real* out) {
  typedef Layout<Real> L;
  const bool summed = !independent && (kind == CC_NORMAL || kind == CC_EXPONENTIAL);
  const int tiles = held ? held : cc_tiles(task.dim, L::span);
  const cc_u64 sample = task.start + (cc_u64)row;
  Real kept[(held ? held : 1) * L::values];
  const Real factor =
      factor_of<kind, independent, held, ends>(task, head, sample, lane, part, kept);
  if (row >= task.n) return;
#pragma unroll(held ? held : 1)
  for (int tile = 0; tile < tiles; ++tile) {
    const Place<Real, ends> place = place_of<Real, ends>(task.dim, tile, lane);
    Real* values = kept + (held ? tile * L::values : 0);
    if (!held || !summed) raw_values<kind>(task, sample, head.bounds, place, values);
    scale_values<kind>(head, factor, place, values);
    write_values(place, values, center, out + row * task.dim);
  }
}

template <typename Real, int kind, bool independent, int held, int ends>
__device__ inline void draw_rows(const Task& task, const Real* center, Real* out) {
  __shared__ Head heads[independent ? 1 : CC_THREADS];
  __shared__ double part[CC_THREADS];
  const int lane = threadIdx.x % task.width, beside = threadIdx.x / task.width;
  const int side = CC_THREADS / task.width;
  const cc_i64 stride = (cc_i64)gridDim.x * task.rows;
  for (cc_i64 first = (cc_i64)blockIdx.x * task.rows; first < task.n; first += stride) {
    if (!independent) fill_heads<kind>(task, first, heads);
    for (int place = beside; place < task.rows; place += side) {
      const Head& head = heads[independent ? 0 : place];
      draw_row<Real, kind, independent, held, ends>(task, head, first + place, lane, part, center,
                                                    out);
    }
  }
}

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS, CC_RESIDENT)
    entry(cc_i64 n, cc_i64 dim, cc_u64 start, cc_u64 key, cc_u32 stream, const double* cubics,
          int intervals, double reach, double unit, int width, int rows,
          const CC_REAL* __restrict__ center, CC_REAL* __restrict__ out) {
  const Task task = {n, dim, start, key, stream, {cubics, intervals, reach}, unit, width, rows};
  draw_rows<CC_REAL, CC_KIND, CC_INDEPENDENT, CC_HELD, CC_ENDS>(task, center, out);
}
#endif
