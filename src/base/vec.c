/* vec.c - growth of PS_VEC arrays. */
#include "base/vec.h"

bool ps_vec_grow_(ps_alloc_state *a, void **data, size_t size, size_t *room, size_t extra, size_t elem) {
    size_t need, bytes, wanted = *room ? *room : 4;
    if (ps_add_overflow_size(size, extra, &need)) return false;
    while (wanted < need) {
        if (ps_add_overflow_size(wanted, wanted, &wanted)) return false;
    }
    if (ps_mul_overflow_size(wanted, elem, &bytes)) return false;
    void *bigger = ps_realloc(a, *data, bytes);
    if (!bigger) return false;
    *data = bigger;
    *room = wanted;
    return true;
}
