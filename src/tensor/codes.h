/* codes.h - constant numbers that a file has as codes of 4 or 8 bits: scale (code - zero). A tensor may have such codes
 * behind it (ps_tensor.codes), from which its f32 content is made when somebody asks.
 *
 * Scales are counted as they lie; "group" is the number of one. One thread at a time, as for all content of constants
 * that comes and goes. */
#ifndef PS_TENSOR_CODES_H
#define PS_TENSOR_CODES_H

#include "tensor/tensor.h"

typedef enum ps_codes_kind {
    PS_CODES_ONE,    /* one scale */
    PS_CODES_LIST,   /* one for each index of an axis */
    PS_CODES_BLOCKS, /* one for `block` neighbours along an axis, on each line of it */
} ps_codes_kind;

typedef struct ps_codes {
    ps_tensor *code, *scale, *zero; /* retained; scale is f32, zero like code or NULL. All NULL: given up */
    ps_codes_kind kind;
    int bits; /* 4 or 8 */
    bool is_signed;
    int middle;                /* the zero point of all where `zero` is NULL */
    int64_t n, inner;          /* of the axis: its extent, and what lies behind one index; of the codes as they lie */
    int64_t block, blocks;     /* PS_CODES_BLOCKS: neighbours that share a scale, and scales of a line */
    int64_t row;               /* 0: codes lie as the tensor does; else that is [K, N], and k, n is code n * row + k */
    int64_t zero_row, in_rows; /* 0: zero points lie as scales do; else in rows of so many for in_rows scales */
} ps_codes;

/* An f32 tensor of these numbers. Over PS_TENSOR_SMALL bytes its content begins as away and a copy of c is its `codes`;
 * they go, but for what describes them, when a keeper can bring the content. Codes, scales and zero points are retained
 * and must be as many as c says. */
ps_status ps_tensor_coded(ps_alloc_state *a, const ps_shape *shape, const ps_codes *c, ps_tensor **ret, ps_error *err);

/* The three tensors' content is there afterwards. */
ps_status ps_codes_need(const ps_codes *c, ps_error *err);
/* Of an element of the tensor, counted row-major: its code's place, and the group of a code. */
int64_t ps_codes_place(const ps_codes *c, const ps_shape *shape, int64_t element);
int64_t ps_codes_group(const ps_codes *c, int64_t place);
int ps_codes_code(const ps_codes *c, int64_t place);
float ps_codes_scale(const ps_codes *c, int64_t group);
int ps_codes_zero(const ps_codes *c, int64_t group);

/* For tensor.c: content from codes; giving them up; freeing. */
void ps_codes_decode(const ps_codes *c, const ps_tensor *t);
void ps_codes_forget(ps_codes *c);

#endif
