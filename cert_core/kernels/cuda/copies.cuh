/* Copies of an input under noises that add nothing: each value is made of a 64-bit word of its
 * own (the layout of double precision, whatever the type of the copies). */
#ifndef CERT_CORE_COPIES_CUH
#define CERT_CORE_COPIES_CUH

#include "threads.cuh"

/* What all copies of a launch share; width threads a row. */
struct Copies {
  cc_i64 n, dim;
  cc_u64 start, key;
  cc_u32 stream;
  int width;
};

typedef Place<double, ANY> Block;

/* The two words of a thread's block in a tile. */
__device__ inline void words_of(const Copies& task, cc_i64 row, const Block& place, cc_u64* words) {
  const cc_u32 block = (cc_u32)(place.base / 2) + place.block;
  const cc_words four = cc_block(task.start + (cc_u64)row, block, task.stream, task.key);
  words[0] = (cc_u64)four.w[0] << 32 | four.w[1];
  words[1] = (cc_u64)four.w[2] << 32 | four.w[3];
}

/* Rows of which every value is recipe(word, coordinate, row), whatever the others are. */
template <typename Real, typename Recipe>
__device__ inline void copy_rows(const Copies& task, const Recipe& recipe, Real* out) {
  const int lane = threadIdx.x % task.width, side = CC_THREADS / task.width;
  const int tiles = cc_tiles(task.dim, Layout<double>::span);
  const cc_i64 stride = (cc_i64)gridDim.x * side;
  cc_i64 row = (cc_i64)blockIdx.x * side + threadIdx.x / task.width;
  for (; row < task.n; row += stride) {
    for (int tile = 0; tile < tiles; ++tile) {
      const Block place = place_of<double, ANY>(task.dim, tile, lane);
      cc_u64 words[2] = {0, 0};
      if (place.any()) words_of(task, row, place, words);
      CC_UNROLL
      for (int slot = 0; slot < 2; ++slot) {
        if (!place.holds(slot)) continue;
        const cc_i64 at = place.base + place.offset(slot);
        out[row * task.dim + at] = (Real)recipe(words[slot], at, row);
      }
    }
  }
}
#endif
