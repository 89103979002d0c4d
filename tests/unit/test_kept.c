/* Models in the cache on disk: what comes out of it is what went in, and whatever is wrong with an entry, the model is
 * loaded from its file. */
#include "runtime_fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "model_files.h"
#include "runtime/kept.h"
#include "test_alloc_fail.h"
#include "test_temp_dir.h"

static char folder[256], cache_dir[300];

static int setup(void **state) {
    if (!ps_test_temp_dir(folder, sizeof folder)) return -1;
    ps_snprintf(cache_dir, sizeof cache_dir, "%s/cache", folder);
    return 0;
}

static int teardown(void **state) {
    ps_test_remove_tree(folder);
    return 0;
}

static ps_status engine_with(const ps_allocator *allocator, const char *cache, ps_engine **ret, ps_error *err) {
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.threads = 1;
    o.allocator = allocator;
    o.cache_dir = cache;
    return ps_engine_create(&o, ret, err);
}

static ps_engine *new_engine(void) {
    ps_engine *e = NULL;
    ps_error err = PS_ERROR_INIT;
    if (engine_with(NULL, cache_dir, &e, &err) != PS_OK) fail_msg("%s", err.msg);
    return e;
}

static ps_model *load(ps_engine *e, const char *path, bool no_fusion) {
    ps_model *m = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.cache_name = path;
    o.no_fusion = no_fusion;
    if (ps_model_load(e, path, &o, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    return m;
}

static void keep(ps_model *m, const char *note) {
    ps_error err = PS_ERROR_INIT;
    if (ps_model_cache(m, note, &err) != PS_OK) fail_msg("%s", err.msg);
}

/* Runs the model's first data set; the hash of what comes out. */
static uint64_t run(ps_engine *e, ps_model *m, const char *name) {
    char path[1024];
    ps_error err = PS_ERROR_INIT;
    model_tensors in;
    ps_tensor *out[MODEL_MAX_ENDS] = { 0 };
    uint64_t hash = 0;
    assert_true(model_folder(name, path, sizeof path));
    if (model_tensors_load(e, path, 0, "input", &in, &err) != PS_OK) fail_msg("%s", err.msg);
    ps_session *s = fixture_session(m, 1);
    const size_t n = ps_model_output_count(m);
    if (ps_session_run(s, (const ps_tensor *const *)in.t, in.n, out, n, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
    for (size_t i = 0; i < n; i++)
        hash = hash * 31 + ps_tensor_hash(out[i]);
    ps_session_free(s);
    model_tensors_release(&in);
    return hash;
}

static void assert_same_text(const char *a, const char *b) {
    if (a && b) assert_string_equal(a, b);
    assert_true(!a == !b);
}

static void assert_same_values(const ps_value_info *a, const ps_value_info *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(a[i].name, b[i].name);
        assert_int_equal(a[i].dtype, b[i].dtype);
        assert_true(ps_shape_equal(&a[i].shape, &b[i].shape));
    }
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The lines in order of the alphabet: constants may stand in another order. */
static void sort_lines(char *text) {
    char **lines = malloc((strlen(text) + 1) * sizeof *lines), *copy = strdup(text), *at = text, *rest = copy;
    size_t n = 0;
    assert_true(lines && copy);
    for (char *line; (line = strsep(&rest, "\n"));)
        lines[n++] = line;
    qsort(lines, n, sizeof *lines, by_text);
    for (size_t i = 0; i < n; i++) {
        const size_t size = strlen(lines[i]);
        memcpy(at, lines[i], size);
        at[size] = i + 1 < n ? '\n' : '\0';
        at += size + 1;
    }
    free(lines);
    free(copy);
}

/* All that the public API tells of a model. */
static void assert_same(ps_model *a, ps_model *b) {
    ps_model_summary x = { sizeof x }, y = { sizeof y };
    char *text_a, *text_b;
    assert_int_equal(ps_model_summarize(a, &x), PS_OK);
    assert_int_equal(ps_model_summarize(b, &y), PS_OK);
    assert_string_equal(x.graph_name, y.graph_name);
    assert_string_equal(x.producer, y.producer);
    assert_true(x.ir_version == y.ir_version && x.opset == y.opset && x.nodes == y.nodes);
    assert_true(x.nodes_fused == y.nodes_fused && x.parameters == y.parameters && x.weight_bytes == y.weight_bytes);
    assert_true(x.file_bytes == y.file_bytes);
    assert_true(a->n_inputs == b->n_inputs && a->n_outputs == b->n_outputs && a->info.n_ops == b->info.n_ops);
    assert_same_values(a->inputs, b->inputs, a->n_inputs);
    assert_same_values(a->outputs, b->outputs, a->n_outputs);
    for (size_t i = 0; i < a->info.n_ops; i++) {
        assert_string_equal(a->info.ops[i].name, b->info.ops[i].name);
        assert_int_equal(a->info.ops[i].count, b->info.ops[i].count);
    }
    assert_int_equal(ps_model_metadata_count(a), ps_model_metadata_count(b));
    for (size_t i = 0; i < 2 * a->info.n_metadata; i++)
        assert_same_text(a->info.metadata[i], b->info.metadata[i]);
    for (int64_t dim = -2; dim > -10; dim--)
        assert_same_text(ps_model_symbol(a, dim), ps_model_symbol(b, dim));
    assert_int_equal(ps_model_print(a, &text_a, NULL), PS_OK);
    assert_int_equal(ps_model_print(b, &text_b, NULL), PS_OK);
    sort_lines(text_a);
    sort_lines(text_b);
    assert_string_equal(text_a, text_b);
    ps_text_free(a, text_a);
    ps_text_free(b, text_b);
}

static bool path_of(const char *name, char *path, size_t size) {
    char where[1024];
    if (!model_folder(name, where, sizeof where)) return false;
    ps_snprintf(path, size, "%s/model.onnx", where);
    return true;
}

/* The very same kernels read the very same bytes: the answers are equal bit by bit. */
static void test_comes_back(void **state) {
    static const char *const names[] = { "med-ct-seg-synth",    "med-mri-cls3d-synth", "efficientnet-lite0",
                                         "magika-v3_3",         "minilm-l6-v2-emb16",  "ppocr-v4-rec",
                                         "ppocr-v4-det",        "ppocr-v2-cls",        "med-xray-cls-synth",
                                         "silero-vad-16k-op15", "silero-vad" };
    size_t tested = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1100];
        if (!path_of(names[i], path, sizeof path)) continue;
        ps_engine *e = new_engine();
        ps_model *m = load(e, path, false);
        assert_null(ps_model_cache_note(m));
        const uint64_t want = run(e, m, names[i]);
        keep(m, "a note");
        ps_model *again = load(e, path, false);
        assert_non_null(ps_model_cache_note(again));
        assert_string_equal(ps_model_cache_note(again), "a note");
        assert_same(m, again);
        const size_t packed = ps_weights_bytes(again->weights);
        assert_int_equal(packed, ps_weights_bytes(m->weights));
        ps_model_release(m);
        assert_true(run(e, again, names[i]) == want);
        assert_int_equal(ps_weights_bytes(again->weights), packed); /* nothing was packed anew */
        ps_model_release(again);
        ps_engine_free(e);
        tested++;
    }
    assert_true(tested >= 2);
}

/* What was given up is read from the model's file, as after any load. */
static void test_content_that_is_away(void **state) {
    char path[1100];
    assert_true(path_of("med-ct-seg-synth", path, sizeof path));
    ps_engine *e = new_engine();
    ps_model *m = load(e, path, false);
    run(e, m, "med-ct-seg-synth");
    keep(m, NULL);
    ps_model_release(m);
    m = load(e, path, false);
    assert_string_equal(ps_model_cache_note(m), "");
    size_t away = 0;
    for (const ps_value *v = m->graph->all_values; v; v = v->next_all) {
        if (!v->constant || !atomic_load(&v->constant->dropped)) continue;
        ps_tensor *t = v->constant;
        const uint64_t hash = ps_tensor_hash_once(t);
        ps_error err = PS_ERROR_INIT;
        if (ps_tensor_need(t, &err) != PS_OK) fail_msg("%s", err.msg);
        assert_true(ps_tensor_hash(t) == hash);
        away++;
        break;
    }
#ifdef PS_WITH_DNNL
    assert_int_equal(away, 1);
#endif
    ps_model_release(m);
    ps_engine_free(e);
}

static void test_who_gets_it(void **state) {
    char path[1100];
    ps_error err = PS_ERROR_INIT;
    assert_true(path_of("med-mri-cls3d-synth", path, sizeof path));
    ps_engine *e = new_engine();
    ps_model *m = load(e, path, false);
    keep(m, "");
    ps_cache_stats before, after;
    assert_int_equal(ps_cache_get_stats(ps_engine_disk(e), &before, NULL), PS_OK);
    keep(m, ""); /* it is there already */
    assert_int_equal(ps_cache_get_stats(ps_engine_disk(e), &after, NULL), PS_OK);
    assert_true(before.stored == 1 && after.stored == 1);
    run(e, m, "med-mri-cls3d-synth");
    keep(m, ""); /* now there is more of it */
    assert_int_equal(ps_cache_get_stats(ps_engine_disk(e), &after, NULL), PS_OK);
    assert_true(after.stored == 2 && after.bytes > before.bytes);
    ps_model_release(m);
    m = load(e, path, true); /* another graph */
    assert_null(ps_model_cache_note(m));
    ps_model_release(m);
    assert_int_equal(ps_model_load(e, path, NULL, &m, &err), PS_OK);
    assert_null(ps_model_cache_note(m));
    assert_int_equal(ps_model_cache(m, "", &err), PS_UNSUPPORTED);
    ps_model_release(m);
    ps_engine_free(e);
    assert_int_equal(engine_with(NULL, "", &e, &err), PS_OK); /* no cache at all */
    m = load(e, path, false);
    assert_null(ps_model_cache_note(m));
    assert_int_equal(ps_model_cache(m, "", &err), PS_UNSUPPORTED);
    ps_model_release(m);
    ps_engine_free(e);
}

/* Too little room is said, so that others make some, and costs no entry; what models may not have, others may. */
static void test_too_little_room(void **state) {
    static const char name[] = "med-ct-seg-synth";
    char path[1100];
    ps_error err = PS_ERROR_INIT;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    assert_true(path_of(name, path, sizeof path));
    o.cache_name = path;
    ps_engine *e = new_engine();
    ps_model *m = load(e, path, false);
    run(e, m, name);
    keep(m, "");
    ps_model_release(m);
    atomic_store(&ps_engine_models_alloc(e)->limit, (size_t)300 << 10);
    assert_int_equal(ps_model_load(e, path, &o, &m, &err), PS_NO_MEMORY);
    assert_int_equal(atomic_load(&ps_engine_models_alloc(e)->bytes), 0);
    void *block = ps_alloc(&e->alloc, (size_t)1 << 20);
    assert_non_null(block);
    ps_free(&e->alloc, block);
    atomic_store(&ps_engine_models_alloc(e)->limit, 0);
    m = load(e, path, false);
    assert_non_null(ps_model_cache_note(m));
    ps_model_release(m);
    ps_engine_free(e);
}

/* ---- beside runs ---- */

typedef struct worker {
    ps_engine *engine;
    ps_model *model;
    int64_t first_batch;
} worker;

/* New batches compile new plans, which pack and give up weights. */
static void run_batches(void *ctx) {
    const worker *w = ctx;
    ps_session *s = fixture_session(w->model, 1);
    for (int64_t batch = w->first_batch; batch < w->first_batch + 3; batch++) {
        float *x = calloc((size_t)batch * 128 * 128, sizeof *x);
        ps_tensor *in = fixture_wrap(w->engine, PS_DTYPE_F32, 4, DIMS(batch, 1, 128, 128), x), *out = NULL;
        ps_error err = PS_ERROR_INIT;
        if (ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, &err) != PS_OK) fail_msg("%s", err.msg);
        ps_tensor_release(in);
        free(x);
    }
    ps_session_free(s);
}

static void test_while_it_runs(void **state) {
    static const char name[] = "med-ct-seg-synth";
    char path[1100];
    assert_true(path_of(name, path, sizeof path));
    ps_engine *e = new_engine();
    ps_model *m = load(e, path, false);
    worker workers[2] = { { e, m, 1 }, { e, m, 3 } };
    ps_thread threads[2];
    for (int i = 0; i < 2; i++)
        assert_true(ps_thread_start(&threads[i], "runs", run_batches, &workers[i]));
    for (int i = 0; i < 10; i++)
        keep(m, "");
    for (int i = 0; i < 2; i++)
        ps_thread_join(threads[i]);
    keep(m, "");
    const uint64_t want = run(e, m, name);
    ps_model *again = load(e, path, false);
    assert_non_null(ps_model_cache_note(again));
    assert_true(run(e, again, name) == want);
    ps_model_release(again);
    ps_model_release(m);
    ps_engine_free(e);
}

/* Its digest says nothing of the files beside it. */
static void test_external_weights(void **state) {
    ps_error err = PS_ERROR_INIT;
    ps_engine *e = new_engine();
    ps_model *m = load(e, PS_TEST_DATA "/onnx/good/external.onnx", false);
    assert_int_equal(ps_model_cache(m, "", &err), PS_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "files of weights"));
    ps_model_release(m);
    ps_engine_free(e);
}

/* ---- damage ---- */

/* The one entry of the folder. */
static void entry_path(char *path, size_t size) {
    DIR *dir = opendir(cache_dir);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));)
        if (strstr(d->d_name, ".psc")) ps_snprintf(path, size, "%s/%s", cache_dir, d->d_name);
    closedir(dir);
}

static void test_damaged_files(void **state) {
    static const char name[] = "med-mri-cls3d-synth";
    char path[1100], entry[600], *good;
    ps_alloc_state alloc;
    size_t size;
    assert_true(path_of(name, path, sizeof path));
    ps_alloc_state_init(&alloc, NULL);
    ps_engine *e = new_engine();
    ps_model *m = load(e, path, false);
    const uint64_t want = run(e, m, name);
    keep(m, "");
    ps_model_release(m);
    entry_path(entry, sizeof entry);
    assert_int_equal(ps_file_read(&alloc, entry, (size_t)1 << 24, &good, &size, NULL), PS_OK);
    for (size_t i = 0; i < 40; i++) {
        const size_t at = i * size / 40;
        const bool cut = i % 2;
        good[at] ^= 1;
        assert_int_equal(ps_file_write(entry, good, cut ? at : size, 0600, NULL), PS_OK);
        good[at] ^= 1;
        m = load(e, path, false);
        assert_null(ps_model_cache_note(m));
        if (i < 4) assert_true(run(e, m, name) == want);
        ps_model_release(m);
        assert_false(ps_file_exists(entry));
    }
    assert_int_equal(ps_file_write(entry, good, size, 0600, NULL), PS_OK);
    m = load(e, path, false);
    assert_non_null(ps_model_cache_note(m));
    assert_true(run(e, m, name) == want);
    ps_model_release(m);
    ps_free(&alloc, good);
    ps_engine_free(e);
}

/* The description alone, whose own hash would else hide what its reader does with nonsense: all prefixes, and every
 * byte flipped in several ways, of a graph with subgraphs, texts and every kind of attribute. */
static size_t description_of(ps_alloc_state *alloc, uint8_t **ret) {
    char entry[600], *file;
    uint64_t size;
    size_t file_size;
    entry_path(entry, sizeof entry);
    assert_int_equal(ps_file_read(alloc, entry, (size_t)1 << 26, &file, &file_size, NULL), PS_OK);
    uint64_t key_size;
    memcpy(&key_size, file + 16, sizeof key_size);
    const uint8_t *payload = (uint8_t *)file + 40 + key_size;
    assert_memory_equal(payload, "PSKEPT01", 8);
    memcpy(&size, payload + 8, sizeof size);
    *ret = malloc((size_t)size);
    assert_non_null(*ret);
    memcpy(*ret, payload + 24, (size_t)size);
    ps_free(alloc, file);
    return (size_t)size;
}

static void nonsense(const char *path, size_t step) {
    static const uint8_t masks[] = { 0x01, 0x80, 0xff, 0x40 };
    ps_alloc_state alloc;
    uint8_t *good;
    ps_alloc_state_init(&alloc, NULL);
    ps_engine *e = new_engine();
    ps_model *m = load(e, path, false);
    keep(m, "note");
    const size_t size = description_of(&alloc, &good);
    ps_model *empty = NULL;
    ps_error err = PS_ERROR_INIT;
    ps_graph *g;
    const char *small = "graph (x: f32[n]) -> (y) opset 17 {\n y = Relu(x)\n}\n";
    assert_int_equal(ps_graph_parse(&e->alloc, small, &g, NULL), PS_OK);
    assert_int_equal(ps_model_from_graph(e, g, NULL, &empty, &err), PS_OK);
    assert_int_equal(ps_kept_parse(empty, good, size, &err), PS_OK);
    for (size_t n = 0; n < size; n += step) {
        uint8_t *cut = malloc(n + 1); /* so that a read beyond is seen */
        memcpy(cut, good, n);
        assert_int_not_equal(ps_kept_parse(empty, cut, n, NULL), PS_OK);
        free(cut);
    }
    for (size_t i = 0; i < size; i += step) {
        for (size_t k = 0; k < sizeof masks; k++) {
            good[i] ^= masks[k];
            (void)ps_kept_parse(empty, good, size, NULL); /* a name or a number may be another one: no crash, no leak */
            good[i] ^= masks[k];
        }
    }
    free(good);
    ps_model_release(empty);
    ps_model_release(m);
    ps_engine_free(e);
}

static void test_nonsense(void **state) {
    char path[1100];
    assert_true(path_of("med-mri-cls3d-synth", path, sizeof path));
    nonsense(path, 7);
    if (path_of("silero-vad-16k-op15", path, sizeof path)) {
        ps_test_remove_tree(cache_dir);
        nonsense(path, 61);
    }
}

/* Graphs as text, without a file of their own: every kind of attribute, subgraphs, captured values, texts. */
static void test_graphs(void **state) {
    static const char *const texts[] = {
        "graph mlp (x: f32[n,3], keep: bool[]) -> (z) opset 17, com.microsoft 1 {\n"
        "  w: f32[3,2] = {1, 2, 3, 4, 5, 6}\n  b: f32[2] = {0.5, -inf}\n"
        "  t: f32[n,2] = Gemm(x, w, b) {alpha=1.0, transB=0} @dense\n"
        "  z = If(keep) {then_branch=graph () -> (v) {\n    v = Identity(t)\n  }, else_branch=graph () -> (v) {\n"
        "    v = Neg(t)\n  }}\n}\n",
        "graph (x: string[n]) -> (y, z) opset 17, ai.onnx.ml 3 {\n"
        "  y = ai.onnx.ml.LabelEncoder(x) {keys_strings=[\"a\", \"b c\"], values_int64s=[1,-2], default_int64=-7}\n"
        "  s: string[2] = {\"one\", \"\"}\n  z = Concat(x, s) {axis=0}\n}\n",
        "graph (x: f32[4]) -> (y) opset 17 {\n  c = Constant() {value=f32[4]{1, 2, 3, 4}}\n  y = Add(x, c)\n}\n",
    };
    ps_engine *e = new_engine();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ps_error err = PS_ERROR_INIT;
        ps_graph *g = NULL, *back = NULL;
        ps_str a, b;
        if (ps_graph_parse(&e->alloc, texts[i], &g, &err) != PS_OK) fail_msg("%s", err.msg);
        if (ps_ops_resolve(g, &err) != PS_OK) fail_msg("%s", err.msg);
        ps_kept_out o = { .n_values = 0 };
        ps_str_init(&o.bytes, &e->alloc);
        ps_arena_init(&o.arena, &e->alloc);
        ps_map_init(&o.places, &e->alloc);
        if (ps_kept_put_graph(&o, g, &err) != PS_OK) fail_msg("%s", err.msg);
        ps_kept_in in = { .arena = &o.arena,
                          .tensors = (ps_tensor **)(uintptr_t)o.tensors.data,
                          .n_tensors = o.tensors.size };
        ps_wire_init(&in.wire, o.bytes.data, o.bytes.size);
        if (ps_kept_get_graph(&in, &e->alloc, &back, &err) != PS_OK) fail_msg("%s", err.msg);
        assert_ptr_equal(in.wire.at, in.wire.end);
        ps_str_init(&a, &e->alloc);
        ps_str_init(&b, &e->alloc);
        ps_graph_print(g, &a);
        ps_graph_print(back, &b);
        sort_lines(a.data);
        sort_lines(b.data);
        assert_string_equal(a.data, b.data);
        ps_str_release(&a);
        ps_str_release(&b);
        ps_graph_free(back);
        ps_graph_free(g);
        ps_vec_release(&e->alloc, &o.tensors);
        ps_map_release(&o.places);
        ps_arena_release(&o.arena);
        ps_str_release(&o.bytes);
    }
    ps_engine_free(e);
}

/* ---- no memory ---- */

typedef struct sweep {
    const char *path;
    bool keeps;
} sweep;

static ps_status load_and_keep(const ps_allocator *allocator, const sweep *s, bool *ret_recalled) {
    ps_engine *e = NULL;
    ps_model *m = NULL;
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    ps_error err = PS_ERROR_INIT;
    o.cache_name = s->path;
    PS_TRY(engine_with(allocator, cache_dir, &e, &err));
    ps_status status = ps_model_load(e, s->path, &o, &m, &err);
    if (status == PS_OK) *ret_recalled = ps_model_cache_note(m) != NULL;
    if (status == PS_OK && s->keeps) {
        m->cached_bytes = 0;
        status = ps_model_cache(m, "", &err);
        if (status == PS_UNSUPPORTED) status = PS_NO_MEMORY; /* the cache was not opened */
    }
    ps_model_release(m);
    ps_engine_free(e);
    return status;
}

/* A failing allocation costs the entry, or the load: nothing leaks, and nothing half read is used. */
static void test_without_memory(void **state) {
    char path[1100];
    bool recalled = false;
    assert_true(path_of("med-mri-cls3d-synth", path, sizeof path));
    sweep s = { path, true };
    assert_int_equal(load_and_keep(NULL, &s, &recalled), PS_OK);
    assert_false(recalled);
    for (int keeps = 0; keeps < 2; keeps++) {
        s.keeps = keeps;
        for (long nth = 0;; nth++) {
            ps_test_alloc t;
            ps_test_alloc_init(&t, nth);
            recalled = false;
            const ps_status status = load_and_keep(&t.allocator, &s, &recalled);
            assert_int_equal(atomic_load(&t.live), 0);
            assert_true(status == PS_OK || status == PS_NO_MEMORY);
            if (!atomic_load(&t.failed)) {
                assert_true(status == PS_OK && recalled);
                assert_true(nth > 20);
                break;
            }
            if (nth > 400) nth += nth / 50; /* the load from the file behind it has its own sweep */
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_content_that_is_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_gets_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_little_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_while_it_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_external_weights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
        cmocka_unit_test_setup_teardown(test_graphs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
