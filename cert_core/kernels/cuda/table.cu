/* Categories: a value stays, or becomes another one (copies.Table). */
#include "copies.cuh"

template <typename Real>
struct Table {
  int categories;
  const int* codes;
  const cc_u64* last;
  const double* share;
  const Real* values;

  __device__ Real operator()(cc_u64 word, cc_i64 at, cc_i64) const {
    const int code = codes[at];
    if (word <= last[code]) return values[code];
    const double rest = (double)(word - last[code] - 1) * share[code];
    const int other = (int)fmin(rest, (double)(categories - 2));
    return values[other + (other >= code)];
  }
};

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS)
    entry(cc_i64 n, cc_i64 dim, cc_u64 start, cc_u64 key, cc_u32 stream, int width, int categories,
          const int* __restrict__ codes, const cc_u64* __restrict__ last,
          const double* __restrict__ share, const CC_REAL* __restrict__ values,
          CC_REAL* __restrict__ out) {
  const Copies task = {n, dim, start, key, stream, width};
  copy_rows(task, Table<CC_REAL>{categories, codes, last, share, values}, out);
}
#endif
