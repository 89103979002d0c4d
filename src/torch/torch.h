/* torch.h - torch.export archives (.pt2) into graphs, without Python and without ever executing a pickle. */
#ifndef PS_TORCH_TORCH_H
#define PS_TORCH_TORCH_H

#include "graph/graph.h"
#include "onnx/onnx.h"

/* Is this a file of PyTorch's (any zip file, or a bare pickle), to be read or refused here, rather than an ONNX one? */
bool ps_torch_detect(const void *data, size_t size);
/* The same for a file, by its first bytes; false for one that cannot be read. */
bool ps_torch_detect_file(const char *path);

/* Reads an archive of one exported program. The graph is made of ai.onnx operators of PS_TORCH_OPSET, sorted, checked
 * for structure, resolved and inferred; parameters, buffers and constants are constants. info->opset is PS_TORCH_OPSET,
 * info->ir_version 0, its operators are PyTorch's ("aten.conv2d"). Every limit and malformation gives one sentence. */
#define PS_TORCH_OPSET 24
ps_status ps_torch_load(ps_alloc_state *alloc, const ps_onnx_source *from, ps_graph **ret_graph, ps_onnx_info *ret_info,
                        ps_error *err);

/* The operators that have a mapping, as markdown, for docs/torch-operators.md. */
void ps_torch_print_table(ps_str *out);

#endif
