/* regex.h - regular expressions of RE2's syntax, matched in time linear in the text.
 *
 * A pattern is compiled to a program for a machine that follows all alternatives at once (K. Thompson, Regular
 * Expression Search Algorithm, CACM 11, 1968): no pattern makes it go back over the text. Time is bounded by
 * instructions times characters, and the number of instructions is limited. A compiled program is read-only and may be
 * shared. */
#ifndef PS_OPS_REGEX_H
#define PS_OPS_REGEX_H

#include "base/alloc.h"
#include "base/arena.h"
#include "base/error.h"

#define PS_REGEX_MAX_PROGRAM 20000 /* instructions */
#define PS_REGEX_MAX_REPEAT 1000   /* of {n,m}, nested ones multiplied, as in RE2 */
#define PS_REGEX_MAX_DEPTH 500     /* of groups in groups */

typedef struct ps_regex ps_regex;

/* The program lies in the arena; `scratch` serves while it is made. A sentence that tells where the pattern is wrong.
 */
ps_status ps_regex_compile(ps_arena *arena, ps_alloc_state *scratch, const char *pattern, size_t size,
                           const ps_regex **ret, ps_error *err);
/* Bytes of working memory for ps_regex_match. */
size_t ps_regex_work(const ps_regex *re);
/* Does the pattern match the text from its first to its last character? Bytes that are no UTF-8 match nothing. */
bool ps_regex_match(const ps_regex *re, const char *text, size_t size, void *work);

/* The first match that begins at byte `from` or later, and of those that begin there the longest. What stands before
 * `from` counts for \b and ^. */
bool ps_regex_find(const ps_regex *re, const char *text, size_t size, size_t from, size_t *ret_begin, size_t *ret_end,
                   void *work);

#endif
