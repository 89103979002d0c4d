/* library.c - see library.h. POSIX. */
#include "base/library.h"

#include <dlfcn.h>
#include <stddef.h>

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
