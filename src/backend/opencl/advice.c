/* advice.c - what keeps a graphics card of this machine from being used, and the command that mends it (Linux). */
#include "backend/opencl/opencl_int.h"

#include "base/os.h"

typedef enum vendor { OTHER, AMD, NVIDIA, INTEL } vendor;

/* What is there of cards. */
typedef struct cards {
    size_t n, closed; /* closed: this user may not open it */
    char first_closed[64];
    bool of[INTEL + 1];
} cards;

static vendor vendor_of(ps_alloc_state *alloc, const char *root, const char *node) {
    static const struct {
        const char *id;
        vendor vendor;
    } known[] = { { "0x1002", AMD }, { "0x10de", NVIDIA }, { "0x8086", INTEL } };
    char path[512];
    char *text = NULL;
    size_t size;
    vendor v = OTHER;
    ps_snprintf(path, sizeof path, "%s/sys/class/drm/%.64s/device/vendor", root, node);
    if (ps_file_read(alloc, path, 64, &text, &size, NULL) != PS_OK) return OTHER;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(text, known[i].id, strlen(known[i].id)) == 0) v = known[i].vendor;
    ps_free(alloc, text);
    return v;
}

static void look_at_node(ps_alloc_state *alloc, const char *root, const char *name, cards *c) {
    char path[512];
    ps_snprintf(path, sizeof path, "%s/dev/dri/%.64s", root, name);
    c->n++;
    c->of[vendor_of(alloc, root, name)] = true;
    if (ps_file_usable(path)) return;
    if (!c->closed++) ps_snprintf(c->first_closed, sizeof c->first_closed, "/dev/dri/%.40s", name);
}

static cards find_cards(ps_alloc_state *alloc, const char *root) {
    cards c = { 0 };
    char path[512], **names = NULL;
    size_t n = 0;
    ps_snprintf(path, sizeof path, "%s/dev/dri", root);
    if (ps_dir_list(alloc, path, &names, &n, NULL) == PS_OK) {
        for (size_t i = 0; i < n; i++)
            if (strncmp(names[i], "renderD", 7) == 0) look_at_node(alloc, root, names[i], &c);
        ps_dir_free(alloc, names, n);
    }
    ps_snprintf(path, sizeof path, "%s/dev/nvidia0", root); /* may be without a render node, in containers */
    if (!c.of[NVIDIA] && ps_file_exists(path)) {
        c.n++;
        c.of[NVIDIA] = true;
    }
    return c;
}

static size_t count_drivers(ps_alloc_state *alloc, const char *root) {
    char path[512], **names = NULL;
    size_t n = 0, found = 0;
    ps_snprintf(path, sizeof path, "%s/etc/OpenCL/vendors", root);
    if (ps_dir_list(alloc, path, &names, &n, NULL) != PS_OK) return 0;
    for (size_t i = 0; i < n; i++) {
        const char *end = strrchr(names[i], '.');
        found += end && strcmp(end, ".icd") == 0;
    }
    ps_dir_free(alloc, names, n);
    return found;
}

static void advise_driver(const cards *c, ps_str *advice) {
    if (c->of[AMD])
        ps_str_append(advice,
                      "an AMD card without an OpenCL driver: apt install mesa-opencl-icd on Debian 13 or Ubuntu "
                      "24.04 (docs/install-polaris.md; Debian 12's is too old)\n");
    if (c->of[NVIDIA])
        ps_str_append(advice, "an NVIDIA card without an OpenCL driver: apt install nvidia-opencl-icd\n");
    if (c->of[INTEL]) ps_str_append(advice, "an Intel GPU without an OpenCL driver: apt install intel-opencl-icd\n");
    if (c->of[OTHER]) ps_str_append(advice, "a graphics card without an OpenCL driver: install its vendor's\n");
}

/* Drivers are there, and none of them offers a card. */
static void advise_platform(const cards *c, const char *platforms, ps_str *advice) {
    const char *enabled = ps_env_get("RUSTICL_ENABLE");
    const bool rusticl = strstr(platforms, "rusticl"), clover = strstr(platforms, "Clover");
    if (c->of[AMD] && clover && !rusticl)
        ps_str_append(advice,
                      "the only driver for this AMD card is Mesa's Clover, which ends at OpenCL 1.1: Mesa 23.1 or "
                      "newer brings rusticl, as apt install mesa-opencl-icd does on Debian 13, or apt install "
                      "-t bookworm-backports mesa-opencl-icd on Debian 12\n");
    else if (c->of[AMD] && rusticl && enabled && !strstr(enabled, "radeonsi"))
        ps_str_printf(advice, "RUSTICL_ENABLE is '%.40s', which leaves AMD cards out: export RUSTICL_ENABLE=radeonsi\n",
                      enabled);
    else if (c->of[AMD] && rusticl)
        ps_str_append(advice, "Mesa's rusticl shows no AMD card: it needs Mesa 23.1 or newer and LLVM with AMDGPU; apt "
                              "install -t bookworm-backports mesa-opencl-icd on Debian 12\n");
    else
        advise_driver(c, advice);
}

ps_status ocl_advise(ps_alloc_state *alloc, const char *root, bool loader, const char *platforms, size_t n_gpus,
                     ps_str *advice, ps_error *err) {
    const cards c = find_cards(alloc, root);
    if (n_gpus) return PS_OK;
    if (!c.n)
        ps_str_append(advice, "no graphics card: there is no /dev/dri/renderD* (a container gets it by --device "
                              "/dev/dri)\n");
    else if (c.closed)
        ps_str_printf(advice, "%s cannot be opened by this user: usermod -aG render USER, then log in again\n",
                      c.first_closed);
    else if (!loader)
        ps_str_append(advice, "a graphics card but no OpenCL loader: apt install ocl-icd-libopencl1\n");
    else if (!count_drivers(alloc, root))
        advise_driver(&c, advice);
    else
        advise_platform(&c, platforms, advice);
    return advice->failed ? PS_FAIL_NOMEM(err, "advice about devices") : PS_OK;
}

void ocl_prepare_environment(const char *root) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    if (find_cards(&alloc, root).of[AMD]) ps_env_default("RUSTICL_ENABLE", "radeonsi");
}
