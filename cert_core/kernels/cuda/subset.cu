/* Hidden coordinates: selection sampling (copies.Subset).  The words of a tile are made by all
 * threads of a row and its coordinates chosen by the first, one after the other. */
#include "copies.cuh"

/* word m / 2^64 rounded down, m < 2^32. */
__device__ inline cc_u32 product_high(cc_u64 word, cc_u64 m) {
  const cc_u64 low = (word & 0xFFFFFFFFu) * m >> 32;
  return (cc_u32)(((word >> 32) * m + low) >> 32);
}

template <typename Real>
__device__ inline void subset_rows(const Copies& task, cc_u32 keep, Real null, const Real* values,
                                   Real* out) {
  __shared__ cc_u32 marks[2 * CC_THREADS];  // first of each coordinate's word, then if it is seen
  const int lane = threadIdx.x % task.width, side = CC_THREADS / task.width;
  const int tiles = cc_tiles(task.dim, Layout<double>::span);
  cc_u32* mine = marks + 2 * (threadIdx.x - lane);
  const cc_i64 stride = (cc_i64)gridDim.x * side;
  for (cc_i64 first = (cc_i64)blockIdx.x * side; first < task.n; first += stride) {
    const cc_i64 row = first + threadIdx.x / task.width;
    cc_u32 left = keep;
    for (int tile = 0; tile < tiles; ++tile) {
      const Block place = place_of<double, ANY>(task.dim, tile, lane);
      if (row < task.n && place.any()) {
        cc_u64 words[2];
        words_of(task, row, place, words);
        for (int slot = 0; slot < 2; ++slot) {
          if (!place.holds(slot)) continue;
          const int at = place.offset(slot);
          mine[at] = product_high(words[slot], (cc_u64)(task.dim - place.base - at));
        }
      }
      __syncthreads();
      if (row < task.n && lane == 0) {
        for (int i = 0; i < place.count; ++i) {
          const cc_u32 seen = mine[i] < left;
          left -= seen;
          mine[i] = seen;
        }
      }
      __syncthreads();
      for (int i = lane; row < task.n && i < place.count; i += task.width) {
        const cc_i64 at = place.base + i;
        out[row * task.dim + at] = mine[i] ? values[at] : null;
      }
      __syncthreads();
    }
  }
}

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS)
    entry(cc_i64 n, cc_i64 dim, cc_u64 start, cc_u64 key, cc_u32 stream, int width, cc_u32 keep,
          CC_REAL null, const CC_REAL* __restrict__ values, CC_REAL* __restrict__ out) {
  const Copies task = {n, dim, start, key, stream, width};
  subset_rows(task, keep, null, values, out);
}
#endif
