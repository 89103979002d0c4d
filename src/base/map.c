/* map.c - open addressing with linear probing; the table is a power of two and at most three quarters full. */
#include "base/map.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t ps_hash_bytes(const void *data, size_t size, uint64_t seed) {
    return XXH3_64bits_withSeed(data, size, seed);
}

static uint64_t hash_key(const char *key) {
    return ps_hash_bytes(key, strlen(key), 0);
}

void ps_map_init(ps_map *m, ps_alloc_state *alloc) {
    *m = (ps_map) { .alloc = alloc };
}

void ps_map_release(ps_map *m) {
    ps_free(m->alloc, m->slots);
    ps_map_init(m, m->alloc);
}

/* The slot that holds key, or the empty one where it belongs. The table has at least one empty slot. */
static size_t find(const ps_map_slot *slots, size_t room, const char *key, uint64_t hash) {
    size_t i = (size_t)hash & (room - 1);
    while (slots[i].key && (slots[i].hash != hash || strcmp(slots[i].key, key) != 0))
        i = (i + 1) & (room - 1);
    return i;
}

void *ps_map_get(const ps_map *m, const char *key) {
    return m->room ? m->slots[find(m->slots, m->room, key, hash_key(key))].value : NULL;
}

static bool grow(ps_map *m) {
    size_t room = m->room ? m->room * 2 : 16, bytes;
    if (ps_mul_overflow_size(room, sizeof(ps_map_slot), &bytes)) return false;
    ps_map_slot *slots = ps_alloc_zero(m->alloc, bytes);
    if (!slots) return false;
    for (size_t i = 0; i < m->room; i++) {
        const ps_map_slot *s = &m->slots[i];
        if (s->key) slots[find(slots, room, s->key, s->hash)] = *s;
    }
    ps_free(m->alloc, m->slots);
    m->slots = slots;
    m->room = room;
    return true;
}

bool ps_map_put(ps_map *m, const char *key, void *value) {
    uint64_t hash = hash_key(key);
    if (m->room) {
        size_t i = find(m->slots, m->room, key, hash);
        if (m->slots[i].key) {
            m->slots[i].value = value;
            m->slots[i].key = key;
            return true;
        }
    }
    if ((m->size + 1) * 4 > m->room * 3 && !grow(m)) return false;
    m->slots[find(m->slots, m->room, key, hash)] = (ps_map_slot) { key, value, hash };
    m->size++;
    return true;
}

void ps_map_remove(ps_map *m, const char *key) {
    if (!m->room) return;
    size_t mask = m->room - 1, hole = find(m->slots, m->room, key, hash_key(key));
    if (!m->slots[hole].key) return;
    /* Close the hole: a later slot of the run moves up unless its home lies cyclically in (hole, i]. */
    for (size_t i = (hole + 1) & mask; m->slots[i].key; i = (i + 1) & mask) {
        size_t home = (size_t)m->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (ps_map_slot) { 0 };
    m->size--;
}
