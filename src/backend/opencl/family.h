/* family.h - which family of devices one belongs to, and what is known of each: tiles of products and what things cost
 * (tables in family.c). */
#ifndef PS_BACKEND_OPENCL_FAMILY_H
#define PS_BACKEND_OPENCL_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one work-group computes, m x n results from steps of `depth` (kernels/gemm.cl). */
typedef struct ocl_tile {
    int m, n, depth;
    bool twice;   /* two buffers of local memory */
    double speed; /* of its multiply-adds, the device's best tile having 1 */
    int rows;     /* of results an item, eight columns wide: 8 or 4 */
    int slices;   /* of each step along k: so many times the items work on one tile */
} ocl_tile;

typedef enum ocl_family {
    OCL_OTHER, /* cards of other makers: GCN's table */
    OCL_GCN,
    OCL_NVIDIA,
    OCL_RDNA,
    OCL_INTEL,
    OCL_CPU,
    OCL_FAMILIES
} ocl_family;

/* What a driver says of a device. */
typedef struct ocl_facts {
    bool gpu;          /* CL_DEVICE_TYPE */
    uint32_t vendor;   /* CL_DEVICE_VENDOR_ID */
    uint32_t wave;     /* CL_DEVICE_WAVEFRONT_WIDTH_AMD, 0 if it does not say */
    const char *name;  /* CL_DEVICE_NAME */
    const char *maker; /* CL_DEVICE_VENDOR */
} ocl_facts;

ocl_family ocl_family_of(const ocl_facts *facts);

typedef struct ocl_table {
    const char *name;      /* as `polestar devices` says it */
    const ocl_tile *tiles; /* those with fewer rows an item than the first take no blocks of scales */
    size_t n_tiles;
    double macs_a_float;  /* multiply-adds of the device in the time that its memory moves a float */
    double macs_a_launch; /* multiply-adds of one unit in the time that a launch takes that others wait for */
    int filled;           /* items that give each SIMD of a unit a wave; of a processor one */
    bool whole_waves;     /* a wave stays on its SIMD: a unit's work is counted in steps of `filled` */
} ocl_table;

const ocl_table *ocl_table_of(ocl_family family);

/* Each tile of all tables, from 1 on, once; NULL behind the last. For tests. */
const ocl_tile *ocl_test_tile(int n);

#endif
