/* demo_page.c - what the pages of the demos have in common: head, style, text. */
#include <errno.h>
#include <string.h>

#include "demo.h"

static const char style[] =
    "body{font:15px sans-serif;max-width:960px;margin:24px auto;padding:0 12px}"
    "h2{font-size:16px;margin:20px 0 4px}svg{width:100%}.grid{stroke:#ddd}"
    "text{font-size:11px;fill:#555}.y{text-anchor:end}.x{text-anchor:middle}"
    "table{border-collapse:collapse}td,th{padding:3px 10px;text-align:right;border-bottom:1px solid #ddd}"
    ".t{text-align:left}.bar{height:5px;background:#36c}.wrong{color:#c33}img{display:block;height:40px}";

FILE *demo_page_open(const char *path, const char *demo, const char *heading, ps_error *err) {
    FILE *f = fopen(path, "w");
    if (!f) {
        cli_config_fail(err, "%s: %s", path, strerror(errno));
        return NULL;
    }
    fprintf(f, "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>polestar demo %s</title>\n", demo);
    fprintf(f, "<style>%s</style></head><body>\n<h1>%s</h1>\n", style, heading);
    return f;
}

void demo_page_text(FILE *f, const char *text) {
    for (; *text; text++) {
        if (strchr("<>&'\"", *text))
            fprintf(f, "&#%d;", *text);
        else
            fputc(*text, f);
    }
}

bool demo_page_close(FILE *f, const char *path, ps_error *err) {
    fprintf(f, "</body></html>\n");
    bool ok = !ferror(f);
    ok = fclose(f) == 0 && ok;
    return ok || cli_config_fail(err, "%s cannot be written", path);
}
