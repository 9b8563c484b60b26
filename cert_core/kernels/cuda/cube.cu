/* Uniform noise on a cube: out = center + noise, every value by itself. */
#include "threads.cuh"

template <typename Real>
__device__ inline void cube_rows(const Task& task, const Real* center, Real* out) {
  typedef Layout<Real> L;
  const int lane = threadIdx.x % task.width, side = CC_THREADS / task.width;
  const int tiles = cc_tiles(task.dim, L::span);
  const cc_i64 stride = (cc_i64)gridDim.x * side;
  cc_i64 row = (cc_i64)blockIdx.x * side + threadIdx.x / task.width;
  for (; row < task.n; row += stride) {
    for (int tile = 0; tile < tiles; ++tile) {
      const Place<Real, ANY> place = place_of<Real, ANY>(task.dim, tile, lane);
      Real values[L::values];
      raw_values<CC_UNIFORM>(task, task.start + (cc_u64)row, cc_bounds{}, place, values);
      CC_UNROLL
      for (int v = 0; v < L::values; ++v) {
        if (!place.holds(v)) continue;
        const cc_i64 at = place.base + place.offset(v);
        const Real noise = product((Real)task.unit, values[v]);
        out[row * task.dim + at] = center ? center[at] + noise : noise;
      }
    }
  }
}

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS)
    entry(cc_i64 n, cc_i64 dim, cc_u64 start, cc_u64 key, cc_u32 stream, double unit, int width,
          const CC_REAL* __restrict__ center, CC_REAL* __restrict__ out) {
  const Task task = {n, dim, start, key, stream, {nullptr, 0, 0.0}, unit, width, 0};
  cube_rows(task, center, out);
}
#endif
