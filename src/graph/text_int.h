/* text_int.h - the lexical level of the graph text: names, numbers, types, tensors, attribute values. */
#ifndef PS_GRAPH_TEXT_INT_H
#define PS_GRAPH_TEXT_INT_H

#include "graph/graph.h"

typedef struct ps_parser {
    ps_alloc_state *alloc;
    ps_graph *root; /* strings go to its arena */
    const char *at;
    int line;
    bool quoted; /* the last name was in quotes */
    ps_error *err;
} ps_parser;

char ps__parse_peek(ps_parser *p);     /* after blanks and comments; 0 at the end */
char ps__parse_peek_raw(ps_parser *p); /* after blanks only, so that '#' shows */
bool ps__parse_take(ps_parser *p, char c);
bool ps__parse_word(ps_parser *p, const char *word);
ps_status ps__parse_expect(ps_parser *p, char c);
ps_status ps__parse_name(ps_parser *p, char **ret); /* bare or quoted; in the arena */
ps_status ps__parse_int(ps_parser *p, int64_t *ret);
ps_status ps__parse_type(ps_parser *p, ps_dtype *ret_dtype, ps_shape *ret_shape);
/* `{...}` or `random(seed)` (the word already read), of a given type. */
ps_status ps__parse_content(ps_parser *p, ps_dtype dtype, const ps_shape *shape, ps_tensor **ret);
/* A tensor whose dtype name was read already. */
ps_status ps__parse_tensor(ps_parser *p, const char *dtype, ps_tensor **ret);
/* Anything but a single graph. *ret_graphs: the text goes on with a list of graphs, '[' being read. A tensor is the
 * caller's. */
ps_status ps__parse_attr_value(ps_parser *p, ps_attr *a, bool *ret_graphs);

#endif
