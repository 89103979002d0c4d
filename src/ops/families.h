/* families.h - one line per operator family: FAMILY(name) for a file that ends in ps_ops_<name>. */
#ifndef PS_OPS_FAMILIES_H
#define PS_OPS_FAMILIES_H

#include "ops/ops.h"

#define PS_OP_FAMILIES(FAMILY) /* one line each, in alphabetical order */

#define PS_DECLARE_FAMILY(name) extern const ps_op_family ps_ops_##name;
PS_OP_FAMILIES(PS_DECLARE_FAMILY)
#undef PS_DECLARE_FAMILY

#endif
