/* memory.c - the memory planner: in-place merging, then offsets in one arena.
 *
 * Offsets by "greedy by size" (Pisarchyk & Lee, Efficient Memory Management for Deep Neural Net Inference,
 * arXiv:2001.03288): the largest storages are placed first, each at the lowest gap that is free over its whole
 * lifetime. */
#include <stdlib.h>

#include "runtime/runtime_int.h"

uint32_t ps_storage_find(const ps_plan *p, uint32_t s) {
    while (p->storages[s].same != PS_NONE)
        s = p->storages[s].same;
    return s;
}

static bool may_merge(const ps_storage *in, const ps_storage *out, int32_t step) {
    if (in->space != out->space || in->kind != PS_ST_ARENA || in->bytes != out->bytes || in->last != step ||
        out->first != step || in->end != PS_NONE)
        return false;
    return out->kind == PS_ST_ARENA || out->kind == PS_ST_OUTPUT;
}

/* Another input of the step that is the same memory would be overwritten while it is read. */
static bool read_twice(const ps_plan *p, const ps_step *s, uint32_t in) {
    int count = 0;
    for (uint32_t i = 0; i < s->n_in; i++)
        count += s->args[i] != PS_NONE && ps_storage_find(p, s->args[i]) == in;
    return count > 1;
}

static void merge_inplace(ps_plan *p) {
    for (size_t i = 0; i < p->n_steps; i++) {
        const ps_step *s = &p->steps[i];
        if (s->inplace < 0 || (uint32_t)s->inplace >= s->n_in || s->args[s->inplace] == PS_NONE) continue;
        if (s->args[s->n_in] == PS_NONE) continue;
        uint32_t in = ps_storage_find(p, s->args[s->inplace]), out = ps_storage_find(p, s->args[s->n_in]);
        if (in == out || !may_merge(&p->storages[in], &p->storages[out], (int32_t)i) || read_twice(p, s, in)) continue;
        p->storages[out].first = p->storages[in].first;
        p->storages[in].same = out;
    }
}

static int by_size(const void *a, const void *b) {
    const ps_storage *x = *(const ps_storage *const *)a, *y = *(const ps_storage *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : x > y;
}

static bool overlap(const ps_storage *a, const ps_storage *b) {
    return a->first <= b->last && b->first <= a->last;
}

static size_t rounded(size_t n) {
    return (n + PS_ALIGN - 1) / PS_ALIGN * PS_ALIGN;
}

/* Lowest offset where s fits beside the placed ones, which are sorted by offset. */
static size_t lowest_gap(ps_storage *const *placed, size_t n, const ps_storage *s) {
    size_t end = 0;
    for (size_t i = 0; i < n; i++) {
        const ps_storage *o = placed[i];
        if (!overlap(o, s)) continue;
        if (o->offset >= end + rounded(s->bytes)) break;
        if (o->offset + rounded(o->bytes) > end) end = o->offset + rounded(o->bytes);
    }
    return end;
}

static void insert_sorted(ps_storage **placed, size_t n, ps_storage *s) {
    size_t i = n;
    for (; i > 0 && placed[i - 1]->offset > s->offset; i--)
        placed[i] = placed[i - 1];
    placed[i] = s;
}

/* todo: the storages of one memory; placed: room for as many pointers. */
static ps_status lay_out(ps_storage **todo, ps_storage **placed, size_t n, size_t *ret_bytes, ps_error *err) {
    qsort(todo, n, sizeof *todo, by_size);
    for (size_t i = 0; i < n; i++) {
        todo[i]->offset = lowest_gap(placed, i, todo[i]);
        size_t end;
        PS_FAIL_IF(ps_add_overflow_size(todo[i]->offset, rounded(todo[i]->bytes), &end), err, LIMIT,
                   "the values of one run are too large to address together");
        if (end > *ret_bytes) *ret_bytes = end;
        insert_sorted(placed, i, todo[i]);
    }
    return PS_OK;
}

ps_status ps_plan_memory(ps_plan *p, ps_alloc_state *alloc, ps_error *err) {
    ps_storage **todo = ps_alloc_array(alloc, 2 * p->n_storages + 1, sizeof *todo);
    ps_status status = PS_OK;
    if (!todo) return PS_FAIL_NOMEM(err, "the memory plan");
    merge_inplace(p);
    for (int space = 0; space < PS_SPACES && status == PS_OK; space++) {
        size_t n = 0;
        for (size_t i = 0; i < p->n_storages; i++) {
            ps_storage *s = &p->storages[i];
            if (s->kind != PS_ST_ARENA || s->last < 0 || (int)s->space != space) continue;
            p->no_reuse_bytes += rounded(s->bytes);
            if (s->same == PS_NONE) todo[n++] = s;
        }
        status = lay_out(todo, todo + p->n_storages, n, &p->arena_bytes[space], err);
    }
    ps_free(alloc, todo);
    return status;
}

/* Multiply-accumulates of one run of the node; fixed shapes. */
int64_t ps_node_macs(const ps_node *n) {
    const char *op = n->op_type;
    const ps_shape *out = n->out[0] ? &n->out[0]->shape : NULL;
    if (!out || n->n_in < 2 || !n->in[0] || !n->in[1]) return 0;
    const ps_shape *a = &n->in[0]->shape, *w = &n->in[1]->shape;
    int64_t elements = ps_shape_product(out, 0, out->rank);
    if (strcmp(op, "Conv") == 0 && w->rank >= 3) return elements * ps_shape_product(w, 1, w->rank);
    if (strcmp(op, "QLinearConv") == 0 && n->n_in > PS_Q_W && n->in[PS_Q_W]) {
        w = &n->in[PS_Q_W]->shape;
        return elements * ps_shape_product(w, 1, w->rank);
    }
    if (strcmp(op, "QLinearMatMul") == 0 && a->rank >= 1) return elements * a->dims[a->rank - 1];
    if (strcmp(op, "ConvTranspose") == 0 && w->rank >= 3) {
        return ps_shape_product(a, 0, a->rank) * ps_shape_product(w, 1, w->rank);
    }
    if (strcmp(op, "MatMul") == 0 && a->rank >= 1) return elements * a->dims[a->rank - 1];
    if (strcmp(op, "Gemm") == 0 && a->rank == 2 && w->rank == 2) {
        return a->dims[0] * a->dims[1] * (w->dims[0] * w->dims[1] / (a->dims[1] ? a->dims[1] : 1));
    }
    if (strcmp(op, "Attention") == 0 && a->rank == 3 && w->rank == 3) {
        return a->dims[0] * a->dims[1] * w->dims[1] * (a->dims[2] + out->dims[2]);
    }
    if (strcmp(op, "LSTM") == 0 && a->rank == 3 && w->rank == 3) {
        return w->dims[0] * a->dims[0] * a->dims[1] * w->dims[1] * (w->dims[2] + w->dims[1] / 4);
    }
    return 0;
}
