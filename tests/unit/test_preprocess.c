/* test_preprocess.c - settings from JSON and presets, and a photo all the way to a tensor (tests/gen/io_data.py). */
#include "io_fixture.h"

#include <unistd.h>

static void prepares_as_by_hand(void **state) {
    size_t size;
    ps_image image;
    char *data = read_data("rgb.png", &size);
    assert_int_equal(ps_image_read(&heap, data, size, &image, NULL), PS_OK);
    ps_free(&heap, data);
    ps_preprocess rgb, bgr, gray;
    assert_int_equal(ps_preprocess_preset("imagenet", &rgb, NULL), PS_OK);
    rgb.resize = 20;
    rgb.size = 17;
    bgr = rgb;
    bgr.bgr = bgr.nhwc = true;
    ps_preprocess_init(&gray);
    gray.gray = true;
    gray.size = 11;
    gray.mean[0] = 1;
    gray.std[0] = 2;
    const struct {
        const ps_preprocess *p;
        const char *want;
    } rows[] = { { &rgb, "prepared_rgb.npy" }, { &bgr, "prepared_bgr_nhwc.npy" }, { &gray, "prepared_gray.npy" } };
    for (size_t k = 0; k < 3; k++) {
        ps_tensor *want = load_npy(rows[k].want), *got;
        assert_int_equal(ps_image_prepare(&heap, &image, rows[k].p, &got, NULL), PS_OK);
        assert_true(ps_shape_equal(&got->shape, &want->shape));
        for (size_t i = 0; i < ps_tensor_count(got); i++) /* the same two f32 operations */
            assert_float_equal(((float *)got->data)[i], ((float *)want->data)[i], 1e-6);
        ps_tensor_release(got);
        ps_tensor_release(want);
    }
    ps_image_release(&image);
}

static void sizes_by_the_rule(void **state) {
    /* photo width, height, resize, size → output height, width */
    static const int rows[][6] = {
        { 8, 6, 0, 0, 6, 8 },  { 8, 6, 0, 4, 4, 4 },    { 8, 6, 0, 10, 10, 10 }, { 8, 6, 3, 0, 3, 4 },
        { 6, 8, 3, 3, 3, 3 },  { 5, 9, 4, 0, 7, 4 },    { 6, 6, 6, 5, 5, 5 },    { 1, 1, 0, 7, 7, 7 },
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        ps_image image;
        ps_tensor *t;
        ps_preprocess p;
        assert_int_equal(ps_image_new(&heap, rows[k][0], rows[k][1], 3, &image, NULL), PS_OK);
        memset(image.data, 77, (size_t)(rows[k][0] * rows[k][1] * 3));
        ps_preprocess_init(&p);
        p.resize = rows[k][2];
        p.size = rows[k][3];
        assert_int_equal(ps_image_prepare(&heap, &image, &p, &t, NULL), PS_OK);
        assert_int_equal(t->shape.dims[2], rows[k][4]);
        assert_int_equal(t->shape.dims[3], rows[k][5]);
        for (size_t i = 0; i < ps_tensor_count(t); i++) /* a flat photo stays flat: weights sum to one */
            assert_true(((float *)t->data)[i] == 77);
        ps_tensor_release(t);
        ps_image_release(&image);
    }
}

static void presets_by_name(void **state) {
    ps_preprocess p;
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_preprocess_preset("efficientnet-lite0", &p, NULL), PS_OK);
    assert_int_equal(p.resize, 256);
    assert_int_equal(p.size, 224);
    assert_false(p.bilinear);
    assert_true(p.mean[1] == 127 && p.std[2] == 128);
    assert_int_equal(ps_preprocess_check(&p, "preset", NULL), PS_OK);
    assert_int_equal(ps_preprocess_preset("nothing", &p, &err), PS_NOT_FOUND);
    assert_non_null(strstr(err.msg, "imagenet"));
}

static ps_status load_text(ps_engine *engine, const char *text, ps_preprocess *p, ps_error *err) {
    char path[] = "/tmp/polestar-preprocess-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    ps_status status = ps_preprocess_load(engine, path, p, err);
    unlink(path);
    return status;
}

static void reads_json(void **state) {
    ps_engine *engine;
    ps_preprocess p;
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_engine_create(NULL, &engine, NULL), PS_OK);
    assert_int_equal(
        load_text(engine,
                  "{\"resize\": 256, \"size\": 224, \"filter\": \"bilinear\", \"mean\": [1, 2.5, 3], \"std\": 4,"
                  " \"layout\": \"NHWC\", \"color\": \"BGR\", \"labels\": \"names.txt\"}",
                  &p, &err),
        PS_OK);
    assert_true(p.resize == 256 && p.size == 224 && p.bilinear && p.nhwc && p.bgr && !p.gray);
    assert_true(p.mean[0] == 1 && p.mean[1] == 2.5f && p.std[0] == 4 && p.std[2] == 4);
    assert_string_equal(p.labels, "/tmp/names.txt");
    assert_int_equal(load_text(engine, "{}", &p, NULL), PS_OK);
    assert_true(p.resize == 0 && p.size == 0 && p.std[0] == 1);
    assert_int_equal(load_text(engine, "{\"sizes\": 3}", &p, &err), PS_FORMAT);
    assert_non_null(strstr(err.msg, "unknown key 'sizes'; the nearest is 'size'"));
    static const char *const bad[] = {
        "",
        "[]",
        "{\"size\": 1",
        "{\"size\": -1}",
        "{\"size\": 1e9}",
        "{\"size\": 99999999}",
        "{\"size\": \"224\"}",
        "{\"size\": 1, \"size\": 2}",
        "{\"mean\": [1, 2]}",
        "{\"mean\": [1, 2, \"3\"]}",
        "{\"filter\": \"nearest\"}",
        "{\"layout\": 3}",
        "{\"color\": \"rgba\"}",
        "{\"labels\": 5}",
        "{\"a key that is longer than thirty-two bytes and then some\": 1}",
    };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        assert_int_equal(load_text(engine, bad[k], &p, NULL), PS_FORMAT);
    assert_int_equal(load_text(engine, "{\"std\": 0}", &p, NULL), PS_INVALID);
    assert_int_equal(load_text(engine, "{\"resize\": 100, \"size\": 224}", &p, NULL), PS_INVALID);
    ps_engine_free(engine);
}

static void loads_photos(void **state) {
    ps_engine *engine;
    ps_tensor *t;
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(ps_engine_create(NULL, &engine, NULL), PS_OK);
    assert_int_equal(ps_image_load(engine, data_path("rgb.jpg"), NULL, &t, &err), PS_OK);
    assert_int_equal(ps_tensor_shape(t)->dims[1], 3);
    assert_int_equal(ps_tensor_shape(t)->dims[2], 29);
    ps_tensor_release(t);
    ps_preprocess empty = { 0 };
    assert_int_equal(ps_image_load(engine, data_path("rgb.jpg"), &empty, &t, &err), PS_INVALID);
    assert_int_equal(ps_image_load(engine, data_path("rgb.npy"), NULL, &t, &err), PS_FORMAT);
    assert_non_null(strstr(err.msg, "rgb.npy"));
    assert_int_equal(ps_engine_memory(engine, NULL), ps_engine_memory(engine, NULL));
    ps_engine_free(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(prepares_as_by_hand, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(sizes_by_the_rule, io_setup, io_teardown),
        cmocka_unit_test(presets_by_name),
        cmocka_unit_test(reads_json),
        cmocka_unit_test(loads_photos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
