/* opencl_compare.h - cpu_compare.h on the first OpenCL device. For tests.
 *
 * Tolerance: that of cpu_compare.h, 2e-5 relative to 1 + |value|: OpenCL lets exp, tanh and erf err by up to 16 units
 * in the last place (2e-6), sums of a few hundred products in another order by about as much. */
#ifndef PS_TEST_OPENCL_COMPARE_H
#define PS_TEST_OPENCL_COMPARE_H

#include "cpu_compare.h"

#include "backend/opencl/opencl_int.h"

#if defined(__SANITIZE_ADDRESS__)
/* Drivers keep what they made until the process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libpocl\nleak:libOpenCL\nleak:libLLVM\nleak:libclang\n";
}
#endif

/* A processor is taken for a card in every other comparison, mostly of GCN: in those that the same test with the other
 * storage makes as what it is. Models are loaded for each comparison, and lowered by it. */
#ifdef CMP_HALVES
#define OPENCL_FIRST_TURN 1
#else
#define OPENCL_FIRST_TURN 0
#endif
/* Whose table has it (ocl_test_tile): kernels have options of their families, too. */
static inline ocl_family opencl_family_of_tile(const ocl_tile *tile)
{
    for (int f = 0; f < OCL_FAMILIES; f++) {
        const ocl_table *t = ocl_table_of((ocl_family)f);
        if (tile >= t->tiles && tile < t->tiles + t->n_tiles) return (ocl_family)f;
    }
    return OCL_OTHER;
}

static inline void opencl_take_turns(int threads)
{
    static const ocl_family turns[] = { OCL_CPU, OCL_GCN, OCL_CPU, OCL_GCN, OCL_CPU, OCL_RDNA, OCL_CPU, OCL_INTEL };
    static size_t turn = OPENCL_FIRST_TURN;
    ps_device *d = NULL;
    if (threads != 1 || ps_engine_device(cmp_engine, cmp_device, &d, NULL) != PS_OK || ocl_of(d)->gpu) return;
    const ocl_tile *tile = ocl_of(d)->test_tile ? ocl_test_tile(ocl_of(d)->test_tile) : NULL;
    const ocl_family family =
        tile ? opencl_family_of_tile(tile) : turns[turn++ % (sizeof turns / sizeof *turns)];
    ocl_of(d)->family = family;
    ocl_of(d)->filled = ocl_table_of(family)->filled;
}

/* Tests that are built with CMP_HALVES store values as f16, in turn all that kernels read and write, the even ones of
 * a node's inputs alone, and what they write alone (ocl_device.test_halves).
 *
 * Tolerance: each stored result is rounded to 11 bits, 2^-11 of it; what is stored on the way to it errs by as much of
 * itself, and so do sums of such. Inputs are numbers that f16 has. 2^-10 relative to 1 + |value| leaves a factor of
 * two. */
#ifdef CMP_HALVES
/* Of many alike some, for each compiles for a second or two where nothing is cached: 7 of 40, 5 of 24, 2 of 4. */
#define OPENCL_CASES(n) ((n) < 2 ? (n) : 2 + (n) / 8)
static void opencl_store_halves(int threads)
{
    static const int ways[] = { 3, 5, 3, 2 };
    static size_t turn;
    ps_device *d = NULL;
    opencl_take_turns(threads);
    if (ps_engine_device(cmp_engine, cmp_device, &d, NULL) != PS_OK) return;
    turn += threads == 1;
    ocl_of(d)->test_halves = ways[turn % 4];
    cmp_ends = ways[turn % 4] & 2;
}
#else
#define OPENCL_CASES(n) (n)
#endif

/* For main: is there a device? Says why not. */
static inline bool opencl_there(void)
{
    ps_engine *e = NULL;
    ps_device *d = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.cache_dir = "";
#if defined(__SANITIZE_THREAD__)
    print_message("skipped: a driver's threads are no threads that this sanitizer knows\n");
    return false;
#endif
    bool there = ps_engine_create(&o, &e, &err) == PS_OK && ps_engine_device(e, "gpu", &d, &err) == PS_OK;
    if (!there) print_message("skipped: %s\n", err.msg);
    ps_engine_free(e);
    cmp_device = "gpu";
    cmp_before_run = opencl_take_turns;
#ifdef CMP_HALVES
    cmp_halves = 0x1p-10f;
    cmp_before_run = opencl_store_halves;
#endif
    return there;
}

#define OPENCL_SKIPPED 77

#endif
