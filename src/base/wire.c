#include "base/wire.h"

#include <string.h>

enum { WIRE_VARINT_MAX = 10 };

void ps_wire_init(ps_wire *w, const void *data, size_t size) {
    /* An empty message may come with a null pointer, to which nothing may be added. */
    static const uint8_t empty[1];
    w->at = size ? data : empty;
    w->end = w->at + size;
}

bool ps_wire_varint(ps_wire *w, uint64_t *ret) {
    uint64_t v = 0;
    const uint8_t *p = w->at;
    for (int i = 0; i < WIRE_VARINT_MAX && p < w->end; i++, p++) {
        v |= (uint64_t)(*p & 0x7f) << (7 * i);
        if (*p & 0x80) continue;
        w->at = p + 1;
        *ret = v;
        return true;
    }
    return false;
}

bool ps_wire_count_varints(const void *data, size_t size, size_t *ret) {
    const uint8_t *p = data;
    size_t n = 0, run = 0;
    for (size_t i = 0; i < size; i++) {
        if (++run > WIRE_VARINT_MAX) return false;
        if (!(p[i] & 0x80)) {
            n++;
            run = 0;
        }
    }
    *ret = n;
    return run == 0;
}

static uint64_t load_le(const uint8_t *p, size_t size) {
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static ps_status take(ps_wire *w, ps_wire_field *f, uint64_t size, ps_error *err) {
    size_t left = (size_t)(w->end - w->at);
    PS_FAIL_IF(size > left, err, FORMAT, "field %u needs %llu bytes, %zu are left", (unsigned)f->number,
               (unsigned long long)size, left);
    f->data = w->at;
    f->size = (size_t)size;
    w->at += size;
    return PS_OK;
}

static ps_status read_value(ps_wire *w, ps_wire_field *f, ps_error *err) {
    uint64_t length;
    switch (f->type) {
    case PS_WIRE_VARINT:
        f->data = w->at;
        PS_FAIL_IF(!ps_wire_varint(w, &f->value), err, FORMAT, "field %u holds a broken varint", (unsigned)f->number);
        f->size = (size_t)(w->at - f->data);
        return PS_OK;
    case PS_WIRE_LEN:
        PS_FAIL_IF(!ps_wire_varint(w, &length), err, FORMAT, "field %u has a broken length", (unsigned)f->number);
        return take(w, f, length, err);
    case PS_WIRE_I64:
    case PS_WIRE_I32:
        PS_TRY(take(w, f, f->type == PS_WIRE_I64 ? 8 : 4, err));
        f->value = load_le(f->data, f->size);
        return PS_OK;
    }
    return PS_FAIL(err, FORMAT, "field %u has wire type %d, which is not used", (unsigned)f->number, (int)f->type);
}

ps_status ps_wire_next(ps_wire *w, ps_wire_field *ret, bool *ret_more, ps_error *err) {
    *ret_more = w->at < w->end;
    if (!*ret_more) return PS_OK;
    ps_wire_field f = { .start = w->at };
    uint64_t tag;
    PS_FAIL_IF(!ps_wire_varint(w, &tag) || tag > UINT32_MAX || tag >> 3 == 0, err, FORMAT, "a field tag is broken");
    f.number = (uint32_t)(tag >> 3);
    f.type = (ps_wire_type)(tag & 7);
    PS_TRY(read_value(w, &f, err));
    *ret = f;
    return PS_OK;
}

size_t ps_wire_varint_size(uint64_t v) {
    size_t n = 1;
    while (v >>= 7)
        n++;
    return n;
}

size_t ps_wire_len_size(uint32_t number, size_t size) {
    return ps_wire_varint_size((uint64_t)number << 3) + ps_wire_varint_size(size) + size;
}

uint8_t *ps_wire_put_varint(uint8_t *p, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

uint8_t *ps_wire_put_tag(uint8_t *p, uint32_t number, ps_wire_type type) {
    return ps_wire_put_varint(p, (uint64_t)number << 3 | (uint64_t)type);
}

uint8_t *ps_wire_put_len(uint8_t *p, uint32_t number, const void *data, size_t size) {
    p = ps_wire_put_tag(p, number, PS_WIRE_LEN);
    p = ps_wire_put_varint(p, size);
    if (size) memcpy(p, data, size);
    return p + size;
}
