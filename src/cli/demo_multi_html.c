/* demo_multi_html.c - what `polestar demo multi-model` saw, as one page: three plots over time and a table a server. */
#include <math.h>

#include "demo.h"

static const char *const colors[DEMO_MODELS] = { "#c33", "#36c", "#0a6", "#c80", "#83c", "#088", "#a46", "#666" };

static double megabytes(const demo_count *tick, const void *ctx) {
    return tick->bytes / 1e6;
}

static double slowest(const demo_count *tick, const void *ctx) {
    return tick->slowest_ms;
}

/* Requests a second for the model whose index ctx points to. */
static double requests(const demo_count *tick, const void *ctx) {
    return (double)tick->of[*(const size_t *)ctx] * 1000 / DEMO_TICK_MS;
}

static double largest(const demo_multi_server *all, size_t n, demo_value value) {
    double most = 0;
    for (size_t k = 0; k < n; k++)
        most = fmax(most, demo_largest(&all[k].c.result, value, NULL));
    return most;
}

static void put_lines(FILE *f, const demo_multi_server *all, size_t n, demo_value value, double most) {
    for (size_t k = 0; k < n; k++)
        demo_plot_line(f, &all[k].c.result, value, NULL, most, all[k].c.color, "stroke-width='2'", true);
}

static void put_plots(FILE *f, size_t n_models, const demo_multi_server *all, size_t n) {
    const demo_result *r = &all[0].c.result;
    const double seconds = (double)r->n_ticks * DEMO_TICK_MS / 1000;
    double most = demo_round_up(largest(all, n, megabytes));
    demo_plot_begin(f, "Memory held, MB (dashed: the limit)", most, seconds);
    put_lines(f, all, n, megabytes, most);
    for (size_t k = 0; k < n; k++)
        if (all[k].limit > 0) demo_plot_level(f, all[k].limit / 1e6, most, all[k].c.color);
    demo_plot_end(f);
    most = demo_round_up(largest(all, n, slowest));
    demo_plot_begin(f, "The slowest answer, ms", most, seconds);
    put_lines(f, all, n, slowest, most);
    demo_plot_end(f);
    most = 1;
    for (size_t i = 0; i < n_models; i++)
        most = fmax(most, demo_largest(r, requests, &i));
    most = demo_round_up(most);
    demo_plot_begin(f, "Requests a second, by model", most, seconds);
    for (size_t i = 0; i < n_models; i++)
        demo_plot_line(f, r, requests, &i, most, colors[i], "", false);
    demo_plot_end(f);
}

static void put_latency(FILE *f, uint64_t count, double p50_ms, double p99_ms) {
    if (count)
        fprintf(f, "<td>%.1f</td><td>%.1f</td>", p50_ms, p99_ms);
    else
        fprintf(f, "<td>–</td><td>–</td>");
}

static void put_table(FILE *f, char *const *names, size_t n_models, const demo_multi_server *s) {
    fprintf(f, "<h2 style='color:%s'>%s: at most %.1f MB held</h2>\n", s->c.color, s->c.name, s->peak / 1e6);
    fprintf(f, "<table><tr><th>model</th><th>requests</th><th>hit p50 ms</th><th>p99</th><th>misses</th>"
               "<th>miss p50 ms</th><th>p99</th><th>loads</th><th>evictions</th><th>MB</th></tr>\n");
    for (size_t i = 0; i < n_models; i++) {
        const demo_model_stats *m = &s->models[i];
        fprintf(f, "<tr><td style='color:%s'>", colors[i]);
        demo_page_text(f, names[i]);
        fprintf(f, "</td><td>%llu</td>", (unsigned long long)m->requests);
        put_latency(f, m->hit.count, m->hit.p50_ms, m->hit.p99_ms);
        fprintf(f, "<td>%llu</td>", (unsigned long long)m->miss.count);
        put_latency(f, m->miss.count, m->miss.p50_ms, m->miss.p99_ms);
        fprintf(f, "<td>%llu</td><td>%llu</td><td>%.1f</td></tr>\n", (unsigned long long)m->loads,
                (unsigned long long)m->evictions, m->peak_bytes / 1e6);
    }
    fprintf(f, "</table>\n");
}

bool demo_multi_page(const char *path, char *const *names, size_t n_models, const demo_multi_server *all, size_t n,
                     ps_error *err) {
    FILE *f = demo_page_open(path, "multi-model", "Many models under one memory limit", err);
    if (!f) return false;
    fprintf(f,
            "<p>Which model is asked for most changes with each step of the load. A hit found its model there; a miss "
            "waited for its load, for which the model that was idle for longest had to go. Each server ran alone, "
            "with the same arrivals. ");
    for (size_t k = 0; k < n; k++)
        fprintf(f, "<b style='color:%s'>■ %s</b> ", all[k].c.color, all[k].c.name);
    fprintf(f, "</p>\n");
    put_plots(f, n_models, all, n);
    for (size_t k = 0; k < n; k++)
        put_table(f, names, n_models, &all[k]);
    return demo_page_close(f, path, err);
}
