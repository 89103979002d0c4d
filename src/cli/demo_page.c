/* demo_page.c - what the pages of `polestar demo` are made of: a head, plots over time, an end. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "demo.h"

enum { WIDTH = 900, HEIGHT = 230, LEFT = 60, RIGHT = WIDTH - 10, BOTTOM = 30, TOP = 14, LOW = HEIGHT - BOTTOM };

/* ---- the page ---- */

FILE *demo_page_open(const char *path, const char *demo, const char *title, ps_error *err) {
    FILE *page = fopen(path, "w");
    if (!page) {
        cli_config_fail(err, "%s: %s", path, strerror(errno));
        return NULL;
    }
    fprintf(page, "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>polestar demo %s</title>\n",
            demo);
    fprintf(page,
            "<style>body{font:15px sans-serif;max-width:960px;margin:24px auto;padding:0 12px}"
            "h2{font-size:16px;margin:20px 0 4px}svg{width:100%%}.grid{stroke:#ddd}"
            "text{font-size:11px;fill:#555}.y{text-anchor:end}.x{text-anchor:middle}"
            "table{border-collapse:collapse}td,th{padding:3px 10px;text-align:right;border-bottom:1px solid #ddd}"
            ".t{text-align:left}.bar{height:5px;background:#36c}.wrong{color:#c33}img{display:block;height:40px}"
            "</style></head><body>\n<h1>%s</h1>\n",
            title);
    return page;
}

bool demo_page_close(FILE *page, const char *path, ps_error *err) {
    fprintf(page, "</body></html>\n");
    bool ok = !ferror(page);
    ok = fclose(page) == 0 && ok;
    return ok || cli_config_fail(err, "%s cannot be written", path);
}

void demo_page_text(FILE *page, const char *text) {
    for (; *text; text++) {
        if (strchr("<>&'\"", *text))
            fprintf(page, "&#%d;", *text);
        else
            fputc(*text, page);
    }
}

/* ---- plots ---- */

double demo_largest(const demo_result *r, demo_value value, const void *ctx) {
    double most = 0;
    for (size_t t = 0; t < r->n_ticks; t++)
        most = fmax(most, value(&r->tick[t], ctx));
    return most;
}

double demo_round_up(double value) {
    if (!(value > 0)) return 1;
    const double power = pow(10, floor(log10(value)));
    const double steps[] = { 1, 2, 2.5, 5, 10 };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i] * power >= value) return steps[i] * power;
    return 10 * power;
}

static double height_of(double value, double most) {
    return LOW - (LOW - TOP) * value / most;
}

void demo_plot_begin(FILE *page, const char *title, double most, double seconds) {
    fprintf(page, "<h2>%s</h2>\n<svg viewBox='0 0 %d %d' role='img'>\n", title, WIDTH, HEIGHT);
    for (int i = 0; i <= 4; i++) {
        const double y = height_of(i, 4);
        fprintf(page, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' class='grid'/>", LEFT, RIGHT, y, y);
        fprintf(page, "<text x='%d' y='%.1f' class='y'>%g</text>\n", LEFT - 6, y + 4, most * i / 4);
    }
    for (int s = 0; s <= (int)seconds; s++)
        fprintf(page, "<text x='%.1f' y='%d' class='x'>%d s</text>\n", LEFT + (RIGHT - LEFT) * s / seconds, HEIGHT - 10,
                s);
}

void demo_plot_end(FILE *page) {
    fprintf(page, "</svg>\n");
}

void demo_plot_line(FILE *page, const demo_result *r, demo_value value, const void *ctx, double most, const char *color,
                    const char *style, bool gaps) {
    fprintf(page, "<polyline fill='none' stroke='%s' %s points='", color, style);
    for (size_t t = 0; t < r->n_ticks; t++) {
        const double v = value(&r->tick[t], ctx);
        if (gaps && v <= 0) continue;
        fprintf(page, "%.1f,%.1f ", LEFT + (RIGHT - LEFT) * ((double)t + 0.5) / (double)r->n_ticks, height_of(v, most));
    }
    fprintf(page, "'/>\n");
}

void demo_plot_level(FILE *page, double value, double most, const char *color) {
    const double y = height_of(value, most);
    fprintf(page, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' stroke='%s' stroke-dasharray='4 3'/>\n", LEFT, RIGHT, y, y,
            color);
}
