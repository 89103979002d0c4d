/* family.c - families of devices: how drivers name them, tables of tiles, costs. */
#include "backend/opencl/family.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- which ---- */

enum { VENDOR_AMD = 0x1002, VENDOR_NVIDIA = 0x10de, VENDOR_INTEL = 0x8086 };

static bool has(const char *text, const char *word) {
    const size_t n = strlen(word);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)text[i]) == word[i])
            i++;
        if (i == n) return true;
    }
    return false;
}

/* The first that is in the text. */
static bool has_any(const char *text, const char *const *words, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (has(text, words[i])) return true;
    return false;
}

/* "gfx803", "gfx90a:sramecc+:xnack-", "gfx1010:xnack-" → 8, 9, 10; 0: no such name. The last two digits, which may be
 * hexadecimal, are minor version and stepping. */
static int gfx_of(const char *name) {
    const char *at = strstr(name, "gfx");
    size_t n = 0;
    if (!at) return 0;
    while (isxdigit((unsigned char)at[3 + n]))
        n++;
    if (n < 3 || n > 4) return 0;
    return n == 3 ? at[3] - '0' : (at[3] - '0') * 10 + at[4] - '0';
}

/* AMD's own drivers give the instruction set ("gfx1030") or a code name ("Ellesmere"), Mesa the card's name with the
 * code name behind it ("AMD Radeon RX 580 (radeonsi, polaris10, ACO, DRM 3.57, 6.1.0)"). What tells neither, by the
 * width of its waves. Vega and CDNA have GCN's waves and registers. */
static ocl_family amd_family(const ocl_facts *f) {
    static const char *const rdna[] = { "navi",      "van gogh", "vangogh", "rembrandt",  "raphael",
                                        "mendocino", "phoenix",  "strix",   "hawk point", "rdna" };
    static const char *const gcn[] = { "polaris", "ellesmere", "baffin",   "lexa",    "tonga",   "fiji",   "hawaii",
                                       "bonaire", "tahiti",    "pitcairn", "verde",   "oland",   "hainan", "iceland",
                                       "topaz",   "carrizo",   "stoney",   "kabini",  "mullins", "kaveri", "vega",
                                       "raven",   "picasso",   "renoir",   "arcturus" };
    const int gfx = gfx_of(f->name);
    if (gfx) return gfx >= 10 ? OCL_RDNA : OCL_GCN;
    if (has_any(f->name, rdna, sizeof rdna / sizeof *rdna)) return OCL_RDNA;
    if (has_any(f->name, gcn, sizeof gcn / sizeof *gcn)) return OCL_GCN;
    return f->wave == 32 ? OCL_RDNA : OCL_GCN;
}

static bool is_of(const ocl_facts *f, uint32_t vendor, const char *maker) {
    return f->vendor == vendor || has(f->maker, maker);
}

ocl_family ocl_family_of(const ocl_facts *f) {
    if (!f->gpu) return OCL_CPU;
    if (f->vendor == VENDOR_NVIDIA || has(f->maker, "nvidia")) return OCL_NVIDIA;
    if (is_of(f, VENDOR_AMD, "advanced micro devices") || strcmp(f->maker, "AMD") == 0) return amd_family(f);
    return is_of(f, VENDOR_INTEL, "intel") ? OCL_INTEL : OCL_OTHER;
}

/* ---- tables ----
 *
 * GCN: 64 x 64 by one wave of 64, so that no barrier waits for another wave, and registers for two waves a SIMD
 * (tools/gpu-kernels); 32 x 64 where that leaves SIMDs idle or with one wave, and up to four waves that share a tile's
 * depth. Speeds of the latter are what instructions of the loop and barriers between waves suggest (tools/gpu-model).
 */
static const ocl_tile gcn_tiles[] = { { 64, 64, 8, false, 1, 8, 1 },
                                      { 32, 64, 8, false, 0.99, 4, 1 },
                                      { 32, 64, 8, false, 0.94, 4, 2 },
                                      { 32, 64, 8, false, 0.94, 4, 4 } };

/* NVIDIA: deeper, wider tiles; speeds as measured on an H200 at 4096^3 and in ResNet-50. */
static const ocl_tile nvidia_tiles[] = { { 64, 128, 16, false, 1, 8, 1 },
                                         { 128, 64, 8, false, 0.94, 8, 1 },
                                         { 64, 64, 8, true, 0.9, 8, 1 } };

/* RDNA, by construction (tools/gpu-kernels gfx1030): registers for seven waves a SIMD instead of two, so that
 * work-groups of several waves cost no occupancy. Those of 64 x 128 have the largest share of multiply-adds, the fewest
 * registers and read three quarters of what 64 x 64 do. */
static const ocl_tile rdna_tiles[] = { { 64, 128, 8, false, 1, 8, 1 },
                                       { 64, 64, 8, false, 0.99, 8, 1 },
                                       { 32, 64, 8, false, 0.98, 4, 1 },
                                       { 32, 64, 8, false, 0.93, 4, 2 },
                                       { 32, 64, 8, false, 0.93, 4, 4 } };

/* Intel, by construction (tools/gpu-kernels intel): a thread of eight items has 128 registers of 32 bytes, 128 floats
 * an item. With 8 x 8 results an item its compiler takes sixteen a thread, or spills, and results lie in memory; 4 x 8
 * stay in registers, in tiles of 64 x 64 also what is under way, one load of A and of B an item. */
static const ocl_tile intel_tiles[] = { { 64, 64, 8, false, 1, 4, 1 }, { 64, 64, 8, false, 0.95, 4, 2 } };

/* A processor: an item for itself, 8 x 8 results in registers, without barriers, which PoCL would make loops over items
 * of, with what they have in memory between them. Measured (docs/gpu.md). */
static const ocl_tile cpu_tiles[] = { { 8, 8, 8, false, 1, 8, 1 } };

#define TILES(tiles) tiles, sizeof tiles / sizeof *tiles

static const ocl_table tables[OCL_FAMILIES] = {
    [OCL_OTHER] = { "GCN, for want of its own", TILES(gcn_tiles), 48, 3.5e5, 4 * 64, true },
    [OCL_GCN] = { "GCN", TILES(gcn_tiles), 48, 3.5e5, 4 * 64, true },         /* launches of 5 us */
    [OCL_NVIDIA] = { "NVIDIA", TILES(nvidia_tiles), 24, 1e6, 4 * 32, false }, /* of 7 us */
    [OCL_RDNA] = { "RDNA", TILES(rdna_tiles), 48, 6e5, 2 * 32, true },
    [OCL_INTEL] = { "Intel", TILES(intel_tiles), 48, 4e5, 8 * 8, true },
    [OCL_CPU] = { "processors", TILES(cpu_tiles), 4, 2.5e5, 1, false },
};

const ocl_table *ocl_table_of(ocl_family family) {
    return &tables[family];
}

static bool is_same(const ocl_tile *a, const ocl_tile *b) {
    return a->m == b->m && a->n == b->n && a->depth == b->depth && a->twice == b->twice && a->rows == b->rows &&
           a->slices == b->slices;
}

/* Is it in a table before this one, or in this one before place i? */
static bool is_known(const ocl_tile *t, size_t family, size_t i) {
    for (size_t f = 0; f <= family; f++)
        for (size_t j = 0; j < (f == family ? i : tables[f].n_tiles); j++)
            if (is_same(t, &tables[f].tiles[j])) return true;
    return false;
}

const ocl_tile *ocl_test_tile(int n) {
    for (size_t f = 0; f < OCL_FAMILIES; f++)
        for (size_t i = 0; i < tables[f].n_tiles; i++)
            if (!is_known(&tables[f].tiles[i], f, i) && --n == 0) return &tables[f].tiles[i];
    return NULL;
}
