/* report_html.c - the report as one page without anything from outside: figures, a table, plots as inline SVG. */
#include "compress/result.h"

/* ---- text ---- */

static void escape(ps_str *out, const char *s) {
    for (; *s; s++) {
        if (*s == '<')
            ps_str_append(out, "&lt;");
        else if (*s == '>')
            ps_str_append(out, "&gt;");
        else if (*s == '&')
            ps_str_append(out, "&amp;");
        else if (*s == '"')
            ps_str_append(out, "&quot;");
        else
            ps_str_char(out, *s);
    }
}

static void number(ps_str *out, double v, const char *unit) {
    if (isfinite(v))
        ps_str_printf(out, "%.4g%s", v, unit);
    else
        ps_str_append(out, "–");
}

static const char style[] =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 "
    "1rem;color:#222;background:#fff}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}"
    "td,th{padding:.25rem .6rem;text-align:left;border-bottom:1px solid #ddd}td.n,th.n{text-align:right;"
    "font-variant-numeric:tabular-nums}code{font-size:.9em}svg{width:100%;height:auto}"
    ".kept{color:#a40}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}"
    ".kept{color:#fa6}svg text{fill:#ccc}}";

/* ---- figures ---- */

static void row(ps_str *out, const char *what, double before, double after, const char *unit) {
    ps_str_printf(out, "<tr><td>%s</td><td class=n>", what);
    number(out, before, unit);
    ps_str_append(out, "</td><td class=n>");
    number(out, after, unit);
    ps_str_append(out, "</td></tr>\n");
}

static void put_figures(const ps_compress_result *r, ps_str *out) {
    const ps_compress_summary *s = &r->summary;
    ps_str_append(out, "<table><tr><th></th><th class=n>original</th><th class=n>compressed</th></tr>\n");
    row(out, "file", (double)s->bytes_before / 1e6, (double)s->bytes_after / 1e6, " MB");
    if (s->zstd_before) row(out, "the original as .zst", (double)s->zstd_before / 1e6, NAN, " MB");
    row(out, "one run, measured here", s->ms_before, s->ms_after, " ms");
    if (s->memory_after)
        row(out, "memory of it, at most", (double)s->memory_before / 1e6, (double)s->memory_after / 1e6, " MB");
    if (isfinite(s->top1_before)) row(out, "top-1", s->top1_before, s->top1_after, " %");
    if (isfinite(s->metric_after)) row(out, "metric", s->metric_before, s->metric_after, "");
    row(out, "opset", (double)s->opset_before, (double)s->opset_after, "");
    ps_str_append(out, "</table>\n<p>");
    if (s->bytes_after) ps_str_printf(out, "%.2f times smaller. ", (double)s->bytes_before / (double)s->bytes_after);
    if (s->validated) {
        ps_str_printf(out, "Measured on %zu samples%s: ", s->validated,
                      s->held_out ? ", none of them used to find the settings" : " that the settings were found with");
        if (isfinite(s->top1_before))
            ps_str_printf(out,
                          "%zu right ones lost, %zu won; the difference lies in %+.2f … %+.2f %% (95 %%, paired). ",
                          s->lost, s->won, -s->drop_high, -s->drop_low);
        ps_str_printf(out, "Same argmax: %.2f %%, cosine %.6f (least %.6f), SQNR %.2f dB.", s->agreement, s->cosine,
                      s->cosine_least, s->sqnr);
    } else {
        ps_str_append(out, "Accuracy was not measured: no data was given.");
    }
    ps_str_append(out, "</p>\n");
}

/* ---- plot ---- */

enum { PLOT_WIDTH = 900, PLOT_HEIGHT = 260, LEFT = 46, BOTTOM = 24 };

typedef double (*layer_fn)(const ps_compress_layer *l);

static double layer_sqnr(const ps_compress_layer *l) {
    return l->sqnr;
}

static double layer_alone(const ps_compress_layer *l) {
    return l->alone;
}

static bool any(const ps_compress_result *r, layer_fn value) {
    for (size_t i = 0; i < r->n_layers; i++)
        if (isfinite(value(&r->layers[i]))) return true;
    return false;
}

static double plot_y(double v, double most) {
    return PLOT_HEIGHT - BOTTOM - (PLOT_HEIGHT - BOTTOM - 10) * fmax(0, v) / most;
}

/* A bar a layer; its name, operator and number appear under the pointer. */
static void put_plot(const ps_compress_result *r, ps_str *out, const char *title, layer_fn value) {
    double most = 10;
    if (!any(r, value)) return;
    for (size_t i = 0; i < r->n_layers; i++)
        if (isfinite(value(&r->layers[i]))) most = fmax(most, fmin(80, value(&r->layers[i])));
    most = ceil(most / 10) * 10;
    ps_str_printf(out, "<h2>%s</h2>\n<svg viewBox=\"0 0 %d %d\" role=img>\n", title, PLOT_WIDTH, PLOT_HEIGHT);
    for (double v = 0; v <= most; v += 10)
        ps_str_printf(
            out,
            "<line x1=%d x2=%d y1=%.1f y2=%.1f stroke=#8884 /><text x=%d y=%.1f font-size=11 text-anchor=end>%g dB"
            "</text>\n",
            LEFT, PLOT_WIDTH, plot_y(v, most), plot_y(v, most), LEFT - 5, plot_y(v, most) + 4, v);
    const double step = (double)(PLOT_WIDTH - LEFT) / (double)r->n_layers;
    for (size_t i = 0; i < r->n_layers; i++) {
        const ps_compress_layer *l = &r->layers[i];
        const double v = value(l), top = plot_y(fmin(v, most), most);
        if (!isfinite(v)) continue;
        ps_str_printf(out, "<rect x=%.2f y=%.1f width=%.2f height=%.1f fill=\"%s\"><title>", LEFT + step * (double)i,
                      top, fmax(step - 1, 0.5), PLOT_HEIGHT - BOTTOM - top, l->quantized ? "#47c" : "#e82");
        escape(out, l->name);
        ps_str_printf(out, " (%s): %.1f dB</title></rect>\n", l->op, v);
    }
    ps_str_printf(out, "<text x=%d y=%d font-size=11>layers in the order of the graph</text></svg>\n", LEFT,
                  PLOT_HEIGHT - 6);
}

/* ---- layers, settings ---- */

static void put_layers(const ps_compress_result *r, ps_str *out) {
    if (!r->n_layers) return;
    ps_str_append(out,
                  "<h2>Layers</h2>\n<table><tr><th>layer</th><th>operator</th><th class=n>weights</th><th>input range"
                  "</th><th class=n>weights, dB</th><th class=n>output, dB</th><th class=n>alone, dB</th></tr>\n");
    for (size_t i = 0; i < r->n_layers; i++) {
        const ps_compress_layer *l = &r->layers[i];
        ps_str_append(out, l->quantized ? "<tr><td><code>" : "<tr class=kept><td><code>");
        escape(out, l->name);
        ps_str_printf(out, "</code></td><td>%s</td><td class=n>%zu</td><td>", l->op, l->parameters);
        if (l->quantized && *l->range)
            ps_str_printf(out, "%.4g … %.4g (%s)", l->low, l->high, l->range);
        else if (!l->quantized)
            ps_str_printf(out, "float: %s", l->reason);
        ps_str_append(out, "</td><td class=n>");
        number(out, l->weight_sqnr, "");
        ps_str_append(out, "</td><td class=n>");
        number(out, l->sqnr, "");
        ps_str_append(out, "</td><td class=n>");
        number(out, l->alone, "");
        ps_str_append(out, "</td></tr>\n");
    }
    ps_str_append(out, "</table>\n");
}

ps_status ps_report_html(const ps_compress_result *r, ps_str *out) {
    char *json;
    ps_str_append(out, "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport "
                       "content=\"width=device-width\"><title>Compression of ");
    escape(out, r->input);
    ps_str_printf(out, "</title><style>%s</style>\n<h1>", style);
    escape(out, r->input);
    ps_str_append(out, " → ");
    escape(out, r->output);
    ps_str_printf(out,
                  "</h1>\n<p>%s by polestar %s on %s, %d threads; %zu of %zu layers quantised; %.1f s, %.0f MB at "
                  "the peak.</p>\n",
                  ps_compress_type_text(r->options.type), ps_version(), r->hardware, r->threads,
                  r->summary.layers_quantized, r->summary.layers, r->summary.seconds,
                  (double)r->summary.peak_bytes / 1e6);
    put_figures(r, out);
    put_plot(r, out, "Signal to noise at each layer's output, everything quantised", layer_sqnr);
    put_plot(r, out, "Sensitivity: the model's output with this layer alone quantised", layer_alone);
    put_layers(r, out);
    ps_str_append(out, "<h2>Everything, to reproduce it</h2>\n<details><summary>JSON</summary><pre>");
    PS_TRY(ps_compress_report_text(r, &json, NULL));
    escape(out, json);
    ps_free(r->alloc, json);
    ps_str_append(out, "</pre></details>\n");
    return PS_OK;
}
