#!/usr/bin/env python3
"""Writes tests/data/io: numpy files, small synthetic photos, and what numpy and Pillow make of them.

Run by hand (it needs numpy and pillow), then commit the files:  python tests/gen/io_data.py
"""
import pathlib

import numpy as np
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "io"


def photo(width, height):
    """Smooth colour gradients, one sharp disc and a checkerboard: edges, overshoot and fine detail."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    r = 255 * x / max(width - 1, 1)
    g = 255 * y / max(height - 1, 1)
    b = 127.5 + 127.5 * np.sin(x / 3) * np.cos(y / 4)
    image = np.stack([r, g, b], -1)
    disc = (x - width / 3) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2
    image[disc] = (250, 10, 5)
    board = (x > width * 0.7) & (((x.astype(int) + y.astype(int)) & 1) == 1)
    image[board] = (0, 255, 255)
    return Image.fromarray(np.clip(image + 0.5, 0, 255).astype(np.uint8))


def save_rgb(image, name):
    np.save(OUT / name, np.asarray(image.convert("RGB")))


def photos():
    base = photo(37, 29)
    base.save(OUT / "rgb.png")
    save_rgb(base, "rgb.npy")
    base.convert("L").save(OUT / "gray.png")
    save_rgb(base.convert("L"), "gray.npy")
    base.convert("L").point(lambda v: 255 * (v > 128)).convert("1").save(OUT / "bits.png")
    save_rgb(Image.open(OUT / "bits.png"), "bits.npy")
    palette = base.quantize(16)
    palette.save(OUT / "palette.png")
    save_rgb(palette, "palette.npy")
    alpha = base.copy()
    alpha.putalpha(base.convert("L"))
    alpha.save(OUT / "alpha.png")
    save_rgb(alpha, "alpha.npy")
    np.save(OUT / "luma.npy", np.asarray(base.convert("L")))
    for name, image, options in (("rgb", base, {"subsampling": 0}), ("half", base, {"subsampling": 2}),
                                 ("progressive", base, {"progressive": True}), ("gray", base.convert("L"), {})):
        path = OUT / f"{name}.jpg"
        image.save(path, quality=90, **options)
        save_rgb(Image.open(path), f"{name}_jpg.npy")
    base.convert("CMYK").save(OUT / "cmyk.jpg")


def bitmaps():
    """BMP and PNM of all depths that Pillow writes; and the formats that a build may leave out."""
    base = photo(37, 29)
    bits = base.convert("L").point(lambda v: 255 * (v > 128)).convert("1")
    for name, image in (("rgb.bmp", base), ("gray.bmp", base.convert("L")), ("palette.bmp", base.quantize(16)), ("bits.bmp", bits),
                        ("alpha.bmp", base.convert("RGBA")), ("rgb.ppm", base), ("gray.pgm", base.convert("L")), ("bits.pbm", bits),
                        ("rgb.tif", base), ("gray.tif", base.convert("L"))):
        image.save(OUT / name)  # the pixels are those of the .npy files that photos() writes
    for name, options in (("rgb.webp", {"lossless": True}), ("rgb.jp2", {"irreversible": False})):
        base.save(OUT / name, **options)


def resizes():
    base = photo(37, 29)
    for name, which in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        for width, height in ((12, 9), (37, 50), (80, 29), (61, 64), (1, 1), (36, 28)):
            np.save(OUT / f"{name}_{width}x{height}.npy", np.asarray(base.resize((width, height), which)))


def prepared():
    """The imagenet preset and an odd-sized gray one, as torchvision does them, by hand."""
    base = photo(37, 29)
    resized = base.resize((int(20 * 37 / 29), 20), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 17) / 2), round((resized.height - 17) / 2)
    x = np.asarray(resized, np.float32)[top:top + 17, left:left + 17]
    mean, std = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
    np.save(OUT / "prepared_rgb.npy", ((x - mean) / std).transpose(2, 0, 1)[None])
    np.save(OUT / "prepared_bgr_nhwc.npy", ((x[:, :, ::-1] - mean) / std)[None])
    luma = np.asarray(base.convert("L"), np.float32)[14 - 5:14 + 6, 18 - 5:18 + 6]
    np.save(OUT / "prepared_gray.npy", ((luma - 1) / 2)[None, None])


def arrays():
    rng = np.random.default_rng(3)
    for dtype in ("bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"):
        x = rng.integers(0, 2, (2, 3)) if dtype == "bool" else rng.integers(0, 100, (2, 3))
        np.save(OUT / f"type_{dtype}.npy", x.astype(dtype))
    cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(OUT / "fortran.npy", np.asfortranarray(cube))
    np.save(OUT / "scalar.npy", np.array(2.5, np.float32))
    np.save(OUT / "vector.npy", np.arange(5, dtype=np.int64))
    np.save(OUT / "empty.npy", np.zeros((0, 3), np.float32))
    np.save(OUT / "big_endian.npy", cube.astype(">f4"))
    np.save(OUT / "text.npy", np.array(["a", "bc"]))
    np.save(OUT / "records.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))
    for version in ((2, 0), (3, 0)):
        with open(OUT / f"version{version[0]}.npy", "wb") as file:
            np.lib.format.write_array(file, cube, version=version)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    photos()
    bitmaps()
    resizes()
    prepared()
    arrays()
