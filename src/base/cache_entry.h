/* cache_entry.h - inside base: keys and files of the cache.
 *
 * A file, all numbers little-endian:
 *    0  8  magic "PSCACHE1"
 *    8  8  XXH3-64 of bytes 16 … 40 and the key
 *   16  8  key size
 *   24  8  payload size
 *   32  8  XXH3-64 of the payload
 *   40     key, then payload, then nothing
 * The key is kind, digest, version and target, each a 32-bit size and the bytes; the file's name is XXH3-128 of it. */
#ifndef PS_BASE_CACHE_ENTRY_H
#define PS_BASE_CACHE_ENTRY_H

#include "base/cache.h"

enum {
    PS_CACHE_HEADER_SIZE = 40,
    PS_CACHE_KEY_MAX = 4 * 4 + 64 + 64 + 256 + 1024,
    PS_CACHE_NAME_SIZE = 32 + 4 + 1, /* hex, ".psc", NUL */
};

typedef struct ps_cache_packed_key {
    size_t size;
    uint8_t data[PS_CACHE_KEY_MAX];
    char name[PS_CACHE_NAME_SIZE];
} ps_cache_packed_key;

typedef enum ps_cache_read {
    PS_CACHE_READ_OK,
    PS_CACHE_READ_BAD,
    PS_CACHE_READ_OTHER_KEY,
    PS_CACHE_READ_NO_MEMORY,
} ps_cache_read;

ps_status ps_cache_key_pack(const ps_cache_key *key, ps_cache_packed_key *ret, ps_error *err);
bool ps_cache_name_valid(const char *name);

/* The payload's size and hash, once the head was read and says this key. fd at position 0 of a file of file_size bytes.
 */
ps_cache_read ps_cache_entry_head(int fd, uint64_t file_size, const ps_cache_packed_key *key, uint64_t *ret_size,
                                  uint64_t *ret_hash);
/* The same fd; the result of ps_cache_entry_read is a ps_alloc_data block. */
ps_cache_read ps_cache_entry_read(ps_alloc_state *a, int fd, uint64_t file_size, const ps_cache_packed_key *key,
                                  void **ret_data, size_t *ret_size);
/* Reads header and key only, and sets the three strings of *ret, in the arena. */
ps_cache_read ps_cache_entry_describe(int fd, uint64_t file_size, ps_arena *arena, ps_cache_entry *ret);
/* 0 or an errno. */
int ps_cache_entry_write(int fd, const ps_cache_packed_key *key, const ps_cache_part *parts, size_t n);

/* The hash of a payload in pieces. */
typedef struct ps_cache_hash ps_cache_hash;
ps_cache_hash *ps_cache_hash_new(ps_alloc_state *a); /* NULL: out of memory */
void ps_cache_hash_add(ps_cache_hash *h, const void *data, size_t size);
uint64_t ps_cache_hash_value(const ps_cache_hash *h);

#endif
