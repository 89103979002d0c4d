"""Small modules written here, after designs whose packages are not on a registry or too large to bring in."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from registry import Case, calibrate, image, model, picture, settle, tokens


def conv(inner, outer, size=3, stride=1, groups=1, act=True):
    layers = [nn.Conv2d(inner, outer, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(outer)]
    return nn.Sequential(*layers, nn.SiLU()) if act else nn.Sequential(*layers)


# ---- YOLO ----
class Bottleneck(nn.Module):
    def __init__(self, width, shortcut=True):
        super().__init__()
        self.a, self.b, self.shortcut = conv(width, width), conv(width, width), shortcut

    def forward(self, x):
        return x + self.b(self.a(x)) if self.shortcut else self.b(self.a(x))


class C3(nn.Module):
    """Cross-stage block of v5."""

    def __init__(self, inner, outer, shortcut=True):
        super().__init__()
        half = outer // 2
        self.a, self.b, self.c = conv(inner, half, 1), conv(inner, half, 1), conv(2 * half, outer, 1)
        self.m = Bottleneck(half, shortcut)

    def forward(self, x):
        return self.c(torch.cat((self.m(self.a(x)), self.b(x)), 1))


class C2f(nn.Module):
    """Cross-stage block of v8: the parts stay in the concatenation."""

    def __init__(self, inner, outer, depth=2, shortcut=True):
        super().__init__()
        self.half = outer // 2
        self.a, self.b = conv(inner, outer, 1), conv((2 + depth) * self.half, outer, 1)
        self.m = nn.ModuleList(Bottleneck(self.half, shortcut) for _ in range(depth))

    def forward(self, x):
        parts = list(self.a(x).chunk(2, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.b(torch.cat(parts, 1))


class SPPF(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b, self.pool = conv(width, width // 2, 1), conv(width * 2, width, 1), nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        x = self.a(x)
        y = self.pool(x)
        z = self.pool(y)
        return self.b(torch.cat((x, y, z, self.pool(z)), 1))


class Pyramid(nn.Module):
    """Backbone and neck of both: features at strides 8, 16, 32."""

    def __init__(self, block, w=16):
        super().__init__()
        self.stem = nn.Sequential(
            conv(3, w, 6 if block is C3 else 3, 2) if block is not C3 else nn.Sequential(nn.Conv2d(3, w, 6, 2, 2), nn.SiLU()),
            conv(w, 2 * w, 3, 2),
            block(2 * w, 2 * w),
        )
        self.p3 = nn.Sequential(conv(2 * w, 4 * w, 3, 2), block(4 * w, 4 * w))
        self.p4 = nn.Sequential(conv(4 * w, 8 * w, 3, 2), block(8 * w, 8 * w))
        self.p5 = nn.Sequential(conv(8 * w, 8 * w, 3, 2), block(8 * w, 8 * w), SPPF(8 * w))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.n4, self.n3 = block(16 * w, 8 * w, shortcut=False), block(12 * w, 4 * w, shortcut=False)
        self.d3, self.d4 = conv(4 * w, 4 * w, 3, 2), conv(8 * w, 8 * w, 3, 2)
        self.m4, self.m5 = block(12 * w, 8 * w, shortcut=False), block(16 * w, 8 * w, shortcut=False)
        self.widths = (4 * w, 8 * w, 8 * w)

    def forward(self, x):
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.n4(torch.cat((self.up(p5), p4), 1))
        n3 = self.n3(torch.cat((self.up(n4), p3), 1))
        m4 = self.m4(torch.cat((self.d3(n3), n4), 1))
        return n3, m4, self.m5(torch.cat((self.d4(m4), p5), 1))


class YoloV5(nn.Module):
    def __init__(self, classes=7):
        super().__init__()
        self.body, self.no = Pyramid(C3), classes + 5
        self.heads = nn.ModuleList(nn.Conv2d(w, 3 * self.no, 1) for w in self.body.widths)
        self.register_buffer("anchors", torch.rand(3, 3, 2) * 60 + 8)

    def forward(self, x):
        found = []
        for i, (feature, head) in enumerate(zip(self.body(x), self.heads)):
            y = head(feature)
            batch, _, high, wide = y.shape
            y = y.view(batch, 3, self.no, high, wide).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
            rows, columns = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
            grid = torch.stack((columns, rows), 2).view(1, 1, high, wide, 2).float() - 0.5
            xy = (y[..., 0:2] * 2 + grid) * 8 * 2**i
            wh = (y[..., 2:4] * 2) ** 2 * self.anchors[i].view(1, 3, 1, 1, 2)
            found.append(torch.cat((xy, wh, y[..., 4:]), 4).view(batch, 3 * high * wide, self.no))
        return torch.cat(found, 1)


class YoloV8(nn.Module):
    def __init__(self, classes=7, bins=16):
        super().__init__()
        self.body, self.classes, self.bins = Pyramid(C2f), classes, bins
        self.boxes = nn.ModuleList(nn.Sequential(conv(w, 32), conv(32, 32), nn.Conv2d(32, 4 * bins, 1)) for w in self.body.widths)
        self.labels = nn.ModuleList(nn.Sequential(conv(w, 32), nn.Conv2d(32, classes, 1)) for w in self.body.widths)
        self.register_buffer("project", torch.arange(bins).float().view(1, bins, 1, 1))

    def forward(self, x):
        outs, anchors, strides = [], [], []
        for i, feature in enumerate(self.body(x)):
            y = torch.cat((self.boxes[i](feature), self.labels[i](feature)), 1)
            high, wide = y.shape[2:]
            rows, columns = torch.meshgrid(torch.arange(high) + 0.5, torch.arange(wide) + 0.5, indexing="ij")
            anchors.append(torch.stack((columns, rows), -1).view(-1, 2))
            strides.append(torch.full((high * wide, 1), 8.0 * 2**i))
            outs.append(y.flatten(2))
        y, anchor, stride = torch.cat(outs, 2), torch.cat(anchors).t().unsqueeze(0), torch.cat(strides).t()
        box, label = y.split((4 * self.bins, self.classes), 1)
        batch, _, count = box.shape
        box = F.conv2d(box.view(batch, 4, self.bins, count).transpose(2, 1).softmax(1), self.project).view(batch, 4, count)
        low, high = box.chunk(2, 1)
        a, b = anchor - low, anchor + high
        return torch.cat((torch.cat(((a + b) / 2, b - a), 1) * stride, label.sigmoid()), 1)


yolo_dims = {"images": {0: "batch", 2: "height", 3: "width"}}


@model("yolov5", "detection", "tests/zoo")
def _(exporter):
    return Case(settle(YoloV5()), [(image(1, 3, 96, 128),), (image(2, 3, 64, 64),)], ["images"], yolo_dims, ["detections"])


@model("yolov8", "detection", "tests/zoo")
def _(exporter):
    return Case(settle(YoloV8()), [(image(1, 3, 96, 128),), (image(2, 3, 64, 64),)], ["images"], yolo_dims, ["detections"])


class WithNms(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = YoloV8()

    def forward(self, x):
        from torchvision.ops import nms

        y = self.net(x)[0].t()
        box, (score, label) = y[:, :4], y[:, 4:].max(1)
        corner = torch.cat((box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2), 1)
        keep = nms(corner + label.unsqueeze(1) * 4096.0, score, 0.5)[:50]
        return corner[keep], score[keep], label[keep]


@model("yolov8_nms", "detection", "tests/zoo", compare="detections")
def _(exporter):
    net = settle(WithNms())
    with torch.no_grad():
        for head in net.net.labels:
            head[-1].weight.mul_(0.5)  # away from where a sigmoid is 1
    calibrate(net.net, picture(4, 3, 96, 128))
    return Case(net, [(picture(1, 3, 96, 128),), (picture(1, 3, 96, 128),)], ["images"], {}, ["boxes", "scores", "labels"])


# ---- segmentation, generation of pictures ----
class UNet(nn.Module):
    def __init__(self, w=8, transposed=True):
        super().__init__()

        def twice(a, b):
            return nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1),
                nn.BatchNorm2d(b),
                nn.ReLU(),
                nn.Conv2d(b, b, 3, padding=1),
                nn.BatchNorm2d(b),
                nn.ReLU(),
            )

        self.down = nn.ModuleList([twice(3, w), twice(w, 2 * w), twice(2 * w, 4 * w)])
        self.bottom = twice(4 * w, 8 * w)
        self.up = nn.ModuleList(
            (
                nn.ConvTranspose2d(2 * k, k, 2, 2)
                if transposed
                else nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(2 * k, k, 1))
            )
            for k in (4 * w, 2 * w, w)
        )
        self.join = nn.ModuleList(twice(2 * k, k) for k in (4 * w, 2 * w, w))
        self.head = nn.Conv2d(w, 3, 1)

    def forward(self, x):
        kept = []
        for block in self.down:
            x = block(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, join in zip(self.up, self.join):
            x = up(x)
            other = kept.pop()
            x = join(torch.cat((F.pad(x, (0, other.shape[3] - x.shape[3], 0, other.shape[2] - x.shape[2])), other), 1))
        return self.head(x)


picture_dims = {"x": {0: "batch", 2: "height", 3: "width"}}


@model("unet", "segmentation", "tests/zoo")
def _(exporter):
    return Case(settle(UNet()), [(image(1, 3, 48, 64),), (image(2, 3, 64, 48),)], ["x"], picture_dims, ["y"])


@model("unet_bilinear", "segmentation", "tests/zoo")
def _(exporter):
    return Case(settle(UNet(transposed=False)), [(image(1, 3, 48, 64),), (image(2, 3, 64, 48),)], ["x"], picture_dims, ["y"])


class Diffusion(nn.Module):
    """The noise predictor of a diffusion model: group norms, a time embedding, attention over pixels and to a text."""

    def __init__(self, w=32):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(w, w), nn.SiLU(), nn.Linear(w, w))
        self.first, self.down = nn.Conv2d(4, w, 3, padding=1), nn.Conv2d(w, w, 3, 2, 1)
        self.norm1, self.conv1 = nn.GroupNorm(8, w), nn.Conv2d(w, w, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, w, eps=1e-6), nn.Conv2d(w, w, 3, padding=1)
        self.q, self.k, self.v, self.out = nn.Linear(w, w), nn.Linear(24, w), nn.Linear(24, w), nn.Linear(w, w)
        self.ln, self.geglu, self.ff = nn.LayerNorm(w), nn.Linear(w, 8 * w), nn.Linear(4 * w, w)
        self.up, self.last = nn.Conv2d(w, w, 3, padding=1), nn.Conv2d(2 * w, 4, 3, padding=1)

    def forward(self, x, step, text):
        half = 16
        angle = step.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)[None]
        t = self.time(torch.cat((angle.cos(), angle.sin()), 1))
        kept = x = self.first(x)
        x = self.down(x)
        h = self.conv1(F.silu(self.norm1(x))) + t[:, :, None, None]
        x = x + self.conv2(F.silu(self.norm2(h)))
        batch, w, high, wide = x.shape
        y = x.permute(0, 2, 3, 1).reshape(batch, high * wide, w)
        z = self.ln(y)
        heads = [p.view(batch, -1, 4, w // 4).transpose(1, 2) for p in (self.q(z), self.k(text), self.v(text))]
        y = y + self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(batch, -1, w))
        a, gate = self.geglu(self.ln(y)).chunk(2, -1)
        y = y + self.ff(a * F.gelu(gate))
        x = y.reshape(batch, high, wide, w).permute(0, 3, 1, 2)
        x = self.up(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.last(torch.cat((x, kept), 1))


@model("diffusion_unet", "pictures from text", "tests/zoo")
def _(exporter):
    def inputs(batch, side, length):
        return torch.randn(batch, 4, side, side), torch.randint(0, 999, (batch,)), torch.randn(batch, length, 24)

    return Case(
        settle(Diffusion()),
        [inputs(1, 16, 7), inputs(2, 24, 9)],
        ["sample", "timestep", "text"],
        {"sample": {0: "batch", 2: "height", 3: "width"}, "timestep": {0: "batch"}, "text": {0: "batch", 1: "length"}},
        ["noise"],
    )


class Generator(nn.Module):
    """DCGAN with instance norms and a style transfer's reflection pads."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(16, 32, 4),
            nn.InstanceNorm2d(32, affine=True),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ReflectionPad2d(2),
            nn.Conv2d(16, 8, 5),
            nn.InstanceNorm2d(8),
            nn.PReLU(8),
            nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.net(z[:, :, None, None])


@model("gan_generator", "pictures", "tests/zoo")
def _(exporter):
    return Case(settle(Generator()), [(torch.randn(1, 16),), (torch.randn(3, 16),)], ["z"], {"z": {0: "batch"}}, ["picture"])


class SuperResolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (
            nn.Conv2d(3, 32, 5, padding=2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.Conv2d(32, 27, 3, padding=1),
            nn.PixelShuffle(3),
        )

    def forward(self, x):
        big = F.interpolate(x, scale_factor=3, mode="bicubic", align_corners=False)
        return self.d(self.c(F.leaky_relu(self.b(F.relu(self.a(x))), 0.1))) + big


@model("super_resolution", "pictures", "tests/zoo")
def _(exporter):
    return Case(settle(SuperResolution()), [(image(1, 3, 24, 32),), (image(2, 3, 17, 19),)], ["x"], picture_dims, ["y"])


class Stn(nn.Module):
    """Spatial transformer: affine grid and grid sample."""

    def __init__(self):
        super().__init__()
        self.locate = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 6))
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, x):
        theta = self.locate(x).view(-1, 2, 3) * 0.3 + torch.tensor([[1.0, 0, 0], [0, 1, 0]])
        return self.net(F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False))


@model("spatial_transformer", "classification", "tests/zoo")
def _(exporter):
    return Case(settle(Stn()), [(image(1, 3, 32, 32),), (image(3, 3, 32, 32),)], ["x"], {"x": {0: "batch"}}, ["y"], opset=20)


# ---- recurrent nets ----
class Tagger(nn.Module):
    def __init__(self, cell, **options):
        super().__init__()
        self.embed, self.net = nn.Embedding(120, 24), cell(24, 32, **options)
        self.out = nn.Linear(32 * (2 if options.get("bidirectional") else 1), 9)

    def forward(self, ids):
        return self.out(self.net(self.embed(ids))[0])


RECURRENT = {
    "lstm_tagger": (nn.LSTM, {"batch_first": True, "bidirectional": True, "num_layers": 2}),
    "gru_tagger": (nn.GRU, {"batch_first": True, "bidirectional": True}),
    "rnn_tagger": (nn.RNN, {"num_layers": 2, "batch_first": True}),
    "lstm_language": (nn.LSTM, {"num_layers": 2, "batch_first": True}),
    "gru_language": (nn.GRU, {"num_layers": 2, "batch_first": True}),
}
for arch, (cell, options) in RECURRENT.items():

    @model(arch, "recurrent", "tests/zoo")
    def _(exporter, cell=cell, options=options):
        return Case(
            settle(Tagger(cell, **options)),
            [(tokens(2, 9),), (tokens(3, 14),)],
            ["ids"],
            {"ids": {0: "batch", 1: "sequence"}},
            ["tags"],
        )


class Stateful(nn.Module):
    """A streaming detector: the state goes in and comes out."""

    def __init__(self):
        super().__init__()
        self.front, self.net, self.out = nn.Conv1d(1, 16, 9, 4, 4), nn.LSTM(16, 24), nn.Linear(24, 1)

    def forward(self, x, h, c):
        y, (h, c) = self.net(F.relu(self.front(x)).permute(2, 0, 1), (h, c))
        return torch.sigmoid(self.out(y)).squeeze(-1).mean(0), h, c


@model("lstm_streaming", "recurrent", "tests/zoo")
def _(exporter):
    return Case(
        settle(Stateful()),
        [(torch.randn(b, 1, 160), torch.randn(1, b, 24), torch.randn(1, b, 24)) for b in (1, 3)],
        ["x", "h", "c"],
        {"x": {0: "batch"}, "h": {1: "batch"}, "c": {1: "batch"}},
        ["p", "hn", "cn"],
    )


class Crnn(nn.Module):
    """Reads a line of text: convolutions, then an LSTM over columns."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d((2, 1)),
            nn.Conv2d(32, 32, (8, 1)),
        )
        self.rnn, self.out = nn.LSTM(32, 24, bidirectional=True), nn.Linear(48, 20)

    def forward(self, x):
        return F.log_softmax(self.out(self.rnn(self.net(x).squeeze(2).permute(2, 0, 1))[0]), 2)


@model("crnn", "recurrent", "tests/zoo")
def _(exporter):
    return Case(settle(Crnn()), [(image(1, 1, 32, 64),), (image(2, 1, 32, 96),)], ["x"], {"x": {0: "batch", 3: "width"}}, ["y"])


class Greedy(nn.Module):
    """A decoder that loops over time with a GRU cell until it has `steps` letters: a Loop in the file."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.out = nn.Embedding(20, 16), nn.GRUCell(16, 16), nn.Linear(16, 20)

    def forward(self, state, steps: int):
        letter = torch.zeros(state.shape[0], dtype=torch.int64)
        found = torch.zeros(0, state.shape[0], dtype=torch.int64)
        for _ in range(steps):
            state = self.cell(self.embed(letter), state)
            letter = self.out(state).argmax(1)
            found = torch.cat((found, letter.unsqueeze(0)))
        return found, state


@model("greedy_decoder", "recurrent", "tests/zoo", exporters=("torchscript",))
def _(exporter):
    return Case(
        torch.jit.script(settle(Greedy())),
        [(torch.randn(2, 16), torch.tensor(5)), (torch.randn(3, 16), torch.tensor(9))],
        ["state", "steps"],
        {"state": {0: "batch"}},
        ["letters", "last"],
    )


# ---- speech from text ----
class FastSpeech(nn.Module):
    """Encoder, length regulator (every letter is repeated as long as it is spoken), decoder of spectrogram frames."""

    def __init__(self, w=32):
        super().__init__()
        self.embed, self.out = nn.Embedding(40, w), nn.Linear(w, 20)
        self.encoder = nn.TransformerEncoderLayer(w, 2, 64, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerEncoderLayer(w, 2, 64, batch_first=True)
        self.length = nn.Sequential(nn.Conv1d(w, w, 3, padding=1), nn.ReLU(), nn.Conv1d(w, 1, 3, padding=1))

    def forward(self, ids):
        x = self.encoder(self.embed(ids))
        spoken = torch.clamp(torch.round(torch.exp(self.length(x.transpose(1, 2))[:, 0] * 0.3 + 1)), 1, 8).long()
        ends = torch.cumsum(spoken, 1)
        frames = torch.arange(ends[0, -1]).unsqueeze(1)
        where = ((frames < ends[0].unsqueeze(0)) & (frames >= (ends - spoken)[0].unsqueeze(0))).float()
        return self.out(self.decoder(torch.matmul(where.unsqueeze(0), x))), spoken


@model("fastspeech", "speech from text", "tests/zoo")
def _(exporter):
    return Case(
        settle(FastSpeech()), [(tokens(1, 9, 40),), (tokens(1, 13, 40),)], ["ids"], {"ids": {1: "sequence"}}, ["mel", "durations"]
    )


class Wave(nn.Module):
    """WaveNet: gated dilated convolutions."""

    def __init__(self, w=24):
        super().__init__()
        self.first = nn.Conv1d(1, w, 1)
        self.gates = nn.ModuleList(nn.Conv1d(w, 2 * w, 2, dilation=2**i) for i in range(5))
        self.mix = nn.ModuleList(nn.Conv1d(w, w, 1) for _ in range(5))
        self.last = nn.Conv1d(w, 32, 1)

    def forward(self, x):
        x, kept = self.first(x), 0
        for i, (gate, mix) in enumerate(zip(self.gates, self.mix)):
            a, b = gate(F.pad(x, (2**i, 0))).chunk(2, 1)
            y = mix(torch.tanh(a) * torch.sigmoid(b))
            x, kept = x + y, kept + y
        return self.last(F.elu(kept))


@model("wavenet", "sound", "tests/zoo")
def _(exporter):
    return Case(
        settle(Wave()), [(torch.randn(1, 1, 200),), (torch.randn(2, 1, 321),)], ["x"], {"x": {0: "batch", 2: "samples"}}, ["y"]
    )


class Separator(nn.Module):
    """Conv-TasNet: encoder, masks by depthwise convolutions with global norms, decoder."""

    def __init__(self, w=32):
        super().__init__()
        self.encode, self.decode = nn.Conv1d(1, w, 16, 8, bias=False), nn.ConvTranspose1d(w, 1, 16, 8, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(w, 48, 1),
                nn.PReLU(),
                nn.GroupNorm(1, 48),
                nn.Conv1d(48, 48, 3, padding=2**i, dilation=2**i, groups=48),
                nn.PReLU(),
                nn.GroupNorm(1, 48),
                nn.Conv1d(48, w, 1),
            )
            for i in range(3)
        )
        self.mask = nn.Conv1d(w, 2 * w, 1)

    def forward(self, x):
        y = z = F.relu(self.encode(x))
        for block in self.blocks:
            z = z + block(z)
        masks = torch.sigmoid(self.mask(z)).view(x.shape[0] * 2, -1, y.shape[2])
        return self.decode(masks * y.repeat_interleave(2, 0)).view(x.shape[0], 2, -1)


@model("conv_tasnet", "sound", "tests/zoo")
def _(exporter):
    return Case(
        settle(Separator()),
        [(torch.randn(1, 1, 400),), (torch.randn(2, 1, 800),)],
        ["x"],
        {"x": {0: "batch", 2: "samples"}},
        ["y"],
    )


class Spectral(nn.Module):
    """Log-mel front end: short-time Fourier transform in the graph."""

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))
        self.register_buffer("filters", torch.rand(33, 12))
        self.out = nn.Linear(12, 6)

    def forward(self, x):
        y = (
            torch.stft(x, 64, 16, 64, self.window, center=False, return_complex=False, onesided=True)
            if torch.onnx.is_in_onnx_export() and not torch.compiler.is_compiling()
            else torch.view_as_real(torch.stft(x, 64, 16, 64, self.window, center=False, return_complex=True))
        )
        power = y.pow(2).sum(-1).transpose(1, 2)
        return self.out(torch.log(torch.clamp(power @ self.filters, min=1e-3)))


@model("log_mel", "sound", "tests/zoo")
def _(exporter):
    return Case(settle(Spectral()), [(torch.randn(1, 400),), (torch.randn(1, 400),)], ["x"], {}, ["y"])


# ---- tables, graphs, points ----
class DeepFM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.linear = nn.Embedding(200, 8), nn.Embedding(200, 1)
        self.net = nn.Sequential(nn.Linear(6 * 8 + 4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 1))

    def forward(self, ids, numbers):
        e = self.embed(ids)
        pairs = 0.5 * (e.sum(1).pow(2) - e.pow(2).sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(self.linear(ids).sum(1) + pairs + self.net(torch.cat((e.flatten(1), numbers), 1)))


@model("deepfm", "tables", "tests/zoo")
def _(exporter):
    return Case(
        settle(DeepFM()),
        [(tokens(b, 6, 200), torch.randn(b, 4)) for b in (2, 5)],
        ["ids", "numbers"],
        {"ids": {0: "batch"}, "numbers": {0: "batch"}},
        ["p"],
    )


class Gcn(nn.Module):
    """A graph convolution: messages gathered by edge and added up by node."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)

    def layer(self, x, edges, net):
        x = net(x)
        messages = x[edges[0]]
        total = torch.zeros_like(x).scatter_add(0, edges[1].unsqueeze(1).expand_as(messages), messages)
        degree = torch.zeros(x.shape[0], 1).scatter_add(0, edges[1].unsqueeze(1), torch.ones(edges.shape[1], 1))
        return total / degree.clamp(min=1) + x

    def forward(self, x, edges):
        return self.layer(F.relu(self.layer(x, edges, self.a)), edges, self.b).log_softmax(1)


@model("gcn", "graphs", "tests/zoo")
def _(exporter):
    return Case(
        settle(Gcn()),
        [(torch.randn(n, 6), torch.randint(0, n, (2, m))) for n, m in ((9, 20), (14, 31))],
        ["x", "edges"],
        {"x": {0: "nodes"}, "edges": {1: "edges"}},
        ["y"],
        opset=18,
    )


class PointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1), nn.BatchNorm1d(64), nn.ReLU()
        )
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        far = torch.cdist(x.transpose(1, 2), x.transpose(1, 2)).topk(4, largest=False)[0].mean(2)
        return self.out(self.net(x).max(2)[0]) * far.mean(1, keepdim=True)


@model("pointnet", "points", "tests/zoo")
def _(exporter):
    return Case(
        settle(PointNet()), [(torch.randn(1, 3, 50),), (torch.randn(2, 3, 70),)], ["x"], {"x": {0: "batch", 2: "points"}}, ["y"]
    )


class Video(nn.Module):
    """3-D convolutions and pools."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv3d(3, 8, 3, (1, 2, 2), 1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(8, 16, (3, 1, 1), padding=(1, 0, 0)),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        )

    def forward(self, x):
        return self.net(x)


@model("video_3d", "video", "tests/zoo")
def _(exporter):
    return Case(
        settle(Video()), [(torch.randn(1, 3, 8, 32, 32),), (torch.randn(2, 3, 8, 32, 32),)], ["x"], {"x": {0: "batch"}}, ["y"]
    )


class Seq2Seq(nn.Module):
    """nn.Transformer with both masks."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(120, 32), nn.Linear(32, 120)
        self.net = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)

    def forward(self, source, target):
        ahead = torch.triu(torch.full((target.shape[1], target.shape[1]), float("-inf")), 1)
        return self.out(self.net(self.embed(source), self.embed(target), tgt_mask=ahead))


@model("nn_transformer", "translation", "tests/zoo")
def _(exporter):
    return Case(
        settle(Seq2Seq()),
        [(tokens(2, 9), tokens(2, 6)), (tokens(1, 12), tokens(1, 4))],
        ["source", "target"],
        {"source": {0: "batch", 1: "source_length"}, "target": {0: "batch", 1: "target_length"}},
        ["y"],
    )


class Experts(nn.Module):
    """A mixture of experts with top-2 routing, all experts computed by one batched product (Einsum)."""

    def __init__(self):
        super().__init__()
        self.route = nn.Linear(24, 4)
        self.up, self.down = nn.Parameter(torch.randn(4, 24, 48) * 0.2), nn.Parameter(torch.randn(4, 48, 24) * 0.2)

    def forward(self, x):
        weight, chosen = self.route(x).softmax(-1).topk(2, -1)
        gate = torch.zeros(x.shape[0], x.shape[1], 4).scatter(2, chosen, weight)
        y = torch.einsum("btd,edh->bteh", x, self.up)
        y = torch.einsum("bteh,ehd->bted", F.gelu(y, approximate="tanh"), self.down)
        return torch.einsum("bted,bte->btd", y, gate)


@model("experts", "text", "tests/zoo")
def _(exporter):
    return Case(
        settle(Experts()), [(torch.randn(1, 5, 24),), (torch.randn(2, 7, 24),)], ["x"], {"x": {0: "batch", 1: "sequence"}}, ["y"]
    )
