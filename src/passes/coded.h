/* coded.h - constant weights that the model has as codes. Private to this folder. */
#ifndef PS_PASSES_CODED_H
#define PS_PASSES_CODED_H

#include "passes/rewrite.h"

/* Removes n, a DequantizeLinear of constants or a Transpose behind one, where products alone read the result as their
 * weights: that is a constant then, with codes behind it (tensor/codes.h). Raises rw->changes where it did. */
ps_status ps_code_weight(ps_rw *rw, ps_node *n);

#endif
