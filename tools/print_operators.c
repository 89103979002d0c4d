/* print_operators.c - prints the operator table as docs/operators.md, with an argument that of PyTorch's operators
 * (make docs). */
#include <stdio.h>

#include "base/alloc.h"
#include "base/str.h"
#include "ops/ops.h"
#include "torch/torch.h"

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
    bool complete = !text.failed && printf("%s", text.data) > 0;
    ps_str_release(&text);
    return complete ? 0 : 1;
}
