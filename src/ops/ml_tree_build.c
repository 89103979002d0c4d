/* ml_tree_build.c - from attributes to a forest: in time linear in the number of nodes, and whatever a file says. */
#include <math.h>

#include "base/map.h"
#include "ops/ml_tree.h"

static ps_status check_length(const ps_node *node, const char *name, size_t n, size_t want, ps_error *err) {
    PS_NODE_FAIL_IF(n != want, node, err, FORMAT, "%s has %zu entries, %zu are needed", name, n, want);
    return PS_OK;
}

static ps_status reserve(const ps_node *node, ps_forest *f, size_t nodes, size_t roots, size_t weights, size_t members,
                         ps_error *err) {
    ps_arena *arena = &node->graph->root->arena;
    PS_NODE_FAIL_IF(nodes >= UINT32_MAX / 4 || weights >= UINT32_MAX / 4, node, err, LIMIT, "%zu nodes are too many",
                    nodes);
    f->nodes = ps_arena_array(arena, nodes + 1, sizeof *f->nodes);
    f->roots = ps_arena_array(arena, roots + 1, sizeof *f->roots);
    f->weights = ps_arena_array(arena, weights + 1, sizeof *f->weights);
    f->members = ps_arena_array(arena, members + 1, sizeof *f->members);
    f->n_nodes = nodes;
    f->n_weights = weights;
    f->n_members = members;
    return f->nodes && f->roots && f->weights && f->members ? PS_OK : PS_FAIL_NOMEM(err, "a forest");
}

static ps_status set_feature(const ps_node *node, ps_forest *f, ps_tree_node *n, int64_t feature, ps_error *err) {
    PS_NODE_FAIL_IF(feature < 0 || feature >= INT32_MAX, node, err, FORMAT, "a tree looks at feature %lld",
                    (long long)feature);
    n->feature = (uint32_t)feature;
    if (feature >= f->features) f->features = feature + 1;
    return PS_OK;
}

static ps_status check_target(const ps_node *node, int64_t target, int64_t n_targets, ps_error *err) {
    PS_NODE_FAIL_IF(target < 0 || target >= n_targets, node, err, FORMAT, "a leaf weighs target %lld of %lld",
                    (long long)target, (long long)n_targets);
    return PS_OK;
}

/* ---- no path is endless ---- */

static uint32_t enter(const ps_tree_node *n, uint32_t *parents, uint32_t *queue, uint32_t tail) {
    uint32_t next[2] = { n->yes, n->no };
    for (int k = 0; k < 2; k++)
        if (--parents[next[k]] == 0) queue[tail++] = next[k];
    return tail;
}

/* Takes away nodes without parents until none is left, which fails exactly if there is a cycle. */
static ps_status check_acyclic(const ps_node *node, const ps_forest *f, ps_error *err) {
    ps_alloc_state *alloc = node->graph->root->alloc;
    size_t n = f->n_nodes;
    uint32_t *parents = ps_alloc_array(alloc, 2 * n + 1, sizeof *parents), *queue = parents + n, head = 0, tail = 0;
    if (!parents) return PS_FAIL_NOMEM(err, "checking a forest");
    memset(parents, 0, n * sizeof *parents);
    for (size_t k = 0; k < n; k++) {
        if (f->nodes[k].mode == PS_TREE_LEAF) continue;
        parents[f->nodes[k].yes]++;
        parents[f->nodes[k].no]++;
    }
    for (size_t k = 0; k < n; k++)
        if (!parents[k]) queue[tail++] = (uint32_t)k;
    for (; head < tail; head++)
        if (f->nodes[queue[head]].mode != PS_TREE_LEAF) tail = enter(&f->nodes[queue[head]], parents, queue, tail);
    ps_free(alloc, parents);
    PS_NODE_FAIL_IF(tail != n, node, err, FORMAT, "the branches of a tree go in a circle");
    return PS_OK;
}

/* ---- nodes by number ---- */

typedef struct node_index {
    const ps_tree_attrs *a;
    uint32_t *slots; /* open addressing: place in the lists + 1 */
    size_t room;
} node_index;

static size_t index_slot(const node_index *ix, int64_t tree, int64_t id) {
    int64_t key[2] = { tree, id };
    size_t slot = ps_hash_bytes(key, sizeof key, 0) & (ix->room - 1);
    for (; ix->slots[slot]; slot = (slot + 1) & (ix->room - 1)) {
        size_t k = ix->slots[slot] - 1;
        if (ix->a->nodes_treeids.data[k] == tree && ix->a->nodes_nodeids.data[k] == id) break;
    }
    return slot;
}

static ps_status index_find(const ps_node *node, const node_index *ix, int64_t tree, int64_t id, uint32_t *ret,
                            ps_error *err) {
    uint32_t place = ix->slots[index_slot(ix, tree, id)];
    PS_NODE_FAIL_IF(!place, node, err, FORMAT, "tree %lld has no node %lld", (long long)tree, (long long)id);
    *ret = place - 1;
    return PS_OK;
}

static ps_status index_fill(const ps_node *node, node_index *ix, ps_error *err) {
    size_t n = ix->a->nodes_treeids.n;
    for (ix->room = 16; ix->room < 2 * n;)
        ix->room *= 2;
    ix->slots = ps_alloc_array(node->graph->root->alloc, ix->room, sizeof *ix->slots);
    if (!ix->slots) return PS_FAIL_NOMEM(err, "the nodes of a forest");
    memset(ix->slots, 0, ix->room * sizeof *ix->slots);
    for (size_t k = 0; k < n; k++) {
        int64_t tree = ix->a->nodes_treeids.data[k], id = ix->a->nodes_nodeids.data[k];
        size_t slot = index_slot(ix, tree, id);
        PS_NODE_FAIL_IF(ix->slots[slot], node, err, FORMAT, "node %lld of tree %lld is there twice", (long long)id,
                        (long long)tree);
        ix->slots[slot] = (uint32_t)k + 1;
    }
    return PS_OK;
}

/* ---- TreeEnsembleClassifier, TreeEnsembleRegressor ---- */

static ps_status parse_mode(const ps_node *node, const char *name, uint8_t *ret, ps_error *err) {
    static const char *const names[] = { "BRANCH_LEQ", "BRANCH_LT",  "BRANCH_GTE",    "BRANCH_GT",
                                         "BRANCH_EQ",  "BRANCH_NEQ", "BRANCH_MEMBER", "LEAF" };
    for (uint8_t k = 0; k <= PS_TREE_LEAF; k++) {
        if (k == PS_TREE_MEMBER || strcmp(name, names[k]) != 0) continue;
        *ret = k;
        return PS_OK;
    }
    return PS_NODE_FAIL(node, err, FORMAT, "nodes_modes holds '%.40s'", name);
}

static double list_or_tensor(const ps_floats *list, const ps_tensor *t, size_t k) {
    double v = 0;
    if (!t) return list->data[k];
    ps_row_load(&v, t->dtype, t->data, (int64_t)k, 1, 1);
    return v;
}

static size_t list_or_tensor_count(const ps_floats *list, const ps_tensor *t) {
    return t ? ps_tensor_count(t) : list->n;
}

static ps_status check_lists(const ps_node *node, const ps_tree_attrs *a, ps_error *err) {
    size_t n = a->nodes_treeids.n, w = a->weight_ids.n;
    PS_TRY(check_length(node, "nodes_nodeids", a->nodes_nodeids.n, n, err));
    PS_TRY(check_length(node, "nodes_featureids", a->nodes_featureids.n, n, err));
    PS_TRY(check_length(node, "nodes_truenodeids", a->nodes_truenodeids.n, n, err));
    PS_TRY(check_length(node, "nodes_falsenodeids", a->nodes_falsenodeids.n, n, err));
    PS_TRY(check_length(node, "nodes_modes", a->nodes_modes.n, n, err));
    size_t values = list_or_tensor_count(&a->nodes_values, a->nodes_values_as_tensor);
    PS_TRY(check_length(node, "nodes_values", values, n, err));
    PS_TRY(check_length(node, "the list of the leaves' trees", a->weight_treeids.n, w, err));
    PS_TRY(check_length(node, "the list of the leaves' nodes", a->weight_nodeids.n, w, err));
    return check_length(node, "the list of weights", list_or_tensor_count(&a->weights, a->weights_as_tensor), w, err);
}

static ps_status make_branch(const ps_node *node, const node_index *ix, ps_forest *f, size_t k, ps_error *err) {
    const ps_tree_attrs *a = ix->a;
    ps_tree_node *n = &f->nodes[k];
    PS_TRY(parse_mode(node, a->nodes_modes.data[k], &n->mode, err));
    if (n->mode == PS_TREE_LEAF) return PS_OK;
    n->value = list_or_tensor(&a->nodes_values, a->nodes_values_as_tensor, k);
    n->nan_yes = k < a->nodes_missing_value_tracks_true.n && a->nodes_missing_value_tracks_true.data[k] == 1;
    PS_TRY(set_feature(node, f, n, a->nodes_featureids.data[k], err));
    PS_TRY(index_find(node, ix, a->nodes_treeids.data[k], a->nodes_truenodeids.data[k], &n->yes, err));
    return index_find(node, ix, a->nodes_treeids.data[k], a->nodes_falsenodeids.data[k], &n->no, err);
}

/* Weights sorted by their leaves, in the order they are listed in. What is no leaf keeps none. */
static ps_status make_weights(const ps_node *node, const node_index *ix, ps_forest *f, int64_t n_targets,
                              ps_error *err) {
    const ps_tree_attrs *a = ix->a;
    uint32_t at, first = 0;
    for (size_t k = 0; k < a->weight_ids.n; k++) {
        PS_TRY(check_target(node, a->weight_ids.data[k], n_targets, err));
        PS_TRY(index_find(node, ix, a->weight_treeids.data[k], a->weight_nodeids.data[k], &at, err));
        f->nodes[at].n++;
    }
    for (size_t k = 0; k < f->n_nodes; k++) {
        f->nodes[k].first = first;
        first += f->nodes[k].n;
        f->nodes[k].n = 0;
    }
    for (size_t k = 0; k < a->weight_ids.n; k++) {
        PS_TRY(index_find(node, ix, a->weight_treeids.data[k], a->weight_nodeids.data[k], &at, err));
        f->weights[f->nodes[at].first + f->nodes[at].n++] =
            (ps_tree_weight) { list_or_tensor(&a->weights, a->weights_as_tensor, k), (uint32_t)a->weight_ids.data[k] };
    }
    return PS_OK;
}

static ps_status fill_forest(const ps_node *node, node_index *ix, int64_t n_targets, ps_forest *f, ps_error *err) {
    const ps_tree_attrs *a = ix->a;
    PS_TRY(index_fill(node, ix, err));
    for (size_t k = 0; k < f->n_nodes; k++) {
        PS_TRY(make_branch(node, ix, f, k, err));
        /* A tree begins where the tree's number changes. */
        if (k == 0 || a->nodes_treeids.data[k] != a->nodes_treeids.data[k - 1]) f->roots[f->n_roots++] = (uint32_t)k;
    }
    return make_weights(node, ix, f, n_targets, err);
}

ps_status ps_forest_make(const ps_node *node, const ps_tree_attrs *attrs, int64_t n_targets, ps_forest *ret,
                         ps_error *err) {
    node_index ix = { .a = attrs };
    PS_TRY(check_lists(node, attrs, err));
    PS_TRY(reserve(node, ret, attrs->nodes_treeids.n, attrs->nodes_treeids.n, attrs->weight_ids.n, 0, err));
    ps_status status = fill_forest(node, &ix, n_targets, ret, err);
    ps_free(node->graph->root->alloc, ix.slots);
    return status == PS_OK ? check_acyclic(node, ret, err) : status;
}

/* ---- TreeEnsemble-5 ---- */

static ps_status check_lists5(const ps_node *node, const ps_tree5_attrs *a, ps_error *err) {
    size_t n = a->nodes_featureids.n;
    PS_NODE_FAIL_IF(!a->nodes_modes || a->nodes_modes->dtype != PS_DTYPE_U8, node, err, FORMAT,
                    "nodes_modes is missing or not u8");
    PS_NODE_FAIL_IF(!a->nodes_splits || !ps_dtype_is_float(a->nodes_splits->dtype), node, err, FORMAT,
                    "nodes_splits is missing or holds no real numbers");
    PS_NODE_FAIL_IF(!a->leaf_weights || !ps_dtype_is_float(a->leaf_weights->dtype), node, err, FORMAT,
                    "leaf_weights is missing or holds no real numbers");
    PS_NODE_FAIL_IF(a->membership_values && !ps_dtype_is_float(a->membership_values->dtype), node, err, FORMAT,
                    "membership_values holds no real numbers");
    PS_TRY(check_length(node, "nodes_modes", ps_tensor_count(a->nodes_modes), n, err));
    PS_TRY(check_length(node, "nodes_splits", ps_tensor_count(a->nodes_splits), n, err));
    PS_TRY(check_length(node, "nodes_truenodeids", a->nodes_truenodeids.n, n, err));
    PS_TRY(check_length(node, "nodes_falsenodeids", a->nodes_falsenodeids.n, n, err));
    PS_TRY(check_length(node, "nodes_trueleafs", a->nodes_trueleafs.n, n, err));
    PS_TRY(check_length(node, "nodes_falseleafs", a->nodes_falseleafs.n, n, err));
    return check_length(node, "leaf_targetids", a->leaf_targetids.n, ps_tensor_count(a->leaf_weights), err);
}

/* Leaves come behind the branches. */
static ps_status child5(const ps_node *node, const ps_tree5_attrs *a, int64_t at, bool leaf, uint32_t *ret,
                        ps_error *err) {
    size_t branches = a->nodes_featureids.n, n = leaf ? a->leaf_targetids.n : branches;
    PS_NODE_FAIL_IF(at < 0 || (uint64_t)at >= n, node, err, FORMAT, "a branch leads to %s %lld of %zu",
                    leaf ? "leaf" : "node", (long long)at, n);
    *ret = (uint32_t)at + (leaf ? (uint32_t)branches : 0);
    return PS_OK;
}

static ps_status make_branch5(const ps_node *node, const ps_tree5_attrs *a, ps_forest *f, size_t k, ps_error *err) {
    ps_tree_node *n = &f->nodes[k];
    n->mode = ((const uint8_t *)a->nodes_modes->data)[k];
    PS_NODE_FAIL_IF(n->mode > PS_TREE_MEMBER, node, err, FORMAT, "nodes_modes holds %d", n->mode);
    n->value = list_or_tensor(NULL, a->nodes_splits, k);
    n->nan_yes = k < a->nodes_missing_value_tracks_true.n && a->nodes_missing_value_tracks_true.data[k] == 1;
    PS_TRY(set_feature(node, f, n, a->nodes_featureids.data[k], err));
    PS_TRY(child5(node, a, a->nodes_truenodeids.data[k], a->nodes_trueleafs.data[k] != 0, &n->yes, err));
    return child5(node, a, a->nodes_falsenodeids.data[k], a->nodes_falseleafs.data[k] != 0, &n->no, err);
}

/* Sets of members stand one after the other in the order of their nodes, each ended by a NaN. */
static ps_status make_members(const ps_node *node, ps_forest *f, ps_error *err) {
    size_t at = 0;
    for (size_t k = 0; k < f->n_nodes; k++) {
        ps_tree_node *n = &f->nodes[k];
        if (n->mode != PS_TREE_MEMBER) continue;
        PS_NODE_FAIL_IF(at >= f->n_members, node, err, FORMAT,
                        "membership_values holds fewer sets than there are nodes");
        n->first = (uint32_t)at;
        for (; at < f->n_members && !isnan(f->members[at]); at++)
            n->n++;
        at++; /* the NaN */
    }
    return PS_OK;
}

static ps_status fill_forest5(const ps_node *node, const ps_tree5_attrs *a, int64_t n_targets, ps_forest *f,
                              ps_error *err) {
    size_t branches = a->nodes_featureids.n;
    for (size_t k = 0; k < branches; k++)
        PS_TRY(make_branch5(node, a, f, k, err));
    for (size_t k = 0; k < f->n_weights; k++) {
        PS_TRY(check_target(node, a->leaf_targetids.data[k], n_targets, err));
        f->weights[k] =
            (ps_tree_weight) { list_or_tensor(NULL, a->leaf_weights, k), (uint32_t)a->leaf_targetids.data[k] };
        f->nodes[branches + k] = (ps_tree_node) { .mode = PS_TREE_LEAF, .first = (uint32_t)k, .n = 1 };
    }
    for (size_t k = 0; k < a->tree_roots.n; k++)
        PS_TRY(child5(node, a, a->tree_roots.data[k], false, &f->roots[f->n_roots++], err));
    return make_members(node, f, err);
}

ps_status ps_forest_make5(const ps_node *node, const ps_tree5_attrs *a, int64_t n_targets, ps_forest *ret,
                          ps_error *err) {
    PS_TRY(check_lists5(node, a, err));
    size_t leaves = a->leaf_targetids.n, members = a->membership_values ? ps_tensor_count(a->membership_values) : 0;
    PS_NODE_FAIL_IF(leaves >= UINT32_MAX / 4 || members >= UINT32_MAX / 4, node, err, LIMIT, "%zu leaves are too many",
                    leaves);
    PS_TRY(reserve(node, ret, a->nodes_featureids.n + leaves, a->tree_roots.n, leaves, members, err));
    if (members)
        ps_row_load(ret->members, a->membership_values->dtype, a->membership_values->data, 0, 1, (int64_t)members);
    PS_TRY(fill_forest5(node, a, n_targets, ret, err));
    return check_acyclic(node, ret, err);
}

/* ---- walking ---- */

static bool is_member(const ps_forest *f, const ps_tree_node *n, double x) {
    for (uint32_t k = 0; k < n->n; k++)
        if (f->members[n->first + k] == x) return true;
    return false;
}

static bool decide(const ps_forest *f, const ps_tree_node *n, double x) {
    switch (n->mode) {
    case PS_TREE_LEQ: return x <= n->value;
    case PS_TREE_LT: return x < n->value;
    case PS_TREE_GTE: return x >= n->value;
    case PS_TREE_GT: return x > n->value;
    case PS_TREE_EQ: return x == n->value;
    case PS_TREE_NEQ: return x != n->value;
    default: return is_member(f, n, x);
    }
}

const ps_tree_node *ps_forest_leaf(const ps_forest *forest, uint32_t root, const double *row) {
    const ps_tree_node *n = &forest->nodes[root];
    while (n->mode != PS_TREE_LEAF) {
        double x = row[n->feature];
        n = &forest->nodes[decide(forest, n, x) || (n->nan_yes && isnan(x)) ? n->yes : n->no];
    }
    return n;
}
