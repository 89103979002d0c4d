/* The switch is a C++ function, absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle), the only one here that has
 * no C form. It is found by its name in the Itanium C++ ABI, which brings no second language into the build. */
#include "server/grpc/abseil.h"

#if defined(__has_include)
#if __has_include(<absl/base/options.h>)
#include <absl/base/options.h>
#endif
#endif

#include <stdint.h>
#include <string.h>

#include "base/os.h"
#include "base/str.h"

#if defined(ABSL_OPTION_INLINE_NAMESPACE_NAME) && ABSL_OPTION_USE_INLINE_NAMESPACE
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

void ps_abseil_quiet(void) {
    static const char space[] = TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME), plain[] = "SetMutexDeadlockDetectionMode";
    enum { IGNORE = 0 }; /* OnDeadlockCycle::kIgnore; the enumeration's type is int */
    char name[256];
    void (*set)(int);
    ps_snprintf(name, sizeof name, "_ZN4absl%zu%s%zu%sENS0_15OnDeadlockCycleE", sizeof space - 1, space,
                sizeof plain - 1, plain);
    void *symbol = ps_symbol_find(name);
    if (!symbol) return;
    memcpy(&set, &symbol, sizeof set); /* ISO C has no conversion between them */
    set(IGNORE);
}
#else
void ps_abseil_quiet(void) {
}
#endif
