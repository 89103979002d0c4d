/* library.c - see library.h. POSIX, and of glibc dl_iterate_phdr. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dl_iterate_phdr */
#endif
#include "base/library.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

ps_status ps_library_open(const char *name, void **ret, ps_error *err) {
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const char *why = library ? NULL : dlerror();
    PS_FAIL_IF(!library, err, NOT_FOUND, "cannot load '%s': %.300s", name, why ? why : "no reason given");
    *ret = library;
    return PS_OK;
}

void ps_library_close(void *library) {
    if (library) dlclose(library);
}

void *ps_library_symbol(void *library, const char *name) {
    return dlsym(library, name);
}

/* ---- which build this is ---- */

typedef struct build_id {
    uintptr_t inside; /* an address of ours */
    unsigned char *dst;
    size_t room, size;
} build_id;

static size_t padded(size_t n) {
    return (n + 3) & ~(size_t)3;
}

/* The linker's note "GNU" of type NT_GNU_BUILD_ID. */
static void read_notes(const unsigned char *at, size_t left, build_id *b) {
    ElfW(Nhdr) head;
    while (left >= sizeof head) {
        memcpy(&head, at, sizeof head);
        size_t name = padded(head.n_namesz), content = padded(head.n_descsz);
        if (name > left - sizeof head || content > left - sizeof head - name) return;
        if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && memcmp(at + sizeof head, "GNU", 4) == 0) {
            b->size = head.n_descsz < b->room ? head.n_descsz : b->room;
            memcpy(b->dst, at + sizeof head + name, b->size);
        }
        at += sizeof head + name + content;
        left -= sizeof head + name + content;
    }
}

static int visit(struct dl_phdr_info *info, size_t size, void *ctx) {
    build_id *b = ctx;
    bool ours = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        ours |= p->p_type == PT_LOAD && b->inside - (info->dlpi_addr + p->p_vaddr) < p->p_memsz;
    }
    for (int i = 0; i < info->dlpi_phnum && ours; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_NOTE) read_notes((const unsigned char *)(info->dlpi_addr + p->p_vaddr), p->p_memsz, b);
    }
    return ours;
}

size_t ps_library_build_id(unsigned char *dst, size_t room) {
    build_id b = { (uintptr_t)ps_library_build_id, dst, room, 0 };
    dl_iterate_phdr(visit, &b);
    return b.size;
}
