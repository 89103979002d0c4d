/* einsum.h - the equation of an Einsum, read alike by the shape rule, the kernel and the pass that makes matrix
 * products of it. */
#ifndef PS_OPS_EINSUM_H
#define PS_OPS_EINSUM_H

#include "ops/ops.h"

/* Labels are numbers: a-z, A-Z, then the dims of the ellipsis, counted from the right. */
enum { PS_EINSUM_ELLIPSIS = 52, PS_EINSUM_LABELS = PS_EINSUM_ELLIPSIS + PS_MAX_RANK };

/* One label for each dim of an operand or of the output. */
typedef struct ps_einsum_term {
    int rank;
    uint8_t labels[PS_MAX_RANK];
} ps_einsum_term;

/* Term i of the equation for an operand of that rank. Fails where the equation has no such term, is malformed, or has
 * another number of labels. */
ps_status ps_einsum_operand(const ps_node *node, size_t i, int rank, ps_einsum_term *ret, ps_error *err);
/* The output, for operands of these ranks (all of them known); also checks the number of terms. */
ps_status ps_einsum_output(const ps_node *node, const int *ranks, size_t n, ps_einsum_term *ret, ps_error *err);

#endif
