/* completion.c - shell completions from the command table. */
#include <string.h>

#include "cli.h"

static bool offers_words(const cli_option *o) {
    return o->kind == CLI_WORDS || o->kind == CLI_DEVICE;
}

/* "a|b" → "a b" */
static void print_words(FILE *out, const char *words) {
    for (; *words; words++)
        fputc(*words == '|' ? ' ' : *words, out);
}

/* Text inside single quotes of a shell. */
static void print_quoted(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    }
}

/* ---- bash ---- */

static void bash_values(FILE *out, const cli_command *c) {
    for (const cli_option *o = c->options; o->name; o++) {
        if (o->kind == CLI_FLAG) continue;
        fprintf(out, "        %s:--%s) ", c->name, o->name);
        if (offers_words(o)) {
            fputs("COMPREPLY=($(compgen -W '", out);
            print_words(out, o->arg);
            fputs("' -- \"$word\"))", out);
        } else if (o->kind == CLI_DIR) {
            fputs("COMPREPLY=($(compgen -d -- \"$word\"))", out);
        } else if (o->kind == CLI_FILE) {
            fputs("COMPREPLY=($(compgen -f -- \"${word#*=}\"))", out);
        } else {
            fputs("COMPREPLY=()", out);
        }
        fputs("; return ;;\n", out);
    }
}

static void print_bash(FILE *out) {
    fputs("# bash completion of polestar\n_polestar() {\n    local word=\"${COMP_WORDS[COMP_CWORD]}\" "
          "before=\"${COMP_WORDS[COMP_CWORD-1]}\" command=\"${COMP_WORDS[1]}\"\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '",
          out);
    for (size_t i = 0; cli_commands[i]; i++)
        fprintf(out, "%s%s", i ? " " : "", cli_commands[i]->name);
    fputs("' -- \"$word\")); return\n    fi\n    case \"$command:$before\" in\n", out);
    for (size_t i = 0; cli_commands[i]; i++)
        bash_values(out, cli_commands[i]);
    fputs("    esac\n    case \"$command\" in\n", out);
    for (size_t i = 0; cli_commands[i]; i++) {
        const cli_command *c = cli_commands[i];
        fprintf(out, "        %s) [[ \"$word\" == -* ]] && { COMPREPLY=($(compgen -W '", c->name);
        for (const cli_option *o = c->options; o->name; o++)
            fprintf(out, "--%s ", o->name);
        fputs("--help' -- \"$word\")); return; }", out);
        if (c->args_kind == CLI_WORDS) {
            fputs("; COMPREPLY=($(compgen -W '", out);
            print_words(out, c->args);
            fputs("' -- \"$word\")); return", out);
        }
        fputs(" ;;\n", out);
    }
    fputs("    esac\n    COMPREPLY=($(compgen -f -- \"$word\"))\n}\ncomplete -o filenames -F _polestar polestar\n",
          out);
}

/* ---- zsh ---- */

/* The help text of an option: brackets and colons end zsh's own fields. */
static void zsh_text(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '[' || *text == ']' || *text == ':') fputc('\\', out);
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    }
}

static void zsh_option(FILE *out, const cli_option *o) {
    fprintf(out, " \\\n            '*--%s[", o->name);
    zsh_text(out, o->help);
    fputc(']', out);
    if (offers_words(o)) {
        fputs(":value:(", out);
        print_words(out, o->arg);
        fputc(')', out);
    } else if (o->kind != CLI_FLAG) {
        fputs(o->kind == CLI_DIR ? ":folder:_files -/" : o->kind == CLI_FILE ? ":file:_files" : ":value: ", out);
    }
    fputc('\'', out);
}

static void print_zsh(FILE *out) {
    fputs("#compdef polestar\n# zsh completion of polestar\n_polestar() {\n    local -a commands\n    commands=(\n",
          out);
    for (size_t i = 0; cli_commands[i]; i++) {
        fprintf(out, "        '%s:", cli_commands[i]->name);
        print_quoted(out, cli_commands[i]->summary);
        fputs("'\n", out);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
          "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n",
          out);
    for (size_t i = 0; cli_commands[i]; i++) {
        fprintf(out, "        %s)\n            _arguments '--help[print the explanation]'", cli_commands[i]->name);
        for (const cli_option *o = cli_commands[i]->options; o->name; o++)
            zsh_option(out, o);
        if (cli_commands[i]->args_kind == CLI_WORDS) {
            fputs(" \\\n            '*:value:(", out);
            print_words(out, cli_commands[i]->args);
            fputs(")'", out);
        } else {
            fputs(" \\\n            '*:file:_files'", out);
        }
        fputs(" ;;\n", out);
    }
    fputs("    esac\n}\n(( $+functions[compdef] )) && compdef _polestar polestar\n", out);
}

/* ---- fish ---- */

static void print_fish(FILE *out) {
    fputs("# fish completion of polestar\n", out);
    for (size_t i = 0; cli_commands[i]; i++) {
        const cli_command *c = cli_commands[i];
        fprintf(out, "complete -c polestar -f -n __fish_use_subcommand -a %s -d '", c->name);
        print_quoted(out, c->summary);
        fputs("'\n", out);
        if (c->args_kind == CLI_WORDS) {
            fprintf(out, "complete -c polestar -f -n '__fish_seen_subcommand_from %s' -a '", c->name);
            print_words(out, c->args);
            fputs("'\n", out);
        } else if (c->args_kind != CLI_FLAG && c->args_kind != CLI_TEXT) {
            fprintf(out, "complete -c polestar -F -n '__fish_seen_subcommand_from %s'\n", c->name);
        }
        for (const cli_option *o = c->options; o->name; o++) {
            fprintf(out, "complete -c polestar -n '__fish_seen_subcommand_from %s' -l %s -d '", c->name, o->name);
            print_quoted(out, o->help);
            fputs("'", out);
            if (offers_words(o)) {
                fputs(" -x -a '", out);
                print_words(out, o->arg);
                fputs("'", out);
            } else if (o->kind != CLI_FLAG) {
                fputs(o->kind == CLI_TEXT ? " -x" : " -r -F", out);
            }
            fputc('\n', out);
        }
    }
}

bool cli_print_completion(const char *shell, FILE *out) {
    if (strcmp(shell, "bash") == 0)
        print_bash(out);
    else if (strcmp(shell, "zsh") == 0)
        print_zsh(out);
    else if (strcmp(shell, "fish") == 0)
        print_fish(out);
    else
        return false;
    return true;
}
