/* demo_compression_page.c - what `polestar demo compression` saw: a table with bars for each model, and inputs with
 * what each form made of them. */
#include <math.h>
#include <stdlib.h>

#include "demo.h"

enum { SHOWN = 8 };

/* ---- pictures: BMP files with a palette of grays, as text ---- */

typedef struct encoder {
    FILE *f;
    uint32_t bits;
    int n; /* bytes in bits */
} encoder;

/* Base64 (RFC 4648). */
static void put_byte(encoder *e, unsigned v) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    e->bits = e->bits << 8 | (v & 0xff);
    if (++e->n < 3) return;
    for (int shift = 18; shift >= 0; shift -= 6)
        fputc(letters[e->bits >> shift & 63], e->f);
    e->bits = 0;
    e->n = 0;
}

static void put_word(encoder *e, uint32_t v, int bytes) {
    for (int i = 0; i < bytes; i++)
        put_byte(e, v >> (8 * i));
}

/* Pads to whole groups with bytes that no reader of the picture looks at. */
static void put_end(encoder *e) {
    while (e->n)
        put_byte(e, 0);
}

static void put_bmp(encoder *e, const demo_picture *p) {
    enum { HEAD = 14 + 40, PALETTE = 256 * 4 };
    const uint32_t row = (uint32_t)(p->width + 3) / 4 * 4, size = row * (uint32_t)p->height;
    const uint32_t wide = (uint32_t)p->width, high = (uint32_t)p->height;
    const uint32_t fields[] = { 40, wide, high, 1 | 8u << 16, 0, size, 2835, 2835, 256, 0 };
    put_byte(e, 'B');
    put_byte(e, 'M');
    put_word(e, HEAD + PALETTE + size, 4);
    put_word(e, 0, 4);
    put_word(e, HEAD + PALETTE, 4);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        put_word(e, fields[i], 4);
    for (uint32_t i = 0; i < 256; i++)
        put_word(e, i * 0x010101, 4);
    for (int y = p->height - 1; y >= 0; y--)
        for (uint32_t x = 0; x < row; x++)
            put_byte(e, x < (uint32_t)p->width ? p->gray[y * p->width + (int)x] : 0);
    put_end(e);
}

static void put_picture(FILE *f, const demo_picture *p) {
    encoder e = { .f = f };
    fprintf(f, "<img alt='' src='data:image/bmp;base64,");
    put_bmp(&e, p);
    fprintf(f, "'>");
}

/* ---- the table ---- */

typedef double (*figure_fn)(const demo_form *f);

static double megabytes(const demo_form *f) {
    return f->bytes / 1e6;
}

static double milliseconds(const demo_form *f) {
    return f->ms;
}

static double memory(const demo_form *f) {
    return f->memory / 1e6;
}

static double accuracy(const demo_form *f) {
    return f->accuracy;
}

static void put_cell(FILE *f, const demo_comparison *c, const demo_form *form, figure_fn figure, int decimals) {
    const double v = figure(form);
    double most = 0;
    for (size_t i = 0; i < DEMO_FORMS; i++)
        if (isfinite(figure(&c->form[i]))) most = fmax(most, figure(&c->form[i]));
    if (!isfinite(v) || most <= 0) {
        fprintf(f, "<td>–</td>");
        return;
    }
    fprintf(f, "<td>%.*f<div class='bar' style='width:%.0fpx'></div></td>", decimals, v, 90 * v / most);
}

static void put_form(FILE *f, const demo_comparison *c, size_t index) {
    const demo_form *form = &c->form[index];
    fprintf(f, "<tr><td class='t'>%s</td>", form->name);
    if (form->failure) {
        fprintf(f, "<td class='t' colspan='7'>");
        demo_page_text(f, form->failure);
        fprintf(f, "</td></tr>\n");
        return;
    }
    put_cell(f, c, form, megabytes, 2);
    put_cell(f, c, form, milliseconds, 2);
    put_cell(f, c, form, memory, 1);
    put_cell(f, c, form, accuracy, 2);
    if (index)
        fprintf(f, "<td>%zu</td><td>%zu</td><td>%zu</td></tr>\n", form->lost, form->won,
                form->quantized ? form->layers - form->quantized : 0);
    else
        fprintf(f, "<td></td><td></td><td></td></tr>\n");
}

static void put_table(FILE *f, const demo_comparison *c) {
    fprintf(f, "<table><tr><th></th><th>file, MB</th><th>a run, ms</th><th>memory, MB</th><th>");
    demo_page_text(f, c->measure);
    fprintf(f, ", %%</th><th>lost</th><th>won</th><th>layers in float</th></tr>\n");
    for (size_t i = 0; i < DEMO_FORMS; i++)
        put_form(f, c, i);
    fprintf(f, "</table>\n");
}

/* ---- some of the inputs ---- */

static bool differs(const demo_comparison *c, size_t input) {
    for (size_t i = 1; i < DEMO_FORMS; i++)
        if (c->form[i].score && c->form[i].score[input] != c->form[0].score[input]) return true;
    return false;
}

static void put_answer(FILE *f, const demo_form *form, size_t input) {
    if (!form->said || !form->said[input]) {
        fprintf(f, "<td class='t'>–</td>");
        return;
    }
    fprintf(f, "<td class='t%s'>", form->score[input] < 1 ? " wrong" : "");
    demo_page_text(f, form->said[input]);
    fprintf(f, "</td>");
}

static void put_input(FILE *f, const demo_comparison *c, size_t input) {
    demo_picture p;
    c->subject->picture(c->first_judged + input, &p);
    fprintf(f, "<tr><td class='t'>");
    put_picture(f, &p);
    demo_page_text(f, p.text);
    fprintf(f, "</td>");
    for (size_t i = 0; i < DEMO_FORMS; i++)
        put_answer(f, &c->form[i], input);
    fprintf(f, "</tr>\n");
    free(p.gray);
    free(p.text);
}

/* Those first that the forms do not agree on. */
static void put_inputs(FILE *f, const demo_comparison *c) {
    size_t left = SHOWN;
    fprintf(f, "<table><tr><th class='t'>drawn here</th>");
    for (size_t i = 0; i < DEMO_FORMS; i++)
        fprintf(f, "<th class='t'>%s</th>", c->form[i].name);
    fprintf(f, "</tr>\n");
    for (int agreed = 0; agreed < 2; agreed++)
        for (size_t k = 0; k < c->judged && left; k++) {
            if (differs(c, k) == (agreed != 0)) continue;
            put_input(f, c, k);
            left--;
        }
    fprintf(f, "</table>\n");
}

static void put_comparison(FILE *f, const demo_comparison *c) {
    fprintf(f, "<h2>");
    demo_page_text(f, c->title);
    fprintf(f, "</h2>\n<p>Judged by %zu %s. Lost: only float32 has it right; won: only this form has.</p>\n", c->judged,
            c->subject ? c->subject->inputs : "samples");
    put_table(f, c);
    if (c->subject && c->subject->picture && c->form[0].said) put_inputs(f, c);
}

bool demo_compression_page(const char *path, const demo_comparison *all, size_t n, ps_error *err) {
    FILE *f = demo_page_open(path, "compression", "Smaller models", err);
    if (!f) return false;
    fprintf(f, "<p>Files, times and memory as measured on this machine; memory is the most that a model takes from "
               "loading to the end of its first run. What calibrates, what chooses the layers of mixed precision and "
               "what judges "
               "are different inputs.</p>\n");
    for (size_t i = 0; i < n; i++)
        put_comparison(f, &all[i]);
    return demo_page_close(f, path, err);
}
