/* strings.c - operators on strings: StringConcat, StringSplit, StringNormalizer, RegexFullMatch.
 *
 * Source: ONNX operator specs StringConcat, StringSplit, RegexFullMatch (20), StringNormalizer (10). */
#include "ops/ml.h"
#include "ops/regex.h"
#include "ops/unicode.h"

static ps_status check_strings(const ps_node *node, ps_error *err) {
    for (uint32_t i = 0; i < node->n_in; i++) {
        ps_dtype t = node->in[i]->dtype;
        PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_STRING, node, err, TYPE, "input %u is %s, not string",
                        i, ps_dtype_name(t));
    }
    return PS_OK;
}

/* ---- StringConcat ---- */
static ps_status concat_infer(const ps_node *node, ps_error *err) {
    PS_TRY(check_strings(node, err));
    PS_TRY(ps_infer_broadcast(node, err));
    ps_infer_set(node, 0, PS_DTYPE_STRING, &node->out[0]->shape);
    return PS_OK;
}

/* Element k of the output's order. */
static const ps_string *bcast_string(const ps_bcast *b, int64_t k) {
    int64_t at = 0;
    for (int d = b->rank - 1; d >= 0; d--) {
        at += k % b->dims[d] * b->strides[d];
        k /= b->dims[d];
    }
    return (const ps_string *)b->data + at;
}

static ps_status concat_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_shape shape;
    ps_bcast a, b;
    PS_NODE_FAIL_IF(!ps_shape_broadcast(&ctx->in[0]->shape, &ctx->in[1]->shape, &shape), ctx->node, err, SHAPE,
                    "%s and %s do not broadcast", PS_SHAPE_TEXT(&ctx->in[0]->shape), PS_SHAPE_TEXT(&ctx->in[1]->shape));
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_STRING, &shape, err));
    if (!ps_bcast_init(&a, ctx->in[0], &shape) || !ps_bcast_init(&b, ctx->in[1], &shape))
        return PS_NODE_FAIL(ctx->node, err, SHAPE, "the inputs do not broadcast");
    ps_str joined;
    ps_status status = PS_OK;
    ps_str_init(&joined, ctx->alloc);
    for (size_t k = 0, n = ps_tensor_count(ctx->out[0]); k < n && status == PS_OK; k++) {
        const ps_string *x = bcast_string(&a, (int64_t)k), *y = bcast_string(&b, (int64_t)k);
        ps_str_clear(&joined);
        ps_str_append_n(&joined, x->data, x->size);
        ps_str_append_n(&joined, y->data, y->size);
        status = joined.failed ? PS_FAIL_NOMEM(err, "joined strings")
                               : ps_tensor_set_string(ctx->out[0], k, joined.data, joined.size, err);
    }
    ps_str_release(&joined);
    return status;
}

/* ---- StringSplit ---- */
typedef struct split_params {
    const char *delimiter;
    int64_t maxsplit;
} split_params;

static const ps_attr_def split_attrs[] = { PS_A_STR(split_params, delimiter, ""),
                                           PS_A_INT(split_params, maxsplit, INT64_MAX), PS_ATTRS_END };

static ps_status split_infer(const ps_node *node, ps_error *err) {
    ps_shape counts = node->in[0]->shape, parts = counts;
    PS_TRY(check_strings(node, err));
    if (parts.rank >= 0) {
        PS_NODE_FAIL_IF(parts.rank + 1 > PS_MAX_RANK, node, err, LIMIT, "the result has rank %d, over %d",
                        parts.rank + 1, PS_MAX_RANK);
        parts.dims[parts.rank++] = PS_DIM_UNKNOWN;
    }
    ps_infer_set(node, 0, PS_DTYPE_STRING, &parts);
    ps_infer_set(node, 1, PS_DTYPE_I64, &counts);
    return PS_OK;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next part of what is left: false at the end. With `splits` left at 0 the rest is one part. */
typedef struct splitter {
    const char *at, *end, *delimiter;
    size_t size;    /* of the delimiter; 0: runs of white space */
    int64_t splits; /* that may still be made */
    bool done;
} splitter;

static splitter split_begin(const ps_string *s, const split_params *p) {
    splitter r = { s->data, s->data + s->size, p->delimiter, strlen(p->delimiter), p->maxsplit, s->size == 0 };
    return r;
}

static bool next_word(splitter *s, const char **ret, size_t *ret_size) {
    while (s->at < s->end && is_space(*s->at))
        s->at++;
    if (s->at == s->end) return false;
    const char *from = s->at, *to = s->end;
    if (s->splits > 0) {
        s->splits--;
        for (to = from; to < s->end && !is_space(*to);)
            to++;
    } else {
        while (is_space(to[-1]))
            to--;
        s->end = to;
    }
    s->at = to;
    *ret = from;
    *ret_size = (size_t)(to - from);
    return true;
}

static const char *find(const char *at, const char *end, const char *what, size_t size) {
    for (; (size_t)(end - at) >= size; at++) {
        at = memchr(at, what[0], (size_t)(end - at) - size + 1);
        if (!at) return NULL;
        if (memcmp(at, what, size) == 0) return at;
    }
    return NULL;
}

static bool next_part(splitter *s, const char **ret, size_t *ret_size) {
    if (s->done) return false;
    if (s->size == 0) return next_word(s, ret, ret_size);
    const char *cut = s->splits > 0 ? find(s->at, s->end, s->delimiter, s->size) : NULL;
    s->splits--;
    s->done = !cut;
    *ret = s->at;
    *ret_size = (size_t)((cut ? cut : s->end) - s->at);
    if (cut) s->at = cut + s->size;
    return true;
}

static ps_status split_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const split_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    const ps_string *s = in->data;
    size_t n = ps_tensor_count(in), part_size;
    const char *part;
    ps_shape shape = in->shape;
    int64_t most = 0;
    PS_TRY(ps_move_output(ctx, 1, PS_DTYPE_I64, &in->shape, err));
    int64_t *counts = ctx->out[1]->data;
    for (size_t k = 0; k < n; k++) {
        splitter split = split_begin(&s[k], p);
        for (counts[k] = 0; next_part(&split, &part, &part_size);)
            counts[k]++;
        if (counts[k] > most) most = counts[k];
    }
    PS_NODE_FAIL_IF(shape.rank + 1 > PS_MAX_RANK, ctx->node, err, LIMIT, "the result has rank %d, over %d",
                    shape.rank + 1, PS_MAX_RANK);
    shape.dims[shape.rank++] = most;
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_STRING, &shape, err));
    for (size_t k = 0; k < n; k++) {
        splitter split = split_begin(&s[k], p);
        for (size_t i = k * (size_t)most; next_part(&split, &part, &part_size); i++)
            PS_TRY(ps_tensor_set_string(ctx->out[0], i, part, part_size, err));
    }
    return PS_OK;
}

/* ---- StringNormalizer ---- */
typedef enum letter_case { AS_IS, LOWER, UPPER } letter_case;

typedef struct normalizer_params {
    const char *case_change_action, *locale;
    int64_t is_case_sensitive;
    ps_strings stopwords;
    /* made by normalizer_prepare */
    letter_case change, compare; /* of what is left; of what is compared with the stop words */
    bool turkic;
    ps_ml_keys stops; /* in case `compare` */
} normalizer_params;

static const ps_attr_def normalizer_attrs[] = { PS_A_STR(normalizer_params, case_change_action, "NONE"),
                                                PS_A_STR(normalizer_params, locale, ""),
                                                PS_A_INT(normalizer_params, is_case_sensitive, 0),
                                                PS_A_STRINGS(normalizer_params, stopwords), PS_ATTRS_END };

/* Character by character, as locales of the C library do: the length in characters stays. */
static int32_t change_rune(const normalizer_params *p, letter_case to, int32_t rune) {
    if (p->turkic && to == UPPER && rune == 'i') return 0x130;
    if (p->turkic && to == LOWER && rune == 'I') return 0x131;
    return to == UPPER ? ps_rune_upper(rune) : ps_rune_lower(rune);
}

static ps_status change_case(const ps_node *node, letter_case to, const char *data, size_t size, ps_str *out,
                             ps_error *err) {
    const normalizer_params *p = node->params;
    ps_str_clear(out);
    for (size_t at = 0, n; at < size; at += n) {
        char bytes[4];
        int32_t rune = ps_rune_decode(data + at, size - at, &n);
        PS_NODE_FAIL_IF(rune < 0, node, err, INVALID, "a string is not UTF-8 at byte %zu", at);
        ps_str_append_n(out, bytes, ps_rune_encode(change_rune(p, to, rune), bytes));
    }
    return out->failed ? PS_FAIL_NOMEM(err, "normalised strings") : PS_OK;
}

static ps_status prepare_stops(const ps_node *node, const char **words, ps_str *text, ps_error *err) {
    normalizer_params *p = node->params;
    ps_arena *arena = &node->graph->root->arena;
    for (size_t k = 0; k < p->stopwords.n; k++) {
        words[k] = p->stopwords.data[k];
        if (p->compare == AS_IS) continue;
        PS_TRY(change_case(node, p->compare, words[k], strlen(words[k]), text, err));
        words[k] = ps_arena_strndup(arena, text->data, text->size);
        if (!words[k]) return PS_FAIL_NOMEM(err, "stop words");
    }
    return ps_ml_keys_strings(arena, words, p->stopwords.n, false, &p->stops, err);
}

/* Of a locale only the language counts, and only where case mapping depends on it one character at a time. */
static ps_status normalizer_prepare(ps_node *node, ps_error *err) {
    normalizer_params *p = node->params;
    const char *action = p->case_change_action;
    p->change = strcmp(action, "LOWER") == 0 ? LOWER : strcmp(action, "UPPER") == 0 ? UPPER : AS_IS;
    PS_NODE_FAIL_IF(p->change == AS_IS && strcmp(action, "NONE") != 0, node, err, FORMAT,
                    "case_change_action '%.40s' is none of LOWER, UPPER, NONE", action);
    p->turkic = strncmp(p->locale, "tr", 2) == 0 || strncmp(p->locale, "az", 2) == 0;
    p->compare = p->is_case_sensitive ? AS_IS : p->change == UPPER ? UPPER : LOWER;
    const char **words = ps_arena_array(&node->graph->root->arena, p->stopwords.n + 1, sizeof *words);
    if (!words) return PS_FAIL_NOMEM(err, "stop words");
    ps_str text;
    ps_str_init(&text, node->graph->root->alloc);
    ps_status status = prepare_stops(node, words, &text, err);
    ps_str_release(&text);
    return status;
}

static ps_status normalizer_infer(const ps_node *node, ps_error *err) {
    const normalizer_params *p = node->params;
    ps_shape shape = node->in[0]->shape;
    PS_TRY(check_strings(node, err));
    PS_NODE_FAIL_IF(shape.rank >= 0 && shape.rank != 1 && (shape.rank != 2 || shape.dims[0] > 1 || shape.dims[0] == 0),
                    node, err, SHAPE, "input %s is neither [C] nor [1,C]", PS_SHAPE_TEXT(&shape));
    if (shape.rank > 0 && (p->stopwords.n || shape.dims[shape.rank - 1] <= 0))
        shape.dims[shape.rank - 1] = PS_DIM_UNKNOWN;
    if (shape.rank == 2) shape.dims[0] = 1;
    ps_infer_set(node, 0, PS_DTYPE_STRING, &shape);
    return PS_OK;
}

typedef struct normalizer_job {
    const ps_kernel_ctx *ctx;
    ps_str text; /* working memory */
    bool *keep;
    size_t kept;
} normalizer_job;

/* Without regard to case both are brought to the same one. */
static ps_status is_stopword(normalizer_job *job, const ps_string *s, bool *ret, ps_error *err) {
    const normalizer_params *p = job->ctx->params;
    *ret = false;
    if (!p->stopwords.n) return PS_OK;
    if (p->compare == AS_IS) {
        *ret = ps_ml_find_string(&p->stops, s->data, s->size) >= 0;
        return PS_OK;
    }
    PS_TRY(change_case(job->ctx->node, p->compare, s->data, s->size, &job->text, err));
    *ret = ps_ml_find_string(&p->stops, job->text.data, job->text.size) >= 0;
    return PS_OK;
}

static ps_status normalizer_run(normalizer_job *job, ps_error *err) {
    const ps_kernel_ctx *ctx = job->ctx;
    const normalizer_params *p = ctx->params;
    const ps_tensor *in = ctx->in[0];
    const ps_string *s = in->data;
    size_t n = ps_tensor_count(in), to = 0;
    for (size_t k = 0; k < n; k++) {
        bool stop;
        PS_TRY(is_stopword(job, &s[k], &stop, err));
        job->keep[k] = !stop;
        job->kept += !stop;
    }
    /* Nothing left: one empty string. */
    ps_shape shape = in->shape;
    shape.dims[shape.rank - 1] = job->kept ? (int64_t)job->kept : 1;
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_STRING, &shape, err));
    for (size_t k = 0; k < n; k++) {
        if (!job->keep[k]) continue;
        if (p->change == AS_IS) {
            PS_TRY(ps_tensor_set_string(ctx->out[0], to++, s[k].data, s[k].size, err));
            continue;
        }
        PS_TRY(change_case(ctx->node, p->change, s[k].data, s[k].size, &job->text, err));
        PS_TRY(ps_tensor_set_string(ctx->out[0], to++, job->text.data, job->text.size, err));
    }
    return PS_OK;
}

static ps_status normalizer_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_shape *in = &ctx->in[0]->shape;
    PS_NODE_FAIL_IF(in->rank != 1 && (in->rank != 2 || in->dims[0] != 1), ctx->node, err, SHAPE,
                    "input %s is neither [C] nor [1,C]", PS_SHAPE_TEXT(in));
    normalizer_job job = { .ctx = ctx };
    ps_str_init(&job.text, ctx->alloc);
    job.keep = ps_alloc_array(ctx->alloc, ps_tensor_count(ctx->in[0]), sizeof *job.keep);
    ps_status status = job.keep ? normalizer_run(&job, err) : PS_FAIL_NOMEM(err, "normalised strings");
    ps_free(ctx->alloc, job.keep);
    ps_str_release(&job.text);
    return status;
}

/* ---- RegexFullMatch ---- */
typedef struct regex_params {
    const char *pattern;
    const ps_regex *program;
} regex_params;

static const ps_attr_def regex_attrs[] = { PS_A_STR(regex_params, pattern, NULL), PS_ATTRS_END };

static ps_status regex_prepare(ps_node *node, ps_error *err) {
    regex_params *p = node->params;
    ps_graph *root = node->graph->root;
    PS_NODE_FAIL_IF(!p->pattern, node, err, FORMAT, "attribute 'pattern' is missing");
    ps_status status = ps_regex_compile(&root->arena, root->alloc, p->pattern, strlen(p->pattern), &p->program, err);
    return status == PS_OK ? PS_OK : ps_node_fail(node, err, status);
}

static ps_status regex_infer(const ps_node *node, ps_error *err) {
    PS_TRY(check_strings(node, err));
    ps_infer_set(node, 0, PS_DTYPE_BOOL, &node->in[0]->shape);
    return PS_OK;
}

static ps_status regex_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const regex_params *p = ctx->params;
    const ps_string *s = ctx->in[0]->data;
    uint8_t *out = ctx->out[0]->data;
    void *work = ps_alloc(ctx->alloc, ps_regex_work(p->program));
    if (!work) return PS_FAIL_NOMEM(err, "matching a pattern");
    for (size_t k = 0, n = ps_tensor_count(ctx->in[0]); k < n; k++)
        out[k] = ps_regex_match(p->program, s[k].data, s[k].size, work);
    ps_free(ctx->alloc, work);
    return PS_OK;
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    { "StringConcat", "", 20, 2, 2, 1, 1, NULL, 0, concat_infer, concat_ref, 0 },
    { "StringSplit", "", 20, 1, 1, 2, 2, split_attrs, sizeof(split_params), split_infer, split_ref, PS_OP_DATA_SHAPE },
    { "StringNormalizer", "", 10, 1, 1, 1, 1, normalizer_attrs, sizeof(normalizer_params), normalizer_infer,
      normalizer_ref, PS_OP_DATA_SHAPE, normalizer_prepare },
    { "RegexFullMatch", "", 20, 1, 1, 1, 1, regex_attrs, sizeof(regex_params), regex_infer, regex_ref, 0,
      regex_prepare },
};

const ps_op_family ps_ops_strings = PS_OP_FAMILY("strings", ops);
