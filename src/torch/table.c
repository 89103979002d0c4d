#include <string.h>

#include "torch/aten.h"

static const ps_torch_family *const families[] = {
    &ps_torch_pointwise, &ps_torch_binary, &ps_torch_view,  &ps_torch_join,   &ps_torch_reduce,
    &ps_torch_conv,      &ps_torch_norm,   &ps_torch_pool,  &ps_torch_matmul, &ps_torch_attention,
    &ps_torch_resize,    &ps_torch_rnn,    &ps_torch_index, &ps_torch_create, &ps_torch_sym,
};

static const ps_torch_op *find(const char *name, size_t n) {
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        for (size_t i = 0; i < families[f]->n; i++) {
            const ps_torch_op *op = &families[f]->ops[i];
            if (strncmp(op->name, name, n) == 0 && op->name[n] == '\0') return op;
        }
    }
    return NULL;
}

const ps_torch_op *ps_torch_find(const char *name, bool *ret_inplace) {
    size_t n = strlen(name);
    bool ends = n > 1 && name[n - 1] == '_' && name[n - 2] != '_';
    const ps_torch_op *op = find(name, n);
    *ret_inplace = ends && !op;
    return op || !ends ? op : find(name, n - 1);
}

/* Names of ATen by themselves, those of other namespaces with theirs. */
void ps_torch_print_table(ps_str *out) {
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        ps_str_printf(out, "## %s\n", families[f]->name);
        for (size_t i = 0; i < families[f]->n; i++)
            ps_str_printf(out, "%s`%s`", i ? ",\n" : "", families[f]->ops[i].name);
        ps_str_append(out, "\n\n");
    }
}
