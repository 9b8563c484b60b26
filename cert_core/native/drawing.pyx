# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""A door to drawing.h and ratios.h for the tests, which hold the kernels to them.

The kernels do not come through here: on the CPU they restate these formulas in tiles that
vectorise, on a GPU they are compiled from the headers themselves.
"""

import numpy as np

cdef extern from "ratios.h" nogil:
    ctypedef unsigned int cc_u32
    ctypedef unsigned long long cc_u64
    ctypedef long long cc_i64
    ctypedef struct cc_words:
        cc_u32 w[4]
    ctypedef struct cc_bounds:
        double inside, outside, rho
        cc_u32 least
    ctypedef struct cc_choices:
        double u, v
        int sign
    cc_words cc_philox(cc_u32 c0, cc_u32 c1, cc_u32 c2, cc_u32 c3, cc_u64 key)
    void cc_values32(int kind, cc_words words, cc_bounds bounds, float *out)
    void cc_values64(int kind, cc_words words, cc_bounds bounds, double *out)
    void cc_row_normals(cc_u64 sample, cc_u32 stream, cc_u64 key, double *first, double *second)
    cc_choices cc_row_choices(cc_u64 sample, cc_u32 stream, cc_u64 key)
    double cc_sphere_change(double s, double r, double artanh)
    double cc_cone_change(double s, double r, cc_choices choices, double dim)
    double cc_edge_change(double s, double r, cc_choices choices, double dim)


def philox(counter, key):
    """The four words of one counter of four."""
    cdef cc_words words = cc_philox(counter[0], counter[1], counter[2], counter[3], key)
    return [words.w[i] for i in range(4)]


def coordinates(int kind, const cc_u32[:, ::1] words, bint wide, bounds, cc_u32 least=0):
    """(n, slots) values of n blocks of words, (n, 4); bounds: erf, erfc of rho/sqrt 2, and rho."""
    cdef cc_bounds limits = cc_bounds(bounds[0], bounds[1], bounds[2], least)
    cdef Py_ssize_t i, n = words.shape[0]
    cdef cc_words block
    single = np.empty((n, 4), np.float32)
    double_ = np.empty((n, 2), np.float64)
    cdef float[:, ::1] s = single
    cdef double[:, ::1] d = double_
    for i in range(n):
        block.w[0], block.w[1], block.w[2], block.w[3] = words[i, 0], words[i, 1], words[i, 2], words[i, 3]
        if wide:
            cc_values64(kind, block, limits, &d[i, 0])
        else:
            cc_values32(kind, block, limits, &s[i, 0])
    return double_ if wide else single


def row_quantities(cc_u64 sample, cc_u32 stream, cc_u64 key):
    """(normal scores of the radius and of the cosine, two uniforms, sign bit) of a sample."""
    cdef double first, second
    cc_row_normals(sample, stream, key, &first, &second)
    cdef cc_choices choices = cc_row_choices(sample, stream, key)
    return first, second, choices.u, choices.v, choices.sign


def change(str shape, double s, double r, double dim, double u, double v=0.5, int sign=0):
    """|z - delta| - |z| of one draw; u is artanh of the cosine for a sphere."""
    cdef cc_choices choices = cc_choices(u, v, sign)
    if shape == "sphere":
        return cc_sphere_change(s, r, u)
    if shape == "cone":
        return cc_cone_change(s, r, choices, dim)
    return cc_edge_change(s, r, choices, dim)
