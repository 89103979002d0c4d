/* families.h - one line per operator family: FAMILY(name) for a file that ends in the table ps_ops_<name>. */
#ifndef PS_OPS_FAMILIES_H
#define PS_OPS_FAMILIES_H

#include "ops/ops.h"

/* clang-format off */
#define PS_OP_FAMILIES(FAMILY)                                                                                         \
    FAMILY(activation)                                                                                                 \
    FAMILY(attention)                                                                                                  \
    FAMILY(cast)                                                                                                       \
    FAMILY(contrib_attention)                                                                                          \
    FAMILY(contrib_experts)                                                                                            \
    FAMILY(contrib_group)                                                                                              \
    FAMILY(contrib_misc)                                                                                               \
    FAMILY(contrib_norm)                                                                                               \
    FAMILY(contrib_pointwise)                                                                                          \
    FAMILY(contrib_position)                                                                                           \
    FAMILY(contrib_product)                                                                                            \
    FAMILY(decoder)                                                                                                    \
    FAMILY(elementwise)                                                                                                \
    FAMILY(logic)                                                                                                      \
    FAMILY(reduce)                                                                                                     \
    FAMILY(gather)                                                                                                     \
    FAMILY(generate)                                                                                                   \
    FAMILY(layout)                                                                                                     \
    FAMILY(pad)                                                                                                        \
    FAMILY(resize)                                                                                                     \
    FAMILY(sample)                                                                                                     \
    FAMILY(control)                                                                                                    \
    FAMILY(select)                                                                                                     \
    FAMILY(shape)                                                                                                      \
    FAMILY(sequence)                                                                                                   \
    FAMILY(optional)                                                                                                   \
    FAMILY(strings)                                                                                                    \
    FAMILY(tfidf)                                                                                                      \
    FAMILY(tokenizer)                                                                                                  \
    FAMILY(ml_encode)                                                                                                  \
    FAMILY(ml_features)                                                                                                \
    FAMILY(ml_linear)                                                                                                  \
    FAMILY(ml_map)                                                                                                     \
    FAMILY(ml_svm)                                                                                                     \
    FAMILY(ml_tree)                                                                                                    \
    FAMILY(conv)                                                                                                       \
    FAMILY(fused)                                                                                                      \
    FAMILY(matmul)                                                                                                     \
    FAMILY(norm)                                                                                                       \
    FAMILY(pool)                                                                                                       \
    FAMILY(quantize)                                                                                                   \
    FAMILY(quantize_conv)                                                                                              \
    FAMILY(quantize_elementwise)                                                                                       \
    FAMILY(quantize_matmul)                                                                                            \
    FAMILY(quantize_nbits)                                                                                             \
    FAMILY(quantize_pool)                                                                                              \
    FAMILY(quantize_text)                                                                                              \
    FAMILY(rnn)                                                                                                        \
    FAMILY(softmax)                                                                                                    \
    FAMILY(deform)                                                                                                     \
    FAMILY(einsum)                                                                                                     \
    FAMILY(image_decode)                                                                                               \
    FAMILY(linalg)                                                                                                     \
    FAMILY(loss)                                                                                                       \
    FAMILY(random)                                                                                                     \
    FAMILY(roi)                                                                                                        \
    FAMILY(signal)                                                                                                     \
    FAMILY(unique)                                                                                                     \
    FAMILY(unpool)                                                                                                  \
    /* clang-format on */

#define PS_DECLARE_FAMILY(name) extern const ps_op_family ps_ops_##name;
PS_OP_FAMILIES(PS_DECLARE_FAMILY)
#undef PS_DECLARE_FAMILY

#endif
