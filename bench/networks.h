/* networks.h - ResNet-50 (He et al. 2015, v1.5 strides) with made-up weights as a graph's text, for measurements. */
#ifndef PS_BENCH_NETWORKS_H
#define PS_BENCH_NETWORKS_H

#include <math.h>

#include "base/str.h"

typedef struct net {
    ps_str text;
    int n; /* convolutions so far: their numbers name weights and values */
} net;

/* v0 is the input, from the host or on the device. */
static inline void begin(net *t, bool resident, const char *dims) {
    if (resident)
        ps_str_printf(&t->text, "graph (s: f32[1]) -> (y) opset 20 {\n  i: f32[%s] = random(99)\n  v0 = Add(i, s)\n",
                      dims);
    else
        ps_str_printf(&t->text, "graph (v0: f32[%s]) -> (y) opset 20 {\n", dims);
}

/* v<n> = Relu(Conv(from)); returns n. Weights are scaled down by the fan-in, as trained ones are. */
static inline int conv(net *t, int from, int in, int out, int kernel, int stride, bool relu) {
    const int n = ++t->n, pad = kernel / 2;
    ps_str_printf(&t->text, "  r%d: f32[%d,%d,%d,%d] = random(%d)\n  k%d: f32[] = {%.9g}\n  w%d = Mul(r%d, k%d)\n", n,
                  out, in, kernel, kernel, n, n, sqrt(6.0 / (in * kernel * kernel)), n, n, n);
    ps_str_printf(&t->text,
                  "  b%d: f32[%d] = random(%d)\n  c%d = Conv(v%d, w%d, b%d) {strides=[%d,%d], pads=[%d,%d,%d,%d]}\n", n,
                  out, n + 100, n, from, n, n, stride, stride, pad, pad, pad, pad);
    ps_str_printf(&t->text, relu ? "  v%d = Relu(c%d)\n" : "  v%d = Identity(c%d)\n", n, n);
    return n;
}

static inline int block(net *t, int from, int in, int middle, int stride) {
    const int a = conv(t, from, in, middle, 1, 1, true), b = conv(t, a, middle, middle, 3, stride, true);
    const int side = in == 4 * middle && stride == 1 ? from : conv(t, from, in, 4 * middle, 1, stride, false);
    const int c = conv(t, b, middle, 4 * middle, 1, 1, false), sum = ++t->n;
    ps_str_printf(&t->text, "  s%d = Add(v%d, v%d)\n  h%d: f32[] = {0.5}\n  m%d = Mul(s%d, h%d)\n  v%d = Relu(m%d)\n",
                  sum, c, side, sum, sum, sum, sum, sum, sum);
    return sum;
}

static inline void classify(net *t, int at, int channels) {
    ps_str_printf(&t->text,
                  "  g = GlobalAveragePool(v%d)\n  f = Flatten(g)\n  wf: f32[%d,1000] = random(7)\n"
                  "  y = MatMul(f, wf)\n}\n",
                  at, channels);
}

static inline void resnet50(net *t, int batch, bool resident) {
    static const int counts[] = { 3, 4, 6, 3 };
    int in = 64;
    char dims[64];
    ps_snprintf(dims, sizeof dims, "%d,3,224,224", batch);
    begin(t, resident, dims);
    int at = conv(t, 0, 3, 64, 7, 2, true), pooled = ++t->n;
    ps_str_printf(&t->text, "  v%d = MaxPool(v%d) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]}\n", pooled, at);
    at = pooled;
    for (int stage = 0; stage < 4; stage++) {
        for (int i = 0; i < counts[stage]; i++, in = 256 << stage)
            at = block(t, at, in, 64 << stage, i == 0 && stage ? 2 : 1);
    }
    classify(t, at, 2048);
}

#endif
