/* Cells between splits: the middle of a value's cell (copies.Cells).  The splits stand where the
 * words say, or (moved) a row's all together so many steps along from offsets of their own. */
#include "copies.cuh"

template <bool moved>
struct Cells {
  double width, levels;
  cc_i64 begin;
  const int* codes;
  const cc_i64* offsets;

  __device__ double split(cc_u64 word, cc_i64 at, cc_i64 row) const {
    if (!moved) return cc_product64((double)(word >> 11), width * 0x1p-53);
    return (double)((offsets[at] + begin + row) % (cc_i64)width) + 0.5;
  }

  __device__ double operator()(cc_u64 word, cc_i64 at, cc_i64 row) const {
    const double place = split(word, at, row);
    const double low = place + cc_product64(width, floor((codes[at] - place) / width));
    return (fmax(low, 0.0) + fmin(low + width, levels)) * (0.5 / levels);
  }
};

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS)
    entry(cc_i64 n, cc_i64 dim, cc_u64 start, cc_u64 key, cc_u32 stream, int row_threads,
          double width, double levels, cc_i64 begin, const int* __restrict__ codes,
          const cc_i64* __restrict__ offsets, CC_REAL* __restrict__ out) {
  const Copies task = {n, dim, start, key, stream, row_threads};
  copy_rows(task, Cells<CC_MOVED>{width, levels, begin, codes, offsets}, out);
}
#endif
