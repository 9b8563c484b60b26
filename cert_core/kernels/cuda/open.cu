/* Log ratios of drawn rows, where |z - delta| has no closed law given |z|: the coordinates of a
 * row live in registers alone.  1-balls under diagonal shifts, and the mixed family. */
#include "threads.cuh"

template <int kind, bool independent, bool axis, int held>
__device__ inline double open_row(const Task& task, const Head& head, cc_i64 row, int lane,
                                  double* part, cc_sums* sums, cc_density law, double r,
                                  double square) {
  const int norm = kind == CC_EXPONENTIAL ? 1 : 0, slots = Layout<double>::values;
  const bool summed = !independent && kind == CC_EXPONENTIAL;
  const int tiles = held ? held : cc_tiles(task.dim, Layout<double>::span);
  const cc_u64 sample = task.start + (cc_u64)row;
  double kept[(held ? held : 1) * Layout<double>::slots];
  const double factor =
      factor_of<kind, independent, held, ANY>(task, head, sample, lane, part, kept);
  cc_sums mine = cc_no_sums();
#pragma unroll(held ? held : 1)
  for (int tile = 0; tile < tiles; ++tile) {
    const Place<double, ANY> place = place_of<double, ANY>(task.dim, tile, lane);
    double* values = kept + (held ? tile * slots : 0);
    if (!held || !summed) raw_values<kind>(task, sample, head.bounds, place, values);
    scale_values<kind>(head, factor, place, values);
    CC_UNROLL
    for (int v = 0; v < slots; ++v) {
      if (place.holds(v)) cc_add(norm, axis, &mine, values[v], !tile && !place.offset(v), r);
    }
  }
  const cc_sums all = fold(sums, mine, lane, task.width);
  double s, change;
  cc_row_change(norm, axis, all, r, (double)task.dim, &s, &change);
  return cc_log_ratio(law, s, change, r, axis ? all.first : all.along, square);
}

template <int kind, bool independent, bool axis, int held>
__device__ inline void open_rows(const Task& task, cc_density law, double r, double square,
                                 double* out) {
  __shared__ Head heads[independent ? 1 : CC_THREADS];
  __shared__ double part[CC_THREADS];
  __shared__ cc_sums sums[CC_THREADS];
  const int lane = threadIdx.x % task.width, beside = threadIdx.x / task.width;
  const int side = CC_THREADS / task.width;
  const cc_i64 stride = (cc_i64)gridDim.x * task.rows;
  for (cc_i64 first = (cc_i64)blockIdx.x * task.rows; first < task.n; first += stride) {
    if (!independent) fill_heads<kind>(task, first, heads);
    for (int place = beside; place < task.rows; place += side) {
      const cc_i64 row = first + place;
      const Head& head = heads[independent ? 0 : place];
      const double ratio = open_row<kind, independent, axis, held>(task, head, row, lane, part,
                                                                   sums, law, r, square);
      if (lane == 0 && row < task.n) out[row] = ratio;
    }
  }
}

#ifdef CC_ENTRY
extern "C" __global__ void __launch_bounds__(CC_THREADS, CC_RESIDENT)
    entry(cc_i64 n, cc_i64 dim, cc_u64 start, cc_u64 key, cc_u32 stream, const double* cubics,
          int intervals, double reach, double unit, int width, int rows, double k, double power,
          double scale, int mixed, double r, double square, double* __restrict__ out) {
  const Task task = {n, dim, start, key, stream, {cubics, intervals, reach}, unit, width, rows};
  const cc_density law = {k, power, scale, mixed};
  open_rows<CC_KIND, CC_INDEPENDENT, CC_AXIS, CC_HELD>(task, law, r, square, out);
}
#endif
