/* demo_batching_page.c - what `polestar demo batching` saw: two plots over time. */
#include <math.h>

#include "demo.h"

enum { WIDTH = 900, HEIGHT = 230, LEFT = 60, BOTTOM = 30, TOP = 14 };

typedef double (*value_fn)(const demo_count *tick);

static double offered(const demo_count *tick) {
    return (double)tick->offered * 1000 / DEMO_TICK_MS;
}

static double in_time(const demo_count *tick) {
    return (double)tick->in_time * 1000 / DEMO_TICK_MS;
}

static double batch(const demo_count *tick) {
    return tick->batch;
}

static double largest(const demo_contestant *all, size_t n, value_fn value) {
    double most = 1;
    for (size_t k = 0; k < n; k++)
        for (size_t t = 0; t < all[k].result.n_ticks; t++)
            most = fmax(most, value(&all[k].result.tick[t]));
    return most;
}

/* A round number of at least that. */
static double round_up(double value) {
    const double power = pow(10, floor(log10(value)));
    const double steps[] = { 1, 2, 2.5, 5, 10 };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (steps[i] * power >= value) return steps[i] * power;
    return 10 * power;
}

static void put_axes(FILE *f, double most, double seconds) {
    const int right = WIDTH - 10, low = HEIGHT - BOTTOM;
    for (int i = 0; i <= 4; i++) {
        const double y = low - (double)(low - TOP) * i / 4;
        fprintf(f, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' class='grid'/>", LEFT, right, y, y);
        fprintf(f, "<text x='%d' y='%.1f' class='y'>%g</text>\n", LEFT - 6, y + 4, most * i / 4);
    }
    for (int s = 0; s <= (int)seconds; s++)
        fprintf(f, "<text x='%.1f' y='%d' class='x'>%d s</text>\n", LEFT + (right - LEFT) * s / seconds, HEIGHT - 10,
                s);
}

/* A line over the ticks; those without a value are passed over if `gaps`. */
static void put_line(FILE *f, const demo_result *r, value_fn value, double most, const char *color, const char *style,
                     bool gaps) {
    const double low = HEIGHT - BOTTOM, wide = WIDTH - 10 - LEFT;
    fprintf(f, "<polyline fill='none' stroke='%s' %s points='", color, style);
    for (size_t t = 0; t < r->n_ticks; t++) {
        const double v = value(&r->tick[t]);
        if (gaps && v <= 0) continue;
        fprintf(f, "%.1f,%.1f ", LEFT + wide * ((double)t + 0.5) / (double)r->n_ticks, low - (low - TOP) * v / most);
    }
    fprintf(f, "'/>\n");
}

static void put_plot(FILE *f, const char *title, const demo_contestant *all, size_t n, value_fn value, double most,
                     bool with_offered) {
    const demo_result *r = &all[0].result;
    const double seconds = (double)r->n_ticks * DEMO_TICK_MS / 1000;
    fprintf(f, "<h2>%s</h2>\n<svg viewBox='0 0 %d %d' role='img'>\n", title, WIDTH, HEIGHT);
    put_axes(f, most, seconds);
    if (with_offered) put_line(f, r, offered, most, "#888", "stroke-dasharray='4 3'", false);
    for (size_t k = n; k-- > 0;) /* ours on top */
        put_line(f, &all[k].result, value, most, all[k].color, "stroke-width='2'", value == batch);
    fprintf(f, "</svg>\n");
}

static void put_table(FILE *f, const demo_contestant *all, size_t n) {
    fprintf(f, "<table><tr><th>offered/s</th>");
    for (size_t k = 0; k < n; k++)
        fprintf(f, "<th colspan='3' style='color:%s'>%s</th>", all[k].color, all[k].name);
    fprintf(f, "</tr>\n<tr><td></td>");
    for (size_t k = 0; k < n; k++)
        fprintf(f, "<td>in time/s</td><td>p99 ms</td><td>batch</td>");
    fprintf(f, "</tr>\n");
    for (int s = 0; s < DEMO_STEPS; s++) {
        const demo_count *first = &all[0].result.step[s];
        fprintf(f, "<tr><td>%.0f</td>", (double)first->offered / first->seconds);
        for (size_t k = 0; k < n; k++) {
            const demo_count *c = &all[k].result.step[s];
            fprintf(f, "<td>%.0f</td><td>", (double)c->in_time / c->seconds);
            if (isnan(c->p99_ms))
                fprintf(f, "–</td><td>");
            else
                fprintf(f, "%.1f</td><td>", c->p99_ms);
            fprintf(f, "%.1f</td>", c->batch);
        }
        fprintf(f, "</tr>\n");
    }
    fprintf(f, "</table>\n");
}

static void put_page(FILE *f, const char *model, double target_ms, const demo_contestant *all, size_t n) {
    fprintf(f, "<p>Model ");
    demo_page_text(f, model);
    fprintf(f,
            ". The load goes up and down; an answer is in time within %g ms of the moment at which its request was "
            "to be sent. Each server ran alone, with the same arrivals. ",
            target_ms);
    for (size_t k = 0; k < n; k++)
        fprintf(f, "<b style='color:%s'>■ %s</b> ", all[k].color, all[k].name);
    fprintf(f, "</p>\n");
    put_plot(f, "Requests sent (dashed) and answered in time, a second", all, n, in_time,
             round_up(fmax(largest(all, n, offered), largest(all, n, in_time))), true);
    put_plot(f, "Size of batches", all, n, batch, round_up(largest(all, n, batch)), false);
    put_table(f, all, n);
}

bool demo_batching_page(const char *path, const char *model, double target_ms, const demo_contestant *all, size_t n,
                        ps_error *err) {
    FILE *f = demo_page_open(path, "batching", "Batches that adapt", err);
    if (!f) return false;
    put_page(f, model, target_ms, all, n);
    return demo_page_close(f, path, err);
}
