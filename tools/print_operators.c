/* print_operators.c - prints the operator table as docs/operators.md, and what of it OpenCL devices have kernels for;
 * with an argument the table of PyTorch's operators (make docs). */
#include <stdio.h>

#include "backend/backend.h"
#include "ops/ops.h"
#include "torch/torch.h"

static bool seen_before(const ps_impl *impls, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (strcmp(impls[k].op, impls[i].op) == 0) return true;
    return false;
}

static void print_opencl(ps_str *text) {
    size_t n, column = 0;
    const ps_impl *impls = ps_opencl_operators(&n);
    ps_str_append(text,
                  "\n## on OpenCL devices\n\nKernels for f32 (moves: any type of whole bytes), in the forms that "
                  "exporters write, and for 8-bit\ncodes (QLinear..., Lookup, pools) where the card has a dot product "
                  "of them; everything else runs\non the CPU (docs/gpu.md):\n");
    for (size_t i = 0; i < n; i++) {
        if (seen_before(impls, i)) continue;
        const bool wrap = !column || column + strlen(impls[i].op) > 118;
        if (wrap) column = 0;
        ps_str_printf(text, "%s%s%s", i ? "," : "", wrap ? "\n" : " ", impls[i].op);
        column += strlen(impls[i].op) + 2;
    }
    ps_str_append(text, "\n");
}

int main(int argc, char **argv) {
    (void)argv;
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    ps_str text;
    ps_str_init(&text, &alloc);
    if (argc > 1)
        ps_torch_print_table(&text);
    else
        ps_ops_print_table(&text);
    if (argc == 1) print_opencl(&text);
    bool complete = !text.failed && printf("%s", text.data) > 0;
    ps_str_release(&text);
    return complete ? 0 : 1;
}
