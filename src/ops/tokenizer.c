/* tokenizer.c - com.microsoft Tokenizer, which skl2onnx puts before TfIdfVectorizer.
 *
 * Tokens are single characters (one empty separator), what matches a pattern (tokenexp), or what stands between
 * matches of the separators, which are patterns too. Rows are filled up with pad_value.
 *
 * Source: com.microsoft operator docs, Tokenizer-1; where they leave room, what ONNX Runtime does. */
#include "base/vec.h"
#include "ops/kernel_util.h"
#include "ops/move.h"
#include "ops/regex.h"
#include "ops/unicode.h"

typedef struct tokenizer_params {
    const char *pad_value, *tokenexp;
    int64_t mark, mincharnum;
    ps_strings separators;
    /* made by prepare: one of tokenexp, or one a separator; none: characters */
    const ps_regex **programs;
    size_t n_programs, work; /* bytes of working memory for the largest */
} tokenizer_params;

static const ps_attr_def tokenizer_attrs[] = {
    PS_A_STR(tokenizer_params, pad_value, ""),  PS_A_STR(tokenizer_params, tokenexp, ""),
    PS_A_INT(tokenizer_params, mark, 0),        PS_A_INT(tokenizer_params, mincharnum, 1),
    PS_A_STRINGS(tokenizer_params, separators), PS_ATTRS_END
};

static ps_status compile_pattern(ps_node *node, const char *pattern, ps_error *err) {
    tokenizer_params *p = node->params;
    ps_graph *root = node->graph->root;
    const ps_regex **place = &p->programs[p->n_programs++];
    ps_status status = ps_regex_compile(&root->arena, root->alloc, pattern, strlen(pattern), place, err);
    if (status != PS_OK) return ps_node_fail(node, err, status);
    if (ps_regex_work(*place) > p->work) p->work = ps_regex_work(*place);
    return PS_OK;
}

static ps_status tokenizer_prepare(ps_node *node, ps_error *err) {
    tokenizer_params *p = node->params;
    bool expression = p->tokenexp[0] != 0, characters = p->separators.n == 1 && !p->separators.data[0][0];
    PS_NODE_FAIL_IF(expression == (p->separators.n > 0), node, err, FORMAT,
                    "one of tokenexp and separators is needed, and only one");
    PS_NODE_FAIL_IF(p->mincharnum < 1 || (characters && p->mincharnum > 1), node, err, FORMAT, "mincharnum is %lld",
                    (long long)p->mincharnum);
    if (characters) return PS_OK;
    p->programs = ps_arena_array(&node->graph->root->arena, p->separators.n + 1, sizeof *p->programs);
    if (!p->programs) return PS_FAIL_NOMEM(err, "the patterns of a Tokenizer");
    if (expression) return compile_pattern(node, p->tokenexp, err);
    for (size_t k = 0; k < p->separators.n; k++) {
        PS_NODE_FAIL_IF(!p->separators.data[k][0], node, err, FORMAT, "separator %zu is empty", k);
        PS_TRY(compile_pattern(node, p->separators.data[k], err));
    }
    return PS_OK;
}

static ps_status tokenizer_infer(const ps_node *node, ps_error *err) {
    ps_shape shape = node->in[0]->shape;
    ps_dtype t = node->in[0]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_STRING, node, err, TYPE, "the input is %s, not string",
                    ps_dtype_name(t));
    PS_NODE_FAIL_IF(shape.rank == 0 || shape.rank > 2, node, err, SHAPE, "input %s is neither [C] nor [N,C]",
                    PS_SHAPE_TEXT(&shape));
    if (shape.rank > 0) shape.dims[shape.rank++] = PS_DIM_UNKNOWN;
    ps_infer_set(node, 0, PS_DTYPE_STRING, &shape);
    return PS_OK;
}

typedef PS_VEC(ps_string) token_list;

typedef struct tokenizer_job {
    const ps_kernel_ctx *ctx;
    token_list tokens; /* of all strings, into their bytes */
    token_list parts;  /* of one string, while separators are applied */
    size_t *ends;      /* of each string: behind its last token */
    void *work;
} tokenizer_job;

static bool long_enough(const tokenizer_job *job, const char *text, size_t size) {
    int64_t chars = 0, least = ((const tokenizer_params *)job->ctx->params)->mincharnum;
    for (size_t at = 0, n; at < size && chars < least; at += n, chars++)
        ps_rune_decode(text + at, size - at, &n);
    return chars >= least;
}

static ps_status add(tokenizer_job *job, token_list *list, const char *text, size_t size, ps_error *err) {
    ps_string token = { text, size };
    if (!long_enough(job, text, size)) return PS_OK;
    return ps_vec_push(job->ctx->alloc, list, token) ? PS_OK : PS_FAIL_NOMEM(err, "tokens");
}

static size_t rune_bytes(const char *text, size_t size, size_t at) {
    size_t n = 1;
    if (at < size) ps_rune_decode(text + at, size - at, &n);
    return n;
}

static ps_status characters(tokenizer_job *job, const ps_string *s, ps_error *err) {
    for (size_t at = 0, n; at < s->size; at += n) {
        PS_NODE_FAIL_IF(ps_rune_decode(s->data + at, s->size - at, &n) < 0, job->ctx->node, err, INVALID,
                        "a string is not UTF-8 at byte %zu", at);
        PS_TRY(add(job, &job->tokens, s->data + at, n, err));
    }
    return PS_OK;
}

/* A match that is too short to be a token is passed by one character. */
static ps_status matches(tokenizer_job *job, const ps_string *s, ps_error *err) {
    const tokenizer_params *p = job->ctx->params;
    size_t at = 0, begin, end;
    while (at <= s->size && ps_regex_find(p->programs[0], s->data, s->size, at, &begin, &end, job->work)) {
        bool token = end > begin && long_enough(job, s->data + begin, end - begin);
        if (token) PS_TRY(add(job, &job->tokens, s->data + begin, end - begin, err));
        at = token ? end : begin + rune_bytes(s->data, s->size, begin);
    }
    return PS_OK;
}

/* What stands between matches of one separator in one part, appended to the tokens. */
static ps_status split_part(tokenizer_job *job, const ps_regex *separator, const ps_string *s, ps_error *err) {
    size_t at = 0, begin, end;
    while (at <= s->size && ps_regex_find(separator, s->data, s->size, at, &begin, &end, job->work)) {
        PS_TRY(add(job, &job->tokens, s->data + at, begin - at, err));
        at = end > begin ? end : begin + rune_bytes(s->data, s->size, begin);
    }
    return at < s->size ? add(job, &job->tokens, s->data + at, s->size - at, err) : PS_OK;
}

/* Each separator splits what the ones before have left. */
static ps_status between(tokenizer_job *job, const ps_string *s, ps_error *err) {
    const tokenizer_params *p = job->ctx->params;
    size_t first = job->tokens.size;
    if (!s->size) return PS_OK;
    if (!ps_vec_push(job->ctx->alloc, &job->tokens, *s)) return PS_FAIL_NOMEM(err, "tokens");
    for (size_t k = 0; k < p->n_programs; k++) {
        job->parts.size = 0;
        for (size_t i = first; i < job->tokens.size; i++)
            if (!ps_vec_push(job->ctx->alloc, &job->parts, job->tokens.data[i])) return PS_FAIL_NOMEM(err, "tokens");
        job->tokens.size = first;
        for (size_t i = 0; i < job->parts.size; i++)
            PS_TRY(split_part(job, p->programs[k], &job->parts.data[i], err));
    }
    return PS_OK;
}

static ps_status tokenize(tokenizer_job *job, ps_error *err) {
    const tokenizer_params *p = job->ctx->params;
    const ps_string *s = job->ctx->in[0]->data;
    for (size_t k = 0, n = ps_tensor_count(job->ctx->in[0]); k < n; k++) {
        ps_string text = { s[k].data ? s[k].data : "", s[k].size };
        PS_TRY(!p->n_programs   ? characters(job, &text, err)
               : p->tokenexp[0] ? matches(job, &text, err)
                                : between(job, &text, err));
        job->ends[k] = job->tokens.size;
    }
    return PS_OK;
}

/* One row: the begin of the text, its tokens, the end of the text, what fills up. */
static ps_status write_row(tokenizer_job *job, size_t row, size_t width, ps_error *err) {
    const tokenizer_params *p = job->ctx->params;
    ps_tensor *out = job->ctx->out[0];
    size_t to = row * width;
    if (p->mark) PS_TRY(ps_tensor_set_string(out, to++, "\x02", 1, err));
    for (size_t i = row ? job->ends[row - 1] : 0; i < job->ends[row]; i++)
        PS_TRY(ps_tensor_set_string(out, to++, job->tokens.data[i].data, job->tokens.data[i].size, err));
    if (p->mark) PS_TRY(ps_tensor_set_string(out, to++, "\x03", 1, err));
    while (to < (row + 1) * width)
        PS_TRY(ps_tensor_set_string(out, to++, p->pad_value, strlen(p->pad_value), err));
    return PS_OK;
}

static ps_status tokenizer_run(tokenizer_job *job, ps_error *err) {
    const tokenizer_params *p = job->ctx->params;
    ps_shape shape = job->ctx->in[0]->shape;
    size_t n = ps_tensor_count(job->ctx->in[0]), most = 0;
    PS_TRY(tokenize(job, err));
    for (size_t k = 0; k < n; k++) {
        size_t count = job->ends[k] - (k ? job->ends[k - 1] : 0);
        if (count > most) most = count;
    }
    size_t width = most ? most + (p->mark ? 2 : 0) : 0; /* no marks around nothing at all */
    shape.dims[shape.rank++] = (int64_t)width;
    PS_TRY(ps_move_output(job->ctx, 0, PS_DTYPE_STRING, &shape, err));
    for (size_t k = 0; k < n && width; k++)
        PS_TRY(write_row(job, k, width, err));
    return PS_OK;
}

static ps_status tokenizer_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const tokenizer_params *p = ctx->params;
    tokenizer_job job = { .ctx = ctx };
    job.ends = ps_alloc_array(ctx->alloc, ps_tensor_count(ctx->in[0]), sizeof *job.ends);
    job.work = ps_alloc(ctx->alloc, p->work);
    ps_status status = job.ends && job.work ? tokenizer_run(&job, err) : PS_FAIL_NOMEM(err, "tokens");
    ps_free(ctx->alloc, job.work);
    ps_free(ctx->alloc, job.ends);
    ps_vec_release(ctx->alloc, &job.tokens);
    ps_vec_release(ctx->alloc, &job.parts);
    return status;
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits, preparation */
    { "Tokenizer", "com.microsoft", 1, 1, 1, 1, 1, tokenizer_attrs, sizeof(tokenizer_params), tokenizer_infer,
      tokenizer_ref, PS_OP_DATA_SHAPE, tokenizer_prepare },
};

const ps_op_family ps_ops_tokenizer = PS_OP_FAMILY("tokenizer", ops);
