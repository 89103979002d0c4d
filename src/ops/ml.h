/* ml.h - what the operators of ai.onnx.ml share: rows of features, class labels, scores, tables of keys. */
#ifndef PS_OPS_ML_H
#define PS_OPS_ML_H

#include "ops/kernel_util.h"
#include "ops/move.h"

/* ---- features: [N,F], or [F] for one row ---- */
typedef struct ps_ml_rows {
    int64_t n, features; /* PS_DIM_UNKNOWN or a symbol in a shape rule */
} ps_ml_rows;

/* PS_TYPE unless the input is f32, f64, i32, i64 or unknown; PS_SHAPE if its rank is neither 1 nor 2. */
ps_status ps_ml_check(const ps_node *node, size_t i, ps_ml_rows *ret, ps_error *err);
ps_ml_rows ps_ml_rows_of(const ps_shape *shape);
/* One row as doubles; integers are rounded to f32 on the way, as the operators' arithmetic in f32 does. */
void ps_ml_row(const ps_tensor *t, int64_t row, int64_t features, double *dst);

/* ---- class labels: strings or integers ---- */
typedef struct ps_ml_labels {
    ps_strings strings;
    ps_ints ints;
} ps_ml_labels;

static inline size_t ps_ml_label_count(const ps_ml_labels *l) {
    return l->strings.n ? l->strings.n : l->ints.n;
}
static inline ps_dtype ps_ml_label_type(const ps_ml_labels *l) {
    return l->strings.n ? PS_DTYPE_STRING : PS_DTYPE_I64;
}
/* Element i of `out` becomes label `index`; a label beyond the list is its number, or that number as text. */
ps_status ps_ml_put_label(ps_tensor *out, size_t i, const ps_ml_labels *labels, size_t index, ps_error *err);

/* ---- scores ---- */
typedef enum ps_ml_transform { /* numbered as post_transform of TreeEnsemble-5 */
                               PS_ML_NONE,
                               PS_ML_SOFTMAX,
                               PS_ML_LOGISTIC,
                               PS_ML_SOFTMAX_ZERO,
                               PS_ML_PROBIT,
                               PS_ML_TRANSFORM_COUNT
} ps_ml_transform;

ps_status ps_ml_transform_parse(const ps_node *node, const char *name, ps_ml_transform *ret, ps_error *err);
double ps_ml_logistic(double x);
double ps_ml_probit(double x);
/* The scores of one row, one a class. */
void ps_ml_apply(ps_ml_transform transform, double *scores, int64_t n);

/* How the score of one class becomes those of two: ONNX does not say; this is what ONNX Runtime does. With LOGISTIC
 * they are the logistic function of -score and score, otherwise they are not transformed. */
typedef enum ps_ml_second {
    PS_ML_COMPLEMENT, /* 1 - score, score: a probability */
    PS_ML_MIRROR,     /* -score, score */
} ps_ml_second;
void ps_ml_expand(ps_ml_transform transform, ps_ml_second how, double score, double ret[2]);

/* ---- tables of keys ---- */
/* Finds a key's number in constant time. Keys are strings, or numbers in a form that is equal for equal numbers. */
typedef struct ps_ml_keys {
    size_t n, room;
    const uint64_t *numbers; /* one of the two */
    const ps_string *strings;
    const uint32_t *slots; /* open addressing: number of a key + 1, 0: free */
} ps_ml_keys;

static inline uint64_t ps_ml_key_int(int64_t v) {
    return (uint64_t)v;
}
uint64_t ps_ml_key_real(double v); /* -0 is 0, all NaNs are one */
/* Lies in the arena, arrays included. Of equal keys the last counts, or the first. */
ps_status ps_ml_keys_ints(ps_arena *arena, const int64_t *v, size_t n, bool last, ps_ml_keys *ret, ps_error *err);
ps_status ps_ml_keys_floats(ps_arena *arena, const float *v, size_t n, bool last, ps_ml_keys *ret, ps_error *err);
ps_status ps_ml_keys_strings(ps_arena *arena, const char *const *v, size_t n, bool last, ps_ml_keys *ret,
                             ps_error *err);
/* The elements of a tensor of strings, integers or floats, which must live as long as the table. */
ps_status ps_ml_keys_tensor(ps_arena *arena, const ps_tensor *t, bool last, ps_ml_keys *ret, ps_error *err);
/* The key's number, or -1. */
int64_t ps_ml_find(const ps_ml_keys *keys, uint64_t number);
int64_t ps_ml_find_string(const ps_ml_keys *keys, const char *data, size_t size);
/* Of element k of a tensor: a string for a table of strings, else a number of the kind the table was made of. */
int64_t ps_ml_find_element(const ps_ml_keys *keys, const ps_tensor *t, size_t k);

#endif
