/* map.h - string → pointer hash map (open addressing, XXH3). Keys are borrowed and must outlive the map. */
#ifndef PS_BASE_MAP_H
#define PS_BASE_MAP_H

#include "base/alloc.h"

typedef struct ps_map_slot {
    const char *key;
    void *value;
    uint64_t hash;
} ps_map_slot;

typedef struct ps_map {
    ps_alloc_state *alloc;
    ps_map_slot *slots;
    size_t room, size;
} ps_map;

void ps_map_init(ps_map *m, ps_alloc_state *alloc);
void ps_map_release(ps_map *m);
/* NULL if absent. */
void *ps_map_get(const ps_map *m, const char *key);
/* Inserts or replaces; false when out of memory. value must not be NULL. */
bool ps_map_put(ps_map *m, const char *key, void *value);
/* Absent keys are ignored. */
void ps_map_remove(ps_map *m, const char *key);

/* XXH3-64: stable between runs and machines, not cryptographic. */
uint64_t ps_hash_bytes(const void *data, size_t size, uint64_t seed);

#endif
