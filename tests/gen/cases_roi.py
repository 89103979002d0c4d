"""Regions of interest: inside, on and beyond the border, empty, reversed."""
import numpy as np

TOLERANCE = {"RoiAlign": (1e-5, 1e-5, "the oracle interpolates in f32, ours in f64")}


def build(add):
    rng = np.random.default_rng(4)
    x = rng.uniform(-1, 1, (2, 3, 9, 11)).astype(np.float32)
    rois = np.array([[0, 0, 10, 8], [1.5, 2.25, 6.75, 7.5], [-3, -2, 4, 5], [8, 6, 14, 12.5],
                     [4, 4, 4, 4], [20, 20, 30, 30]], np.float32)
    images = np.array([0, 1, 1, 0, 1, 0])
    for mode in ("avg", "max"):
        for ratio in (0, 2, 3):
            add("RoiAlign", 10, [x, rois, images], mode=mode, sampling_ratio=ratio, output_height=3, output_width=2)
            for transformation in ("half_pixel", "output_half_pixel"):
                add("RoiAlign", 16, [x, rois, images], mode=mode, sampling_ratio=ratio, output_height=3, output_width=2,
                    coordinate_transformation_mode=transformation)
    add("RoiAlign", 22, [x, rois * 2, images], spatial_scale=0.5, output_height=4, output_width=4)
    add("RoiAlign", 16, [x.astype(np.float64), rois.astype(np.float64), images])
    add("RoiAlign", 16, [x, rois[:0], images[:0]], name="none", want=[np.zeros((0, 3, 1, 1), np.float32)])
    # nothing of these touches the image: NaN and far away
    far = np.array([[np.nan, 0, 5, 5], [1e30, 1e30, 2e30, 2e30]], np.float32)
    add("RoiAlign", 16, [x, far, images[:2]], name="far", want=[np.zeros((2, 3, 1, 1), np.float32)])
    add.fails("INVALID", "RoiAlign", 16, [x, rois, images], mode="sum")
    add.fails("INVALID", "RoiAlign", 16, [x, rois, images], coordinate_transformation_mode="asymmetric")
    add.fails("INVALID", "RoiAlign", 16, [x, rois, images], output_height=0)
    add.fails("LIMIT", "RoiAlign", 16, [x, rois, images], sampling_ratio=1 << 40)
    add.fails("SHAPE", "RoiAlign", 16, [x, rois, images[:2]])
    add.fails("SHAPE", "RoiAlign", 16, [x, rois[:, :3], images])
    add.fails("TYPE", "RoiAlign", 16, [x, rois, images.astype(np.int32)])

    boxes = np.concatenate([images[:, None], rois], 1).astype(np.float32)
    add("MaxRoiPool", 1, [x, boxes[:5]], pooled_shape=[2, 3])
    add("MaxRoiPool", 1, [x, boxes[:5] * np.array([1, 2, 2, 2, 2], np.float32)], pooled_shape=[1, 1], spatial_scale=0.5)
    add("MaxRoiPool", 1, [x, boxes[5:]], pooled_shape=[2, 2], name="outside", want=[np.zeros((1, 3, 2, 2), np.float32)])
    add.fails("INVALID", "MaxRoiPool", 1, [x, boxes], pooled_shape=[2])
    add.fails("SHAPE", "MaxRoiPool", 1, [x, rois], pooled_shape=[2, 2])
