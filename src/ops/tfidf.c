/* tfidf.c - TfIdfVectorizer: counts of n-grams, with skips.
 *
 * Source: ONNX operator spec TfIdfVectorizer (9). Weights belong to the columns of the output, as in ONNX Runtime and
 * in the reference evaluator; the specification gives them to the n-grams, which differs if ngram_indexes permutes. */
#include "base/map.h"
#include "ops/kernel_util.h"
#include "ops/move.h"

typedef enum tfidf_mode { TF, IDF, TFIDF } tfidf_mode;

typedef struct ngram {
    uint64_t hash;
    size_t first; /* in the pool */
    uint32_t size;
    int64_t column; /* of the output */
} ngram;

typedef struct tfidf_params {
    const char *mode;
    int64_t max_gram_length, min_gram_length, max_skip_count;
    ps_ints ngram_counts, ngram_indexes, pool_int64s;
    ps_strings pool_strings;
    ps_floats weights;
    /* made by tfidf_prepare */
    tfidf_mode kind;
    const ngram *table; /* open addressing, `room` slots, a power of two; size 0: free */
    size_t room;
    int64_t columns;
} tfidf_params;

static const ps_attr_def tfidf_attrs[] = { PS_A_STR(tfidf_params, mode, ""),
                                           PS_A_INT_REQ(tfidf_params, max_gram_length),
                                           PS_A_INT_REQ(tfidf_params, min_gram_length),
                                           PS_A_INT_REQ(tfidf_params, max_skip_count),
                                           PS_A_INTS(tfidf_params, ngram_counts),
                                           PS_A_INTS(tfidf_params, ngram_indexes),
                                           PS_A_INTS(tfidf_params, pool_int64s),
                                           PS_A_STRINGS(tfidf_params, pool_strings),
                                           PS_A_FLOATS(tfidf_params, weights),
                                           PS_ATTRS_END };

static uint64_t hash_int(uint64_t seed, int64_t v) {
    return ps_hash_bytes(&v, sizeof v, seed);
}

static uint64_t hash_text(uint64_t seed, const char *data, size_t size) {
    return ps_hash_bytes(data, size, seed + size);
}

/* ---- preparation ---- */

static bool same_gram(const tfidf_params *p, size_t a, size_t b, uint32_t size) {
    for (uint32_t k = 0; k < size; k++)
        if (p->pool_strings.n ? strcmp(p->pool_strings.data[a + k], p->pool_strings.data[b + k]) != 0
                              : p->pool_int64s.data[a + k] != p->pool_int64s.data[b + k])
            return false;
    return true;
}

static ps_status add_gram(const ps_node *node, ngram *table, ngram gram, ps_error *err) {
    const tfidf_params *p = node->params;
    for (uint32_t k = 0; k < gram.size; k++) {
        size_t at = gram.first + k;
        gram.hash = p->pool_strings.n ? hash_text(gram.hash, p->pool_strings.data[at], strlen(p->pool_strings.data[at]))
                                      : hash_int(gram.hash, p->pool_int64s.data[at]);
    }
    size_t slot = gram.hash & (p->room - 1);
    for (; table[slot].size; slot = (slot + 1) & (p->room - 1)) {
        const ngram *other = &table[slot];
        PS_NODE_FAIL_IF(other->hash == gram.hash && other->size == gram.size &&
                            same_gram(p, other->first, gram.first, gram.size),
                        node, err, FORMAT, "the pool holds the same %u-gram twice", gram.size);
    }
    table[slot] = gram;
    return PS_OK;
}

/* The pool holds all 1-grams, then all 2-grams …; ngram_counts says where each kind begins. */
static ps_status fill_table(const ps_node *node, ngram *table, size_t pool, ps_error *err) {
    const tfidf_params *p = node->params;
    size_t index = 0;
    for (size_t i = 0; i < p->ngram_counts.n; i++) {
        int64_t from = p->ngram_counts.data[i];
        int64_t to = i + 1 < p->ngram_counts.n ? p->ngram_counts.data[i + 1] : (int64_t)pool;
        size_t size = i + 1;
        PS_NODE_FAIL_IF(from < 0 || to < from || to > (int64_t)pool || (size_t)(to - from) % size, node, err, FORMAT,
                        "ngram_counts: %lld to %lld are no whole %zu-grams of a pool of %zu", (long long)from,
                        (long long)to, size, pool);
        for (size_t at = (size_t)from; at < (size_t)to; at += size, index++) {
            PS_NODE_FAIL_IF(index >= p->ngram_indexes.n, node, err, FORMAT,
                            "ngram_indexes has %zu entries, the pool more n-grams", p->ngram_indexes.n);
            bool used = (int64_t)size >= p->min_gram_length && (int64_t)size <= p->max_gram_length;
            ngram gram = { 0, at, (uint32_t)size, p->ngram_indexes.data[index] };
            if (used) PS_TRY(add_gram(node, table, gram, err));
        }
    }
    return PS_OK;
}

static ps_status check_attrs(const ps_node *node, ps_error *err) {
    tfidf_params *p = node->params;
    p->kind = strcmp(p->mode, "TF") == 0 ? TF : strcmp(p->mode, "IDF") == 0 ? IDF : TFIDF;
    PS_NODE_FAIL_IF(p->kind == TFIDF && strcmp(p->mode, "TFIDF") != 0, node, err, FORMAT,
                    "mode '%.40s' is none of TF, IDF, TFIDF", p->mode);
    PS_NODE_FAIL_IF(p->min_gram_length < 1 || p->max_gram_length < p->min_gram_length || p->max_skip_count < 0, node,
                    err, FORMAT, "n-grams of %lld to %lld items with %lld skips make no sense",
                    (long long)p->min_gram_length, (long long)p->max_gram_length, (long long)p->max_skip_count);
    PS_NODE_FAIL_IF(p->max_gram_length > (int64_t)p->ngram_counts.n, node, err, FORMAT,
                    "max_gram_length is %lld, ngram_counts has %zu entries", (long long)p->max_gram_length,
                    p->ngram_counts.n);
    PS_NODE_FAIL_IF((p->pool_strings.n > 0) == (p->pool_int64s.n > 0), node, err, FORMAT,
                    "one of pool_strings and pool_int64s is needed, and only one");
    return PS_OK;
}

static ps_status tfidf_prepare(ps_node *node, ps_error *err) {
    tfidf_params *p = node->params;
    size_t pool = p->pool_strings.n ? p->pool_strings.n : p->pool_int64s.n;
    PS_TRY(check_attrs(node, err));
    for (size_t k = 0; k < p->ngram_indexes.n; k++) {
        int64_t column = p->ngram_indexes.data[k];
        PS_NODE_FAIL_IF(column < 0 || column >= INT32_MAX, node, err, FORMAT, "ngram_indexes holds %lld",
                        (long long)column);
        if (column >= p->columns) p->columns = column + 1;
    }
    PS_NODE_FAIL_IF(!p->columns, node, err, FORMAT, "ngram_indexes is empty");
    PS_NODE_FAIL_IF(p->weights.n && (int64_t)p->weights.n < p->columns, node, err, FORMAT,
                    "%zu weights for %lld columns", p->weights.n, (long long)p->columns);
    for (p->room = 16; p->room < 2 * pool;)
        p->room *= 2;
    ngram *table = ps_arena_array(&node->graph->root->arena, p->room, sizeof *table);
    if (!table) return PS_FAIL_NOMEM(err, "a table of n-grams");
    p->table = table;
    return fill_table(node, table, pool, err);
}

/* ---- shape rule ---- */

static ps_status tfidf_infer(const ps_node *node, ps_error *err) {
    const tfidf_params *p = node->params;
    ps_dtype t = node->in[0]->dtype;
    ps_shape shape = node->in[0]->shape;
    bool fits =
        t == PS_DTYPE_UNDEFINED || (p->pool_strings.n ? t == PS_DTYPE_STRING : t == PS_DTYPE_I32 || t == PS_DTYPE_I64);
    PS_NODE_FAIL_IF(!fits, node, err, TYPE, "the input is %s, the pool holds %s", ps_dtype_name(t),
                    p->pool_strings.n ? "strings" : "integers");
    PS_NODE_FAIL_IF(shape.rank > 2, node, err, SHAPE, "input %s is neither [C] nor [N,C]", PS_SHAPE_TEXT(&shape));
    if (shape.rank == 0) shape.rank = 1;
    if (shape.rank > 0) shape.dims[shape.rank - 1] = p->columns;
    return ps_infer_checked(node, 0, PS_DTYPE_F32, &shape, err);
}

/* ---- kernel ---- */

typedef struct tfidf_row {
    const tfidf_params *p;
    const ps_tensor *in;
    int64_t first, n; /* items of the row */
    float *out;
} tfidf_row;

static int64_t int_at(const ps_tensor *t, int64_t k) {
    return t->dtype == PS_DTYPE_I32 ? ((const int32_t *)t->data)[k] : ((const int64_t *)t->data)[k];
}

static bool same_item(const tfidf_row *row, size_t pool, int64_t item) {
    const tfidf_params *p = row->p;
    if (!p->pool_strings.n) return p->pool_int64s.data[pool] == int_at(row->in, row->first + item);
    const ps_string *s = (const ps_string *)row->in->data + row->first + item;
    const char *word = p->pool_strings.data[pool];
    return strlen(word) == s->size && (s->size == 0 || memcmp(word, s->data, s->size) == 0);
}

/* Counts the n-gram of `size` items from `item` on, `step` apart, if the pool has it. */
static void count(const tfidf_row *row, uint64_t hash, int64_t item, int64_t step, uint32_t size) {
    const tfidf_params *p = row->p;
    for (size_t slot = hash & (p->room - 1); p->table[slot].size; slot = (slot + 1) & (p->room - 1)) {
        const ngram *g = &p->table[slot];
        bool same = g->hash == hash && g->size == size;
        for (uint32_t k = 0; k < size && same; k++)
            same = same_item(row, g->first + k, item + (int64_t)k * step);
        if (!same) continue;
        row->out[g->column]++;
        return;
    }
}

/* All n-grams of `least` to `most` items, `step` apart. */
static void count_grams(const tfidf_row *row, int64_t step, int64_t least, int64_t most) {
    for (int64_t start = 0; start < row->n; start++) {
        uint64_t hash = 0;
        if ((row->n - 1 - start) / step < least - 1) break;
        for (int64_t size = 1, at = start; size <= most && at < row->n; size++, at += step) {
            if (row->in->dtype == PS_DTYPE_STRING) {
                const ps_string *s = (const ps_string *)row->in->data + row->first + at;
                hash = hash_text(hash, s->data ? s->data : "", s->size);
            } else {
                hash = hash_int(hash, int_at(row->in, row->first + at));
            }
            if (size >= least) count(row, hash, start, step, (uint32_t)size);
        }
    }
}

static void count_row(const tfidf_row *row) {
    const tfidf_params *p = row->p;
    int64_t least = p->min_gram_length;
    if (least == 1) { /* one item skips nothing: counted once */
        count_grams(row, 1, 1, 1);
        least = 2;
    }
    for (int64_t step = 1; least <= p->max_gram_length && step < row->n && step - 1 <= p->max_skip_count; step++)
        count_grams(row, step, least, p->max_gram_length);
}

static void weigh(const tfidf_row *row) {
    const tfidf_params *p = row->p;
    for (int64_t k = 0; k < p->columns; k++) {
        float weight = p->weights.n ? p->weights.data[k] : 1;
        if (p->kind == IDF)
            row->out[k] = row->out[k] > 0 ? weight : 0;
        else if (p->kind == TFIDF)
            row->out[k] *= weight;
    }
}

static ps_status tfidf_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const tfidf_params *p = ctx->params;
    const ps_shape *in = &ctx->in[0]->shape;
    ps_shape shape = *in;
    if (shape.rank == 0) shape.rank = 1;
    shape.dims[shape.rank - 1] = p->columns;
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_F32, &shape, err));
    int64_t rows = shape.rank == 2 ? shape.dims[0] : 1, items = in->rank ? in->dims[in->rank - 1] : 1;
    if (ctx->out[0]->bytes) memset(ctx->out[0]->data, 0, ctx->out[0]->bytes);
    for (int64_t r = 0; r < rows; r++) {
        tfidf_row row = { p, ctx->in[0], r * items, items, (float *)ctx->out[0]->data + r * p->columns };
        count_row(&row);
        weigh(&row);
    }
    return PS_OK;
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    { "TfIdfVectorizer", "", 9, 1, 1, 1, 1, tfidf_attrs, sizeof(tfidf_params), tfidf_infer, tfidf_ref, 0,
      tfidf_prepare },
};

const ps_op_family ps_ops_tfidf = PS_OP_FAMILY("tfidf", ops);
