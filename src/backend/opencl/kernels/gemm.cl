/* C[z] = post(A[z] B[z] + bias), a tile of BM x BN by BM/ROWS x BN/8 items, ROWS x 8 results an item; ROWS is 8 or 4.
 *
 * A_MODE 0: A[m][k]   1: A[k][m]   2: windows of a convolution   3: windows of a transposed convolution
 * B_MODE 0: B[k][n]   1: B[n][k]   2: panels in any storage: n rounded up to 4, zeros behind
 * BITS 1: which places of a window's depth, height and width lie in the image is a bit each, and k counts channels rounded
 *     up to four; 0: each element is looked up
 * WIDE_A, WIDE_B, WIDE_C 1: fours of neighbours begin at multiples of four elements, and their number is one of four
 * IN_HALF, B_HALF, OUT_HALF 1: A, B (not of panels), C are halves, which stay what they are until they go to local memory
 * PARTS 1: of the depth, sizes.s7 rows of B to each of the groups in z; C is [part][M][N], added up by sum_parts.cl
 * TWICE 1: two buffers of local memory, filled in turn: one barrier a step
 * SLICES: so many times the items share a tile: each takes every SLICESth step, and at the end they add up through local
 *     memory and store a share of the rows. Not for weights that are codes
 * PIECEWISE 1: for Intel's compiler (IGC 1.0.12504 of Debian 12), which recurses until its stack ends over two loads in a
 *     loop that branches decide: fours that may end early are read one by one, columns of A always
 * An item alone in its work-group (BM = ROWS, BN = 8; for processors) has no local memory and no barriers
 *
 * While a tile of depth BK is multiplied from local memory, the next is under way to registers. Rows and columns out of
 * range read the last one that is in range, and are not stored: only the last tiles along k are checked.
 * An item's results are four columns, and of 8 rows four, in either half of the tile, so that neighbours read neighbouring float4s
 * of local memory and write neighbouring float4s; 8 x 8 items read 128 bytes each of A and B a step. */
#ifndef SLICES
#define SLICES 1
#endif
#define ITEMS ((BM / ROWS) * (BN / 8)) /* of a slice */
#define STEP (SLICES * BK)
#if SLICES * ITEMS == 1 /* alone: what it puts aside is its own, and nobody waits */
#define SHARED __private
#define WAIT
#else
#define SHARED __local
#define WAIT barrier(CLK_LOCAL_MEM_FENCE);
#endif
#if SLICES == 1
#define MINE 0 /* the slice's place in a step */
#else
#define MINE (slice * BK)
#endif
#define A_LOADS (BM * BK / 4 / ITEMS)
#define B_LOADS (BN * BK / 4 / ITEMS)

/* Load number `at` of a tile: four along k of one row, turned on the way into local memory, or four of one k. What is
 * turned is stored at a stride that spreads the four over the banks. */
#if A_MODE == 1
#define A_K(at) ((at) / (BM / 4))
#define A_M(at) ((at) % (BM / 4) * 4)
#define A_STRIDE BM
#else
#define A_K(at) ((at) % (BK / 4) * 4)
#define A_M(at) ((at) / (BK / 4))
#define A_STRIDE (BM + 4)
#endif
#if B_MODE == 1
#define B_K(at) ((at) % (BK / 4) * 4)
#define B_N(at) ((at) / (BK / 4))
#define B_STRIDE (BN + 4)
#else
#define B_K(at) ((at) / (BN / 4))
#define B_N(at) ((at) % (BN / 4) * 4)
#define B_STRIDE BN
#endif

#define NONE (float4)(0.0f)

/* Elements of A and B as they lie, and what they are. */
#if IN_HALF || B_HALF
float4 of_halves(ushort4 v) { return vload_half4(0, (const half *)&v); }
#endif
#if IN_HALF
#define A1 ushort
#define A4 ushort4
#define OF_A(v) of_halves(v)
#else
#define A1 float
#define A4 float4
#define OF_A(v) (v)
#endif
#if B_HALF
#define B1 ushort
#define B4 ushort4
#define OF_B(v) of_halves(v)
#else
#define B1 WEIGHT
#define B4 float4
#define OF_B(v) (v)
#endif
#if PIECEWISE
#define ALL_FOUR(p)                                                                                                    \
    if (n > 3) v.w = p[3];
#define AT_ONCE(p)
#else
#define ALL_FOUR(p)
#define AT_ONCE(p)                                                                                                     \
    if (n >= 4) return vload4(0, p);
#endif
#define LOAD4(name, one, four)                                                                                         \
    four name(__global const one *p, int n) {                                                                          \
        AT_ONCE(p)                                                                                                     \
        four v = (four)(0);                                                                                            \
        if (n > 0) v.x = p[0];                                                                                         \
        if (n > 1) v.y = p[1];                                                                                         \
        if (n > 2) v.z = p[2];                                                                                         \
        ALL_FOUR(p)                                                                                                    \
        return v;                                                                                                      \
    }
LOAD4(load_a, A1, A4)
#if B_MODE != 2
LOAD4(load_b, B1, B4)
#endif

#if A_MODE >= 2
/* Where the window of an output position begins: image and place. */
typedef struct spot {
    int base, d, h, w;
} spot;

spot spot_of(int m, int M, int8 image, int8 window) {
    spot s;
    const int w = m % image.s6, h = m / image.s6 % image.s5, d = m / image.s6 / image.s5 % image.s4;
    const int n = m / image.s6 / image.s5 / image.s4;
    s.base = n * image.s0 * image.s1 * image.s2 * image.s3;
#if A_MODE == 2
    s.d = d * window.s0 - window.s3;
    s.h = h * window.s1 - window.s4;
    s.w = w * window.s2 - window.s5;
#else
    s.d = d + window.s3;
    s.h = h + window.s4;
    s.w = w + window.s5;
#endif
    if (m >= M) s.d = -(1 << 28);
    return s;
}

/* Offset of a tap, or -1 outside of the image. */
int tap_at(const spot *s, int4 tap, int8 image, int8 window) {
#if A_MODE == 2
    const int d = s->d + tap.x, h = s->h + tap.y, w = s->w + tap.z;
#else
    const int td = s->d - tap.x, th = s->h - tap.y, tw = s->w - tap.z;
    if (td < 0 || th < 0 || tw < 0) return -1;
    const int d = td / window.s0, h = th / window.s1, w = tw / window.s2;
    if (d * window.s0 != td || h * window.s1 != th || w * window.s2 != tw) return -1;
#endif
    if (d < 0 || d >= image.s0 || h < 0 || h >= image.s1 || w < 0 || w >= image.s2) return -1;
    return s->base + ((d * image.s1 + h) * image.s2 + w) * image.s3 + tap.w;
}
#endif

#if BITS
/* Taps: window.s6 places along one dim each: place, extent of the image, stride, dim; two of zeros, for items by turns, so that the address is a vector's; then for each four along k the offset
 * in bytes from window.s7 elements ahead of the window's place, which is not negative (two instructions on GCN), the bits of
 * its places, and how many channels there are but one, in two bits that all views have. A transposed convolution's strides divide both places: where a tap meets a pixel,
 * nothing is left of either. */
typedef struct view {
    __global const A1 *at;
    int inside;
} view;

view view_of(__global const A1 *a, int m, int M, __global const int4 *taps, int8 image, int8 window) {
    const spot s = spot_of(m, M, image, window);
    view v;
#if A_MODE == 2
    const int at = (s.d * image.s1 + s.h) * image.s2 + s.w;
#else
    const int at = (s.d / window.s0 * image.s1 + s.h / window.s1) * image.s2 + s.w / window.s2;
#endif
    v.at = a + (m < M ? s.base + at * image.s3 - window.s7 : 0);
    v.inside = 3 << 29;
    for (int t = 0; t < window.s6; t++) {
        const int4 place = taps[t];
        const int start = place.w == 0 ? s.d : place.w == 1 ? s.h : s.w;
#if A_MODE == 2
        const int p = start + place.x;
        const bool inside = p >= 0 && p < place.y;
#else
        const int p = start - place.x;
        const bool inside = p >= 0 && p % place.z == 0 && p / place.z < place.y;
#endif
        v.inside |= inside ? 1 << t : 0;
    }
    return v;
}

#define AT_BYTE(v, tap) ((__global const A1 *)((__global const char *)(v).at + (uint)(tap).x))
#if WIDE_A
#if ROWS == 8 || PIECEWISE
#define AT_TAP(v, tap) (((v).inside & (tap).y) == (tap).y ? FOURTH(A4, AT_BYTE(v, tap)) : (A4)(0))
#else /* one address or the other: two instructions less, which tell among half as many multiply-adds */
#define AT_TAP(v, tap) FOURTH(A4, ((v).inside & (tap).y) == (tap).y ? AT_BYTE(v, tap) : zeros_at)
#endif
#else
#define AT_TAP(v, tap) (((v).inside & (tap).y) == (tap).y ? load_a(AT_BYTE(v, tap), ((tap).y >> 29 & 3) + 1) : (A4)(0))
#endif
#elif A_MODE >= 2
/* Four rows of B from k on. */
A4 window4(__global const A1 *a, const spot *s, __global const int4 *taps, int k, int8 image, int8 window) {
    const int x = tap_at(s, taps[k], image, window), y = tap_at(s, taps[k + 1], image, window);
    const int z = tap_at(s, taps[k + 2], image, window), w = tap_at(s, taps[k + 3], image, window);
    return (A4)(x < 0 ? 0 : a[x], y < 0 ? 0 : a[y], z < 0 ? 0 : a[z], w < 0 ? 0 : a[w]);
}
#endif

/* The next tile's loads. `check` is 0 where all of it lies before K. */
#if BITS
#define BEGIN_A(i) views[i] = view_of(a, m0 + A_M(lid + (i) * ITEMS), M, taps, image, window)
#if ITEMS % (BK / 4) == 0 /* all loads of an item are of one k */
#define FETCH_A(i, check) ra[i] = AT_TAP(views[i], tap)
#define STEP_A                                                                                                         \
    taps += STEP / 4;                                                                                                  \
    tap = taps->xy;
#else
#define FETCH_A(i, check) ra[i] = AT_TAP(views[i], taps[(A_K(lid + (i) * ITEMS) - A_K(lid)) / 4])
#define STEP_A taps += STEP / 4;
#endif
#elif A_MODE >= 2
#define BEGIN_A(i) spots[i] = spot_of(m0 + A_M(lid + (i) * ITEMS), M, image, window)
#define FETCH_A(i, check) ra[i] = window4(a, &spots[i], taps, to + MINE + A_K(lid + (i) * ITEMS), image, window)
#define STEP_A
#elif A_MODE == 1
#if WIDE_A
#define FROM_A(i) FOURTH(A4, pa[i])
#define LAST_M (M - 4)
#else
#define FROM_A(i) load_a(pa[i], M - m0 - A_M(lid + (i) * ITEMS))
#define LAST_M (M - 1)
#endif
#define BEGIN_A(i)                                                                                                     \
    pa[i] = a + (first + MINE + A_K(lid + (i) * ITEMS)) * lda + min(m0 + A_M(lid + (i) * ITEMS), LAST_M)
#if PIECEWISE && WIDE_A /* a branch less: the first four in its place */
#define FETCH_A(i, check)                                                                                              \
    {                                                                                                                  \
        const bool in = !check || to + MINE + A_K(lid + (i) * ITEMS) < K;                                              \
        const A4 v = FOURTH(A4, in ? pa[i] : a);                                                                       \
        ra[i] = in ? v : (A4)(0);                                                                                      \
        pa[i] += STEP * lda;                                                                                           \
    }
#else
#define FETCH_A(i, check)                                                                                              \
    ra[i] = !check || to + MINE + A_K(lid + (i) * ITEMS) < K ? FROM_A(i) : (A4)(0);                                    \
    pa[i] += STEP * lda
#endif
#define STEP_A
#else
#if WIDE_A
#define FROM_A(i) FOURTH(A4, pa[i])
#else
#define FROM_A(i) vload4(0, pa[i])
#endif
#define BEGIN_A(i) pa[i] = a + min(m0 + A_M(lid + (i) * ITEMS), M - 1) * lda + first + MINE + A_K(lid + (i) * ITEMS)
#define FETCH_A(i, check)                                                                                              \
    ra[i] = check ? load_a(pa[i], K - to - MINE - A_K(lid + (i) * ITEMS)) : FROM_A(i);                                 \
    pa[i] += STEP
#define STEP_A
#endif

#if B_MODE == 1
#if WIDE_B
#define FROM_B(i) FOURTH(B4, pb[i])
#else
#define FROM_B(i) vload4(0, pb[i])
#endif
#define BEGIN_B(i) pb[i] = b + min(n0 + B_N(lid + (i) * ITEMS), N - 1) * ldb + first + MINE + B_K(lid + (i) * ITEMS)
#define FETCH_B(i, check)                                                                                              \
    rb[i] = check ? load_b(pb[i], K - to - MINE - B_K(lid + (i) * ITEMS)) : FROM_B(i);                                 \
    pb[i] += STEP
#else
#if B_MODE == 2
#define LAST_N (ldb - 4)
#if FORM == 0
#define FROM_B(i) FLOAT4(pb[i])
#else
#define FROM_B(i) weights4(b, pb[i])
#endif
#elif WIDE_B
#define FROM_B(i) FOURTH(B4, pb[i])
#define LAST_N (N - 4)
#else
#define FROM_B(i) load_b(pb[i], N - n0 - B_N(lid + (i) * ITEMS))
#define LAST_N (N - 1)
#endif
#if FORM == 0
#define BEGIN_B(i)                                                                                                     \
    pb[i] = b + (first + MINE + B_K(lid + (i) * ITEMS)) * ldb + min(n0 + B_N(lid + (i) * ITEMS), LAST_N)
#else /* blocks of scales are of whole tiles; all loads of an item are of one column, but for an item's that is alone */
#if ITEMS % (BN / 4) == 0
#define COLUMN(i) column
#else
#define COLUMN(i) min(n0 + B_N(lid + (i) * ITEMS), LAST_N)
#endif
#define BEGIN_B(i) pb[i] = (first + MINE + B_K(lid + (i) * ITEMS)) * ldb + COLUMN(i)
#endif
#if FORM >= 3 /* codes stay what they are until they are put: fewer registers */
#define FETCH_B(i, check)                                                                                              \
    rb[i] = !check || to + B_K(lid + (i) * ITEMS) < K ? raw4(b, pb[i]) : 0;                                            \
    pb[i] += BK * ldb
#else
#define FETCH_B(i, check)                                                                                              \
    rb[i] = !check || to + MINE + B_K(lid + (i) * ITEMS) < K ? FROM_B(i) : (B4)(0);                                    \
    pb[i] += STEP * ldb
#endif
#endif

#define FETCH(check)                                                                                                   \
    for (int i = 0; i < A_LOADS; i++) {                                                                                \
        FETCH_A(i, check);                                                                                             \
    }                                                                                                                  \
    for (int i = 0; i < B_LOADS; i++) {                                                                                \
        FETCH_B(i, check);                                                                                             \
    }                                                                                                                  \
    STEP_A

/* From registers to local memory. */
#define TURNED(buffer, what, k, at, stride)                                                                            \
    {                                                                                                                  \
        const float4 v = what;                                                                                         \
        SHARED float *in = (SHARED float *)(buffer) + (k) * (stride) + (at);                                           \
        in[0] = v.x;                                                                                                   \
        in[stride] = v.y;                                                                                              \
        in[2 * (stride)] = v.z;                                                                                        \
        in[3 * (stride)] = v.w;                                                                                        \
    }
#if A_MODE == 1
#define PUT_A(i) as_now[lid + (i) * ITEMS] = OF_A(ra[i]);
#else
#define PUT_A(i) TURNED(as_now, OF_A(ra[i]), A_K(lid + (i) * ITEMS), A_M(lid + (i) * ITEMS), A_STRIDE)
#endif
#if B_MODE == 1
#define PUT_B(i) TURNED(bs_now, OF_B(rb[i]), B_K(lid + (i) * ITEMS), B_N(lid + (i) * ITEMS), B_STRIDE)
#elif FORM >= 3
#define PUT_B(i) bs_now[lid + (i) * ITEMS] = DECODED(of_raw4(rb[i]), (to - BK) / BLOCK * ldb + COLUMN(i));
#else
#define PUT_B(i) bs_now[lid + (i) * ITEMS] = OF_B(rb[i]);
#endif
#define MINE_OF(stride) (MINE * (1 + TWICE) * (stride) / 4) /* of a buffer for all slices */
#if TWICE
#define BEFORE_PUT
#define AFTER_USE                                                                                                      \
    turn ^= 1;                                                                                                         \
    as_now = as + MINE_OF(A_STRIDE) + turn * (BK * A_STRIDE / 4);                                                      \
    bs_now = bs + MINE_OF(B_STRIDE) + turn * (BK * B_STRIDE / 4);
#else
#define BEFORE_PUT WAIT
#define AFTER_USE
#endif
#define PUT                                                                                                            \
    BEFORE_PUT                                                                                                         \
    for (int i = 0; i < A_LOADS; i++)                                                                                  \
        PUT_A(i)                                                                                                       \
    for (int i = 0; i < B_LOADS; i++)                                                                                  \
        PUT_B(i)                                                                                                       \
    WAIT

#define MAC(r, v)                                                                                                      \
    acc[r][0] = (v) * y0 + acc[r][0];                                                                                  \
    acc[r][1] = (v) * y1 + acc[r][1];
#if ROWS == 8
#define MORE_ROWS(k)                                                                                                   \
    const float4 x1 = as_now[(k) * (A_STRIDE / 4) + BM / 8 + ty];                                                      \
    MAC(4, x1.x)                                                                                                       \
    MAC(5, x1.y)                                                                                                       \
    MAC(6, x1.z)                                                                                                       \
    MAC(7, x1.w)
#else
#define MORE_ROWS(k)
#endif
#define MULTIPLY(k)                                                                                                    \
    {                                                                                                                  \
        const float4 x0 = as_now[(k) * (A_STRIDE / 4) + ty];                                                           \
        const float4 y0 = bs_now[(k) * (B_STRIDE / 4) + tx], y1 = bs_now[(k) * (B_STRIDE / 4) + BN / 8 + tx];          \
        MAC(0, x0.x)                                                                                                   \
        MAC(1, x0.y)                                                                                                   \
        MAC(2, x0.z)                                                                                                   \
        MAC(3, x0.w)                                                                                                   \
        MORE_ROWS(k)                                                                                                   \
    }

#if BIAS
#define ADD_BIAS(x, col) x += bias[col]
#define ADD_BIAS4(v, col) v += FLOAT4(bias + (col))
#else
#define ADD_BIAS(x, col)
#define ADD_BIAS4(v, col)
#endif

#define FINISH(x, j)                                                                                                   \
    if (n + j < N) {                                                                                                   \
        float v = x;                                                                                                   \
        ADD_BIAS(v, col0 + n + j);                                                                                     \
        POST(v, o + j, col0 + n + j);                                                                                  \
        PUT1(v, c + (o + j));                                                                                          \
    }

__kernel __attribute__((reqd_work_group_size(SLICES * ITEMS, 1, 1))) void gemm(__global const A1 *a, ulong ao,
                                                                     __global const B1 *b, ulong bo,
                                                                     __global OUT *c, ulong co, int8 sizes,
                                                                     int8 step
#if BIAS
                                                                     , __global const float *bias, ulong bias_o
#endif
#if A_MODE >= 2
                                                                     , __global const int4 *taps, ulong taps_o,
                                                                     int8 image, int8 window
#endif
                                                                         WEIGHT_PARAMS POST_PARAMS) {
    SHARED float4 as[(1 + TWICE) * STEP * A_STRIDE / 4], bs[(1 + TWICE) * STEP * B_STRIDE / 4];
    const int M = sizes.s0, N = sizes.s1, lda = sizes.s3, ldb = sizes.s4, ldc = sizes.s5;
#if PARTS
    const int first = get_group_id(2) * sizes.s7, K = min(sizes.s2, first + sizes.s7), zi = 0, zo = 0;
    const int c_at = get_group_id(2) * M * N, col0 = 0;
#else
    const int first = 0, K = sizes.s2, zi = get_group_id(2) % sizes.s6, zo = get_group_id(2) / sizes.s6;
    const int c_at = zo * step.s4 + zi * step.s5, col0 = zo * step.s6 + zi * step.s7;
#endif
#if SLICES == 1
    const int lid = get_local_id(0);
#else
    const int lid = get_local_id(0) % ITEMS, slice = get_local_id(0) / ITEMS;
#endif
    const int n0 = get_group_id(0) * BN, m0 = get_group_id(1) * BM;
#if BN >= 64
    const int tx = lid % 8 + lid / 64 % (BN / 64) * 8, ty = lid / 8 % 8 + lid / (BN / 64) / 64 * 8;
#else
    const int tx = lid % (BN / 8), ty = lid / (BN / 8);
#endif
    SHARED float4 *as_now = as + MINE_OF(A_STRIDE), *bs_now = bs + MINE_OF(B_STRIDE);
    float4 acc[ROWS][2];
    A4 ra[A_LOADS];
#if FORM >= 3
    uint rb[B_LOADS];
#else
    B4 rb[B_LOADS];
#endif
    int to = first;
#if TWICE
    int turn = 0;
#endif
    a = ATC(A1, a, ao) + zo * step.s0 + zi * step.s1;
    b = ATC(B1, b, bo) + WEIGHT_STEP(zo * step.s2 + zi * step.s3);
    WEIGHT_BEGIN(zi)
    c = AT(OUT, c, co);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
#if A_MODE >= 2
    taps = ATC(int4, taps, taps_o);
#endif
#if BITS
    view views[A_LOADS];
#elif A_MODE >= 2
    spot spots[A_LOADS];
#else
    __global const A1 *pa[A_LOADS];
#endif
#if FORM == 0
    __global const B1 *pb[B_LOADS];
#else
    int pb[B_LOADS];
#if ITEMS % (BN / 4) == 0
    const int column = min(n0 + B_N(lid), LAST_N);
#endif
#endif
    for (int i = 0; i < A_LOADS; i++)
        BEGIN_A(i);
    for (int i = 0; i < B_LOADS; i++)
        BEGIN_B(i);
#if BITS
#if WIDE_A && ROWS != 8 && !PIECEWISE
    __global const A1 *zeros_at = (__global const A1 *)(taps + window.s6 + lid % 2);
#endif
    taps += window.s6 + 2 + (first + MINE + A_K(lid)) / 4;
#if ITEMS % (BK / 4) == 0
    int2 tap = taps->xy;
#endif
#endif
    POST_BEGIN
    for (int r = 0; r < ROWS; r++)
        acc[r][0] = acc[r][1] = NONE;

    if (first + STEP <= K) {
        FETCH(0)
    } else {
        FETCH(1)
    }
    for (to = first + STEP; to + STEP <= K; to += STEP) {
        PUT
        FETCH(0)
#if UNROLL
#pragma unroll
#endif
        for (int k = 0; k < BK; k++)
            MULTIPLY(k)
        AFTER_USE
    }
    for (; to - STEP < K; to += STEP) {
        PUT
        if (to < K) {
            FETCH(1)
        }
#if UNROLL
#pragma unroll
#endif
        for (int k = 0; k < BK; k++)
            MULTIPLY(k)
        AFTER_USE
    }

#if SLICES > 1
    /* Row r is slice r % SLICES's: the others hand over what they have of it. */
#if UNROLL
#pragma unroll
#endif
    for (int r = 0; r < ROWS; r++) {
        const int owner = r % SLICES, others = (slice + SLICES - 1 - owner) % SLICES;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (slice != owner) {
            bs[2 * others * ITEMS + lid] = acc[r][0];
            bs[(2 * others + 1) * ITEMS + lid] = acc[r][1];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (slice == owner) {
            for (int s = 0; s < SLICES - 1; s++) {
                acc[r][0] += bs[2 * s * ITEMS + lid];
                acc[r][1] += bs[(2 * s + 1) * ITEMS + lid];
            }
        }
    }
#define HAS_ROW(r) (slice == (r) % SLICES)
#else
#define HAS_ROW(r) true
#endif
#if SLICES > 1 && UNROLL
#pragma unroll
#endif
    for (int r = 0; r < ROWS; r++) {
        const int m = m0 + r / 4 * (BM / 2) + ty * 4 + r % 4;
        if (!HAS_ROW(r) || m >= M) continue;
        for (int half_of = 0; half_of < 2; half_of++) {
            const int n = n0 + half_of * (BN / 2) + tx * 4, o = c_at + m * ldc + n;
            if (n >= N) continue;
            float4 v4 = FACTORED(acc[r][half_of], n);
#if WIDE_C
            ADD_BIAS4(v4, col0 + n);
            POST4(v4, o, col0 + n);
            PUT4(v4, c + o);
#else
            FINISH(v4.x, 0)
            FINISH(v4.y, 1)
            FINISH(v4.z, 2)
            FINISH(v4.w, 3)
#endif
        }
    }
}
