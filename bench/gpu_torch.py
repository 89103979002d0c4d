#!/usr/bin/env python3
"""ResNet-50, MobileNetV2, BERT-base and a product by PyTorch on an NVIDIA card, to stand beside build/release/tests/gpu_time in
the same run.

    python3 bench/gpu_torch.py [SECONDS]        needs torch; torchvision does not matter

FP32 with TF32 off, batch normalisations folded (convolutions with bias, as gpu_time's), channels last and first, whichever is
faster. "graph" replays a CUDA graph: no launch costs. From inputs on the card to outputs in host memory, median.
"""

import statistics
import sys
import time

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        out = 4 * width
        self.a = nn.Conv2d(channels, width, 1)
        self.b = nn.Conv2d(width, width, 3, stride, 1)
        self.c = nn.Conv2d(width, out, 1)
        self.side = nn.Conv2d(channels, out, 1, stride) if stride > 1 or channels != out else None

    def forward(self, x):
        y = self.c(torch.relu_(self.b(torch.relu_(self.a(x)))))
        return torch.relu_(y + (self.side(x) if self.side else x))


def resnet50():
    blocks, channels = [], 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            blocks.append(Block(channels, width, stride if i == 0 else 1))
            channels = 4 * width
    return nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(True), nn.MaxPool2d(3, 2, 1), *blocks,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


class Inverted(nn.Module):
    def __init__(self, channels, out, stride, expand):
        super().__init__()
        wide = channels * expand
        first = [nn.Conv2d(channels, wide, 1), nn.ReLU6(True)] if expand > 1 else []
        self.body = nn.Sequential(*first, nn.Conv2d(wide, wide, 3, stride, 1, groups=wide), nn.ReLU6(True), nn.Conv2d(wide, out, 1))
        self.add = stride == 1 and channels == out

    def forward(self, x):
        return x + self.body(x) if self.add else self.body(x)


def mobilenetv2():
    blocks, channels = [], 32
    for expand, out, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                                       (6, 320, 1, 1)):
        for i in range(count):
            blocks.append(Inverted(channels, out, stride if i == 0 else 1, expand))
            channels = out
    return nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6(True), *blocks, nn.Conv2d(320, 1280, 1), nn.ReLU6(True),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


class Layer(nn.Module):
    """One projection for queries, keys and values, attention by PyTorch's fused kernel: the faster way of the two."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(768, 2304), nn.Linear(768, 768)
        self.up, self.down = nn.Linear(768, 3072), nn.Linear(3072, 768)
        self.norm1, self.norm2 = nn.LayerNorm(768, 1e-12), nn.LayerNorm(768, 1e-12)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (12, 64)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.out(mixed))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def bert_base():
    return nn.Sequential(*[Layer() for _ in range(12)], Mean())


def median(run, seconds):
    for _ in range(10):
        run().cpu()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        run().cpu()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def graphed(net, x):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            net(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = net(x)

    def run():
        graph.replay()
        return y

    return run


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, TF32 off")
    with torch.inference_mode():
        n = 4096
        a, b = torch.randn(n, n, device="cuda"), torch.randn(n, n, device="cuda")
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for count in (5, 20):
            begin.record()
            for _ in range(count):
                a @ b
            end.record()
        torch.cuda.synchronize()
        time_each = begin.elapsed_time(end) / 20
        print(f"product {n}^3 {time_each:.3f} ms, {2 * n**3 / time_each / 1e9:.1f} TFLOP/s")
        for name, make, shape, batches in (("resnet50", resnet50, (3, 224, 224), (1, 8, 32)),
                                           ("mobilenetv2", mobilenetv2, (3, 224, 224), (1, 8, 32)),
                                           ("bert-base 128", bert_base, (128, 768), (1, 8))):
            for batch in batches:
                measure(name, make, batch, shape, seconds)


def measure(name, make, batch, shape, seconds):
    best = {}
    for layout in (torch.contiguous_format, torch.channels_last) if len(shape) == 3 else (torch.contiguous_format,):
        net = make().cuda().eval().to(memory_format=layout)
        x = torch.randn(batch, *shape, device="cuda").to(memory_format=layout)
        for how, run in (("plain", lambda net=net, x=x: net(x)), ("graph", graphed(net, x))):
            best[how] = min(best.get(how, 1e9), median(run, seconds / 2))
    print(f"{name:<14} batch {batch:<3} plain {best['plain']:8.3f} ms   graph {best['graph']:8.3f} ms", flush=True)


if __name__ == "__main__":
    main()
