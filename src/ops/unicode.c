/* unicode.c - see unicode.h. */
#include "ops/unicode.h"

#include <string.h>

#include <utf8proc.h>

int32_t ps_rune_decode(const char *s, size_t size, size_t *ret_bytes) {
    utf8proc_int32_t rune;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, size > 4 ? 4 : (utf8proc_ssize_t)size, &rune);
    *ret_bytes = n > 0 ? (size_t)n : 1;
    return n > 0 ? rune : -1;
}

size_t ps_rune_encode(int32_t rune, char *dst) {
    return (size_t)utf8proc_encode_char(rune, (utf8proc_uint8_t *)dst);
}

int32_t ps_rune_upper(int32_t rune) {
    return utf8proc_toupper(rune);
}

int32_t ps_rune_lower(int32_t rune) {
    return utf8proc_tolower(rune);
}

/* The order of utf8proc_category_t. */
static const char categories[][3] = { "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd",
                                      "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm",
                                      "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co" };

bool ps_rune_category(const char *name, size_t size, uint32_t *ret_set) {
    uint32_t set = 0;
    if (size == 3 && memcmp(name, "Any", 3) == 0) {
        *ret_set = UINT32_MAX;
        return true;
    }
    /* "Cn", what no character has, is no class of RE2's: it is neither a category there nor part of C. */
    for (uint32_t k = 1; k < sizeof categories / sizeof *categories; k++)
        if ((size == 1 || size == 2) && memcmp(name, categories[k], size) == 0) set |= 1u << k;
    *ret_set = set;
    return set != 0;
}

bool ps_rune_in(int32_t rune, uint32_t set) {
    return rune >= 0 && (set == UINT32_MAX || (set >> utf8proc_category(rune) & 1) != 0);
}
