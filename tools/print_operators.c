/* print_operators.c - prints the operator table as docs/operators.md (make docs). */
#include <stdio.h>

#include "base/alloc.h"
#include "base/str.h"
#include "ops/ops.h"

int main(void) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    ps_str text;
    ps_str_init(&text, &alloc);
    ps_ops_print_table(&text);
    bool complete = !text.failed && printf("%s", text.data) > 0;
    ps_str_release(&text);
    return complete ? 0 : 1;
}
