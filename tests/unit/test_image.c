/* test_image.c - photos against what Pillow decodes and resizes (tests/gen/io_data.py). */
#include "io_fixture.h"
#include "test_alloc_fail.h"

/* Largest difference in levels of 255. */
static int difference(const ps_image *image, const ps_tensor *want) {
    assert_int_equal(want->dtype, PS_DTYPE_U8);
    assert_int_equal(want->shape.dims[0], image->height);
    assert_int_equal(want->shape.dims[1], image->width);
    assert_int_equal(ps_tensor_count(want), (size_t)image->height * (size_t)image->width * (size_t)image->channels);
    const uint8_t *a = image->data, *b = want->data;
    int worst = 0;
    for (size_t k = 0; k < ps_tensor_count(want); k++)
        if (abs(a[k] - b[k]) > worst) worst = abs(a[k] - b[k]);
    return worst;
}

static ps_image decode(const char *name) {
    size_t size;
    ps_image image = { 0 };
    ps_error err = PS_ERROR_INIT;
    char *data = read_data(name, &size);
    if (ps_image_read(&heap, data, size, &image, &err) != PS_OK) fail_msg("%s: %s", name, err.msg);
    ps_free(&heap, data);
    return image;
}

static void decodes_as_pillow(void **state) {
    /* PNG is lossless. JPEG: the same libjpeg-turbo algorithms (slow integer DCT, smooth chroma upsampling); a level or
     * two are left for another version of the library. */
    static const struct {
        const char *file, *want;
        int levels;
    } rows[] = {
        { "rgb.png", "rgb.npy", 0 },
        { "gray.png", "gray.npy", 0 },
        { "bits.png", "bits.npy", 0 },
        { "palette.png", "palette.npy", 0 },
        { "alpha.png", "alpha.npy", 0 },
        { "rgb.bmp", "rgb.npy", 0 },
        { "gray.bmp", "gray.npy", 0 },
        { "palette.bmp", "palette.npy", 0 },
        { "bits.bmp", "bits.npy", 0 },
        { "alpha.bmp", "rgb.npy", 0 },
        { "rgb.ppm", "rgb.npy", 0 },
        { "gray.pgm", "gray.npy", 0 },
        { "bits.pbm", "bits.npy", 0 },
        { "rgb.jpg", "rgb_jpg.npy", 2 },
        { "half.jpg", "half_jpg.npy", 2 },
        { "gray.jpg", "gray_jpg.npy", 2 },
        { "progressive.jpg", "progressive_jpg.npy", 2 },
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        ps_image image = decode(rows[k].file);
        ps_tensor *want = load_npy(rows[k].want);
        int worst = difference(&image, want);
        if (worst > rows[k].levels) fail_msg("%s differs by %d levels", rows[k].file, worst);
        ps_tensor_release(want);
        ps_image_release(&image);
    }
}

/* TIFF, WebP and JPEG 2000, all lossless: read where the build has the library, else refused by name. */
static void optional_formats(void **state) {
    static const struct {
        const char *file, *want;
    } rows[] = {
        { "rgb.tif", "rgb.npy" }, { "gray.tif", "gray.npy" }, { "rgb.webp", "rgb.npy" }, { "rgb.jp2", "rgb.npy" }
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        size_t size;
        ps_image image = { 0 };
        ps_error err = PS_ERROR_INIT;
        char *data = read_data(rows[k].file, &size);
        ps_status status = ps_image_read(&heap, data, size, &image, &err);
        ps_free(&heap, data);
        if (status == PS_UNSUPPORTED) {
            assert_non_null(strstr(err.msg, "is not read by this build"));
            continue;
        }
        if (status != PS_OK) fail_msg("%s: %s", rows[k].file, err.msg);
        ps_tensor *want = load_npy(rows[k].want);
        assert_int_equal(difference(&image, want), 0);
        ps_tensor_release(want);
        ps_image_release(&image);
    }
}

/* Forms of PNM and BMP that Pillow does not write, by hand from their specifications. */
static void small_pictures(void **state) {
    static const struct {
        const char *bytes;
        size_t size;
        uint8_t want[12];
    } rows[] = {
        /* two white and two black points; digits need no blanks */
        { "P1 # no name\n2 2\n01\n1 0", 24, { 255, 255, 255, 0, 0, 0, 0, 0, 0, 255, 255, 255 } },
        /* samples of 0 to 3 become 0, 85, 170, 255 */
        { "P2\n2 2 3\n0 1\n2 3\n", 17, { 0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255 } },
        { "P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12", 37, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 } },
        /* 16 bits, most significant byte first */
        { "P5 2 2 65535 \0\0\xff\xff\x80\0\x01\x01", 21, { 0, 0, 0, 255, 255, 255, 128, 128, 128, 1, 1, 1 } },
        /* 5-5-5 bits of red, green, blue and white, bottom row first; rows are whole words */
        { "BM\x3e\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0\0\0\x02\0\0\0\x01\0\x10\0"
          "\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x1f\0\xff\x7f\0\x7c\xe0\x03",
          62,
          { 255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255 } },
        /* the same from top to bottom (height -2) */
        { "BM\x3e\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0\0\0\xfe\xff\xff\xff\x01\0\x10\0"
          "\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x1f\0\xff\x7f\0\x7c\xe0\x03",
          62,
          { 0, 0, 255, 255, 255, 255, 255, 0, 0, 0, 255, 0 } },
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        ps_image image = { 0 };
        ps_error err = PS_ERROR_INIT;
        if (ps_image_read(&heap, rows[k].bytes, rows[k].size, &image, &err) != PS_OK) fail_msg("%zu: %s", k, err.msg);
        assert_memory_equal(image.data, rows[k].want, 12);
        ps_image_release(&image);
        assert_int_not_equal(ps_image_read(&heap, rows[k].bytes, rows[k].size - 2, &image, &err), PS_OK);
    }
}

static void luma_as_pillow(void **state) {
    ps_image rgb = decode("rgb.png"), luma;
    ps_tensor *want = load_npy("luma.npy");
    assert_int_equal(ps_image_luma(&rgb, &luma, NULL), PS_OK);
    assert_int_equal(difference(&luma, want), 0);
    ps_tensor_release(want);
    ps_image_release(&luma);
    ps_image_release(&rgb);
}

static void resizes_as_pillow(void **state) {
    static const int sizes[][2] = { { 12, 9 }, { 37, 50 }, { 80, 29 }, { 61, 64 }, { 1, 1 }, { 36, 28 } };
    ps_image rgb = decode("rgb.png");
    for (int filter = 0; filter < 2; filter++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            char name[64];
            ps_image out;
            snprintf(name, sizeof name, "%s_%dx%d.npy", filter == PS_FILTER_BICUBIC ? "bicubic" : "bilinear",
                     sizes[k][0], sizes[k][1]);
            ps_tensor *want = load_npy(name);
            assert_int_equal(ps_image_resize(&rgb, sizes[k][0], sizes[k][1], (ps_filter)filter, &out, NULL), PS_OK);
            /* The arithmetic is the same, integer for integer. */
            int worst = difference(&out, want);
            if (worst > 0) fail_msg("%s differs by %d levels", name, worst);
            ps_tensor_release(want);
            ps_image_release(&out);
        }
    ps_image same;
    assert_int_equal(ps_image_resize(&rgb, rgb.width, rgb.height, PS_FILTER_BICUBIC, &same, NULL), PS_OK);
    assert_memory_equal(same.data, rgb.data, (size_t)rgb.width * (size_t)rgb.height * 3);
    ps_image_release(&same);
    ps_image_release(&rgb);
}

static ps_status try_bytes(const void *data, size_t size) {
    ps_image image;
    ps_error err = PS_ERROR_INIT;
    ps_status status = ps_image_read(&heap, data, size, &image, &err);
    if (status == PS_OK)
        ps_image_release(&image);
    else
        assert_true(strncmp(err.msg, "photo:", 6) == 0 || status == PS_NO_MEMORY);
    return status;
}

static void refuses_what_it_cannot_show(void **state) {
    size_t size;
    char *cmyk = read_data("cmyk.jpg", &size);
    assert_int_equal(try_bytes(cmyk, size), PS_UNSUPPORTED);
    ps_free(&heap, cmyk);
    assert_int_equal(try_bytes("", 0), PS_FORMAT);
    assert_int_equal(try_bytes("GIF89a", 6), PS_FORMAT);
    /* A PNG header that promises 65535 x 65535 pixels must be refused before any pixel is allocated. */
    char *png = read_data("rgb.png", &size);
    memcpy(png + 16, "\0\0\xff\xff\0\0\xff\xff", 8);
    memcpy(png + 29, "\x39\x67\x4e\x07", 4);
    assert_int_equal(try_bytes(png, size), PS_LIMIT);
    assert_true(atomic_load(&heap.peak) < 1 << 20);
    ps_free(&heap, png);
    ps_image image;
    assert_int_equal(ps_image_new(&heap, 20000, 20000, 3, &image, NULL), PS_LIMIT);
    assert_int_equal(ps_image_new(&heap, 0, 5, 3, &image, NULL), PS_LIMIT);
    assert_int_equal(ps_image_new(&heap, 70000, 1, 3, &image, NULL), PS_LIMIT);
}

static void survives_damage(void **state) {
    static const char *const files[] = { "rgb.png", "palette.png", "rgb.jpg",  "progressive.jpg", "palette.bmp",
                                         "rgb.ppm", "rgb.tif",     "rgb.webp", "rgb.jp2" };
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        size_t size;
        char *data = read_data(files[k], &size);
        bool optional = k >= 6; /* whose libraries decide for themselves what they make do with */
        for (size_t n = 0; n < size; n += 7) {
            char *prefix = ps_alloc(&heap, n ? n : 1);
            memcpy(prefix, data, n);
            /* all pixels are there when only the closing chunk is missing */
            if (try_bytes(prefix, n) == PS_OK && !optional) assert_true(n + 16 > size);
            ps_free(&heap, prefix);
        }
        for (size_t at = 0; at < size; at += 3) {
            char old = data[at];
            data[at] = (char)(old ^ (1 << at % 8));
            try_bytes(data, size);
            data[at] = old;
        }
        ps_free(&heap, data);
    }
}

typedef struct photo_file {
    char *data;
    size_t size;
} photo_file;

static ps_status whole_way(ps_alloc_state *a, void *ctx) {
    const photo_file *file = ctx;
    ps_image image;
    ps_tensor *t = NULL;
    ps_preprocess p;
    ps_preprocess_init(&p);
    p.size = 16;
    p.resize = 20;
    p.gray = true;
    PS_TRY(ps_image_read(a, file->data, file->size, &image, NULL));
    ps_status status = ps_image_prepare(a, &image, &p, &t, NULL);
    ps_image_release(&image);
    ps_tensor_release(t);
    return status;
}

static void failing_allocations_leak_nothing(void **state) {
    static const char *const files[] = { "rgb.png", "half.jpg", "palette.bmp", "rgb.ppm" };
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        photo_file file;
        file.data = read_data(files[k], &file.size);
        assert_true(ps_test_sweep(whole_way, &file) > 5);
        ps_free(&heap, file.data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(decodes_as_pillow, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(optional_formats, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(small_pictures, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(luma_as_pillow, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(resizes_as_pillow, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(refuses_what_it_cannot_show, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(survives_damage, io_setup, io_teardown),
        cmocka_unit_test_setup_teardown(failing_allocations_leak_nothing, io_setup, io_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
