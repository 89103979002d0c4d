/* help.c - `help`, --help and man pages, all from the command table. */
#include <string.h>

#include "cli.h"

enum { WIDTH = 96 };

/* Prints text wrapped at WIDTH columns, each line after `indent` spaces; a newline in text ends a paragraph's line. */
static void wrap(FILE *out, const char *text, int indent) {
    while (*text) {
        size_t room = (size_t)(WIDTH - indent), n = strcspn(text, "\n"), cut = n;
        if (n > room) {
            for (cut = room; cut && text[cut] != ' '; cut--)
                continue;
            if (!cut) cut = n;
        }
        fprintf(out, "%*s%.*s\n", cut ? indent : 0, "", (int)cut, text);
        text += cut;
        if (*text == '\n' || *text == ' ') text++;
    }
}

void cli_print_overview(FILE *out) {
    fprintf(out, "polestar %s - inference engine and server for plain CPUs and legacy GPUs\n\n", ps_version());
    fprintf(out, "usage: polestar COMMAND [options] [arguments]\n\n");
    for (size_t i = 0; cli_commands[i]; i++)
        fprintf(out, "  %-12s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
    fprintf(out, "\n'polestar COMMAND --help' explains one. Exit codes: 0 done, 1 the work failed, 2 wrong usage.\n");
}

static void option_head(const cli_option *o, char *buf, size_t size) {
    if (o->kind == CLI_FLAG)
        snprintf(buf, size, "--%s", o->name);
    else
        snprintf(buf, size, "--%s %s", o->name, o->arg);
}

void cli_print_help(const cli_command *c, FILE *out) {
    fprintf(out, "usage: polestar %s%s%s%s\n\n", c->name, c->options[0].name ? " [options]" : "", c->args[0] ? " " : "",
            c->args);
    wrap(out, c->summary, 0);
    if (c->details) {
        fputc('\n', out);
        wrap(out, c->details, 0);
    }
    if (c->options[0].name) fprintf(out, "\noptions:\n");
    for (const cli_option *o = c->options; o->name; o++) {
        char head[96];
        option_head(o, head, sizeof head);
        fprintf(out, "  %s\n", head);
        wrap(out, o->help, 10);
        if (o->initial) fprintf(out, "%*sdefault: %s\n", 10, "", o->initial);
    }
}

/* ---- roff ---- */

/* Text with roff's own characters made harmless. */
static void roff(FILE *out, const char *text) {
    for (bool start = true; *text; text++) {
        if (start && (*text == '.' || *text == '\'')) fputs("\\&", out);
        start = *text == '\n';
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\n')
            fputs("\n.PP\n", out);
        else
            fputc(*text, out);
    }
}

static void roff_line(FILE *out, const char *before, const char *text, const char *after) {
    fputs(before, out);
    roff(out, text);
    fputs(after, out);
}

static void man_title(FILE *out, const char *page, const char *summary) {
    fprintf(out, ".TH \"%s\" 1 \"\" \"polestar %s\" \"User Commands\"\n.SH NAME\n", page, ps_version());
    roff(out, page);
    roff_line(out, " \\- ", summary, "\n");
}

static void man_options(const cli_command *c, FILE *out) {
    if (!c->options[0].name) return;
    fputs(".SH OPTIONS\n", out);
    for (const cli_option *o = c->options; o->name; o++) {
        roff_line(out, ".TP\n\\fB\\-\\-", o->name, "\\fR");
        if (o->arg) roff_line(out, " \\fI", o->arg, "\\fR");
        roff_line(out, "\n", o->help, "");
        if (o->initial) roff_line(out, " (default: ", o->initial, ")");
        fputc('\n', out);
    }
}

static void man_command(const cli_command *c, FILE *out) {
    char page[64];
    snprintf(page, sizeof page, "polestar-%s", c->name);
    man_title(out, page, c->summary);
    roff_line(out, ".SH SYNOPSIS\n\\fBpolestar ", c->name, "\\fR [\\fIoptions\\fR]");
    if (c->args[0]) roff_line(out, " \\fI", c->args, "\\fR");
    fputs("\n.SH DESCRIPTION\n", out);
    roff_line(out, "", c->details ? c->details : c->summary, "\n");
    man_options(c, out);
    fputs(".SH \"EXIT STATUS\"\n0 done, 1 the work failed (one sentence on standard error), 2 wrong usage.\n"
          ".SH \"SEE ALSO\"\n.BR polestar (1)\n",
          out);
}

void cli_print_man(const cli_command *command, FILE *out) {
    if (command) {
        man_command(command, out);
        return;
    }
    man_title(out, "polestar", "inference engine and server for plain CPUs and legacy GPUs");
    fputs(".SH SYNOPSIS\n\\fBpolestar\\fR \\fICOMMAND\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]\n.SH COMMANDS\n", out);
    for (size_t i = 0; cli_commands[i]; i++) {
        roff_line(out, ".TP\n\\fBpolestar ", cli_commands[i]->name, "\\fR");
        if (cli_commands[i]->args[0]) roff_line(out, " \\fI", cli_commands[i]->args, "\\fR");
        roff_line(out, "\n", cli_commands[i]->summary, "\n");
    }
    fputs(".SH \"EXIT STATUS\"\n0 done, 1 the work failed (one sentence on standard error), 2 wrong usage.\n", out);
    fputs(".SH FILES\n.TP\n\\fI~/.cache/polestar\\fR or \\fI$XDG_CACHE_HOME/polestar\\fR\nwhat was tuned or compiled "
          "once\n"
          ".TP\n\\fIMODEL.preprocess.json\\fR\nhow photos become the input of MODEL.onnx\n",
          out);
}

/* ---- commands ---- */

static int run_help(const cli_args *args) {
    if (!args->n_words) {
        cli_print_overview(stdout);
        return CLI_OK;
    }
    const cli_command *command = cli_command_find(args->words[0]);
    if (!command) return cli_unknown_command(args->words[0]);
    cli_print_help(command, stdout);
    return CLI_OK;
}

static int run_man(const cli_args *args) {
    const cli_command *command = args->n_words ? cli_command_find(args->words[0]) : NULL;
    if (args->n_words && !command) return cli_unknown_command(args->words[0]);
    cli_print_man(command, stdout);
    return CLI_OK;
}

static int run_completion(const cli_args *args) {
    if (cli_print_completion(args->words[0], stdout)) return CLI_OK;
    return cli_usage(args, "no completion for '%s'; there are bash, zsh and fish", args->words[0]);
}

static const cli_option no_options[] = { CLI_OPT_END };

const cli_command cli_help = {
    "help", "[COMMAND]", CLI_TEXT, "list the commands, or explain one", NULL, no_options, 0, 1, run_help,
};
const cli_command cli_man = {
    "man", "[COMMAND]", CLI_TEXT, "print a manual page (roff)", "For example: polestar man run | man -l -", no_options,
    0,     1,           run_man,
};
const cli_command cli_completion = {
    "completion",
    "bash|zsh|fish",
    CLI_WORDS,
    "print completions for a shell",
    "bash: source <(polestar completion bash)\nzsh: source <(polestar completion zsh)\nfish: polestar completion fish "
    "| source",
    no_options,
    1,
    1,
    run_completion,
};
