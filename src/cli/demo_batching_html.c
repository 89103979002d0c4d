/* demo_batching_html.c - what `polestar demo batching` saw, as one page: two plots over time and the table. */
#include <math.h>

#include "demo.h"

static double offered(const demo_count *tick, const void *ctx) {
    return (double)tick->offered * 1000 / DEMO_TICK_MS;
}

static double in_time(const demo_count *tick, const void *ctx) {
    return (double)tick->in_time * 1000 / DEMO_TICK_MS;
}

static double batch(const demo_count *tick, const void *ctx) {
    return tick->batch;
}

static double largest(const demo_contestant *all, size_t n, demo_value value) {
    double most = 1;
    for (size_t k = 0; k < n; k++)
        most = fmax(most, demo_largest(&all[k].result, value, NULL));
    return most;
}

static void put_lines(FILE *f, const demo_contestant *all, size_t n, demo_value value, double most, bool gaps) {
    for (size_t k = n; k-- > 0;) /* ours on top */
        demo_plot_line(f, &all[k].result, value, NULL, most, all[k].color, "stroke-width='2'", gaps);
}

static void put_plots(FILE *f, const demo_contestant *all, size_t n) {
    const demo_result *r = &all[0].result;
    const double seconds = (double)r->n_ticks * DEMO_TICK_MS / 1000;
    double most = demo_round_up(fmax(largest(all, n, offered), largest(all, n, in_time)));
    demo_plot_begin(f, "Requests sent (dashed) and answered in time, a second", most, seconds);
    demo_plot_line(f, r, offered, NULL, most, "#888", "stroke-dasharray='4 3'", false);
    put_lines(f, all, n, in_time, most, false);
    demo_plot_end(f);
    most = demo_round_up(largest(all, n, batch));
    demo_plot_begin(f, "Size of batches", most, seconds);
    put_lines(f, all, n, batch, most, true);
    demo_plot_end(f);
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

bool demo_batching_page(const char *path, const char *model, double target_ms, const demo_contestant *all, size_t n,
                        ps_error *err) {
    FILE *f = demo_page_open(path, "batching", "Batches that adapt", err);
    if (!f) return false;
    fprintf(f, "<p>Model ");
    demo_page_text(f, model);
    fprintf(f,
            ". The load goes up and down; an answer is in time within %g ms of the moment at which its request was "
            "to be sent. Each server ran alone, with the same arrivals. ",
            target_ms);
    for (size_t k = 0; k < n; k++)
        fprintf(f, "<b style='color:%s'>■ %s</b> ", all[k].color, all[k].name);
    fprintf(f, "</p>\n");
    put_plots(f, all, n);
    put_table(f, all, n);
    return demo_page_close(f, path, err);
}
