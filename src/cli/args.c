/* args.c - options and arguments by the command's table. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* ---- sentences ---- */

static void say(const cli_args *args, const char *fmt, va_list ap) {
    fprintf(stderr, "polestar %s: ", args->command->name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
}

int cli_usage(const cli_args *args, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(args, fmt, ap);
    va_end(ap);
    return CLI_USAGE;
}

int cli_fail(const cli_args *args, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(args, fmt, ap);
    va_end(ap);
    return CLI_FAILED;
}

int cli_fail_error(const cli_args *args, const ps_error *err) {
    return cli_fail(args, "%s", err->msg[0] ? err->msg : ps_status_text(err->status));
}

/* ---- the nearest word ---- */

enum { MAX_WORD = 64 };

/* Edits (insert, delete, replace, swap of neighbours) between two words: optimal string alignment. */
static size_t distance(const char *a, const char *b) {
    size_t rows[3][MAX_WORD + 1], n = strlen(a), m = strlen(b);
    if (n > MAX_WORD || m > MAX_WORD) return MAX_WORD;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *before = rows[(i - 1) % 3], *older = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best) best = before[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && older[j - 2] + 1 < best)
                best = older[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *cli_nearest(const char *word, const char *(*next)(const void *ctx, size_t i), const void *ctx) {
    const char *best = NULL;
    size_t least = strlen(word) / 3 + 2; /* a third of the letters may be wrong, and one more */
    const char *candidate;
    for (size_t i = 0; (candidate = next(ctx, i)); i++) {
        size_t d = distance(word, candidate);
        const bool prefix = strlen(word) >= 2 && strncmp(word, candidate, strlen(word)) == 0;
        if (prefix) d = 0;
        if (d < least) {
            least = d;
            best = candidate;
        }
    }
    return best;
}

/* ---- parsing ---- */

static const cli_option help_option = { "help", CLI_FLAG, NULL, "print this text", NULL };

static const char *next_option(const void *ctx, size_t i) {
    const cli_option *options = ctx;
    return options[i].name;
}

static const cli_option *find_option(const cli_command *command, const char *name, size_t length) {
    if (length == 4 && strncmp(name, "help", 4) == 0) return &help_option;
    for (const cli_option *o = command->options; o->name; o++)
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0) return o;
    return NULL;
}

bool cli_is_word(const char *words, const char *value) {
    for (const char *w = words; *w;) {
        const size_t n = strcspn(w, "|");
        if (strlen(value) == n && strncmp(w, value, n) == 0) return true;
        w += n + (w[n] == '|');
    }
    return false;
}

static int add_value(cli_args *args, const cli_option *option, const char *text) {
    if (option->kind == CLI_WORDS && !cli_is_word(option->arg, text))
        return cli_usage(args, "--%s is one of %s, not '%s'", option->name, option->arg, text);
    args->values[args->n_values++] = (cli_value) { option, text };
    if (strcmp(option->name, "json") == 0) args->json = true;
    return CLI_OK;
}

/* --name, --name=value, --name value. *i moves past a value taken from the next word. */
static int parse_option(cli_args *args, int argc, char **argv, int *i) {
    const char *word = argv[*i];
    const char *name = strcmp(word, "-h") == 0 ? "help" : strcmp(word, "-o") == 0 ? "output" : word + 2;
    if (word[1] != '-' && name == word + 2)
        return cli_usage(args, "no option '%s'; options are written with two dashes", argv[*i]);
    const size_t length = strcspn(name, "=");
    const cli_option *option = find_option(args->command, name, length);
    if (!option) {
        const char *near = cli_nearest(name, next_option, args->command->options);
        if (near) return cli_usage(args, "no option '--%.*s'; did you mean '--%s'?", (int)length, name, near);
        return cli_usage(args, "no option '--%.*s'; 'polestar %s --help' lists them", (int)length, name,
                         args->command->name);
    }
    const bool joined = name[length] == '=';
    if (option->kind == CLI_FLAG) {
        if (joined) return cli_usage(args, "--%s takes no value", option->name);
        return add_value(args, option, "");
    }
    if (joined) return add_value(args, option, name + length + 1);
    if (*i + 1 >= argc) return cli_usage(args, "--%s needs a value (%s)", option->name, option->arg);
    return add_value(args, option, argv[++*i]);
}

static int check_word_count(const cli_args *args) {
    const cli_command *c = args->command;
    if ((int)args->n_words < c->min_args)
        return cli_usage(args, "needs %s; 'polestar %s --help' explains", c->args, c->name);
    if (c->max_args >= 0 && (int)args->n_words > c->max_args)
        return cli_usage(args, "does not take '%s'; usage: polestar %s [options] %s", args->words[c->max_args], c->name,
                         c->args);
    return CLI_OK;
}

int cli_args_parse(const cli_command *command, int argc, char **argv, cli_args *ret, bool *ret_help) {
    *ret = (cli_args) { .command = command };
    ret->values = cli_alloc((size_t)argc + 1, sizeof *ret->values);
    ret->words = cli_alloc((size_t)argc + 1, sizeof *ret->words);
    bool only_words = false;
    int code = CLI_OK;
    for (int i = 0; i < argc && code == CLI_OK; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0)
            only_words = true;
        else if (!only_words && argv[i][0] == '-' && argv[i][1])
            code = parse_option(ret, argc, argv, &i);
        else
            ret->words[ret->n_words++] = argv[i];
    }
    *ret_help = code == CLI_OK && cli_has(ret, "help");
    return code == CLI_OK && !*ret_help ? check_word_count(ret) : code;
}

void cli_args_release(cli_args *args) {
    free(args->values);
    free(args->words);
}

/* ---- reading values ---- */

const char *cli_get_nth(const cli_args *args, const char *name, size_t n) {
    for (size_t i = 0; i < args->n_values; i++)
        if (strcmp(args->values[i].option->name, name) == 0 && n-- == 0) return args->values[i].text;
    return NULL;
}

const char *cli_get(const cli_args *args, const char *name) {
    const char *text = NULL;
    for (size_t i = 0; i < args->n_values; i++)
        if (strcmp(args->values[i].option->name, name) == 0) text = args->values[i].text;
    return text;
}

bool cli_has(const cli_args *args, const char *name) {
    return cli_get(args, name) != NULL;
}

bool cli_get_double(const cli_args *args, const char *name, double min, double max, double *ret) {
    const char *text = cli_get(args, name);
    if (!text) return true;
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || isnan(v) || v < min || v > max) {
        cli_usage(args, "--%s is a number from %g to %g, not '%s'", name, min, max, text);
        return false;
    }
    *ret = v;
    return true;
}

static bool parse_int(const char *text, size_t length, int min, int max, int *ret) {
    char *end;
    errno = 0;
    const long v = strtol(text, &end, 10);
    if (end == text || end != text + length || errno || v < min || v > max) return false;
    *ret = (int)v;
    return true;
}

bool cli_get_int(const cli_args *args, const char *name, int min, int max, int *ret) {
    const char *text = cli_get(args, name);
    if (!text || parse_int(text, strlen(text), min, max, ret)) return true;
    cli_usage(args, "--%s is an integer from %d to %d, not '%s'", name, min, max, text);
    return false;
}

bool cli_get_ints(const cli_args *args, const char *name, int *ret, size_t max, size_t *ret_n) {
    const char *text = cli_get(args, name);
    if (!text) return true;
    size_t n = 0;
    for (const char *at = text;;) {
        const size_t length = strcspn(at, ",");
        if (n == max || !parse_int(at, length, 1, 1 << 20, &ret[n])) {
            cli_usage(args, "--%s is a list of at most %zu positive integers (1,8,32), not '%s'", name, max, text);
            return false;
        }
        n++;
        if (!at[length]) break;
        at += length + 1;
    }
    *ret_n = n;
    return true;
}

bool cli_size_parse(const char *text, size_t *ret) {
    const char *units = "KMGT";
    char *end;
    errno = 0;
    const double v = strtod(text, &end);
    double scale = 1;
    const char *unit = *end ? strchr(units, *end >= 'a' ? *end - 32 : *end) : NULL;
    if (unit) {
        for (const char *u = units; u <= unit; u++)
            scale *= 1024;
        end++;
        if (*end == 'i') end++;
    }
    if (*end == 'B') end++;
    if (end == text || *end || errno || !(v > 0) || v * scale > 9e15) return false;
    *ret = (size_t)(v * scale);
    return true;
}

bool cli_get_size(const cli_args *args, const char *name, size_t *ret) {
    const char *text = cli_get(args, name);
    if (!text || cli_size_parse(text, ret)) return true;
    cli_usage(args, "--%s is a size such as 500M or 2GiB, not '%s'", name, text);
    return false;
}
