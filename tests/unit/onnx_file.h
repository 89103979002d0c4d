/* onnx_file.h - writes a small model's file. For tests. */
#ifndef PS_TEST_ONNX_FILE_H
#define PS_TEST_ONNX_FILE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef struct onnx_bytes {
    uint8_t data[1024];
    size_t n;
} onnx_bytes;

static inline void onnx_put(onnx_bytes *to, int field, const void *data, size_t size) {
    to->data[to->n++] = (uint8_t)(field << 3 | 2);
    to->data[to->n++] = (uint8_t)(size % 128 | (size < 128 ? 0 : 128));
    if (size >= 128) to->data[to->n++] = (uint8_t)(size / 128);
    memcpy(to->data + to->n, data, size);
    to->n += size;
}

static inline void onnx_put_text(onnx_bytes *to, int field, const char *text) {
    onnx_put(to, field, text, strlen(text));
}

static inline void onnx_put_in(onnx_bytes *to, int field, const onnx_bytes *inner) {
    onnx_put(to, field, inner->data, inner->n);
}

static inline void onnx_put_number(onnx_bytes *to, int field, int value) { /* below 128 */
    to->data[to->n++] = (uint8_t)(field << 3);
    to->data[to->n++] = (uint8_t)value;
}

/* f32 [n, 8] */
static inline void onnx_put_end(onnx_bytes *graph, int field, const char *name) {
    onnx_bytes extent[2] = { { .n = 0 } }, shape = { .n = 0 }, tensor = { .n = 0 }, type = { .n = 0 }, end = { .n = 0 };
    onnx_put_text(&extent[0], 2, "n");
    onnx_put_number(&extent[1], 1, 8);
    for (int i = 0; i < 2; i++)
        onnx_put_in(&shape, 1, &extent[i]);
    onnx_put_number(&tensor, 1, 1);
    onnx_put_in(&tensor, 2, &shape);
    onnx_put_in(&type, 1, &tensor);
    onnx_put_text(&end, 1, name);
    onnx_put_in(&end, 2, &type);
    onnx_put_in(graph, field, &end);
}

/* y = Relu(x · w), x [n, 8], w [8, 8] with `scale` in its diagonal. */
static inline void onnx_write_model(const char *path, float scale) {
    onnx_bytes product = { .n = 0 }, relu = { .n = 0 }, w = { .n = 0 }, graph = { .n = 0 }, opset = { .n = 0 };
    onnx_bytes model = { .n = 0 };
    float data[64] = { 0 };
    for (int i = 0; i < 8; i++)
        data[9 * i] = scale;
    onnx_put_text(&product, 1, "x");
    onnx_put_text(&product, 1, "w");
    onnx_put_text(&product, 2, "t");
    onnx_put_text(&product, 4, "MatMul");
    onnx_put_text(&relu, 1, "t");
    onnx_put_text(&relu, 2, "y");
    onnx_put_text(&relu, 4, "Relu");
    onnx_put_number(&w, 1, 8);
    onnx_put_number(&w, 1, 8);
    onnx_put_number(&w, 2, 1);
    onnx_put_text(&w, 8, "w");
    onnx_put(&w, 9, data, sizeof data);
    onnx_put_in(&graph, 1, &product);
    onnx_put_in(&graph, 1, &relu);
    onnx_put_text(&graph, 2, "g");
    onnx_put_in(&graph, 5, &w);
    onnx_put_end(&graph, 11, "x");
    onnx_put_end(&graph, 12, "y");
    onnx_put_number(&opset, 2, 17);
    onnx_put_number(&model, 1, 8);
    onnx_put_in(&model, 7, &graph);
    onnx_put_in(&model, 8, &opset);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(model.data, 1, model.n, f), model.n);
    fclose(f);
}

#endif
