/* shape_inputs.c - which inputs decide an output's shape by their content. */
#include <string.h>

#include "runtime/runtime_int.h"

typedef struct shape_input {
    const char *op;
    uint32_t mask;
} shape_input;

#define IN(i) (1u << (i))

/* Of ai.onnx, versions in which the input exists. */
static const shape_input table[] = {
    { "AffineGrid", IN(1) },
    { "BlackmanWindow", IN(0) },
    { "CenterCropPad", IN(1) },
    { "Col2Im", IN(1) | IN(2) },
    { "ConstantOfShape", IN(0) },
    { "DFT", IN(1) | IN(2) },
    { "Expand", IN(1) },
    { "HammingWindow", IN(0) },
    { "HannWindow", IN(0) },
    { "MaxUnpool", IN(2) },
    { "MelWeightMatrix", IN(0) | IN(1) },
    { "OneHot", IN(1) },
    { "Pad", IN(1) | IN(3) },
    { "Range", IN(0) | IN(1) | IN(2) },
    { "ReduceL1", IN(1) },
    { "ReduceL2", IN(1) },
    { "ReduceLogSum", IN(1) },
    { "ReduceLogSumExp", IN(1) },
    { "ReduceMax", IN(1) },
    { "ReduceMean", IN(1) },
    { "ReduceMin", IN(1) },
    { "ReduceProd", IN(1) },
    { "ReduceSum", IN(1) },
    { "ReduceSumSquare", IN(1) },
    { "Reshape", IN(1) },
    { "Resize", IN(2) | IN(3) },
    { "STFT", IN(1) | IN(3) },
    { "Slice", IN(1) | IN(2) | IN(3) | IN(4) },
    { "Split", IN(1) },
    { "Squeeze", IN(1) },
    { "Tile", IN(1) | IN(2) },
    { "TopK", IN(1) },
    { "Unsqueeze", IN(1) },
    { "Upsample", IN(1) },
};

uint32_t ps_shape_inputs(const ps_node *node) {
    if (*node->domain) return 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].op, node->op_type) == 0) return table[i].mask;
    }
    return 0;
}
