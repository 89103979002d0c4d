/* ml_tree.h - a forest of decision trees, made once from the attributes of a TreeEnsemble* node. */
#ifndef PS_OPS_ML_TREE_H
#define PS_OPS_ML_TREE_H

#include "ops/ml.h"

typedef enum ps_tree_mode { /* numbered as nodes_modes of TreeEnsemble-5 */
                            PS_TREE_LEQ,
                            PS_TREE_LT,
                            PS_TREE_GTE,
                            PS_TREE_GT,
                            PS_TREE_EQ,
                            PS_TREE_NEQ,
                            PS_TREE_MEMBER,
                            PS_TREE_LEAF,
} ps_tree_mode;

typedef struct ps_tree_node {
    double value;      /* that the feature is compared with */
    uint32_t first, n; /* of a leaf its weights, of a MEMBER its members */
    uint32_t yes, no;  /* of a branch the next nodes */
    uint32_t feature;  /* of a branch */
    uint8_t mode;      /* ps_tree_mode */
    bool nan_yes;      /* where NaN goes */
} ps_tree_node;

typedef struct ps_tree_weight {
    double value;
    uint32_t target;
} ps_tree_weight;

/* Lies in the arena of its graph. No path from a root is endless, and every index is in range. */
typedef struct ps_forest {
    ps_tree_node *nodes;
    uint32_t *roots;
    ps_tree_weight *weights;
    double *members;
    size_t n_nodes, n_roots, n_weights, n_members;
    int64_t features; /* the least number that a row must have */
} ps_forest;

/* Attributes of TreeEnsembleClassifier and -Regressor: each node by the numbers of its tree and of itself. What
 * has a list and a tensor may be given as either. */
typedef struct ps_tree_attrs {
    ps_ints nodes_treeids, nodes_nodeids, nodes_featureids, nodes_truenodeids, nodes_falsenodeids;
    ps_ints nodes_missing_value_tracks_true;
    ps_strings nodes_modes;
    ps_floats nodes_values;
    const ps_tensor *nodes_values_as_tensor;
    ps_ints weight_treeids, weight_nodeids, weight_ids;
    ps_floats weights;
    const ps_tensor *weights_as_tensor;
} ps_tree_attrs;

ps_status ps_forest_make(const ps_node *node, const ps_tree_attrs *attrs, int64_t n_targets, ps_forest *ret,
                         ps_error *err);

/* Attributes of TreeEnsemble-5: branches and leaves in lists of their own. */
typedef struct ps_tree5_attrs {
    ps_ints tree_roots, nodes_featureids, nodes_truenodeids, nodes_falsenodeids, nodes_trueleafs, nodes_falseleafs;
    ps_ints nodes_missing_value_tracks_true, leaf_targetids;
    const ps_tensor *nodes_modes, *nodes_splits, *leaf_weights, *membership_values;
} ps_tree5_attrs;

ps_status ps_forest_make5(const ps_node *node, const ps_tree5_attrs *attrs, int64_t n_targets, ps_forest *ret,
                          ps_error *err);

/* The leaf where a row ends. */
const ps_tree_node *ps_forest_leaf(const ps_forest *forest, uint32_t root, const double *row);

#endif
