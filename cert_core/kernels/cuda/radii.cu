/* The norms of draws whose radius is drawn first: one draw a thread, no row at all. */
#include "threads.cuh"

__device__ inline void radii(cc_i64 n, cc_u64 start, cc_u64 key, cc_u32 stream, cc_table radius,
                             double unit, double* out) {
  const cc_i64 stride = (cc_i64)gridDim.x * CC_THREADS;
  for (cc_i64 i = (cc_i64)blockIdx.x * CC_THREADS + threadIdx.x; i < n; i += stride) {
    double score, cosine;
    cc_row_normals(start + (cc_u64)i, stream, key, &score, &cosine);
    out[i] = unit * exp(cc_quantile(radius, score));
  }
}

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS)
    entry(cc_i64 n, cc_u64 start, cc_u64 key, cc_u32 stream, const double* radius, int intervals,
          double reach, double unit, double* __restrict__ out) {
  const cc_table table = {radius, intervals, reach};
  radii(n, start, key, stream, table, unit, out);
}
#endif
