/* demo_model.c - ONNX files from nothing, field by field (onnx.proto3 has the numbers). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "demo.h"

enum { FLOAT = 1, VARINT = 0, BYTES = 2 };

/* ---- the file ---- */

typedef struct message {
    char *data;
    size_t size, room;
} message;

static void put(message *m, const void *data, size_t size) {
    if (m->size + size > m->room) {
        m->room = 2 * (m->size + size);
        m->data = cli_realloc(m->data, m->room, 1);
    }
    if (size) memcpy(m->data + m->size, data, size);
    m->size += size;
}

static void put_varint(message *m, uint64_t v) {
    do {
        const unsigned char byte = (unsigned char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        put(m, &byte, 1);
        v >>= 7;
    } while (v);
}

static void put_number(message *m, uint32_t field, uint64_t v) {
    put_varint(m, field << 3 | VARINT);
    put_varint(m, v);
}

static void put_bytes(message *m, uint32_t field, const void *data, size_t size) {
    put_varint(m, field << 3 | BYTES);
    put_varint(m, size);
    put(m, data, size);
}

static void put_text(message *m, uint32_t field, const char *text) {
    put_bytes(m, field, text, strlen(text));
}

/* Takes `part`. */
static void put_message(message *m, uint32_t field, message *part) {
    put_bytes(m, field, part->data, part->size);
    free(part->data);
    *part = (message) { 0 };
}

/* Uniform, of the variance that keeps activations of the same size (He); the same numbers every time. */
static float draw(uint64_t *state, uint32_t fan_in) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(((double)(*state >> 11) / 9007199254740992.0 - 0.5) * sqrt(24.0 / fan_in));
}

/* TensorProto */
static void put_weights(message *graph, const uint32_t *width, int layer, uint64_t *random) {
    message t = { 0 };
    char name[8];
    const size_t n = (size_t)width[layer] * width[layer + 1];
    float *values = cli_alloc(n, sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = draw(random, width[layer]);
    snprintf(name, sizeof name, "w%d", layer);
    put_number(&t, 1, width[layer]);
    put_number(&t, 1, width[layer + 1]);
    put_number(&t, 2, FLOAT);
    put_text(&t, 8, name);
    put_bytes(&t, 9, values, n * sizeof *values); /* little-endian, as the machine is */
    free(values);
    put_message(graph, 5, &t);
}

/* NodeProto; b NULL: one input. */
static void put_node(message *graph, const char *kind, const char *a, const char *b, const char *output) {
    message node = { 0 };
    put_text(&node, 1, a);
    if (b) put_text(&node, 1, b);
    put_text(&node, 2, output);
    put_text(&node, 4, kind);
    put_message(graph, 1, &node);
}

/* ValueInfoProto: f32[n, columns] */
static void put_value(message *graph, uint32_t field, const char *name, uint32_t columns) {
    message value = { 0 }, type = { 0 }, tensor = { 0 }, shape = { 0 }, dim = { 0 };
    put_text(&dim, 2, "n");
    put_message(&shape, 1, &dim);
    put_number(&dim, 1, columns);
    put_message(&shape, 1, &dim);
    put_number(&tensor, 1, FLOAT);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&value, 1, name);
    put_message(&value, 2, &type);
    put_message(graph, field, &value);
}

static void put_layers(message *graph, const uint32_t *width) {
    uint64_t random = 1;
    char weight[8], in[8] = "x", product[8], out[8];
    for (int i = 0; i < DEMO_LAYERS; i++) {
        const bool last = i + 1 == DEMO_LAYERS;
        snprintf(weight, sizeof weight, "w%d", i);
        snprintf(product, sizeof product, last ? "y" : "p%d", i);
        snprintf(out, sizeof out, "h%d", i);
        put_node(graph, "MatMul", in, weight, product);
        if (!last) put_node(graph, "Relu", product, NULL, out);
        memcpy(in, out, sizeof in);
        put_weights(graph, width, i, &random);
    }
}

bool demo_model_write(const char *path, const uint32_t width[DEMO_LAYERS + 1]) {
    message model = { 0 }, opset = { 0 }, graph = { 0 };
    put_layers(&graph, width);
    put_text(&graph, 2, "demo");
    put_value(&graph, 11, "x", width[0]);
    put_value(&graph, 12, "y", width[DEMO_LAYERS]);
    put_number(&model, 1, 8); /* IR version */
    put_text(&opset, 1, "");
    put_number(&opset, 2, 17);
    put_message(&model, 8, &opset);
    put_message(&model, 7, &graph);
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(model.data, 1, model.size, file) == model.size;
    if (file && fclose(file) != 0) ok = false;
    free(model.data);
    return ok;
}
