/* y = softmax(scale q k^T + mask) v of one head for 32 queries, by a wave of 64: no score leaves the group (the sum over
 * keys goes on from tile to tile: Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135).
 *
 * Keys come in tiles of 32. For each, scores are summed over the head's depth in chunks of 32 (both sides turned in
 * local memory), four queries by four keys an item; the largest of a query's so far scales what was summed before; and
 * the values of the tile, in the memory of the chunks, are summed up by probability: four queries by WIDTH * 4 columns
 * an item.
 *
 * WIDTH: 1 or 2, columns of v up to 32 or 64. WIDE 1: depth and columns are multiples of four
 * q, k, v: IN, y: OUT. MASK 1: added to the scores, halves where MASK_HALF is 1; strides over batch, head, query, key. sizes: queries, keys, depth, columns, heads */
#define ITEMS 64
#define TILE 32
#define STRIDE (TILE + 4) /* of what is turned: spreads fours over the banks */
#define QUADS (8 * WIDTH) /* of columns of v */
#define CHUNKS (2 * TILE * STRIDE / 4)
#define VALUES (TILE * QUADS)

#if MASK_HALF
#define MASK_IN half
#define MASK1(p) HALF1(p)
#else
#define MASK_IN float
#define MASK1(p) (*(p))
#endif

float4 load4(__global const IN *p, int n) {
#if WIDE
    return n > 0 ? IN4(p) : (float4)(0.0f);
#else
    if (n >= 4) return IN4_ANYWHERE(p);
    float4 v = (float4)(0.0f);
    if (n > 0) v.x = IN1(p);
    if (n > 1) v.y = IN1(p + 1);
    if (n > 2) v.z = IN1(p + 2);
    return v;
#endif
}

/* A chunk of 32 rows, four along the depth of one row a load; rows out of range read the last. */
void load_turned(__local float *to, __global const IN *from, int row0, int rows, int step, int at, int depth) {
#pragma unroll 2
    for (int i = 0; i < TILE * TILE / 4 / ITEMS; i++) {
        const int place = get_local_id(0) + i * ITEMS, row = place / (TILE / 4), k = place % (TILE / 4) * 4;
        const float4 v = load4(from + min(row0 + row, rows - 1) * step + at + k, depth - at - k);
        to[k * STRIDE + row] = v.x;
        to[(k + 1) * STRIDE + row] = v.y;
        to[(k + 2) * STRIDE + row] = v.z;
        to[(k + 3) * STRIDE + row] = v.w;
    }
}

float4 max4(float4 a, float4 b) {
    return (float4)(post_max(a.x, b.x), post_max(a.y, b.y), post_max(a.z, b.z), post_max(a.w, b.w));
}

float largest_of(float4 v) { return post_max(post_max(v.x, v.y), post_max(v.z, v.w)); }

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void attention(__global const IN *q, ulong qo,
                                                                          __global const IN *k, ulong ko,
                                                                          __global const IN *v, ulong vo,
                                                                          __global OUT *y, ulong yo, int8 sizes,
                                                                          float scale
#if MASK
                                                                          , __global const MASK_IN *mask, ulong mask_o,
                                                                          int8 strides
#endif
) {
    __local float4 tiles[CHUNKS > VALUES ? CHUNKS : VALUES], probable[TILE * TILE / 4], shared[ITEMS];
    const int queries = sizes.s0, keys = sizes.s1, depth = sizes.s2, columns = sizes.s3, heads = sizes.s4;
    const int lid = get_local_id(0), tx = lid % 8, ty = lid / 8, head = get_group_id(1), batch = get_group_id(2);
    const int q0 = get_group_id(0) * TILE, step = heads * depth, step_v = heads * columns;
    __local float *const qs = (__local float *)tiles, *const ks = qs + TILE * STRIDE;
    float4 acc[4][WIDTH], top = (float4)(-INFINITY), sum = (float4)(0.0f);
    q = ATC(IN, q, qo) + batch * queries * step + head * depth;
    k = ATC(IN, k, ko) + batch * keys * step + head * depth;
    v = ATC(IN, v, vo) + batch * keys * step_v + head * columns;
    y = AT(OUT, y, yo) + batch * queries * step_v + head * columns;
#if MASK
    mask = ATC(MASK_IN, mask, mask_o) + batch * strides.s0 + head * strides.s1;
#endif
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int w = 0; w < WIDTH; w++)
            acc[r][w] = (float4)(0.0f);

    for (int k0 = 0; k0 < keys; k0 += TILE) {
        float4 s[4];
#pragma unroll
        for (int r = 0; r < 4; r++)
            s[r] = (float4)(0.0f);
        for (int at = 0; at < depth; at += TILE) {
            barrier(CLK_LOCAL_MEM_FENCE);
            load_turned(qs, q, q0, queries, step, at, depth);
            load_turned(ks, k, k0, keys, step, at, depth);
            barrier(CLK_LOCAL_MEM_FENCE);
#if UNROLL
#pragma unroll 2
#endif
            for (int i = 0; i < TILE; i++) {
                const float4 a = tiles[i * (STRIDE / 4) + ty], b = tiles[(TILE + i) * (STRIDE / 4) + tx];
                s[0] = a.x * b + s[0];
                s[1] = a.y * b + s[1];
                s[2] = a.z * b + s[2];
                s[3] = a.w * b + s[3];
            }
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const int left = keys - k0 - tx * 4;
            s[r] *= scale;
#if MASK
            __global const MASK_IN *m = mask + min(q0 + ty * 4 + r, queries - 1) * strides.s2 + (k0 + tx * 4) * strides.s3;
            if (left > 0) s[r].x += MASK1(m);
            if (left > 1) s[r].y += MASK1(m + strides.s3);
            if (left > 2) s[r].z += MASK1(m + 2 * strides.s3);
            if (left > 3) s[r].w += MASK1(m + 3 * strides.s3);
#endif
            if (left < 1) s[r].x = -INFINITY;
            if (left < 2) s[r].y = -INFINITY;
            if (left < 3) s[r].z = -INFINITY;
            if (left < 4) s[r].w = -INFINITY;
        }

        /* The largest score so far. Where all are -inf, 0 stands for it: nothing is summed, and 0 / 0 is the result. */
        shared[tx * 8 + ty] = (float4)(largest_of(s[0]), largest_of(s[1]), largest_of(s[2]), largest_of(s[3]));
        barrier(CLK_LOCAL_MEM_FENCE);
        float4 now = top;
#pragma unroll 2
        for (int i = 0; i < 8; i++)
            now = max4(now, shared[i * 8 + ty]);
        const float4 from = now == -INFINITY ? (float4)(0.0f) : now, less = exp(top - from);
        top = now;
        s[0] = exp(s[0] - from.x);
        s[1] = exp(s[1] - from.y);
        s[2] = exp(s[2] - from.z);
        s[3] = exp(s[3] - from.w);
        sum = sum * less + (float4)(s[0].x + s[0].y + s[0].z + s[0].w, s[1].x + s[1].y + s[1].z + s[1].w,
                                    s[2].x + s[2].y + s[2].z + s[2].w, s[3].x + s[3].y + s[3].z + s[3].w);
        probable[(tx * 4) * 8 + ty] = (float4)(s[0].x, s[1].x, s[2].x, s[3].x);
        probable[(tx * 4 + 1) * 8 + ty] = (float4)(s[0].y, s[1].y, s[2].y, s[3].y);
        probable[(tx * 4 + 2) * 8 + ty] = (float4)(s[0].z, s[1].z, s[2].z, s[3].z);
        probable[(tx * 4 + 3) * 8 + ty] = (float4)(s[0].w, s[1].w, s[2].w, s[3].w);
#pragma unroll 2
        for (int i = 0; i < VALUES / ITEMS; i++) {
            const int place = lid + i * ITEMS, key = k0 + place / QUADS, c = place % QUADS * 4;
            tiles[place] = load4(v + min(key, keys - 1) * step_v + c, key < keys ? columns - c : 0);
        }
#pragma unroll
        for (int w = 0; w < WIDTH; w++) {
            acc[0][w] *= less.x;
            acc[1][w] *= less.y;
            acc[2][w] *= less.z;
            acc[3][w] *= less.w;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#if UNROLL
#pragma unroll 2
#endif
        for (int i = 0; i < TILE; i++) {
            const float4 p = probable[i * 8 + ty];
#pragma unroll
            for (int w = 0; w < WIDTH; w++) {
                const float4 b = tiles[i * QUADS + w * 8 + tx];
                acc[0][w] = p.x * b + acc[0][w];
                acc[1][w] = p.y * b + acc[1][w];
                acc[2][w] = p.z * b + acc[2][w];
                acc[3][w] = p.w * b + acc[3][w];
            }
        }
    }

    barrier(CLK_LOCAL_MEM_FENCE);
    shared[tx * 8 + ty] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    sum = (float4)(0.0f);
    for (int i = 0; i < 8; i++)
        sum += shared[i * 8 + ty];
    const float sums[4] = { sum.x, sum.y, sum.z, sum.w };
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int row = q0 + ty * 4 + r;
        if (row >= queries) continue;
#pragma unroll
        for (int w = 0; w < WIDTH; w++) {
            const int c = (w * 8 + tx) * 4;
            const float4 result = acc[r][w] / sums[r];
            __global OUT *to = y + row * step_v + c;
#if WIDE
            if (c < columns) PUT4(result, to);
#else
            if (c < columns) PUT1(result.x, to);
            if (c + 1 < columns) PUT1(result.y, to + 1);
            if (c + 2 < columns) PUT1(result.z, to + 2);
            if (c + 3 < columns) PUT1(result.w, to + 3);
#endif
        }
    }
}
