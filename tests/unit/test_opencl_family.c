/* Which family's tables a device gets, by what drivers say of it. Names are as drivers gave them: AMD's (ROCm, the
 * legacy driver, Windows), Mesa's rusticl and Clover, NVIDIA's, Intel's, PoCL's. Needs no OpenCL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/opencl/family.h"

#define AMD_INC "Advanced Micro Devices, Inc."
#define INTEL_CORP "Intel(R) Corporation"

typedef struct named {
    ocl_family family;
    bool gpu;
    uint32_t vendor, wave;
    const char *maker, *name;
} named;

static const named list[] = {
    /* GCN, and what has its waves */
    { OCL_GCN, true, 0x1002, 64, AMD_INC, "gfx803" },
    { OCL_GCN, true, 0x1002, 64, AMD_INC, "Ellesmere" },
    { OCL_GCN, true, 0x1002, 64, AMD_INC, "Baffin" },
    { OCL_GCN, true, 0x1002, 64, AMD_INC, "Hawaii" },
    { OCL_GCN, true, 0x1002, 64, AMD_INC, "gfx900:xnack-" },
    { OCL_GCN, true, 0x1002, 64, AMD_INC, "gfx906:sramecc+:xnack-" },
    { OCL_GCN, true, 0x1002, 64, AMD_INC, "gfx90a:sramecc+:xnack-" },
    { OCL_GCN, true, 0x1002, 64, AMD_INC, "gfx942" },
    { OCL_GCN, true, 0x1002, 0, "AMD", "AMD Radeon RX 580 (radeonsi, polaris10, LLVM 15.0.7, DRM 3.54, 6.8.0)" },
    { OCL_GCN, true, 0x1002, 0, "AMD", "AMD Radeon RX 590 GME (radeonsi, polaris10, ACO, DRM 3.61)" },
    { OCL_GCN, true, 0x1002, 0, "AMD",
      "AMD Radeon RX 470 Series (radeonsi, polaris10, ACO, DRM 3.64, 6.17.0-35-generic)" },
    { OCL_GCN, true, 0x1002, 0, "AMD", "AMD Radeon RX 550 (polaris12, LLVM 15.0.6, DRM 3.49, 6.1.0-18-amd64)" },
    { OCL_GCN, true, 0x1002, 0, "AMD", "Radeon RX 580 Series (POLARIS10, DRM 3.40.0, 5.10.0, LLVM 11.0.1)" },
    { OCL_GCN, true, 0x1002, 0, "AMD", "AMD Radeon Vega 8 Graphics (radeonsi, raven, LLVM 15.0.7, DRM 3.49, 6.1.0)" },
    { OCL_GCN, true, 0x1002, 0, "AMD", "AMD Radeon HD 7900 Series" }, /* says neither: the older kind */
    /* RDNA */
    { OCL_RDNA, true, 0x1002, 32, AMD_INC, "gfx1010:xnack-" },
    { OCL_RDNA, true, 0x1002, 32, AMD_INC, "gfx1030" },
    { OCL_RDNA, true, 0x1002, 32, AMD_INC, "gfx1100" },
    { OCL_RDNA, true, 0x1002, 32, AMD_INC, "gfx1201" },
    { OCL_RDNA, true, 0x1002, 0, "AMD", "AMD Radeon RX 6600 XT (radeonsi, navi23, LLVM 17.0.6, DRM 3.57, 6.8.0)" },
    { OCL_RDNA, true, 0x1002, 0, "AMD",
      "AMD Radeon RX 7900 XT (radeonsi, navi31, LLVM 19.1.0, DRM 3.59, 6.11.7-300.fc41.x86_64)" },
    { OCL_RDNA, true, 0x1002, 0, "AMD",
      "AMD Radeon Graphics (radeonsi, raphael_mendocino, LLVM 19.1.1, DRM 3.59, 6.11.3-1472.native)" },
    { OCL_RDNA, true, 0x1002, 32, AMD_INC, "AMD Radeon RX 5700 XT" }, /* by its waves */
    /* others */
    { OCL_NVIDIA, true, 0x10de, 0, "NVIDIA Corporation", "NVIDIA H200" },
    { OCL_NVIDIA, true, 0x10de, 0, "NVIDIA Corporation", "NVIDIA GeForce RTX 3060" },
    { OCL_INTEL, true, 0x8086, 0, INTEL_CORP, "Intel(R) UHD Graphics 630 [0x3e98]" },
    { OCL_INTEL, true, 0x8086, 0, INTEL_CORP, "Intel(R) Arc(TM) A770 Graphics" },
    { OCL_INTEL, true, 0x8086, 0, "Intel", "Mesa Intel(R) UHD Graphics 620 (KBL GT2)" },
    { OCL_OTHER, true, 0x13b5, 0, "ARM", "Mali-G52 r1" },
    { OCL_OTHER, true, 0x5143, 0, "QUALCOMM", "QUALCOMM Adreno(TM) 650" },
    { OCL_OTHER, true, 0, 0, "", "" },
    /* processors, whoever made them */
    { OCL_CPU, false, 0x1022, 0, "AuthenticAMD", "pthread-haswell-AMD EPYC" },
    { OCL_CPU, false, 0x8086, 0, "GenuineIntel", "cpu-haswell-Intel(R) Core(TM) i7-6700 CPU @ 3.40GHz" },
    { OCL_CPU, false, 0x8086, 0, INTEL_CORP, "Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz" },
    { OCL_CPU, false, 0x10005, 0, "Mesa", "llvmpipe (LLVM 15.0.6, 256 bits)" },
};

static void test_names(void **state) {
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const named *n = &list[i];
        const ocl_facts facts = { n->gpu, n->vendor, n->wave, n->name, n->maker };
        const ocl_family family = ocl_family_of(&facts);
        if (family != n->family)
            fail_msg("'%s' is taken for %s, not %s", n->name, ocl_table_of(family)->name,
                     ocl_table_of(n->family)->name);
    }
}

/* What gemm.c and gemm.cl take for granted of each tile. */
static void test_tables(void **state) {
    int n = 0;
    for (int f = 0; f < OCL_FAMILIES; f++) {
        const ocl_table *t = ocl_table_of((ocl_family)f);
        assert_true(t->n_tiles > 0 && t->filled > 0);
        assert_true(t->tiles->speed == 1 && t->tiles->slices == 1);
        for (size_t i = 0; i < t->n_tiles; i++) {
            const ocl_tile *tile = &t->tiles[i];
            const int items = tile->m * tile->n / (8 * tile->rows);
            assert_true(tile->rows == 8 || tile->rows == 4);
            assert_true(tile->m % tile->rows == 0 && tile->n % 8 == 0 && items * tile->slices <= 256);
            assert_true(tile->depth * tile->slices <= 32); /* OCL_GEMM_MOST_STEP */
            assert_true(tile->m * tile->depth % (4 * items) == 0 && tile->n * tile->depth % (4 * items) == 0);
        }
    }
    while (ocl_test_tile(n + 1))
        n++;
    assert_int_equal(n, 11); /* that tests compare with the reference */
    assert_true(ocl_test_tile(1)->m == 64 && ocl_test_tile(1)->rows == 8);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_names), cmocka_unit_test(test_tables) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
