/* One pass of a selection: values below `low` are counted and their exponentials summed, a block
 * at a time; those in [low, high) are copied to `inside`, in any order, as far as there is room. */
#include "threads.cuh"

__device__ inline void split_values(cc_i64 n, const double* values, double low, double high,
                                    cc_i64 room, double* inside, cc_u64* kept, cc_i64* counts,
                                    double* sums) {
  __shared__ cc_i64 count_part[CC_THREADS];
  __shared__ double sum_part[CC_THREADS];
  const int t = threadIdx.x;
  cc_i64 count = 0;
  double sum = 0.0;
  const cc_i64 stride = (cc_i64)gridDim.x * CC_THREADS;
  for (cc_i64 i = (cc_i64)blockIdx.x * CC_THREADS + t; i < n; i += stride) {
    const double value = values[i];
    if (value < low) {
      count += 1;
      sum += exp(value);
    } else if (value < high) {
      const cc_i64 place = (cc_i64)atomicAdd(kept, (cc_u64)1);
      if (place < room) inside[place] = value;
    }
  }
  count = fold(count_part, count, t, CC_THREADS);
  sum = fold(sum_part, sum, t, CC_THREADS);
  if (t > 0) return;
  counts[blockIdx.x] = count;
  sums[blockIdx.x] = sum;
}

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS)
    entry(cc_i64 n, double low, double high, cc_i64 room, const double* __restrict__ values,
          double* __restrict__ inside, cc_u64* kept, cc_i64* __restrict__ counts,
          double* __restrict__ sums) {
  split_values(n, values, low, high, room, inside, kept, counts, sums);
}
#endif
