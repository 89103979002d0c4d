/* graph_int.h - use lists and outputs, for the files of this folder only. */
#ifndef PS_GRAPH_GRAPH_INT_H
#define PS_GRAPH_GRAPH_INT_H

#include "graph/graph.h"

ps_status ps__value_add_use(ps_value *v, ps_node *node, uint32_t index, ps_error *err);
void ps__value_drop_use(ps_value *v, const ps_node *node, uint32_t index);
/* Retains a tensor for the life of the root. */
ps_status ps__graph_hold(ps_graph *g, ps_tensor *t, ps_error *err);
/* Grows an array in the arena (the old one stays behind until the arena goes). */
ps_status ps__arena_grow(ps_arena *arena, void **data, size_t size, size_t *room, size_t elem, ps_error *err);
bool ps__graph_encloses(const ps_graph *outer, const ps_graph *inner);

#endif
