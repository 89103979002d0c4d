/* Products of 8-bit codes with sums of 32 bits, which are exact. A word is four codes that follow each other along k, and
 * dot4 adds the four products of two words to a sum. Both sides are signed here: u8 codes have their top bit turned (flip),
 * which makes them 128 less, and so are their zero points. What is no loop's is an argument, so that a network compiles few
 * programs: whether codes are signed, and in the tail what there is of bias, summand and range.
 *
 * ENTRY 0: a tile of BM x BN results by BM/ROWS x BN/8 items, as in gemm.cl, from steps of BK words in local memory
 *       1: sums of PARTS, added up   2: depthwise convolutions, VEC channels of a pixel an item
 * WINDOWS 0: A[m][k]   1: windows of an image, channels-last; k counts places, and in each the words of its channels
 * UNIT 16, 4: rows of A and the channels of a place begin at multiples of so many bytes and are such a number; 1: any
 * ZEROS 1: weights have zero points: what they stand for is taken off each sum, by the sum of its row's codes
 * PARTS 1: of the depth, sizes.s6 words to each of the groups in z; C is [part][M][ldb] of sums
 * CODES 1: results are codes; else floats, or halves   WIDE_C 1: fours of results begin at multiples of four
 * SUM 1: to codes, codes of `other` are added
 * DOT 0: plain C   1: the extension for it   2: NVIDIA's instruction */

#if DOT == 1
int dot4(uint a, uint b, int c) { return dot_4x8packed_ss_int(a, b) + c; }
#elif DOT == 2
int dot4(uint a, uint b, int c) {
    int d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}
#else
int dot4(uint a, uint b, int c) {
    const int4 v = convert_int4(as_char4(a)) * convert_int4(as_char4(b));
    return c + v.x + v.y + v.z + v.w;
}
#endif

/* ---- from sums to results ----
 * The tail: 16 numbers, then of all columns (groups of ldb) a bias for sums, a factor, a summand for results, a zero point.
 * Numbers: the least and the largest code less the zero point, the zero point; of a sum of codes factors of both operands,
 * the shift, the least and the largest, the top bit of unsigned codes if they are signed, whether `other` comes first. */
#define NUMBER(i) as_float(tail[i])
/* Results are those of the reference kernels: where these fuse, fma() does, which cards with a dot product have at the full
 * rate; where a product is rounded before it is added to, something must stand between the two that compilers do not know.
 * Number 10 is 0. */
#define ALONE(v) as_float(as_int(v) ^ tail[10])
#define ALONE4(v) as_float4(as_int4(v) ^ tail[10])
#define COLUMN4(list, col) (*(__global const int4 *)(tail + 16 + (list) * columns + (col)))
#define COLUMN1(list, col) tail[16 + (list) * columns + (col)]

#if CODES
#define RESULT uchar
#define ROUNDED(v) (clamp(rint(v), NUMBER(0), NUMBER(1)) + NUMBER(2))
float summed(float mine, uchar code, __global const int *tail) {
    const float other = (float)((code ^ tail[8]) - tail[8]);
    const float first = tail[9] ? other : mine, second = tail[9] ? mine : other;
    return clamp(rint(fma(first, NUMBER(3), fma(second, NUMBER(4), NUMBER(5)))), NUMBER(6), NUMBER(7));
}
#else
#define RESULT OUT
#endif

#if SUM
#define OTHER_PARAMS , __global const uchar *other, ulong other_o
#define OTHER_BEGIN other = ATC(uchar, other, other_o);
#define OTHER_ARG , other
#else
#define OTHER_PARAMS
#define OTHER_BEGIN
#define OTHER_ARG
#endif
#define TAIL_PARAMS , __global const int *tail, ulong tail_o, int columns OTHER_PARAMS
#define TAIL_BEGIN tail = ATC(int, tail, tail_o); OTHER_BEGIN

/* One result at place o, of column col. */
void put_one(int sum, int col, __global RESULT *c, int o, __global const int *tail, int columns
#if SUM
             , __global const uchar *other
#endif
) {
    float v = ALONE((float)(sum + COLUMN1(0, col)) * as_float(COLUMN1(1, col))) + as_float(COLUMN1(2, col));
#if CODES
    v = ROUNDED(v);
#if SUM
    v = summed(v, other[o], tail);
#endif
    c[o] = (uchar)(int)v;
#else
    PUT1(v, c + o);
#endif
}

/* The first n of four neighbours. */
void put_four(int4 sum, int col, int n, __global RESULT *c, int o, __global const int *tail, int columns
#if SUM
              , __global const uchar *other
#endif
) {
#if WIDE_C
    float4 v = ALONE4(convert_float4(sum + COLUMN4(0, col)) * as_float4(COLUMN4(1, col))) + as_float4(COLUMN4(2, col));
#if CODES
    v = ROUNDED(v);
#if SUM
    const uchar4 others = FOURTH(uchar4, other + o);
    v = (float4)(summed(v.x, others.x, tail), summed(v.y, others.y, tail), summed(v.z, others.z, tail),
                 summed(v.w, others.w, tail));
#endif
    const int4 q = convert_int4(v);
    *(__global uchar4 *)(c + o) = (uchar4)((uchar)q.x, (uchar)q.y, (uchar)q.z, (uchar)q.w);
#else
    PUT4(v, c + o);
#endif
#else
    put_one(sum.x, col, c, o, tail, columns OTHER_ARG);
    if (n > 1) put_one(sum.y, col + 1, c, o + 1, tail, columns OTHER_ARG);
    if (n > 2) put_one(sum.z, col + 2, c, o + 2, tail, columns OTHER_ARG);
    if (n > 3) put_one(sum.w, col + 3, c, o + 3, tail, columns OTHER_ARG);
#endif
}

#if ENTRY == 0
#define ITEMS ((BM / ROWS) * (BN / 8))
#define A_LOADS (BM * BK / 4 / ITEMS)
#define B_LOADS (BN * BK / 4 / ITEMS)
#define A_K(at) ((at) % (BK / 4) * 4)
#define A_M(at) ((at) / (BK / 4))
#define A_STRIDE (BM + 4) /* spreads the four words that are turned over the banks */
#define B_K(at) ((at) / (BN / 4))
#define B_N(at) ((at) % (BN / 4) * 4)

/* The bytes at p, of which n are the row's. */
uint word_of(__global const uchar *p, int n) {
#if UNIT >= 4
    return *(__global const uint *)p;
#else
    uint v = p[0];
    if (n > 1) v |= (uint)p[1] << 8;
    if (n > 2) v |= (uint)p[2] << 16;
    if (n > 3) v |= (uint)p[3] << 24;
    return v;
#endif
}

#if WINDOWS
/* Where the window of an output position begins. */
typedef struct spot {
    int at, d, h, w;
} spot;

spot spot_of(int m, int8 image, int8 window) {
    const int w = m % image.s6, h = m / image.s6 % image.s5, d = m / image.s6 / image.s5 % image.s4;
    spot s;
    s.d = d * window.s0 - window.s3;
    s.h = h * window.s1 - window.s4;
    s.w = w * window.s2 - window.s5;
    s.at = (((m / image.s6 / image.s5 / image.s4 * image.s0 + s.d) * image.s1 + s.h) * image.s2 + s.w) * image.s3;
    return s;
}

/* A tap, one for each word: depth * 4 + codes - 1, height, width, and bytes from the window's begin. */
bool inside(const spot *s, int4 tap, int8 image) {
    const int d = s->d + (tap.x >> 2), h = s->h + tap.y, w = s->w + tap.z;
    return d >= 0 && d < image.s0 && h >= 0 && h < image.s1 && w >= 0 && w < image.s2;
}

uint window_word(__global const uchar *a, const spot *s, int4 tap, int8 image, uint padding) {
    return inside(s, tap, image) ? word_of(a + s->at + tap.w, (tap.x & 3) + 1) : padding;
}

/* Four words from word k on. */
uint4 load_a(__global const uchar *a, const spot *s, __global const int4 *taps, int k, int8 image, uint padding) {
#if UNIT == 16
    const int4 tap = taps[k];
    return inside(s, tap, image) ? *(__global const uint4 *)(a + s->at + tap.w) : (uint4)(padding);
#else
    return (uint4)(window_word(a, s, taps[k], image, padding), window_word(a, s, taps[k + 1], image, padding),
                   window_word(a, s, taps[k + 2], image, padding), window_word(a, s, taps[k + 3], image, padding));
#endif
}
#define LOAD_A(i) load_a(a, &spots[i], taps, to + A_K(lid + (i) * ITEMS), image, padding)
#else
/* Four words from byte k on of a row that has K; weights are 0 where it has none. */
uint4 load_a(__global const uchar *row, int k, int K) {
#if UNIT == 16
    return k < K ? *(__global const uint4 *)(row + k) : (uint4)(0);
#else
    uint4 v = (uint4)(0);
    if (k < K) v.x = word_of(row + k, K - k);
    if (k + 4 < K) v.y = word_of(row + k + 4, K - k - 4);
    if (k + 8 < K) v.z = word_of(row + k + 8, K - k - 8);
    if (k + 12 < K) v.w = word_of(row + k + 12, K - k - 12);
    return v;
#endif
}
#define LOAD_A(i) load_a(rows[i], 4 * (to + A_K(lid + (i) * ITEMS)), sizes.s7)
#endif

#define FETCH                                                                                                          \
    for (int i = 0; i < A_LOADS; i++)                                                                                  \
        ra[i] = LOAD_A(i);                                                                                             \
    for (int i = 0; i < B_LOADS; i++)                                                                                  \
        rb[i] = *(__global const uint4 *)(b + (to + B_K(lid + (i) * ITEMS)) * ldb + min(n0 + B_N(lid + (i) * ITEMS), ldb - 4));

#define PUT                                                                                                            \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                                      \
    for (int i = 0; i < A_LOADS; i++) {                                                                                \
        const uint4 v = ra[i] ^ flip;                                                                                 \
        __local uint *in = (__local uint *)as + A_K(lid + i * ITEMS) * A_STRIDE + A_M(lid + i * ITEMS);                \
        in[0] = v.x;                                                                                                   \
        in[A_STRIDE] = v.y;                                                                                            \
        in[2 * A_STRIDE] = v.z;                                                                                        \
        in[3 * A_STRIDE] = v.w;                                                                                        \
    }                                                                                                                  \
    for (int i = 0; i < B_LOADS; i++)                                                                                  \
        bs[lid + i * ITEMS] = rb[i];                                                                                   \
    barrier(CLK_LOCAL_MEM_FENCE);

#if ZEROS
#define ROW_SUM(r, v) row_sums[r] = dot4(v, one, row_sums[r]);
#else
#define ROW_SUM(r, v)
#endif
#define DOTS(r, v)                                                                                                     \
    acc[r][0].x = dot4(v, y0.x, acc[r][0].x);                                                                          \
    acc[r][0].y = dot4(v, y0.y, acc[r][0].y);                                                                          \
    acc[r][0].z = dot4(v, y0.z, acc[r][0].z);                                                                          \
    acc[r][0].w = dot4(v, y0.w, acc[r][0].w);                                                                          \
    acc[r][1].x = dot4(v, y1.x, acc[r][1].x);                                                                          \
    acc[r][1].y = dot4(v, y1.y, acc[r][1].y);                                                                          \
    acc[r][1].z = dot4(v, y1.z, acc[r][1].z);                                                                          \
    acc[r][1].w = dot4(v, y1.w, acc[r][1].w);                                                                          \
    ROW_SUM(r, v)

/* sizes: M, N, words, lda (bytes), ldb, ldc, words of a part, bytes of a row of A. group: bytes of A. flip: the top bits of
 * unsigned codes, or 0. */
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void qgemm(__global const uchar *a, ulong ao,
                                                                      __global const uint *b, ulong bo,
#if PARTS
                                                                      __global int *c, ulong co,
#else
                                                                      __global RESULT *c, ulong co,
#endif
                                                                      int8 sizes, int group, uint flip
#if WINDOWS
                                                                      , __global const int4 *taps, ulong taps_o,
                                                                      int8 image, int8 window
#endif
                                                                          TAIL_PARAMS) {
    __local uint4 as[BK * A_STRIDE / 4], bs[BK * BN / 4];
    const int M = sizes.s0, N = sizes.s1, ldb = sizes.s4, ldc = sizes.s5, lid = get_local_id(0);
    const int n0 = get_group_id(0) * BN, m0 = get_group_id(1) * BM;
    const int tx = lid % 8 + lid / 64 % (BN / 64) * 8, ty = lid / 8 % 8 + lid / (BN / 64) / 64 * 8;
#if PARTS
    const int z = 0, first = get_group_id(2) * sizes.s6, last = min(sizes.s2, first + sizes.s6);
#else
    const int z = get_group_id(2), first = 0, last = sizes.s2;
#endif
    uint4 ra[A_LOADS], rb[B_LOADS];
    int4 acc[ROWS][2];
    int to = first;
    a = ATC(uchar, a, ao) + z * group;
    b = ATC(uint, b, bo);
    TAIL_BEGIN
#if ZEROS
    int row_sums[ROWS];
    __global const uint *ones = b + columns * sizes.s2; /* behind all panels: 1 for each code that there is */
#if UNROLL
#pragma unroll
#endif
    for (int r = 0; r < ROWS; r++)
        row_sums[r] = 0;
#endif
    b += z * sizes.s2 * ldb;
#if WINDOWS
    spot spots[A_LOADS];
    const uint padding = window.s6;
    taps = ATC(int4, taps, taps_o);
    for (int i = 0; i < A_LOADS; i++)
        spots[i] = spot_of(min(m0 + A_M(lid + i * ITEMS), M - 1), image, window);
#else
    __global const uchar *rows[A_LOADS];
    for (int i = 0; i < A_LOADS; i++)
        rows[i] = a + min(m0 + A_M(lid + i * ITEMS), M - 1) * sizes.s3;
#endif
#if UNROLL
#pragma unroll
#endif
    for (int r = 0; r < ROWS; r++)
        acc[r][0] = acc[r][1] = (int4)(0);
    FETCH
    for (to = first + BK; to - BK < last; to += BK) {
        PUT
        if (to < last) {
            FETCH
        }
#if UNROLL
#pragma unroll
#endif
        for (int k = 0; k < BK; k++) {
            const uint4 x0 = as[k * (A_STRIDE / 4) + ty], y0 = bs[k * (BN / 4) + tx], y1 = bs[k * (BN / 4) + BN / 8 + tx];
#if ZEROS
            const uint one = ones[to - BK + k];
#endif
            DOTS(0, x0.x)
            DOTS(1, x0.y)
            DOTS(2, x0.z)
            DOTS(3, x0.w)
#if ROWS == 8
            const uint4 x1 = as[k * (A_STRIDE / 4) + BM / 8 + ty];
            DOTS(4, x1.x)
            DOTS(5, x1.y)
            DOTS(6, x1.z)
            DOTS(7, x1.w)
#endif
        }
    }
#if PARTS
    c = AT(int, c, co) + get_group_id(2) * M * ldb;
#else
    c = AT(RESULT, c, co) + z * N;
#endif
#if SUM
    other += z * N;
#endif
#if UNROLL
#pragma unroll
#endif
    for (int r = 0; r < ROWS; r++) {
        const int m = m0 + r / 4 * (BM / 2) + ty * 4 + r % 4;
        if (m >= M) continue;
#if UNROLL
#pragma unroll
#endif
        for (int half_of = 0; half_of < 2; half_of++) {
            const int n = n0 + half_of * (BN / 2) + tx * 4;
            if (n >= N) continue;
            int4 sum = acc[r][half_of];
#if ZEROS
            sum -= COLUMN4(3, z * ldb + n) * row_sums[r];
#endif
#if PARTS
            *(__global int4 *)(c + m * ldb + n) = sum;
#else
            put_four(sum, z * ldb + n, N - n, c, m * ldc + n, tail, columns OTHER_ARG);
#endif
        }
    }
}

#elif ENTRY == 1
/* Four neighbours of a row an item. */
__kernel void qsum(__global const int *parts, ulong parts_o, __global RESULT *c, ulong co, int8 sizes TAIL_PARAMS) {
    const int M = sizes.s0, N = sizes.s1, ldb = sizes.s4, at = get_global_id(0), n = at % (ldb / 4) * 4, m = at / (ldb / 4);
    if (m >= M) return;
    parts = ATC(int, parts, parts_o) + m * ldb + n;
    c = AT(RESULT, c, co);
    TAIL_BEGIN
    int4 sum = (int4)(0);
    for (int i = 0; i < sizes.s6; i++)
        sum += *(__global const int4 *)(parts + i * M * ldb);
    put_four(sum, n, N - n, c, m * sizes.s5 + n, tail, columns OTHER_ARG);
}

#else
/* Differences of codes and their zero points: x - zero is 0 outside of the image. Weights are [place][columns]. */
__kernel void qdepthwise(__global const uchar *x, ulong xo, __global const char *w, ulong wo, __global RESULT *y,
                         ulong yo, int n, uint flip, int8 image, int8 window, int8 taps TAIL_PARAMS) {
    const int o = get_global_id(0) * VEC, channels = image.s3;
    if (o >= n) return;
    const int c = o % channels, pixel = o / channels;
    const int w0 = pixel % image.s6 * window.s2 - window.s5;
    const int h0 = pixel / image.s6 % image.s5 * window.s1 - window.s4;
    const int d0 = pixel / image.s6 / image.s5 % image.s4 * window.s0 - window.s3;
    x = ATC(uchar, x, xo) + pixel / image.s6 / image.s5 / image.s4 * image.s0 * image.s1 * image.s2 * channels + c;
    w = ATC(char, w, wo) + c;
    y = AT(RESULT, y, yo);
    TAIL_BEGIN
    const int zero = window.s6;
    int4 sum = (int4)(0);
#if ZEROS
    const int4 w_zero = VEC == 4 ? COLUMN4(3, c) : (int4)(COLUMN1(3, c));
#define LESS_ZERO4(v) ((v) - w_zero)
#else
#define LESS_ZERO4(v) (v)
#endif
    for (int a = 0; a < taps.s0; a++) {
        const int d = d0 + a * taps.s3;
        for (int b = 0; b < taps.s1; b++) {
            const int h = h0 + b * taps.s4;
            if (d < 0 || d >= image.s0 || h < 0 || h >= image.s1) continue;
            for (int e = 0; e < taps.s2; e++) {
                const int at = w0 + e * taps.s5;
                if (at < 0 || at >= image.s2) continue;
                const int from = ((d * image.s1 + h) * image.s2 + at) * channels;
                const int of = ((a * taps.s1 + b) * taps.s2 + e) * columns;
#if VEC == 4
                sum += (convert_int4(as_char4(FOURTH(uint, x + from) ^ flip)) - zero) * LESS_ZERO4(convert_int4(FOURTH(char4, w + of)));
#else
                sum += ((char)(x[from] ^ (flip & 255)) - zero) * LESS_ZERO4((int4)(w[of]));
#endif
            }
        }
    }
#if VEC == 4
    put_four(sum, c, 4, y, o, tail, columns OTHER_ARG);
#else
    put_one(sum.x, c, y, o, tail, columns OTHER_ARG);
#endif
}
#endif
