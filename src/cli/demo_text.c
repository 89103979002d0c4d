/* demo_text.c - lines of text for a text recogniser: composed, drawn in many looks, and read back from its output. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

enum { HEIGHT = 48, CHANNELS = 3, STEP = 8, LONGEST = 640, TEXT = 64 };

/* ---- what is written ---- */

static const char *const words[] = {
    "invoice", "delivery", "patient", "ward",     "ticket",  "platform", "garden",   "quality", "seven",    "evening",
    "bread",   "market",   "window",  "yellow",   "bridge",  "kitchen",  "journey",  "pencil",  "doctor",   "station",
    "summer",  "paper",    "harbour", "machine",  "picture", "number",   "street",   "budget",  "exam",     "flight",
    "cotton",  "zebra",    "quiet",   "velvet",   "jacket",  "onward",   "mixture",  "weather", "hospital", "school",
    "library", "orange",   "copper",  "engine",   "harvest", "island",   "keyboard", "lemon",   "museum",   "notice",
    "office",  "parcel",   "receipt", "schedule", "tunnel",  "valley",   "workshop", "report",  "blanket",  "fuel",
};

static uint64_t pick(uint64_t *random, uint64_t n) {
    return (uint64_t)(cli_random(random) * (double)n);
}

static double between(uint64_t *random, double low, double high) {
    return low + (high - low) * cli_random(random);
}

static int number(uint64_t *random, int low, int high) {
    return low + (int)pick(random, (uint64_t)(high - low + 1));
}

static void capital(char *word) {
    if (*word >= 'a' && *word <= 'z') *word = (char)(*word - 'a' + 'A');
}

static void some_words(uint64_t *random, char *buf, size_t size, int count) {
    size_t at = 0;
    buf[0] = 0;
    for (int i = 0; i < count; i++) {
        const char *word = words[pick(random, sizeof words / sizeof *words)];
        const int n = snprintf(buf + at, size - at, "%s%s", i ? " " : "", word);
        if (n < 0 || (size_t)n >= size - at) return;
        at += (size_t)n;
    }
    if (cli_random(random) < 0.6) capital(buf);
}

/* One of some forms of text that papers have. */
static void compose(uint64_t *random, char *buf, size_t size) {
    char head[TEXT];
    some_words(random, head, sizeof head, 1);
    switch (pick(random, 7)) {
    case 0:
        snprintf(buf, size, "%s %d: %d.%02d EUR", head, number(random, 100, 99999), number(random, 1, 999),
                 number(random, 0, 99));
        break;
    case 1:
        snprintf(buf, size, "%02d.%02d.%d %02d:%02d", number(random, 1, 28), number(random, 1, 12),
                 number(random, 1970, 2031), number(random, 0, 23), number(random, 0, 59));
        break;
    case 2: snprintf(buf, size, "%s +%d %d", head, number(random, 20, 98), number(random, 100000, 9999999)); break;
    case 3: snprintf(buf, size, "%s (%d %%)", head, number(random, 1, 100)); break;
    case 4: snprintf(buf, size, "%s %d/%d", head, number(random, 1, 999), number(random, 10, 99)); break;
    default: some_words(random, buf, size, number(random, 2, 4)); break;
    }
}

/* ---- how it looks ---- */

typedef struct line {
    char text[TEXT];
    demo_ink ink;
    float paint[CHANNELS], paper[CHANNELS]; /* 0 to 255; B, G, R */
    double grain, shade;                    /* standard deviation of the noise; by how much the right end is darker */
    uint64_t random;
} line;

static demo_pen draw_pen(uint64_t *random) {
    demo_pen pen = { .x = between(random, 4, 9) };
    pen.unit = between(random, 1.5, 1.95); /* capitals of 21 to 27 pixels */
    pen.y = HEIGHT / 2.0 + 6 * pen.unit + between(random, -2, 2);
    pen.stretch = between(random, 0.82, 1.08);
    pen.slant = cli_random(random) < 0.3 ? between(random, 0.05, 0.22) : 0;
    pen.climb = between(random, -0.008, 0.008);
    pen.half = pen.unit * between(random, 0.55, 1.25);
    pen.soft = between(random, 0.8, 1.9);
    pen.gap = 2 * pen.half / pen.unit + between(random, 1.9, 3.4);
    return pen;
}

static void draw_colors(line *l) {
    const bool light = cli_random(&l->random) < 0.15; /* on dark */
    for (int c = 0; c < CHANNELS; c++) {
        const float dark = (float)between(&l->random, 0, 90), bright = (float)between(&l->random, 175, 255);
        l->paint[c] = light ? bright : dark;
        l->paper[c] = light ? dark : bright;
    }
    l->grain = between(&l->random, 0, 14);
    l->shade = between(&l->random, -30, 30);
}

/* Line `index` of an endless list, the same in every run: its text, not drawn yet. */
static line begin(uint64_t index) {
    line l = { .random = index * 1000003 };
    compose(&l.random, l.text, sizeof l.text);
    return l;
}

/* The same, drawn. free() the ink's memory. */
static line draw(uint64_t index) {
    line l = begin(index);
    demo_pen pen = draw_pen(&l.random);
    draw_colors(&l);
    double wide = demo_font_width(l.text, &pen) + 2 * pen.x;
    if (wide > LONGEST) {
        pen.stretch *= (LONGEST - 2 * pen.x) / (wide - 2 * pen.x);
        wide = LONGEST;
    }
    l.ink.height = HEIGHT;
    l.ink.width = (int)ceil(wide / STEP) * STEP;
    l.ink.covered = cli_alloc((size_t)(l.ink.width * HEIGHT), sizeof *l.ink.covered);
    demo_font_draw(l.text, &pen, &l.ink);
    return l;
}

/* One channel of a pixel, 0 to 255. */
static double value_of(line *l, int channel, int x, int y) {
    const double covered = (double)l->ink.covered[y * l->ink.width + x];
    const double paper = (double)l->paper[channel] - l->shade * x / l->ink.width;
    const double v = paper + ((double)l->paint[channel] - paper) * covered + l->grain * cli_random_normal(&l->random);
    return floor(fmin(fmax(v, 0), 255));
}

/* f32 [1, 3, 48, w], B, G, R, (x / 255 - 0.5) / 0.5. */
static ps_status input(ps_engine *engine, uint64_t index, ps_tensor **ret, ps_error *err) {
    line l = draw(index);
    const ps_shape shape = { 4, { 1, CHANNELS, HEIGHT, l.ink.width } };
    const ps_status status = ps_tensor_create(engine, PS_DTYPE_F32, &shape, ret, err);
    float *to = status == PS_OK ? ps_tensor_data(*ret) : NULL;
    for (int c = 0; to && c < CHANNELS; c++)
        for (int y = 0; y < HEIGHT; y++)
            for (int x = 0; x < l.ink.width; x++)
                *to++ = (float)((value_of(&l, c, x, y) / 255 - 0.5) / 0.5);
    free(l.ink.covered);
    return status;
}

/* The green channel. */
static void picture(uint64_t index, demo_picture *ret) {
    line l = draw(index);
    *ret = (demo_picture) { .width = l.ink.width, .height = HEIGHT, .text = cli_format("%s", l.text) };
    ret->gray = cli_alloc((size_t)(l.ink.width * HEIGHT), 1);
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < l.ink.width; x++)
            ret->gray[y * l.ink.width + x] = (uint8_t)value_of(&l, 1, x, y);
    free(l.ink.covered);
}

/* ---- what is read ---- */

typedef struct charset {
    char *text;
    const char **letters; /* of class 1 on; class 0 is the blank */
    size_t n;
} charset;

/* The recogniser's file has its letters, one a line, and reads one class more than that as a space. */
static void *know(const ps_model *model) {
    const char *text = ps_model_metadata(model, "character");
    if (!text) return NULL;
    charset *set = cli_alloc(1, sizeof *set);
    set->text = cli_format("%s", text);
    set->letters = cli_alloc(strlen(text) + 3, sizeof *set->letters);
    for (char *at = set->text, *end; at; at = end) {
        end = strchr(at, '\n');
        if (end) *end++ = 0;
        if (end || *at) set->letters[set->n++] = at;
    }
    set->letters[set->n++] = " ";
    return set;
}

static void forget(void *knowledge) {
    charset *set = knowledge;
    if (!set) return;
    free(set->text);
    free(set->letters);
    free(set);
}

/* Greedy decoding of a CTC output [1, steps, classes]: the best class of each step, repeats and blanks left out. */
static char *read_line(const charset *set, const ps_tensor *output) {
    const ps_shape *shape = ps_tensor_shape(output);
    const size_t classes = shape->rank == 3 ? (size_t)shape->dims[2] : 0, steps = classes ? (size_t)shape->dims[1] : 0;
    const float *row = ps_tensor_data_const(output);
    char *text = cli_format("%s", "");
    size_t last = 0, size = 0;
    for (size_t s = 0; s < steps && ps_tensor_dtype(output) == PS_DTYPE_F32; s++, row += classes) {
        size_t best = 0;
        for (size_t k = 1; k < classes; k++)
            if (row[k] > row[best]) best = k;
        const char *letter = best && best != last && best <= set->n ? set->letters[best - 1] : "";
        const size_t n = strlen(letter);
        text = cli_realloc(text, size + n + 1, 1);
        memcpy(text + size, letter, n + 1);
        size += n;
        last = best;
    }
    return text;
}

/* Blank paper before and behind the text is no text. */
static void trim(char *text) {
    const size_t blank = strspn(text, " ");
    memmove(text, text + blank, strlen(text + blank) + 1);
    for (size_t n = strlen(text); n && text[n - 1] == ' '; n--)
        text[n - 1] = 0;
}

static double score(const void *knowledge, uint64_t index, const ps_tensor *output, char **ret_said) {
    const line l = begin(index);
    *ret_said = read_line(knowledge, output);
    trim(*ret_said);
    return strcmp(*ret_said, l.text) == 0;
}

const demo_subject demo_text = {
    .folder = "ppocr-rec",
    .what = "PP-OCRv4 recogniser on lines of text",
    .inputs = "lines",
    .measure = "exact text",
    .calibrated = 100,
    .tuned = 100,
    .judged = 200,
    .counts = true,
    .input = input,
    .know = know,
    .forget = forget,
    .score = score,
    .picture = picture,
};
