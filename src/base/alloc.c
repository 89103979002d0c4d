/* alloc.c - the accounting allocator. */
#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

/* A request beyond this is a damaged size. It is refused here, because sanitizers end the process on what no malloc can
 * give, and because pointers into a block must have a difference. */
#define MAX_BLOCK (PTRDIFF_MAX > INT32_MAX ? (uint64_t)1 << 39 : (uint64_t)PTRDIFF_MAX)

/* Sits directly in front of every block that is handed out. 16 bytes, so that it keeps the smallest alignment. */
typedef struct block_header {
    size_t size;     /* as asked for */
    uint16_t offset; /* of the block in what the user's allocator returned */
    uint16_t slack;  /* bytes asked of the user's allocator beyond size */
    uint16_t align;
    uint16_t magic; /* catches a foreign or freed pointer in debug builds */
} block_header;

_Static_assert(sizeof(block_header) == 16, "header must keep 16-byte alignment");

enum { MAGIC_LIVE = 0x5073, MAGIC_DISCARDED = 0x5074, MAGIC_FREE = 0xDEAD, MIN_ALIGN = 16 };

/* block_header.align of a block with pages of its own. Sanitizers know malloc's blocks only. */
enum { OWN_PAGES = 1, OWN_PAGES_FROM = 128 << 10 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAY_OWN_PAGES false
#else
#define MAY_OWN_PAGES true
#endif

static void *malloc_alloc(void *ctx, size_t size, size_t align) {
    if (align <= _Alignof(max_align_t)) return malloc(size);
    void *ptr = NULL;
    return posix_memalign(&ptr, align, size) == 0 ? ptr : NULL;
}

static void malloc_free(void *ctx, void *ptr, size_t size) {
    free(ptr);
}

void ps_alloc_state_init(ps_alloc_state *state, const ps_allocator *user) {
    memset(state, 0, sizeof *state);
    state->user = user ? *user : (ps_allocator) { malloc_alloc, malloc_free, NULL };
    atomic_init(&state->limit, 0);
    atomic_init(&state->bytes, 0);
    atomic_init(&state->peak, 0);
    atomic_init(&state->calls, 0);
}

void ps_alloc_state_init_below(ps_alloc_state *state, ps_alloc_state *above) {
    ps_alloc_state_init(state, &above->user);
    state->above = above;
}

bool ps_mul_overflow_size(size_t a, size_t b, size_t *ret) {
    return __builtin_mul_overflow(a, b, ret);
}

bool ps_add_overflow_size(size_t a, size_t b, size_t *ret) {
    return __builtin_add_overflow(a, b, ret);
}

static bool reserve_one(ps_alloc_state *a, size_t total) {
    size_t limit = atomic_load_explicit(&a->limit, memory_order_relaxed);
    size_t before = atomic_fetch_add_explicit(&a->bytes, total, memory_order_relaxed);
    if (!limit || (before <= limit && total <= limit - before)) return true;
    atomic_fetch_sub_explicit(&a->bytes, total, memory_order_relaxed);
    return false;
}

static void give_back(ps_alloc_state *a, const ps_alloc_state *end, size_t total) {
    for (ps_alloc_state *above; a != end; a = above) {
        above = a->above; /* a state in which nothing is left may be freed by whoever sees that */
        size_t before = atomic_fetch_sub_explicit(&a->bytes, total, memory_order_relaxed);
        assert(before >= total); /* else the block was another state's */
        (void)before;
    }
}

/* Counts a block before it is made, so that threads together cannot exceed the limit. */
static bool reserve(ps_alloc_state *a, size_t total) {
    for (ps_alloc_state *s = a; s; s = s->above) {
        if (reserve_one(s, total)) continue;
        give_back(a, s, total);
        return false;
    }
    return true;
}

static void *unreserve(ps_alloc_state *a, size_t total) {
    give_back(a, NULL, total);
    return NULL;
}

static void raise_peak(ps_alloc_state *a) {
    for (; a; a = a->above) {
        size_t now = atomic_load_explicit(&a->bytes, memory_order_relaxed);
        size_t peak = atomic_load_explicit(&a->peak, memory_order_relaxed);
        while (now > peak && !atomic_compare_exchange_weak_explicit(&a->peak, &peak, now, memory_order_relaxed,
                                                                    memory_order_relaxed)) {
        }
    }
}

static void count_success(ps_alloc_state *a) {
    raise_peak(a);
    for (; a; a = a->above)
        atomic_fetch_add_explicit(&a->calls, 1, memory_order_relaxed);
}

bool ps_alloc_count(ps_alloc_state *a, size_t bytes) {
    if (!reserve(a, bytes)) return false;
    raise_peak(a);
    return true;
}

void ps_alloc_uncount(ps_alloc_state *a, size_t bytes) {
    give_back(a, NULL, bytes);
}

static block_header *header_of(void *ptr) {
    block_header *h = (block_header *)ptr - 1;
    assert(h->magic == MAGIC_LIVE || h->magic == MAGIC_DISCARDED);
    return h;
}

static void *alloc_block(ps_alloc_state *a, size_t size, size_t align, bool zero) {
    /* calloc gives large cleared blocks without touching them, but aligns to 16 only: room to move up inside. */
    bool lazy = zero && a->user.alloc == malloc_alloc;
    size_t slack = lazy ? align + sizeof(block_header) : align;
    size_t total;
    if (ps_add_overflow_size(size, slack, &total) || (uint64_t)total > MAX_BLOCK || !reserve(a, total)) return NULL;
    unsigned char *raw = lazy ? calloc(1, total) : a->user.alloc(a->user.ctx, total, align);
    if (!raw) return unreserve(a, total);
    size_t offset = align;
    if (lazy) {
        uintptr_t first = (uintptr_t)raw + sizeof(block_header);
        offset = (size_t)(((first + align - 1) & ~(uintptr_t)(align - 1)) - (uintptr_t)raw);
    }
    unsigned char *ptr = raw + offset;
    if (zero && !lazy) memset(ptr, 0, size);
    block_header *h = (block_header *)(void *)ptr - 1;
    *h = (block_header) { size, (uint16_t)offset, (uint16_t)slack, (uint16_t)align, MAGIC_LIVE };
    count_success(a);
    return ptr;
}

static void *alloc_pages(ps_alloc_state *a, size_t size) {
    const size_t lead = ps_pages_lead(size, PS_ALIGN);
    size_t total;
    if (ps_add_overflow_size(size, lead, &total) || (uint64_t)total > MAX_BLOCK || !reserve(a, total)) return NULL;
    unsigned char *raw = ps_pages_new(lead, size);
    if (!raw) return unreserve(a, total);
    unsigned char *ptr = raw + lead;
    *((block_header *)(void *)ptr - 1) =
        (block_header) { size, (uint16_t)lead, (uint16_t)lead, OWN_PAGES, MAGIC_LIVE };
    count_success(a);
    return ptr;
}

static void *alloc_lasting(ps_alloc_state *a, size_t size, bool zero) {
    bool own = MAY_OWN_PAGES && a->user.alloc == malloc_alloc && size >= OWN_PAGES_FROM;
    return own ? alloc_pages(a, size) : alloc_block(a, size, PS_ALIGN, zero); /* new pages are zero */
}

void *ps_alloc(ps_alloc_state *a, size_t size) {
    return alloc_block(a, size, MIN_ALIGN, false);
}

void *ps_alloc_zero(ps_alloc_state *a, size_t size) {
    return alloc_block(a, size, MIN_ALIGN, true);
}

void *ps_alloc_data(ps_alloc_state *a, size_t size) {
    return alloc_block(a, size, PS_ALIGN, false);
}

void *ps_alloc_data_zero(ps_alloc_state *a, size_t size) {
    return alloc_block(a, size, PS_ALIGN, true);
}

void *ps_alloc_lasting(ps_alloc_state *a, size_t size) {
    return alloc_lasting(a, size, false);
}

void *ps_alloc_lasting_zero(ps_alloc_state *a, size_t size) {
    return alloc_lasting(a, size, true);
}

void *ps_alloc_array(ps_alloc_state *a, size_t n, size_t size) {
    size_t bytes;
    return ps_mul_overflow_size(n, size, &bytes) ? NULL : ps_alloc(a, bytes);
}

void *ps_realloc(ps_alloc_state *a, void *ptr, size_t size) {
    if (!ptr) return ps_alloc(a, size);
    const block_header *h = header_of(ptr);
    void *bigger = h->align == OWN_PAGES ? alloc_lasting(a, size, false) : alloc_block(a, size, h->align, false);
    if (!bigger) return NULL;
    memcpy(bigger, ptr, size < h->size ? size : h->size);
    ps_free(a, ptr);
    return bigger;
}

void ps_discard(ps_alloc_state *a, void *ptr) {
    block_header *h = header_of(ptr);
    if (h->magic == MAGIC_DISCARDED || ps_pages_drop(ptr, h->size) == 0) return;
    h->magic = MAGIC_DISCARDED;
    give_back(a, NULL, ps_pages_inside(ptr, h->size));
}

bool ps_refill(ps_alloc_state *a, void *ptr) {
    block_header *h = header_of(ptr);
    if (h->magic != MAGIC_DISCARDED) return true;
    if (!reserve(a, ps_pages_inside(ptr, h->size))) return false;
    ps_pages_return(ptr, h->size);
    h->magic = MAGIC_LIVE;
    return true;
}

void ps_free(ps_alloc_state *a, void *ptr) {
    if (!ptr) return;
    block_header *h = header_of(ptr);
    size_t total = h->size + h->slack, gone = 0;
    if (h->magic == MAGIC_DISCARDED) {
        gone = ps_pages_inside(ptr, h->size);
        ps_pages_return(ptr, h->size);
    }
    unsigned char *raw = (unsigned char *)ptr - h->offset;
    const bool own = h->align == OWN_PAGES;
    h->magic = MAGIC_FREE;
    give_back(a, NULL, total - gone);
    if (own)
        ps_pages_free(raw, total);
    else
        a->user.free(a->user.ctx, raw, total);
}

char *ps_strdup(ps_alloc_state *a, const char *s) {
    size_t n = strlen(s) + 1;
    char *copy = ps_alloc(a, n);
    if (copy) memcpy(copy, s, n);
    return copy;
}
