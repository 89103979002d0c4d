/* regex_set.c - sets of characters of a pattern. */
#include <stdlib.h>
#include <string.h>

#include "ops/regex_int.h"

enum {
    MAX_RANGES = 1 << 17, /* of a pattern */
    MAX_FOLDED = 1 << 10, /* a longer range is folded by what it is compared with only */
};

static ps_re_set *last_set(ps_re_tree *tree) {
    return &tree->sets.data[tree->sets.size - 1];
}

bool ps_re_set_open(ps_re_tree *tree, bool fold) {
    ps_re_set set = { .first = (uint32_t)tree->ranges.size, .fold = fold };
    return ps_vec_push(tree->alloc, &tree->sets, set);
}

static bool push(ps_re_tree *tree, int32_t low, int32_t high) {
    ps_re_range range = { low, high };
    return tree->ranges.size < MAX_RANGES && ps_vec_push(tree->alloc, &tree->ranges, range);
}

/* Characters that differ from this one in case only; some are the same. */
static void variants(int32_t rune, int32_t ret[4]) {
    ret[0] = ps_rune_lower(rune);
    ret[1] = ps_rune_upper(rune);
    ret[2] = ps_rune_lower(ret[1]);
    ret[3] = ps_rune_upper(ret[0]);
}

bool ps_re_set_add(ps_re_tree *tree, int32_t low, int32_t high) {
    if (!push(tree, low, high)) return false;
    if (!last_set(tree)->fold || high - low >= MAX_FOLDED) return true;
    for (int32_t rune = low; rune <= high; rune++) {
        int32_t more[4];
        variants(rune, more);
        for (int k = 0; k < 4; k++)
            if ((more[k] < low || more[k] > high) && !push(tree, more[k], more[k])) return false;
    }
    return true;
}

/* Ascending ranges of ASCII, two characters each. */
static bool in_table(const char *table, int32_t rune) {
    for (; *table; table += 2)
        if (rune >= (unsigned char)table[0] && rune <= (unsigned char)table[1]) return true;
    return false;
}

/* All that no range holds, nor without regard to case what folds into one: beyond ASCII that is the long s and the
 * Kelvin sign. */
static bool add_complement(ps_re_tree *tree, const char *table) {
    static const int32_t folded[][2] = { { 0x17F, 's' }, { 0x212A, 'k' } };
    int32_t from = 0;
    for (const char *t = table; *t; t += 2) {
        if (from < (unsigned char)t[0] && !ps_re_set_add(tree, from, (unsigned char)t[0] - 1)) return false;
        from = (unsigned char)t[1] + 1;
    }
    for (size_t k = 0; k < 2 && last_set(tree)->fold; k++) {
        if (!in_table(table, folded[k][1])) continue;
        if (!push(tree, from, folded[k][0] - 1)) return false;
        from = folded[k][0] + 1;
    }
    return push(tree, from, PS_RUNE_MAX);
}

static bool add_table(ps_re_tree *tree, const char *table, bool negated) {
    if (negated) return add_complement(tree, table);
    for (; *table; table += 2)
        if (!ps_re_set_add(tree, (unsigned char)table[0], (unsigned char)table[1])) return false;
    return true;
}

bool ps_re_set_perl(ps_re_tree *tree, char letter, bool *ret_known) {
    *ret_known = true;
    switch (letter) {
    case 'd':
    case 'D': return add_table(tree, "09", letter == 'D');
    case 's':
    case 'S': return add_table(tree, "\t\n\f\r  ", letter == 'S');
    case 'w':
    case 'W': return add_table(tree, "09AZ__az", letter == 'W');
    default: *ret_known = false; return true;
    }
}

bool ps_re_set_posix(ps_re_tree *tree, const char *name, size_t size, bool *ret_known) {
    static const struct {
        const char *name, *table;
    } classes[] = {
        { "alnum", "09AZaz" }, { "alpha", "AZaz" },    { "blank", "\t\t  " }, { "digit", "09" },
        { "graph", "!~" },     { "lower", "az" },      { "print", " ~" },     { "punct", "!/:@[`{~" },
        { "upper", "AZ" },     { "xdigit", "09AFaf" }, { "space", "\t\r  " }, { "word", "09AZ__az" },
    };
    bool negated = size > 0 && name[0] == '^';
    const char *word = name + negated;
    size -= negated;
    *ret_known = true;
    /* These two begin with the character that ends a table. */
    if (size == 5 && memcmp(word, "ascii", 5) == 0)
        return negated ? ps_re_set_add(tree, 0x80, PS_RUNE_MAX) : ps_re_set_add(tree, 0, 0x7F);
    if (size == 5 && memcmp(word, "cntrl", 5) == 0) {
        if (!negated) return ps_re_set_add(tree, 0, 0x1F) && ps_re_set_add(tree, 0x7F, 0x7F);
        return ps_re_set_add(tree, 0x20, 0x7E) && ps_re_set_add(tree, 0x80, PS_RUNE_MAX);
    }
    for (size_t k = 0; k < sizeof classes / sizeof *classes; k++)
        if (strlen(classes[k].name) == size && memcmp(classes[k].name, word, size) == 0)
            return add_table(tree, classes[k].table, negated);
    *ret_known = false;
    return true;
}

void ps_re_set_categories(ps_re_tree *tree, uint32_t categories, bool negated) {
    ps_re_set *set = last_set(tree);
    if (!negated) {
        set->categories |= categories;
    } else { /* outside of one or outside of the other: outside of what both have */
        set->outside = set->has_outside ? set->outside & categories : categories;
        set->has_outside = true;
    }
}

static int by_low(const void *a, const void *b) {
    const ps_re_range *x = a, *y = b;
    return x->low != y->low ? (x->low > y->low) - (x->low < y->low) : (x->high > y->high) - (x->high < y->high);
}

void ps_re_set_close(ps_re_tree *tree) {
    ps_re_set *set = last_set(tree);
    size_t n = tree->ranges.size - set->first, kept = 0;
    if (n) {
        ps_re_range *r = tree->ranges.data + set->first;
        qsort(r, n, sizeof *r, by_low);
        for (size_t k = 0; k < n; k++) {
            if (kept && r[k].low <= r[kept - 1].high + 1) {
                if (r[k].high > r[kept - 1].high) r[kept - 1].high = r[k].high;
            } else {
                r[kept++] = r[k];
            }
        }
    }
    set->n = (uint32_t)kept;
    tree->ranges.size = set->first + kept;
}

static bool has_exactly(const ps_re_set *set, const ps_re_range *ranges, int32_t rune) {
    uint32_t low = set->first, high = set->first + set->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (rune < ranges[middle].low)
            high = middle;
        else if (rune > ranges[middle].high)
            low = middle + 1;
        else
            return true;
    }
    if (set->categories && ps_rune_in(rune, set->categories)) return true;
    return set->has_outside && !ps_rune_in(rune, set->outside);
}

bool ps_re_set_has(const ps_re_set *set, const ps_re_range *ranges, int32_t rune) {
    if (rune < 0) return false; /* no character */
    bool in = has_exactly(set, ranges, rune);
    if (!in && set->fold) {
        int32_t more[4];
        variants(rune, more);
        for (int k = 0; k < 4 && !in; k++)
            in = more[k] != rune && has_exactly(set, ranges, more[k]);
    }
    return in != set->negated;
}
