/* unknown.c - what to say about operators that the table lacks: where, of which version, what comes closest, and how
 * many more there are. */
#include <ctype.h>

#include "base/map.h"
#include "ops/ops.h"

enum { LONGEST = 40, FAR = 3 }; /* names beyond are not compared; edits from which a name is another one */

static const char *shown(const char *domain) {
    return domain[0] ? domain : "ai.onnx";
}

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Insertions, deletions and exchanges that lead from a to b, case aside; FAR if they are more or a name is long.
 * Source: Wagner and Fischer 1974. */
static int distance(const char *a, const char *b) {
    int row[LONGEST + 1], n = (int)strnlen(a, LONGEST + 1), m = (int)strnlen(b, LONGEST + 1);
    if (n > LONGEST || m > LONGEST || n - m >= FAR || m - n >= FAR) return FAR;
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            int best = least(corner + !same, 1 + least(row[j], row[j - 1]));
            corner = row[j];
            row[j] = best;
        }
    }
    return least(row[m], FAR);
}

static const char *domain_of(const ps_op *op) {
    return op->domain ? op->domain : "";
}

/* What the table says about a name it lacks in this domain and version. */
typedef struct hints {
    int64_t oldest;        /* version from which the operator is known; 0: never */
    const char *similar;   /* an operator of the domain with nearly this name */
    const char *elsewhere; /* a domain with an operator of this name */
    const char *domain;    /* a known domain of nearly this name */
    bool domain_known;
} hints;

static void look_at(const ps_op *op, const char *name, const char *domain, int best[2], hints *h) {
    bool ours = strcmp(domain_of(op), "polestar") == 0, here = strcmp(domain_of(op), domain) == 0;
    if (ours && !here) return;
    h->domain_known |= here;
    bool same = strcmp(op->name, name) == 0;
    if (here && same && (!h->oldest || op->since < h->oldest)) h->oldest = op->since;
    if (!here && same) h->elsewhere = shown(domain_of(op));
    int d = here && !same ? distance(op->name, name) : FAR;
    if (d < best[0]) {
        best[0] = d;
        h->similar = op->name;
    }
    d = here ? FAR : distance(shown(domain_of(op)), domain);
    if (d < best[1]) {
        best[1] = d;
        h->domain = shown(domain_of(op));
    }
}

static hints find_hints(const char *name, const char *domain) {
    hints h = { 0 };
    size_t n;
    /* Of a short name, one edit in three letters at most. */
    int best[2] = { least(FAR, (int)strnlen(name, LONGEST) / 3 + 1), FAR };
    const ps_op_family *const *families = ps_ops_families(&n);
    for (size_t f = 0; f < n; f++) {
        for (size_t i = 0; i < families[f]->n; i++)
            look_at(&families[f]->ops[i], name, domain, best, &h);
    }
    return h;
}

static void write_hint(const char *name, const char *domain, char *buf, size_t size) {
    hints h = find_hints(name, domain);
    buf[0] = '\0';
    if (h.oldest)
        ps_snprintf(buf, size, "; the nearest supported version is %lld", (long long)h.oldest);
    else if (!h.domain_known && h.domain)
        ps_snprintf(buf, size, "; did you mean the domain %s?", h.domain);
    else if (h.elsewhere)
        ps_snprintf(buf, size, "; %s has an operator of this name", h.elsewhere);
    else if (h.similar)
        ps_snprintf(buf, size, "; did you mean %s?", h.similar);
    else
        ps_snprintf(buf, size, "; no version of it is%s", h.domain_known ? "" : ", nor is anything of this domain");
}

/* ---- how many more ---- */

static ps_status count_graph(const ps_graph *g, ps_map *seen, ps_arena *arena, ps_error *err) {
    for (const ps_node *n = g->first; n; n = n->next) {
        if (ps_ops_row(n, NULL)) continue;
        const char *key = ps_arena_printf(arena, "%s::%s", n->domain, n->op_type);
        if (!key || !ps_map_put(seen, key, (void *)n)) return PS_FAIL_NOMEM(err, "an operator's name");
    }
    return PS_OK;
}

static ps_status count_unknown(const ps_graph *root, size_t *ret, ps_error *err) {
    ps_map seen;
    ps_arena arena;
    ps_map_init(&seen, root->alloc);
    ps_arena_init(&arena, root->alloc);
    ps_status status = count_graph(root, &seen, &arena, err);
    for (const ps_graph *g = root->all_graphs; g && status == PS_OK; g = g->next_all)
        status = count_graph(g, &seen, &arena, err);
    *ret = seen.size;
    ps_map_release(&seen);
    ps_arena_release(&arena);
    return status;
}

ps_status ps_ops_refuse(const ps_node *node, ps_error *err) {
    char label[160], hint[160], more[64] = "";
    int64_t version;
    size_t unknown = 0;
    const char *domain = strcmp(node->domain, "ai.onnx") == 0 ? "" : node->domain;
    ps_ops_row(node, &version);
    PS_TRY(count_unknown(node->graph->root, &unknown, err));
    write_hint(node->op_type, domain, hint, sizeof hint);
    if (unknown > 1) ps_snprintf(more, sizeof more, " (and %zu more of the model's operators are not)", unknown - 1);
    return PS_FAIL(err, UNSUPPORTED, "%s: operator %.60s of %.60s version %lld is not supported%s%s",
                   ps_node_label(node, label, sizeof label), node->op_type, shown(domain), (long long)version, hint,
                   more);
}
