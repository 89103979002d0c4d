/* demo_font.c - a font of strokes: letters as lines and quarters of ellipses, drawn with a round pen of any width. So
 * text of many looks is drawn without a font file.
 *
 * A glyph is a path over a grid: the baseline at 0, small letters up to 10, capitals up to 14, descenders down to -4.3.
 *     M x y   lift the pen and go there
 *     L x y   a straight line
 *     H x y   a quarter of an ellipse that leaves horizontally and arrives vertically
 *     V x y   one that leaves vertically and arrives horizontally */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

enum { QUARTER = 7 }; /* lines that a quarter of an ellipse is drawn with */
#define SPACE_WIDTH 4.6

static const struct {
    char letter;
    const char *path;
} glyphs[] = {
    { 'A', "M0 0L5.2 14L10.4 0M1.9 5L8.5 5" },
    { 'B', "M0 0L0 14L5 14H9 10.7V5 7.4L0 7.4M5 7.4H9.8 3.7V5 0L0 0" },
    { 'C', "M10.4 10.3V5.6 14H0 7V5.6 0H10.4 3.7" },
    { 'D', "M0 0L0 14L4.4 14H10.6 7V4.4 0L0 0" },
    { 'E', "M8.6 14L0 14L0 0L8.8 0M0 7.3L8 7.3" },
    { 'F', "M8.4 14L0 14L0 0M0 7L7.4 7" },
    { 'G', "M10.4 10.4V5.7 14H0 7V5.7 0H10.8 4L10.8 6.6L6.2 6.6" },
    { 'H', "M0 0L0 14M10 0L10 14M0 7.3L10 7.3" },
    { 'I', "M0 0L0 14" },
    { 'J', "M6 14L6 4V3 0H0 4" },
    { 'K', "M0 0L0 14M9.6 14L0 5M3.5 8.3L10 0" },
    { 'L', "M0 14L0 0L8 0" },
    { 'M', "M0 0L0 14L6 3L12 14L12 0" },
    { 'N', "M0 0L0 14L10 0L10 14" },
    { 'O', "M6 14H0 7V6 0H12 7V6 14" },
    { 'P', "M0 0L0 14L5.4 14H9.6 10.2V5.4 6.4L0 6.4" },
    { 'Q', "M6 14H0 7V6 0H12 7V6 14M7.4 4L12 -1.4" },
    { 'R', "M0 0L0 14L5.4 14H9.6 10.3V5.4 6.6L0 6.6M5 6.6L10 0" },
    { 'S', "M9 11.2V4.8 14H0.4 10.6V4.8 7.3H9.4 3.7V4.6 0H0 3" },
    { 'T', "M0 14L10.4 14M5.2 14L5.2 0" },
    { 'U', "M0 14L0 5V5 0H10 5L10 14" },
    { 'V', "M0 14L5.2 0L10.4 14" },
    { 'W', "M0 14L3.6 0L7.2 13L10.8 0L14.4 14" },
    { 'X', "M0 0L9.8 14M0 14L9.8 0" },
    { 'Y', "M0 14L5 6.4L10 14M5 6.4L5 0" },
    { 'Z', "M0 14L9.4 14L0 0L9.6 0" },
    { 'a', "M0.8 7.9V4.2 10H8 7L8 0M8 5.8L4.2 5.8H0 2.8V3.6 0H8 3.6" },
    { 'b', "M0 14L0 0M0 5V4.3 10H8.6 5V4.3 0H0 5" },
    { 'c', "M8 7.3V4.3 10H0 5V4.3 0H8 2.7" },
    { 'd', "M8.6 14L8.6 0M8.6 5V4.3 10H0 5V4.3 0H8.6 5" },
    { 'e', "M0 5.2L8.6 5.2V4.3 10H0 5V4.5 0H8.3 2.4" },
    { 'f', "M5.4 14H2.2 11L2.2 0M0 9.6L5 9.6" },
    { 'g', "M8.6 10L8.6 -1V4.3 -4.3H0.6 -2M8.6 5V4.3 10H0 5V4.3 0H8.6 5" },
    { 'h', "M0 14L0 0M0 6V4.2 10H8 6L8 0" },
    { 'i', "M0 10L0 0M0 13.5L0 13.8" },
    { 'j', "M2.4 10L2.4 -1.6V0 -4.3M2.4 13.5L2.4 13.8" },
    { 'k', "M0 14L0 0M7.4 10L0 3.6M2.6 5.8L8 0" },
    { 'l', "M0 14L0 0" },
    { 'm', "M0 10L0 0M0 6.4V3.6 10H6.6 6.4L6.6 0M6.6 6.4V10.2 10H13.2 6.4L13.2 0" },
    { 'n', "M0 10L0 0M0 6V4.2 10H8 6L8 0" },
    { 'o', "M4.4 10H0 5V4.4 0H8.8 5V4.4 10" },
    { 'p', "M0 10L0 -4.3M0 5V4.3 10H8.6 5V4.3 0H0 5" },
    { 'q', "M8.6 10L8.6 -4.3M8.6 5V4.3 10H0 5V4.3 0H8.6 5" },
    { 'r', "M0 10L0 0M0 6V4.8 9.9" },
    { 's', "M7 8V3.7 10H0.4 7.6V3.7 5.2H7.4 2.6V3.6 0H0 2.2" },
    { 't', "M2.4 13L2.4 2.8V5.2 0M0 9.7L5 9.7" },
    { 'u', "M0 10L0 4V3.8 0H8 4M8 10L8 0" },
    { 'v', "M0 10L4.1 0L8.2 10" },
    { 'w', "M0 10L3 0L6 9.4L9 0L12 10" },
    { 'x', "M0 0L7.6 10M0 10L7.6 0" },
    { 'y', "M0 10L4.2 0.2M8.4 10L3.4 -2.4L2.2 -4L0.4 -4.3" },
    { 'z', "M0 10L7.2 10L0 0L7.4 0" },
    { '0', "M4.6 14H0 7V4.6 0H9.2 7V4.6 14" },
    { '1', "M0 11L4 14L4 0" },
    { '2', "M0.3 10.4V4.6 14H8.8 10.4L8.2 7.8L0 0L9.2 0" },
    { '3', "M0.4 11.2V4.4 14H8.5 10.7V4.6 7.5L3.4 7.5M4.6 7.5H9 3.8V4.4 0H0 3" },
    { '4', "M7 0L7 14L0 4.2L9.6 4.2" },
    { '5', "M8.4 14L1.4 14L0.7 7V4.5 9H9 4.5V4.3 0H0 3.2" },
    { '6', "M8.4 11.6V4.9 14H0 6.3V4.5 0H9 4.4V4.5 8.7H0 4.4" },
    { '7', "M0 14L9 14L3.4 0" },
    { '8', "M4.5 14H0.5 10.8V4.5 7.5H8.5 10.8V4.5 14M4.5 7.5H0 3.8V4.5 0H9 3.8V4.5 7.5" },
    { '9', "M0.6 2.4V4.1 0H9 7.7V4.5 14H0 9.6V4.5 5.3H9 9.6" },
    { '.', "M0 0.1L0 0.4" },
    { ',', "M0.6 0.4L0 -2.4" },
    { ':', "M0 0.6L0 0.9M0 8.4L0 8.7" },
    { '-', "M0 5.2L5 5.2" },
    { '/', "M0 -1L5.6 14.4" },
    { '(', "M3.2 15.5L1 11L0.2 6L1 1L3.2 -3.5" },
    { ')', "M0 15.5L2.2 11L3 6L2.2 1L0 -3.5" },
    { '%', "M2.7 14H0 10.8V2.7 7.6H5.4 10.8V2.7 14M11.1 6.4H8.4 3.2V11.1 0H13.8 3.2V11.1 6.4M11.8 14L2 0" },
    { '+', "M0 5.5L8 5.5M4 1.5L4 9.5" },
    { '!', "M0 14L0 4.4M0 0.1L0 0.4" },
};

typedef struct point {
    double x, y;
} point;

/* Called for each line of a glyph. */
typedef void (*line_fn)(void *ctx, point from, point to);

static const char *path_of(char letter) {
    for (size_t i = 0; i < sizeof glyphs / sizeof *glyphs; i++)
        if (glyphs[i].letter == letter) return glyphs[i].path;
    return NULL;
}

static void walk_quarter(bool level_first, point from, point to, line_fn line, void *ctx) {
    point last = from;
    for (int i = 1; i <= QUARTER; i++) {
        const double t = 1.5707963267948966 * i / QUARTER, near = 1 - cos(t), far = sin(t);
        const double along = level_first ? far : near, across = level_first ? near : far;
        const point next = { from.x + (to.x - from.x) * along, from.y + (to.y - from.y) * across };
        line(ctx, last, next);
        last = next;
    }
}

static void walk(const char *path, line_fn line, void *ctx) {
    point at = { 0, 0 };
    while (*path) {
        const char command = *path;
        char *end;
        point to;
        to.x = strtod(path + 1, &end);
        to.y = strtod(end, &end);
        path = end;
        if (command == 'L') line(ctx, at, to);
        if (command == 'H' || command == 'V') walk_quarter(command == 'H', at, to, line, ctx);
        at = to;
    }
}

static void widest(void *ctx, point from, point to) {
    double *most = ctx;
    *most = fmax(*most, fmax(from.x, to.x));
}

static double glyph_width(char letter) {
    double width = 0;
    const char *path = path_of(letter);
    if (!path) return SPACE_WIDTH;
    walk(path, widest, &width);
    return width;
}

double demo_font_width(const char *text, const demo_pen *pen) {
    double width = 0;
    for (const char *c = text; *c; c++)
        width += (glyph_width(*c) + (c[1] ? pen->gap : 0)) * pen->unit * pen->stretch;
    return width;
}

typedef struct canvas {
    const demo_pen *pen;
    double left; /* of the glyph, in units of the grid */
    demo_ink *ink;
} canvas;

static point place(const canvas *c, point p) {
    const demo_pen *pen = c->pen;
    const double x = (c->left + p.x) * pen->unit * pen->stretch, y = p.y * pen->unit;
    return (point) { pen->x + x + pen->slant * y, pen->y - y - pen->climb * x };
}

/* From the pixel's centre to the nearest point of the line. */
static double distance(point p, point a, point b) {
    const double dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
    double t = length > 0 ? ((p.x - a.x) * dx + (p.y - a.y) * dy) / length : 0;
    t = fmin(fmax(t, 0), 1);
    return hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

static int clamp(double v, int most) {
    return v < 0 ? 0 : v > most ? most : (int)v;
}

static void draw_line(void *ctx, point from, point to) {
    const canvas *c = ctx;
    const demo_pen *pen = c->pen;
    const point a = place(c, from), b = place(c, to);
    const double reach = pen->half + pen->soft;
    const int left = clamp(fmin(a.x, b.x) - reach, c->ink->width),
              right = clamp(fmax(a.x, b.x) + reach + 1, c->ink->width);
    const int top = clamp(fmin(a.y, b.y) - reach, c->ink->height),
              bottom = clamp(fmax(a.y, b.y) + reach + 1, c->ink->height);
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) {
            const double d = distance((point) { x + 0.5, y + 0.5 }, a, b);
            float *covered = &c->ink->covered[y * c->ink->width + x];
            *covered = fmaxf(*covered, (float)fmin(fmax((pen->half - d) / pen->soft + 0.5, 0), 1));
        }
}

void demo_font_draw(const char *text, const demo_pen *pen, demo_ink *ink) {
    canvas c = { pen, 0, ink };
    for (; *text; text++) {
        const char *path = path_of(*text);
        if (path) walk(path, draw_line, &c);
        c.left += glyph_width(*text) + pen->gap;
    }
}
