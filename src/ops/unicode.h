/* unicode.h - UTF-8 and the properties of characters, through utf8proc. Plain functions without state. */
#ifndef PS_OPS_UNICODE_H
#define PS_OPS_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PS_RUNE_MAX 0x10FFFF

/* The character at the front of [s, s + size), size > 0, and its bytes; -1 and one byte where that is no UTF-8. */
int32_t ps_rune_decode(const char *s, size_t size, size_t *ret_bytes);
/* Writes up to four bytes; returns how many. */
size_t ps_rune_encode(int32_t rune, char *dst);

/* One character for one, without conditions on its neighbours: what towupper and towlower do in a Unicode locale. */
int32_t ps_rune_upper(int32_t rune);
int32_t ps_rune_lower(int32_t rune);

/* "Lu", "L", "Nd", "Any" …: general categories as a set of bits; false if the name is none. */
bool ps_rune_category(const char *name, size_t size, uint32_t *ret_set);
bool ps_rune_in(int32_t rune, uint32_t set);

#endif
