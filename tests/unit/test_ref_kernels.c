/* What every reference kernel promises whatever it computes: its result does not depend on the number of threads, and a
 * failed allocation, whichever it is, gives PS_NO_MEMORY and leaks nothing. And the row helpers that the kernels share.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ops/kernel_util.h"
#include "ops/ops.h"

enum { MAX_PORTS = 16 };

/* The allocation that fails, counted down to 0; negative: none. */
static long countdown = -1;
static ps_alloc_state alloc;

static void *failing_alloc(void *ctx, size_t size, size_t align) {
    (void)ctx;
    if (countdown >= 0 && countdown-- == 0) return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void failing_free(void *ctx, void *ptr, size_t size) {
    (void)ctx, (void)size;
    free(ptr);
}

static int setup(void **state) {
    (void)state;
    const ps_allocator user = { failing_alloc, failing_free, NULL };
    countdown = -1;
    ps_alloc_state_init(&alloc, &user);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return atomic_load(&alloc.bytes) == 0 ? 0 : -1; /* nothing leaks */
}

/* One node each; f16 makes kernels widen their operands, which allocates. */
static const char *const nodes[] = {
    "(x: f16[2,4,6,5], w: f16[6,2,3,3], b: f16[6]) -> (y) { y = Conv(x, w, b) {group=2, pads=[1,0,1,2]} }",
    "(x: f16[2,4,6], w: f16[4,3,3], b: f16[3]) -> (y) { y = ConvTranspose(x, w, b) {strides=[2]} }",
    "(x: f32[2,4,6]) -> (y, i) { y, i = MaxPool(x) {kernel_shape=[3]} }",
    "(x: f32[2,4,6]) -> (y) { y = AveragePool(x) {kernel_shape=[3], pads=[1,1]} }",
    "(x: f32[7,5,6]) -> (y) { y = GlobalAveragePool(x) }",
    "(x: f32[2,3,4], s: f32[3], b: f32[3], m: f32[3], v: f32[3]) -> (y, n, w) "
    "{ y, n, w = BatchNormalization(x, s, b, m, v) {training_mode=1, epsilon=100.0} }",
    "(x: f32[2,4,3], s: f32[4], b: f32[4]) -> (y) { y = InstanceNormalization(x, s, b) }",
    "(x: f32[2,4,3], s: f32[4], b: f32[4]) -> (y) { y = GroupNormalization(x, s, b) {num_groups=2} }",
    "(x: f32[9,4], s: f32[4], b: f32[4]) -> (y, m, i) { y, m, i = LayerNormalization(x, s, b) }",
    "(x: f32[2,4,3]) -> (y) { y = LRN(x) {size=3} }",
    "(a: f16[3,2,5], b: f16[5,4]) -> (y) { y = MatMul(a, b) }",
    "(a: f16[5,3], b: f16[4,5], c: f16[4]) -> (y) { y = Gemm(a, b, c) {transA=1, transB=1} }",
    "(x: f32[40,3]) -> (y) { y = Softmax(x) }",
    "(x: f16[3,2,4], w: f16[2,12,4], r: f16[2,12,3], b: f16[2,24], h: f16[2,2,3], c: f16[2,2,3]) -> (y, n, d) "
    "{ y, n, d = LSTM(x, w, r, b, _, h, c) {hidden_size=3, direction=\"bidirectional\"} }",
    "(x: f32[3,2,4], w: f32[1,9,4], r: f32[1,9,3]) -> (y) { y = GRU(x, w, r) {hidden_size=3} }",
    "(x: f16[2,3,4], w: f16[5,3,1], b: f16[5], r: f16[5,1]) -> (y) "
    "{ y = polestar.Conv(x, w, b, r) {post_op=[17,3,0,-1], post_arg=[0.0,0.0,0.0,0.0]} }",
    "(a: f32[3,5], b: f32[5,4], c: f32[4]) -> (y) { y = polestar.MatMul(a, b, c) {post_op=[0,-1], post_arg=[0.0,0.0]} "
    "}",
    "(q: f16[2,3,8], m: f16[3,3]) -> (y) { y = polestar.Attention(q, q, q, m) {heads=2, scale=0.5} }",
    "(x: f32[3,900]) -> (y) { y = polestar.Pointwise(x) {post_op=[4,-1], post_arg=[0.0,0.0]} }",
    "(a: f16[3,2,4], b: f16[4,3], c: f16[3]) -> (y) { y = Einsum(a, b, c) {equation=\"...ij,jk,k->k...i\"} }",
    "(x: f32[3,67,2]) -> (y) { y = DFT(x) }",
    "(x: f32[2,12,2]) -> (y) { y = DFT(x) {inverse=1} }",
    "(x: f16[2,2,5,6], w: f16[4,1,2,2], o: f16[2,16,4,5], b: f16[4], m: f16[2,8,4,5]) -> (y) "
    "{ y = DeformConv(x, w, o, b, m) {group=2, offset_group=2} }",
    "(x: f32[120,2,3,4], r: f32[4,4], i: i64[4]) -> (y) { y = RoiAlign(x, r, i) {output_height=3, output_width=2} }",
    "(x: f32[5,4,4]) -> (y) { y = Det(x) }",
    "(x: f32[4,120,3], t: i64[4,3], w: f32[120]) -> (y, p) { y, p = SoftmaxCrossEntropyLoss(x, t, w) }",
    "(x: f32[4,5]) -> (y) { y = Multinomial(x) {seed=1.0, sample_size=9} }",
    "(x: f32[90,80]) -> (y) { y = RandomNormalLike(x) {seed=1.0} }",
    "(x: i8[1,2,4,5], g: f32[1,3,3,2]) -> (y) { y = GridSample(x, g) }",
    "(x: f16[5,9,33], s: f16[5,3,33]) -> (y) { y = QuantizeLinear(x, s) {block_size=4} }",
    "(x: i4[5,33], s: f32[5], z: i4[5]) -> (y) { y = DequantizeLinear(x, s, z) {axis=0} }",
    "(x: i4[5,33]) -> (y) { y = Transpose(x) }",
    "(x: u8[2,5,7], s: f32, z: u8, w: i8[7,3], v: f32[3], k: i8[3]) -> (y) "
    "{ y = QLinearMatMul(x, s, z, w, v, k, s, z) }",
    "(x: u8[2,3,5], s: f32, z: u8, w: i8[4,3,2], v: f32[4], k: i8[4], b: i32[4]) -> (y) "
    "{ y = QLinearConv(x, s, z, w, v, k, s, z, b) {pads=[1,0]} }",
    "(x: u8[2,5,3], s: f32, z: u8, w: i8[4,3,2], v: f32[4], k: i8[4]) -> (y) "
    "{ y = com.microsoft.QLinearConv(x, s, z, w, v, k, s, z) {channels_last=1} }",
    "(x: u8[2,3,5], w: u8[4,3,2]) -> (y) { y = ConvInteger(x, w) }",
    "(x: f32[2,5], w: u8[5,4], s: f32[4]) -> (y) { y = com.microsoft.DynamicQuantizeMatMul(x, w, s) }",
    "(x: u8[5,2], s: f32, z: u8, w: u8[5,4], c: i32[4]) -> (y) "
    "{ y = com.microsoft.QGemm(x, s, z, w, s, z, c) {transA=1} }",
    "(x: u8[40,3], s: f32, z: u8) -> (y) { y = com.microsoft.QLinearSoftmax(x, s, z, s, z) {opset=13} }",
    "(x: u8[2,7,6,3], s: f32, z: u8) -> (y) "
    "{ y = com.microsoft.QLinearAveragePool(x, s, z, s, z) {kernel_shape=[2,3], channels_last=1} }",
    "(x: f16[3,40], w: u8[6,3,8], s: f16[6,3]) -> (y) "
    "{ y = com.microsoft.MatMulNBits(x, w, s) {K=40, N=6, block_size=16} }",
    "(x: u8[2,3,5], w: i8[5,12], b: f32[12], s: f32, z: u8, p: f32[2,2,2,3,2]) -> (y, n) "
    "{ y, n = com.microsoft.QAttention(x, w, b, s, s, _, z, _, p) {num_heads=2} }",
    "(x: f32[3,2,4], w: u8[2,4,12], r: u8[2,3,12], s: f32[2,12], z: u8[2,12]) -> (y) "
    "{ y = com.microsoft.DynamicQuantizeLSTM(x, w, r, _, _, _, _, _, s, z, s, z) "
    "{hidden_size=3, direction=\"bidirectional\"} }",
    "(x: f16[2,3,5], w: f16[5,12], b: f16[12], m: i32[2,5], p: f16[2,2,2,2,2]) -> (y, n) "
    "{ y, n = com.microsoft.Attention(x, w, b, m, p) {num_heads=2} }",
    "(q: f16[2,3,4], k: f16[2,3,4], b: f16[12], p: f16[2,2,4,2]) -> (y, n, m, s) "
    "{ y, n, m, s = com.microsoft.MultiHeadAttention(q, k, k, b, _, _, p, p) {num_heads=2, unidirectional=1} }",
    "(x: f32[9,40,4], s: f32[40,4], g: f32[4]) -> (y, t) "
    "{ y, _, _, t = com.microsoft.SkipLayerNormalization(x, s, g, g, g) }",
    "(x: f16[2,3,3,4], g: f16[4]) -> (y) { y = com.microsoft.GroupNorm(x, g, g) {groups=2, activation=1} }",
    "(a: f16[4,2,3], b: f16[2,5,4]) -> (y) "
    "{ y = com.microsoft.FusedMatMul(a, b) {transBatchA=1, transA=1, transB=1, alpha=0.5} }",
    "(a: f16[3,5], b: f16[5,4], c: f16[4]) -> (y) { y = com.microsoft.FusedGemm(a, b, c) {activation=\"Tanh\"} }",
    "(x: f16[2,6,5,4], w: f16[6,2,3,3], z: f16[2,4,3,6]) -> (y) "
    "{ y = com.microsoft.NhwcFusedConv(x, w, _, z) {group=2, activation=\"Relu\"} }",
    "(x: f16[2,9,600], b: f16[600]) -> (y) { y = com.microsoft.FastGelu(x, b) }",
    "(x: f32[2,9,6], b: f32[6]) -> (y) { y = com.microsoft.BiasSplitGelu(x, b) }",
    "(x: f32[2,9,6], b: f32[2,1,6]) -> (y) { y = com.microsoft.BiasSoftmax(x, b) {axis=2, is_inner_broadcast=1} }",
    "(x: f32[2,4,4]) -> (y) { y = com.microsoft.Inverse(x) }",
    "(a: f32[3,4], b: f32[5,4]) -> (y) { y = com.microsoft.CDist(a, b) }",
    "(x: f16[9,4], r: f16[9,3], a: f16[3,6,4], b: f16[3,6], c: f16[3,4,6]) -> (y) "
    "{ y = com.microsoft.MoE(x, r, a, b, c) {k=2, activation_type=\"silu\"} }",
    "(x: f32[2,9,8]) -> (y) { y = com.microsoft.Rfft(x) {signal_ndim=1} }",
    "(x: f32[2,9,8]) -> (y) { y = com.microsoft.UnfoldTensor(x) {dim=1, size=3} }",
};
enum { N_NODES = sizeof nodes / sizeof nodes[0] };

static void fill(ps_tensor *t) {
    double *row = calloc(ps_tensor_count(t) + 1, sizeof *row);
    uint32_t seed = 12345;
    for (size_t i = 0; i < ps_tensor_count(t); i++) {
        seed = seed * 1664525u + 1013904223u;
        row[i] = (double)(seed >> 8) / (1 << 23) - 1;
        if (!ps_dtype_is_float(t->dtype)) row[i] = ps_dtype_size(t->dtype) ? floor((row[i] + 1) * 60) : seed >> 30;
    }
    ps_row_store(t->data, t->dtype, 0, 1, row, (int64_t)ps_tensor_count(t));
    free(row);
}

typedef struct node_run {
    ps_graph *g;
    const ps_tensor *in[MAX_PORTS];
    ps_tensor *owned[MAX_PORTS];
    ps_tensor *out[MAX_PORTS];
} node_run;

static void node_run_init(node_run *r, const char *text) {
    char whole[512];
    ps_error err = PS_ERROR_INIT;
    *r = (node_run) { 0 };
    const char *body = strchr(text, '{');
    snprintf(whole, sizeof whole, "graph g %.*s opset 21, polestar 1 %s", (int)(body - text), text, body);
    if (ps_graph_parse(&alloc, whole, &r->g, &err) != PS_OK || ps_ops_resolve(r->g, &err) != PS_OK ||
        ps_ops_infer(r->g, &err) != PS_OK)
        fail_msg("%s: %s", text, err.msg);
    const ps_node *n = r->g->first;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        assert_int_equal(ps_tensor_new(&alloc, n->in[i]->dtype, &n->in[i]->shape, &r->owned[i], NULL), PS_OK);
        fill(r->owned[i]);
        r->in[i] = r->owned[i];
    }
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i])
            assert_int_equal(ps_tensor_new(&alloc, n->out[i]->dtype, &n->out[i]->shape, &r->out[i], NULL), PS_OK);
}

static void node_run_release(node_run *r) {
    for (size_t i = 0; i < MAX_PORTS; i++) {
        ps_tensor_release(r->owned[i]);
        ps_tensor_release(r->out[i]);
    }
    ps_graph_free(r->g);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    for (size_t i = 0; i < N_NODES; i++) {
        node_run one, many;
        node_run_init(&one, nodes[i]);
        node_run_init(&many, nodes[i]);
        assert_int_equal(ps_ops_run_ref(one.g->first, one.in, one.out, &alloc, 1, NULL), PS_OK);
        assert_int_equal(ps_ops_run_ref(many.g->first, many.in, many.out, &alloc, 5, NULL), PS_OK);
        for (uint32_t k = 0; k < one.g->first->n_out; k++)
            if (one.out[k] && memcmp(one.out[k]->data, many.out[k]->data, one.out[k]->bytes))
                fail_msg("%s: output %u", nodes[i], k);
        node_run_release(&one);
        node_run_release(&many);
    }
}

static void allocation_failures(void **state) {
    (void)state;
    for (size_t i = 0; i < N_NODES; i++) {
        node_run r;
        node_run_init(&r, nodes[i]);
        const size_t before = atomic_load(&alloc.bytes);
        ps_status status = PS_NO_MEMORY;
        for (long n = 0; status != PS_OK; n++) {
            ps_error err = PS_ERROR_INIT;
            countdown = n;
            status = ps_ops_run_ref(r.g->first, r.in, r.out, &alloc, 2, &err);
            countdown = -1;
            if (status != PS_OK && (status != PS_NO_MEMORY || !err.msg[0])) fail_msg("%s: %s", nodes[i], err.msg);
            assert_int_equal(atomic_load(&alloc.bytes), before);
            assert_true(n < 100);
        }
        node_run_release(&r);
    }
}

/* Every type: what is stored comes back, strides skip what lies between. */
static void rows(void **state) {
    (void)state;
    static const ps_dtype types[] = { PS_DTYPE_F32,        PS_DTYPE_F64,      PS_DTYPE_F16,        PS_DTYPE_BF16,
                                      PS_DTYPE_U8,         PS_DTYPE_I8,       PS_DTYPE_U16,        PS_DTYPE_I16,
                                      PS_DTYPE_U32,        PS_DTYPE_I32,      PS_DTYPE_U64,        PS_DTYPE_I64,
                                      PS_DTYPE_BOOL,       PS_DTYPE_F8E4M3FN, PS_DTYPE_F8E4M3FNUZ, PS_DTYPE_F8E5M2,
                                      PS_DTYPE_F8E5M2FNUZ, PS_DTYPE_F4E2M1,   PS_DTYPE_U4,         PS_DTYPE_I4,
                                      PS_DTYPE_U2,         PS_DTYPE_I2,       PS_DTYPE_F6E2M3,     PS_DTYPE_F6E3M2 };
    static const double values[] = { 1, 0, 1 };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        double back[7], memory[7] = { 0 };
        ps_row_store(memory, types[i], 1, 2, values, 3);
        ps_row_load(back, types[i], memory, 0, 1, 7);
        for (int k = 0; k < 7; k++)
            assert_true(back[k] == (k % 2 ? values[k / 2] : 0));
        ps_row_load(back, types[i], memory, 5, -2, 3);
        for (int k = 0; k < 3; k++)
            assert_true(back[k] == values[2 - k]);
    }
}

static void broadcast_reads(void **state) {
    (void)state;
    float data[6] = { 0, 1, 2, 3, 4, 5 };
    const ps_shape own = ps_shape_make(3, (int64_t[]) { 2, 1, 3 }), to = ps_shape_make(4, (int64_t[]) { 2, 2, 4, 3 });
    const ps_shape scalar = ps_shape_make(0, NULL);
    ps_tensor t;
    ps_bcast b;
    double got[48];
    ps_tensor_init_view(&t, PS_DTYPE_F32, &own, data);
    assert_true(ps_bcast_init(&b, &t, &to));
    ps_bcast_load(&b, 0, 48, got);
    for (int i = 0; i < 48; i++)
        assert_true(got[i] == data[i / 12 % 2 * 3 + i % 3]);
    ps_bcast_load(&b, 17, 5, got); /* a range that starts and ends within rows */
    for (int i = 0; i < 5; i++)
        assert_true(got[i] == data[(i + 17) / 12 % 2 * 3 + (i + 17) % 3]);
    assert_false(ps_bcast_init(&b, &t, &scalar));
    assert_false(ps_bcast_init(&b, &t, &(ps_shape) { 3, { 2, 2, 4 } }));
    ps_tensor_init_view(&t, PS_DTYPE_F32, &scalar, data + 4);
    assert_true(ps_bcast_init(&b, &t, &scalar));
    ps_bcast_load(&b, 0, 1, got);
    assert_true(got[0] == 4);
}

/* Elements of sixteen bytes, which no case file can hold: whole ones move, both halves, whatever is broadcast. */
static void where_complex(void **state) {
    (void)state;
    static const char text[] = "(c: bool[2,1], a: c128[3], b: c128[2,3]) -> (y) { y = Where(c, a, b) }";
    static const double a[] = { 1, -1, 2, -2, 3, -3 };
    static const double b[] = { 10, 10.5, 20, 20.5, 30, 30.5, 40, 40.5, 50, 50.5, NAN, INFINITY };
    static const double want[] = { 10, 10.5, 20, 20.5, 30, 30.5, 1, -1, 2, -2, 3, -3 };
    node_run r;
    node_run_init(&r, text);
    memcpy(r.owned[0]->data, (const uint8_t[]) { 0, 1 }, 2);
    memcpy(r.owned[1]->data, a, sizeof a);
    memcpy(r.owned[2]->data, b, sizeof b);
    assert_int_equal(ps_ops_run_ref(r.g->first, r.in, r.out, &alloc, 3, NULL), PS_OK);
    assert_int_equal(r.out[0]->dtype, PS_DTYPE_C128);
    assert_int_equal(r.out[0]->bytes, sizeof want);
    assert_memory_equal(r.out[0]->data, want, sizeof want);
    memcpy(r.owned[0]->data, (const uint8_t[]) { 1, 0 }, 2);
    assert_int_equal(ps_ops_run_ref(r.g->first, r.in, r.out, &alloc, 1, NULL), PS_OK);
    assert_memory_equal(r.out[0]->data, a, sizeof a);
    assert_memory_equal((const uint8_t *)r.out[0]->data + sizeof a, (const uint8_t *)b + sizeof a, sizeof a);
    node_run_release(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(threads_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(allocation_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(rows, setup, teardown),
        cmocka_unit_test_setup_teardown(broadcast_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(where_complex, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
