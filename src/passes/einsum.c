/* einsum.c - an Einsum of two operands becomes a MatMul between Transposes and Reshapes, or a Mul where nothing is
 * summed.
 *
 * Labels fall into four kinds: B in both operands and the output, M in the first and the output, N in the second and
 * the output, K in both operands only. The product is [B, M, K] x [B, K, N] = [B, M, N], each letter standing for all
 * labels of its kind. Labels that occur twice in an operand, or in one operand alone, are left to the reference kernel.
 */
#include "ops/einsum.h"

#include "passes/rewrite.h"

typedef struct label_list {
    int n;
    uint8_t at[PS_EINSUM_LABELS];
} label_list;

typedef struct plan {
    ps_value *in[2];
    ps_einsum_term term[2], out;
    label_list b, m, n, k;
    bool fixed; /* all dims of both operands */
} plan;

static void list_add(label_list *l, uint8_t label) {
    l->at[l->n++] = label;
}

/* Index of a label in a term, or -1. */
static int find(const ps_einsum_term *t, uint8_t label) {
    for (int d = 0; d < t->rank; d++)
        if (t->labels[d] == label) return d;
    return -1;
}

static bool has_repeats(const ps_einsum_term *t) {
    for (int d = 0; d < t->rank; d++)
        if (find(t, t->labels[d]) != d) return true;
    return false;
}

/* The dim of operand i that has the label, or -1: it has none. */
static int64_t dim_of(const plan *p, int i, uint8_t label) {
    int d = find(&p->term[i], label);
    return d < 0 ? 1 : p->in[i]->shape.dims[d];
}

/* false for a label that this pass leaves alone. Sums must run over equal extents: MatMul does not broadcast there. */
static bool sort_label(plan *p, uint8_t label) {
    bool a = find(&p->term[0], label) >= 0, b = find(&p->term[1], label) >= 0, out = find(&p->out, label) >= 0;
    if (a && b && out) {
        list_add(&p->b, label);
    } else if (a && b) {
        int64_t x = dim_of(p, 0, label), y = dim_of(p, 1, label);
        if (x != y || x == PS_DIM_UNKNOWN) return false;
        list_add(&p->k, label);
    } else if (!out) {
        return false;
    } else {
        list_add(a ? &p->m : &p->n, label);
    }
    return true;
}

static bool make_plan(const ps_node *n, plan *p) {
    int ranks[2];
    *p = (plan) { .fixed = true };
    for (int i = 0; i < 2; i++) {
        p->in[i] = n->in[i];
        ranks[i] = n->in[i]->shape.rank;
        if (ranks[i] < 0 || ps_einsum_operand(n, (size_t)i, ranks[i], &p->term[i], NULL) != PS_OK) return false;
        p->fixed = p->fixed && ps_shape_fixed(&n->in[i]->shape);
    }
    if (ps_einsum_output(n, ranks, 2, &p->out, NULL) != PS_OK) return false;
    if (has_repeats(&p->term[0]) || has_repeats(&p->term[1])) return false;
    for (int d = 0; d < p->out.rank; d++) /* in the output's order, so that it needs no Transpose where possible */
        if (!sort_label(p, p->out.labels[d])) return false;
    for (int i = 0; i < 2; i++)
        for (int d = 0; d < p->term[i].rank; d++) {
            uint8_t label = p->term[i].labels[d];
            if (find(&p->out, label) < 0 && (i == 0 || find(&p->term[0], label) < 0) && !sort_label(p, label))
                return false;
        }
    bool simple = p->m.n == 1 && p->n.n == 1 && p->k.n == 1;
    return p->b.n + 2 <= PS_MAX_RANK && (p->k.n == 0 || simple || p->fixed);
}

/* ---- building ---- */
/* A node before `before` with a second input of integers. */
static ps_status with_ints(ps_rw *rw, ps_node *before, const char *op, ps_value **v, const int64_t *list, int n) {
    ps_value *in[2] = { *v };
    ps_node *made;
    PS_TRY(ps_rw_ints(rw, before->graph, list, (size_t)n, &in[1]));
    PS_TRY(ps_rw_insert(rw, before, op, "", in, 2, &made));
    PS_TRY(ps_rw_finish(rw, made, 13));
    *v = made->out[0];
    return PS_OK;
}

static ps_status transpose(ps_rw *rw, ps_node *before, ps_value **v, const int64_t *perm, int n) {
    ps_node *made;
    bool same = true;
    for (int d = 0; d < n; d++)
        same = same && perm[d] == d;
    if (same) return PS_OK;
    PS_TRY(ps_rw_insert(rw, before, "Transpose", "", v, 1, &made));
    PS_TRY(ps_node_set_ints(made, "perm", perm, (size_t)n, rw->err));
    PS_TRY(ps_rw_finish(rw, made, 13));
    *v = made->out[0];
    return PS_OK;
}

/* Brings the dims of *v, labelled as `from`, into the order of the lists. */
static ps_status order(ps_rw *rw, ps_node *before, const ps_einsum_term *from, const label_list *const *lists,
                       int n_lists, ps_value **v) {
    int64_t perm[PS_MAX_RANK];
    int n = 0;
    for (int l = 0; l < n_lists; l++)
        for (int k = 0; k < lists[l]->n; k++)
            if (find(from, lists[l]->at[k]) >= 0) perm[n++] = find(from, lists[l]->at[k]);
    return transpose(rw, before, v, perm, n);
}

static int64_t product(const plan *p, int i, const label_list *l) {
    int64_t n = 1;
    for (int k = 0; k < l->n; k++)
        n *= dim_of(p, i, l->at[k]);
    return n;
}

/* Operand i as [B, rows, columns] of the matrix product. */
static ps_status matrix(ps_rw *rw, ps_node *before, const plan *p, int i, const label_list *rows,
                        const label_list *columns, ps_value **ret) {
    const label_list *lists[3] = { &p->b, rows, columns };
    int64_t shape[PS_MAX_RANK];
    *ret = p->in[i];
    PS_TRY(order(rw, before, &p->term[i], lists, 3, ret));
    if (rows->n == 1 && columns->n == 1) return PS_OK;
    for (int k = 0; k < p->b.n; k++)
        shape[k] = dim_of(p, i, p->b.at[k]);
    shape[p->b.n] = product(p, i, rows);
    shape[p->b.n + 1] = product(p, i, columns);
    return with_ints(rw, before, "Reshape", ret, shape, p->b.n + 2);
}

/* n becomes *v, whose dims are B, M and N in order. */
static ps_status finish(ps_rw *rw, ps_node *n, const plan *p, ps_value *v) {
    int64_t perm[PS_MAX_RANK];
    ps_einsum_term now = { .rank = 0 };
    const label_list *lists[3] = { &p->b, &p->m, &p->n };
    ps_node *made;
    for (int l = 0; l < 3; l++)
        for (int k = 0; k < lists[l]->n; k++)
            now.labels[now.rank++] = lists[l]->at[k];
    for (int d = 0; d < p->out.rank; d++)
        perm[d] = find(&now, p->out.labels[d]);
    PS_TRY(ps_rw_replace(rw, n, "Transpose", "", &v, 1, &made)); /* one that keeps the order is an identity */
    PS_TRY(ps_node_set_ints(made, "perm", perm, (size_t)p->out.rank, rw->err));
    return ps_rw_finish(rw, made, 13);
}

static ps_status to_matmul(ps_rw *rw, ps_node *n, const plan *p) {
    ps_value *in[2], *v;
    ps_node *made;
    PS_TRY(matrix(rw, n, p, 0, &p->m, &p->k, &in[0]));
    PS_TRY(matrix(rw, n, p, 1, &p->k, &p->n, &in[1]));
    PS_TRY(ps_rw_insert(rw, n, "MatMul", "", in, 2, &made));
    PS_TRY(ps_rw_finish(rw, made, 13));
    v = made->out[0];
    if (p->m.n != 1 || p->n.n != 1) {
        int64_t shape[PS_MAX_RANK];
        int rank = 0;
        for (int k = 0; k < p->b.n; k++)
            shape[rank++] = v->shape.dims[k]; /* broadcast */
        for (int k = 0; k < p->m.n; k++)
            shape[rank++] = dim_of(p, 0, p->m.at[k]);
        for (int k = 0; k < p->n.n; k++)
            shape[rank++] = dim_of(p, 1, p->n.at[k]);
        PS_TRY(with_ints(rw, n, "Reshape", &v, shape, rank));
    }
    return finish(rw, n, p, v);
}

/* Nothing is summed: operands with their dims in the output's places, and ones elsewhere. */
static ps_status to_mul(ps_rw *rw, ps_node *n, const plan *p) {
    ps_value *in[2];
    ps_node *made;
    for (int i = 0; i < 2; i++) {
        int64_t axes[PS_MAX_RANK], perm[PS_MAX_RANK];
        int missing = 0, have = 0;
        for (int d = 0; d < p->out.rank; d++) {
            int at = find(&p->term[i], p->out.labels[d]);
            if (at < 0)
                axes[missing++] = d;
            else
                perm[have++] = at;
        }
        in[i] = p->in[i];
        PS_TRY(transpose(rw, n, &in[i], perm, have));
        if (missing) PS_TRY(with_ints(rw, n, "Unsqueeze", &in[i], axes, missing));
    }
    PS_TRY(ps_rw_replace(rw, n, "Mul", "", in, 2, &made));
    return ps_rw_finish(rw, made, 14);
}

static bool has_zero(const ps_value *v) {
    for (int d = 0; d < v->shape.rank; d++)
        if (v->shape.dims[d] == 0) return true;
    return false;
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    plan p;
    if (!ps_is(n, "Einsum") || n->n_in != 2 || !make_plan(n, &p)) return PS_OK;
    if (has_zero(p.in[0]) || has_zero(p.in[1])) return PS_OK; /* Reshape reads 0 as "as it was" */
    return p.k.n ? to_matmul(rw, n, &p) : to_mul(rw, n, &p);
}

ps_status ps_pass_einsum(ps_rw *rw) {
    return ps_rw_each(rw, rewrite);
}
