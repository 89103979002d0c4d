/* demo_medical.c - synthetic pictures for the two networks of tests/models, which were trained on such: a slice of a
 * body with an organ and lesions, a volume of a head. No patient data, no clinical meaning. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

static double between(uint64_t *random, double low, double high) {
    return low + (high - low) * cli_random(random);
}

static int below(uint64_t *random, int n) {
    return (int)(cli_random(random) * n);
}

/* 0 to 1, steep at 0. */
static double step(double v) {
    return 1 / (1 + exp(-v));
}

static double square(double v) {
    return v * v;
}

/* Random numbers on a coarse grid of n in each direction, linear in between; two-dimensional ones have one layer. */
enum { COARSE_MOST = 10 };
typedef struct clouds {
    int n, layers;
    float at[COARSE_MOST * COARSE_MOST * COARSE_MOST];
} clouds;

static void draw_clouds(uint64_t *random, int n, bool flat, clouds *ret) {
    ret->n = n;
    ret->layers = flat ? 1 : n;
    for (int i = 0; i < ret->layers * n * n; i++)
        ret->at[i] = (float)cli_random_normal(random);
}

static double along(const clouds *c, int layer, int row, double x) {
    const float *at = c->at + (layer * c->n + row) * c->n;
    const int i = (int)x < c->n - 2 ? (int)x : c->n - 2;
    return at[i] + (x - i) * (double)(at[i + 1] - at[i]);
}

static double in_layer(const clouds *c, int layer, double y, double x) {
    const int i = (int)y < c->n - 2 ? (int)y : c->n - 2;
    const double a = along(c, layer, i, x), b = along(c, layer, i + 1, x);
    return a + (y - i) * (b - a);
}

/* x, y, z: 0 to 1. */
static double cloud(const clouds *c, double z, double y, double x) {
    const double last = c->n - 1;
    if (c->layers == 1) return in_layer(c, 0, y * last, x * last);
    z *= last;
    const int i = (int)z < c->n - 2 ? (int)z : c->n - 2;
    const double a = in_layer(c, i, y * last, x * last), b = in_layer(c, i + 1, y * last, x * last);
    return a + (z - i) * (b - a);
}

/* What the networks take: the picture in 256 steps, (u8 / 255 - 0.5) / 0.25. */
static float pixel(double v) {
    return (float)((floor(fmin(fmax(v, 0), 1) * 255) / 255 - 0.5) / 0.25);
}

static ps_status new_input(ps_engine *engine, int depth, int side, ps_tensor **ret, ps_error *err) {
    const ps_shape flat = { 4, { 1, 1, side, side } }, deep = { 5, { 1, 1, depth, side, side } };
    return ps_tensor_create(engine, PS_DTYPE_F32, depth ? &deep : &flat, ret, err);
}

/* ---- a slice of a body ---- */

enum { SLICE = 128, LESIONS = 3, STRUCTURES = 4, TISSUES = 3 };

typedef struct blob {
    double x, y, size, strength;
} blob;

typedef struct body {
    double x, y, radius, two, three; /* the organ: centre, mean radius, phases of its outline */
    blob structures[STRUCTURES], lesions[LESIONS];
    int n_lesions;
    uint64_t random; /* for the noise that is drawn behind */
} body;

static body draw_body(uint64_t index) {
    body b = { .random = index * 1000003 + 2 };
    uint64_t *r = &b.random;
    b.x = 0.38 + 0.04 * cli_random_normal(r);
    b.y = 0.45 + 0.03 * cli_random_normal(r);
    b.radius = 0.17 + 0.015 * cli_random_normal(r);
    b.two = between(r, 0, 6);
    b.three = between(r, 0, 6);
    for (int i = 0; i < STRUCTURES; i++)
        b.structures[i] =
            (blob) { between(r, 0.55, 0.8), between(r, 0.3, 0.65), between(r, 0.03, 0.06), between(r, -0.08, 0.12) };
    b.n_lesions = below(r, LESIONS + 1);
    for (int i = 0; i < b.n_lesions; i++) {
        const double angle = between(r, 0, 6.28), away = between(r, 0, 0.75) * 0.16;
        b.lesions[i] =
            (blob) { b.x + away * cos(angle), b.y + away * sin(angle), between(r, 0.022, 0.05), between(r, 0.1, 0.17) };
    }
    return b;
}

/* Positive inside of the organ. */
static double depth_in_organ(const body *b, double y, double x) {
    const double angle = atan2(y - b->y, x - b->x);
    const double outline = b->radius + 0.02 * cos(2 * angle + b->two) + 0.012 * cos(3 * angle + b->three);
    return outline - hypot((x - b->x) * 0.9, (y - b->y) * 1.15);
}

/* 0 background, 1 organ, 2 lesion. */
static int tissue(const body *b, double y, double x) {
    if (depth_in_organ(b, y, x) <= 0) return 0;
    for (int i = 0; i < b->n_lesions; i++)
        if (hypot(x - b->lesions[i].x, y - b->lesions[i].y) < b->lesions[i].size) return 2;
    return 1;
}

static double density(const body *b, double y, double x) {
    const double inside = depth_in_organ(b, y, x);
    double v = 0.05 + 0.35 * step((1 - square((x - 0.5) / 0.44) - square((y - 0.5) / 0.36)) * 25);
    v += 0.35 * exp(-square(square((x - 0.5) / 0.05) + square((y - 0.74) / 0.05))); /* the spine */
    v += 0.13 * step(inside * 150);
    for (int i = 0; i < STRUCTURES; i++) {
        const blob *s = &b->structures[i];
        v += s->strength * exp(-(square(x - s->x) + square(y - s->y)) / square(s->size));
    }
    for (int i = 0; i < b->n_lesions && inside > 0; i++) {
        const blob *s = &b->lesions[i];
        v -= s->strength * step((s->size - hypot(x - s->x, y - s->y)) * 150);
    }
    return v;
}

static ps_status slice_input(ps_engine *engine, uint64_t index, ps_tensor **ret, ps_error *err) {
    body b = draw_body(index);
    clouds c;
    draw_clouds(&b.random, 10, true, &c);
    const ps_status status = new_input(engine, 0, SLICE, ret, err);
    float *to = status == PS_OK ? ps_tensor_data(*ret) : NULL;
    for (int i = 0; to && i < SLICE * SLICE; i++) {
        const double row = i / SLICE, column = i % SLICE;
        *to++ =
            pixel(density(&b, row / SLICE, column / SLICE) +
                  0.02 * cloud(&c, 0, row / (SLICE - 1), column / (SLICE - 1)) + 0.035 * cli_random_normal(&b.random));
    }
    return status;
}

static int best_of(const float *scores, size_t classes, size_t apart) {
    size_t best = 0;
    for (size_t k = 1; k < classes; k++)
        if (scores[k * apart] > scores[best * apart]) best = k;
    return (int)best;
}

/* Dice's coefficient of organ and lesions, the mean of those that are there or are seen. */
static double slice_score(const void *knowledge, uint64_t index, const ps_tensor *output, char **ret_said) {
    const body b = draw_body(index);
    const float *scores = ps_tensor_data_const(output);
    double both[TISSUES] = { 0 }, either[TISSUES] = { 0 }, sum = 0;
    int n = 0;
    (void)knowledge;
    *ret_said = NULL;
    if (ps_tensor_elements(output) != TISSUES * SLICE * SLICE || ps_tensor_dtype(output) != PS_DTYPE_F32) return 0;
    for (int i = 0; i < SLICE * SLICE; i++) {
        const int seen = best_of(scores + i, TISSUES, SLICE * SLICE);
        const int is = tissue(&b, (double)(i / SLICE) / SLICE, (double)(i % SLICE) / SLICE);
        both[is] += seen == is;
        either[is]++;
        either[seen]++;
    }
    for (int k = 1; k < TISSUES; k++) {
        if (either[k] == 0) continue;
        sum += 2 * both[k] / either[k];
        n++;
    }
    return n ? sum / n : 1;
}

const demo_subject demo_slice = {
    .folder = "med-ct-seg-synth",
    .what = "segmentation of synthetic slices",
    .inputs = "slices",
    .measure = "Dice",
    .calibrated = 64,
    .tuned = 40,
    .judged = 100,
    .input = slice_input,
    .score = slice_score,
};

/* ---- a volume of a head ---- */

enum { DEPTH = 32, SIDE = 64, VOXELS = DEPTH * SIDE * SIDE, STATES = 3 };

typedef struct head {
    int state; /* 0 normal, 1 a mass, 2 enlarged ventricles */
    double ventricles, gain, across, down;
    double x, y, z, size, strength; /* of the mass */
    uint64_t random;
} head;

static head draw_head(uint64_t index) {
    head h = { .random = index * 1000003 + 3 };
    uint64_t *r = &h.random;
    h.state = below(r, STATES);
    h.ventricles = between(r, 0.8, 1.15) * (h.state == 2 ? 1.65 : 1);
    const double angle = between(r, 0, 6.28), up = between(r, -0.5, 0.5);
    h.x = 0.24 * cos(angle);
    h.y = 0.27 * sin(angle);
    h.z = 0.28 * up;
    h.size = between(r, 0.062, 0.105);
    h.strength = h.state == 1 ? between(r, 0.18, 0.34) : 0;
    h.gain = between(r, 0.85, 1.15);
    h.across = 0.12 * cli_random_normal(r);
    h.down = 0.12 * cli_random_normal(r);
    return h;
}

static double signal_at(const head *h, double z, double y, double x, double cloudy) {
    const double away = square(x / 0.4) + square(y / 0.46) + square(z / 0.46), brain = step((1 - away) * 14);
    double v = 0.5 * brain + 0.25 * exp(-square((away - 1.25) / 0.12)) + 0.07 * cloudy * brain;
    for (int side = -1; side <= 1; side += 2) {
        const double s = h->ventricles;
        v -= 0.32 * step((1 - square((x - side * 0.085) / (0.042 * s)) - square((y + 0.02) / (0.15 * s)) -
                          square(z / (0.11 * s))) *
                         6);
    }
    if (h->state == 1)
        v += h->strength * brain * step((h->size - sqrt(square(x - h->x) + square(y - h->y) + square(z - h->z))) * 60);
    return v * h->gain * (1 + h->across * x + h->down * y);
}

static ps_status volume_input(ps_engine *engine, uint64_t index, ps_tensor **ret, ps_error *err) {
    head h = draw_head(index);
    clouds c;
    draw_clouds(&h.random, 7, false, &c);
    const ps_status status = new_input(engine, DEPTH, SIDE, ret, err);
    float *to = status == PS_OK ? ps_tensor_data(*ret) : NULL;
    for (int i = 0; to && i < VOXELS; i++) {
        const double z = i / (SIDE * SIDE), y = i / SIDE % SIDE, x = i % SIDE;
        const double cloudy = cloud(&c, z / (DEPTH - 1), y / (SIDE - 1), x / (SIDE - 1));
        *to++ = pixel(signal_at(&h, z / DEPTH - 0.5, y / SIDE - 0.5, x / SIDE - 0.5, cloudy) +
                      0.05 * cli_random_normal(&h.random));
    }
    return status;
}

static double volume_score(const void *knowledge, uint64_t index, const ps_tensor *output, char **ret_said) {
    (void)knowledge;
    *ret_said = NULL;
    if (ps_tensor_elements(output) != STATES || ps_tensor_dtype(output) != PS_DTYPE_F32) return 0;
    return best_of(ps_tensor_data_const(output), STATES, 1) == draw_head(index).state;
}

const demo_subject demo_volume = {
    .folder = "med-mri-cls3d-synth",
    .what = "classification of synthetic volumes",
    .inputs = "volumes",
    .measure = "right",
    .calibrated = 32,
    .tuned = 40,
    .judged = 100,
    .counts = true,
    .input = volume_input,
    .score = volume_score,
};
