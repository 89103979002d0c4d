/* cache_entry.c - keys and files of the cache; the format is in cache_entry.h. */
#include "base/cache_entry.h"

#include <string.h>

#include "base/os_int.h"
#include "base/str.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char magic[8] = { 'P', 'S', 'C', 'A', 'C', 'H', 'E', '1' };
static const char suffix[] = ".psc";

static void put_le(uint8_t *out, uint64_t v, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *in, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)in[i] << (8 * i);
    return v;
}

/* ---- keys ---- */

static ps_status pack_field(ps_cache_packed_key *k, const char *what, const void *data, size_t size, size_t max,
                            ps_error *err) {
    PS_FAIL_IF(size > max, err, LIMIT, "cache key: the %s has %zu bytes, at most %zu are allowed", what, size, max);
    put_le(k->data + k->size, size, 4);
    if (size) memcpy(k->data + k->size + 4, data, size);
    k->size += 4 + size;
    return PS_OK;
}

ps_status ps_cache_key_pack(const ps_cache_key *key, ps_cache_packed_key *ret, ps_error *err) {
    ret->size = 0;
    PS_TRY(pack_field(ret, "kind", key->kind, strlen(key->kind), 64, err));
    PS_TRY(pack_field(ret, "digest", key->digest, key->digest_size, 64, err));
    PS_TRY(pack_field(ret, "version", key->version, strlen(key->version), 256, err));
    PS_TRY(pack_field(ret, "target", key->target, strlen(key->target), 1024, err));
    XXH128_hash_t h = XXH3_128bits(ret->data, ret->size);
    ps_snprintf(ret->name, sizeof ret->name, "%016llx%016llx%s", (unsigned long long)h.high64,
                (unsigned long long)h.low64, suffix);
    return PS_OK;
}

bool ps_cache_name_valid(const char *name) {
    return strspn(name, "0123456789abcdef") == 32 && strcmp(name + 32, suffix) == 0;
}

/* ---- writing ---- */

static uint64_t head_hash(const uint8_t head[PS_CACHE_HEADER_SIZE], const uint8_t *key, size_t key_size) {
    return XXH3_64bits_withSeed(key, key_size, XXH3_64bits(head + 16, PS_CACHE_HEADER_SIZE - 16));
}

int ps_cache_entry_write(int fd, const ps_cache_packed_key *key, const ps_cache_part *parts, size_t n) {
    uint8_t head[PS_CACHE_HEADER_SIZE];
    XXH3_state_t state;
    uint64_t size = 0;
    XXH3_64bits_reset(&state);
    for (size_t i = 0; i < n; i++) {
        XXH3_64bits_update(&state, parts[i].data, parts[i].size);
        size += parts[i].size;
    }
    memcpy(head, magic, sizeof magic);
    put_le(head + 16, key->size, 8);
    put_le(head + 24, size, 8);
    put_le(head + 32, XXH3_64bits_digest(&state), 8);
    put_le(head + 8, head_hash(head, key->data, key->size), 8);
    int code = ps_write_all(fd, head, sizeof head);
    if (code == 0) code = ps_write_all(fd, key->data, key->size);
    for (size_t i = 0; i < n && code == 0; i++)
        code = ps_write_all(fd, parts[i].data, parts[i].size);
    return code;
}

/* ---- reading ---- */

typedef struct entry_head {
    uint64_t key_size, payload_size, payload_hash;
    uint8_t key[PS_CACHE_KEY_MAX];
} entry_head;

/* Sizes are checked against the file's before anything is allocated for them. */
static bool read_head(int fd, uint64_t file_size, entry_head *ret) {
    uint8_t head[PS_CACHE_HEADER_SIZE];
    if (!ps_read_exact(fd, head, sizeof head) || memcmp(head, magic, sizeof magic) != 0) return false;
    ret->key_size = get_le(head + 16, 8);
    ret->payload_size = get_le(head + 24, 8);
    ret->payload_hash = get_le(head + 32, 8);
    if (ret->key_size > sizeof ret->key || ret->payload_size > file_size) return false;
    if (PS_CACHE_HEADER_SIZE + ret->key_size + ret->payload_size != file_size) return false;
    if (!ps_read_exact(fd, ret->key, (size_t)ret->key_size)) return false;
    return head_hash(head, ret->key, (size_t)ret->key_size) == get_le(head + 8, 8);
}

ps_cache_read ps_cache_entry_head(int fd, uint64_t file_size, const ps_cache_packed_key *key, uint64_t *ret_size,
                                  uint64_t *ret_hash) {
    entry_head head;
    if (!read_head(fd, file_size, &head)) return PS_CACHE_READ_BAD;
    if (head.key_size != key->size || memcmp(head.key, key->data, key->size) != 0) return PS_CACHE_READ_OTHER_KEY;
    if (head.payload_size > SIZE_MAX) return PS_CACHE_READ_NO_MEMORY;
    *ret_size = head.payload_size;
    *ret_hash = head.payload_hash;
    return PS_CACHE_READ_OK;
}

ps_cache_read ps_cache_entry_read(ps_alloc_state *a, int fd, uint64_t file_size, const ps_cache_packed_key *key,
                                  void **ret_data, size_t *ret_size) {
    uint64_t payload, hash;
    ps_cache_read result = ps_cache_entry_head(fd, file_size, key, &payload, &hash);
    if (result != PS_CACHE_READ_OK) return result;
    size_t size = (size_t)payload;
    void *data = ps_alloc_data(a, size);
    if (!data) return PS_CACHE_READ_NO_MEMORY;
    if (!ps_read_exact(fd, data, size) || XXH3_64bits(data, size) != hash) {
        ps_free(a, data);
        return PS_CACHE_READ_BAD;
    }
    *ret_data = data;
    *ret_size = size;
    return PS_CACHE_READ_OK;
}

/* The next field of a packed key; false if the key ends before it. */
static bool next_field(const entry_head *head, size_t *at, const char **ret, size_t *ret_size) {
    size_t left = (size_t)head->key_size - *at;
    if (left < 4) return false;
    uint64_t size = get_le(head->key + *at, 4);
    if (size > left - 4) return false;
    *ret = (const char *)head->key + *at + 4;
    *ret_size = (size_t)size;
    *at += 4 + (size_t)size;
    return true;
}

ps_cache_read ps_cache_entry_describe(int fd, uint64_t file_size, ps_arena *arena, ps_cache_entry *ret) {
    entry_head head;
    if (!read_head(fd, file_size, &head)) return PS_CACHE_READ_BAD;
    const char **strings[4] = { &ret->kind, NULL, &ret->version, &ret->target };
    size_t at = 0;
    for (int i = 0; i < 4; i++) {
        const char *text;
        size_t size;
        if (!next_field(&head, &at, &text, &size)) return PS_CACHE_READ_BAD;
        if (!strings[i]) continue; /* the digest says nothing to a person */
        *strings[i] = ps_arena_strndup(arena, text, size);
        if (!*strings[i]) return PS_CACHE_READ_NO_MEMORY;
    }
    return PS_CACHE_READ_OK;
}

/* ---- in pieces ---- */

struct ps_cache_hash {
    XXH3_state_t state;
};

ps_cache_hash *ps_cache_hash_new(ps_alloc_state *a) {
    ps_cache_hash *h = ps_alloc_data(a, sizeof *h); /* the state wants 64 bytes of alignment */
    if (h) XXH3_64bits_reset(&h->state);
    return h;
}

void ps_cache_hash_add(ps_cache_hash *h, const void *data, size_t size) {
    XXH3_64bits_update(&h->state, data, size);
}

uint64_t ps_cache_hash_value(const ps_cache_hash *h) {
    return XXH3_64bits_digest(&h->state);
}
