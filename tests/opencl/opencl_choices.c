/* What the OpenCL devices choose for products and 3x3 convolutions on a card that is only described: tools/gpu-model
 * --check asks, for it predicts from the same choices. Needs no OpenCL. A question a line of standard input:
 *   product CARD UNITS M N K BATCH SHARE   answer: tile's rows, columns, depth, slices, and parts of the depth
 *   conv CARD UNITS BATCH SIZE IN OUT      answer: the side of Winograd's tile or 0, and the same of its products
 * CARD is gcn, nvidia, rdna, intel, cpu or other; SHARE is 1 where the depth may be shared out. */
#include <stdio.h>

#include "backend/opencl/conv.h"

static void print(const ocl_gemm *g) {
    printf("%d %d %d %d %lld\n", g->tile.m, g->tile.n, g->tile.depth, g->tile.slices, (long long)g->parts);
}

static void product(const ocl_device *d, const long long *v) {
    ocl_gemm g = { .m = v[0], .n = v[1], .k = v[2], .ldc = v[1], .outer = 1, .inner = v[3], .b_mode = OCL_B_PANELS };
    ocl_gemm_plan(d, &g, v[4] != 0);
    print(&g);
}

static void conv(const ocl_device *d, const long long *v) {
    const ps_window one = { 1, 1, 1, 1, 1, 0, 0 }, side = { v[1], v[1], 3, 1, 1, 1, 1 };
    const ocl_conv c = {
        .w = { one, side, side }, .groups = 1, .in_channels = v[2], .out_channels = v[3], .batch = v[0], .taps = 9
    };
    ocl_gemm g;
    ocl_panels panels;
    const int tile = ocl_winograd_choice(d, &c, &g);
    if (!tile) {
        ocl_conv_product(&c, &g, &panels);
        ocl_gemm_plan(d, &g, true);
    }
    printf("%d ", tile);
    print(&g);
}

static ocl_family family_of(const char *card) {
    static const char *const names[OCL_FAMILIES] = { "other", "gcn", "nvidia", "rdna", "intel", "cpu" };
    int f = 0;
    while (f < OCL_FAMILIES - 1 && strcmp(card, names[f]) != 0)
        f++;
    return (ocl_family)f;
}

int main(void) {
    char kind[16], card[16];
    long long units, v[5];
    while (scanf("%15s %15s %lld", kind, card, &units) == 3) {
        const ocl_family family = family_of(card);
        const ocl_device d = {
            .gpu = true, .family = family, .filled = ocl_table_of(family)->filled, .most_items = 256, .units = units
        };
        const bool is_conv = strcmp(kind, "conv") == 0;
        for (int i = 0; i < (is_conv ? 4 : 5); i++)
            if (scanf("%lld", &v[i]) != 1) return 1;
        if (is_conv)
            conv(&d, v);
        else
            product(&d, v);
    }
    return 0;
}
