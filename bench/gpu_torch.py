#!/usr/bin/env python3
"""ResNet-50 by PyTorch and cuDNN on an NVIDIA card, to stand beside build/release/tests/gpu_time in the same run.

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
        for batch in (1, 8, 32):
            best = {}
            for layout in (torch.contiguous_format, torch.channels_last):
                net = resnet50().cuda().eval().to(memory_format=layout)
                x = torch.randn(batch, 3, 224, 224, device="cuda").to(memory_format=layout)
                for how, run in (("plain", lambda: net(x)), ("graph", graphed(net, x))):
                    best[how] = min(best.get(how, 1e9), median(run, seconds / 2))
            print(f"resnet50 batch {batch:<3} plain {best['plain']:8.3f} ms   graph {best['graph']:8.3f} ms", flush=True)


if __name__ == "__main__":
    main()
