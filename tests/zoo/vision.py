"""Photo models of torchvision and timm."""

import timm
import torch
import torchvision
from torch import nn
from torchvision.models import detection, segmentation
from torchvision.models.detection import backbone_utils

from registry import Case, Flat, calibrate, image, model, picture, settle

# name: side of the picture, arguments. The smallest variant of each design; big designs get fewer or narrower layers.
TORCHVISION = {
    "resnet18": (64, {}),
    "resnet50": (64, {}),
    "resnext50_32x4d": (64, {}),
    "wide_resnet50_2": (64, {"width_per_group": 32}),
    "mobilenet_v2": (64, {}),
    "mobilenet_v3_small": (64, {}),
    "mobilenet_v3_large": (64, {}),
    "efficientnet_b0": (64, {}),
    "efficientnet_v2_s": (64, {}),
    "densenet121": (64, {}),
    "regnet_y_400mf": (64, {}),
    "regnet_x_400mf": (64, {}),
    "convnext_tiny": (64, {}),
    "squeezenet1_1": (64, {}),
    "shufflenet_v2_x0_5": (64, {}),
    "mnasnet0_5": (64, {}),
    "googlenet": (96, {"aux_logits": False, "init_weights": False}),
    "inception_v3": (128, {"aux_logits": False, "init_weights": False}),
    "swin_t": (64, {}),
    "swin_v2_t": (64, {}),
    "maxvit_t": (224, {}),
    "vgg11_bn": (64, {"num_classes": 10}),
}
for arch, (side, options) in TORCHVISION.items():

    @model(arch, "classification", "torchvision")
    def _(exporter, arch=arch, side=side, options=options):
        net = settle(torchvision.models.get_model(arch, weights=None, **options))
        if arch.startswith("vgg"):
            net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 10)
        calibrate(net, image(4, 3, side, side))
        return Case(net, [(image(1, 3, side, side),), (image(3, 3, side, side),)], ["x"], {"x": {0: "batch"}}, ["y"])


@model("vit_small", "classification", "torchvision")
def _(exporter):
    net = torchvision.models.VisionTransformer(64, 16, num_layers=3, num_heads=3, hidden_dim=96, mlp_dim=192, num_classes=50)
    nn.init.normal_(net.heads.head.weight, std=0.1)
    return Case(settle(net), [(image(1, 3, 64, 64),), (image(3, 3, 64, 64),)], ["x"], {"x": {0: "batch"}}, ["y"])


TIMM = {
    "resnetv2_18": (64, {}),
    "mixnet_s": (64, {}),
    "tf_efficientnet_b0": (65, {}),
    "ghostnet_050": (64, {}),
    "mobilenetv4_conv_small": (64, {}),
    "mobilevit_xxs": (64, {}),
    "mobilevitv2_050": (64, {}),
    "efficientformer_l1": (224, {}),
    "levit_128s": (224, {}),
    "poolformer_s12": (64, {}),
    "deit_tiny_patch16_224": (224, {"depth": 3}),
    "beit_base_patch16_224": (224, {"depth": 2, "embed_dim": 96, "num_heads": 4}),
    "cait_xxs24_224": (224, {"depth": 3}),
    "xcit_nano_12_p16_224": (224, {"depth": 3}),
    "edgenext_xx_small": (64, {}),
    "repvgg_a0": (64, {}),
    "hrnet_w18_small": (64, {}),
    "resnest14d": (64, {}),
    "pit_ti_224": (224, {}),
    "pvt_v2_b0": (64, {}),
    "convmixer_768_32": (64, {"depth": 3, "dim": 96}),
    "convnextv2_atto": (64, {}),
    "coatnet_pico_rw_224": (224, {}),
    "efficientvit_b0": (64, {}),
    "crossvit_tiny_240": (240, {}),
    "hiera_tiny_224": (224, {"stages": (1, 1, 2, 1), "embed_dim": 48}),
    "focalnet_tiny_srf": (64, {"depths": (1, 1, 2, 1), "embed_dim": 48}),
    "volo_d1_224": (224, {"layers": (1, 1, 2, 1)}),
    "sequencer2d_s": (224, {"layers": (1, 1, 1, 1)}),
    "halonet26t": (256, {}),
}
for arch, (side, options) in TIMM.items():

    @model("timm_" + arch, "classification", "timm")
    def _(exporter, arch=arch, side=side, options=options):
        net = settle(timm.create_model(arch, pretrained=False, num_classes=50, **options))
        timm.layers.set_exportable(True)
        with torch.no_grad():
            if hasattr(net, "get_classifier") and isinstance(net.get_classifier(), nn.Linear):
                net.get_classifier().weight.normal_(0, 0.1)
        calibrate(net, image(4, 3, side, side))
        return Case(net, [(image(1, 3, side, side),), (image(2, 3, side, side),)], ["x"], {"x": {0: "batch"}}, ["y"])


# ---- segmentation ----
SEGMENTATION = {
    "deeplabv3_mobilenet": lambda: segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5),
    "lraspp_mobilenet": lambda: segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5),
    "fcn_resnet50": lambda: segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5),
}
for arch, make in SEGMENTATION.items():

    @model(arch, "segmentation", "torchvision")
    def _(exporter, make=make):
        net = Flat(calibrate(settle(make()), image(4, 3, 64, 96)), lambda m, x: m(x)["out"])
        return Case(
            net, [(image(1, 3, 64, 96),), (image(2, 3, 96, 64),)], ["x"], {"x": {0: "batch", 2: "height", 3: "width"}}, ["y"]
        )


# ---- detection ----
def spread(net):
    """Scores of random weights lie so close together that rounding reorders them. Heads start with tiny weights: wider ones, and
    statistics of a picture with contrast, give an order."""
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                gain = layer.weight.std() * layer.weight[0].numel() ** 0.5
                if gain < 0.8:
                    layer.weight.mul_(1.3 / gain)
        if hasattr(getattr(net, "backbone", None), "scale_weight"):
            net.backbone.scale_weight.fill_(1)  # of SSD: 20
    return calibrate(net, [picture(3, 128, 160) for _ in range(4)])


def fpn(name="resnet18"):
    return backbone_utils.resnet_fpn_backbone(backbone_name=name, weights=None, norm_layer=nn.BatchNorm2d)


small = {"min_size": 128, "max_size": 192, "image_mean": [0.1, 0.1, 0.1], "image_std": [0.6, 0.6, 0.6]}
DETECTION = {
    "ssdlite_mobilenet": (
        lambda: detection.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=6, detections_per_img=30, topk_candidates=60
        ),
        ["boxes", "scores", "labels"],
    ),
    "fasterrcnn_mobilenet": (
        lambda: detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=6, box_detections_per_img=30, **small
        ),
        ["boxes", "labels", "scores"],
    ),
    "fasterrcnn_resnet18": (
        lambda: detection.FasterRCNN(
            fpn(), 6, box_detections_per_img=30, rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=60, **small
        ),
        ["boxes", "labels", "scores"],
    ),
    "maskrcnn_resnet18": (
        lambda: detection.MaskRCNN(
            fpn(), 6, box_detections_per_img=20, rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=60, **small
        ),
        ["boxes", "labels", "scores", "masks"],
    ),
    "keypointrcnn_resnet18": (
        lambda: detection.KeypointRCNN(
            fpn(), 2, num_keypoints=5, box_detections_per_img=20, rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=60, **small
        ),
        ["boxes", "labels", "scores", "keypoints", "keypoints_scores"],
    ),
    "retinanet_resnet18": (
        lambda: detection.RetinaNet(fpn(), 6, topk_candidates=100, detections_per_img=30, **small),
        ["boxes", "scores", "labels"],
    ),
    "fcos_resnet18": (
        lambda: detection.FCOS(fpn(), 6, topk_candidates=100, detections_per_img=30, score_thresh=0.1, **small),
        ["boxes", "scores", "labels"],
    ),
    "ssd_vgg16": (
        lambda: detection.ssd300_vgg16(
            weights=None, weights_backbone=None, num_classes=6, detections_per_img=30, topk_candidates=60
        ),
        ["boxes", "scores", "labels"],
    ),
}
for arch, (make, names) in DETECTION.items():

    @model(arch, "detection", "torchvision", compare="detections")
    def _(exporter, make=make, names=names):
        def call(m, x):
            found = m([x])[0]
            return [found[name] for name in names]

        net = Flat(spread(settle(make())), call)
        return Case(net, [(picture(3, 128, 160),), (picture(3, 128, 160),)], ["image"], {}, names)
