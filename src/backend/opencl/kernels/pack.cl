/* Weights into the order in which products read them, from a tensor's elements as they lie. Elements are moved as bits.
 * ENTRY 0: panels (panels.c), elements of ELEMENT; 1: transformed kernels of 3 x 3 (winograd.c), TILE. */
#if ENTRY == 0
#define EDGE 32

/* A work-group of 32 x 2 moves a square of rows and columns through local memory, so that both sides are accessed along
 * their lines.
 * size: rows that hold something in k1 (s0) and k2 (s1), rows of a k1 (s2), columns that hold something (s3), rows (s4) and
 *       columns (s5) of a group; s6: neighbours of the tensor lie along k
 * step: elements of the tensor from one group (s0), k1 (s1), k2 (s2), column (s3) to the next */
__kernel __attribute__((reqd_work_group_size(EDGE, 2, 1)))
void panels(__global const ELEMENT *from, __global ELEMENT *to, int8 size, int8 step) {
    __local ELEMENT square[EDGE][EDGE + 1];
    const int x = get_local_id(0), y0 = get_local_id(1), group = get_global_id(2);
    const int column0 = get_group_id(0) * EDGE, row0 = get_group_id(1) * EDGE;
    from += group * step.s0;
    to += (size_t)group * size.s4 * size.s5;
    for (int y = y0; y < EDGE; y += 2) {
        const int r = size.s6 ? x : y, c = size.s6 ? y : x, row = row0 + r, column = column0 + c;
        const int k1 = row / size.s2, k2 = row % size.s2;
        const bool holds = k1 < size.s0 && k2 < size.s1 && column < size.s3;
        square[r][c] = holds ? from[k1 * step.s1 + k2 * step.s2 + column * step.s3] : (ELEMENT)0;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int y = y0; y < EDGE; y += 2) {
        const int row = row0 + y, column = column0 + x;
        if (row < size.s4 && column < size.s5) to[(size_t)row * size.s5 + column] = square[y][x];
    }
}
#else
#define EDGE (TILE + 2)

/* Rows of G for the points of each transform in winograd.cl. */
#if TILE == 2
__constant float g[EDGE][3] = { { 1.0f, 0.0f, 0.0f }, { 0.5f, 0.5f, 0.5f }, { 0.5f, -0.5f, 0.5f }, { 0.0f, 0.0f, 1.0f } };
#else
__constant float g[EDGE][3] = { { 1.0f / 4, 0.0f, 0.0f },
                                { -1.0f / 6, -1.0f / 6, -1.0f / 6 },
                                { -1.0f / 6, 1.0f / 6, -1.0f / 6 },
                                { 1.0f / 24, 1.0f / 12, 1.0f / 6 },
                                { 1.0f / 24, -1.0f / 12, 1.0f / 6 },
                                { 0.0f, 0.0f, 1.0f } };
#endif

/* U = G g G^T of one input (row) and output channel (column), place by place.
 * size: inputs (s0), outputs (s1), rows (s2) and columns (s3) of a place's panel */
__kernel void transformed(__global const float *from, __global float *to, int8 size, int8 unused) {
    const int column = get_global_id(0), row = get_global_id(1);
    if (column >= size.s3 || row >= size.s2) return;
    const bool holds = row < size.s0 && column < size.s1;
    float kernel3[9];
    for (int i = 0; i < 9; i++)
        kernel3[i] = holds ? from[(column * size.s0 + row) * 9 + i] : 0.0f;
    to += (size_t)row * size.s3 + column;
    for (int i = 0; i < EDGE; i++) {
        float half_way[3];
        for (int x = 0; x < 3; x++)
            half_way[x] = g[i][0] * kernel3[x] + g[i][1] * kernel3[3 + x] + g[i][2] * kernel3[6 + x];
        for (int j = 0; j < EDGE; j++, to += (size_t)size.s2 * size.s3)
            *to = g[j][0] * half_way[0] + g[j][1] * half_way[1] + g[j][2] * half_way[2];
    }
}
#endif
