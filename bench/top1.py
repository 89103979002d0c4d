#!/usr/bin/env python3
"""Top-1 of an image classifier over a tar of labelled photos: polestar beside ONNX Runtime, on the same tensors.

    tools/python --bench bench/top1.py ../shared/models/efficientnet-lite0 ../shared/imagenet-public.tar

The tensors are made by the preset efficientnet-lite0 (docs/preprocess.md), computed here with Pillow and numpy. With
--cli N the first N photos also go through `polestar run PHOTO`, which decodes and prepares them itself. Exits with 1
if the two engines' top-1 differ by more than one photo, or argmax disagrees on more than one in a hundred.
"""

import argparse
import ctypes
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "bench"))


def tensor_of(data):
    """Short side to 256 (bicubic), centre crop 224, (u8 - 127) / 128, NCHW."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    if min(width, height) != 256:
        scale = 256 / min(width, height)
        image = image.resize((round(width * scale), round(height * scale)), Image.BICUBIC)
        width, height = image.size
    left, top = (width - 224) // 2, (height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    return np.ascontiguousarray(((pixels - 127) / 128).transpose(2, 0, 1)[None])


def read_photos(path):
    """[(name, label, bytes)] from a tar with one labels.txt: name, index, …"""
    with tarfile.open(path) as tar:
        files = {Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isfile()}
    rows = [line.split() for line in files["labels.txt"].decode().splitlines() if line.strip()]
    return [(name, int(label), files[name]) for name, label, *_ in rows]


class Polestar:
    def __init__(self, model, library):
        import polestar_capi
        self.session = polestar_capi.Session(polestar_capi.Library(library), model, 1)

    def top(self, tensor):
        bound = self.session.bind({self.session.inputs[0]: tensor})
        self.session.run(bound)
        found = int(np.argmax(self.session.results()[0]))
        for wrapped in bound:
            self.session.library.c.ps_tensor_release(ctypes.c_void_p(wrapped))
        return found


def cli_top(binary, model, photo):
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(photo)
        file.flush()
        out = subprocess.run([binary, "run", model, file.name, "--preset", "efficientnet-lite0", "--top", "1", "--json"],
                             check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cli", type=int, default=20, metavar="N", help="photos that also go through `polestar run`")
    parser.add_argument("--library", type=Path, default=TOP / "build/release/lib/libpolestar.so")
    parser.add_argument("--binary", type=Path, default=TOP / "build/release/bin/polestar")
    arguments = parser.parse_args()
    import onnxruntime
    ort = onnxruntime.InferenceSession(str(arguments.model / "model.onnx"), providers=["CPUExecutionProvider"])
    ours = Polestar(arguments.model / "model.onnx", arguments.library)
    photos = read_photos(arguments.photos)
    right, agree = {"ort": 0, "polestar": 0}, 0
    for name, label, data in photos:
        tensor = tensor_of(data)
        theirs, mine = int(np.argmax(ort.run(None, {ort.get_inputs()[0].name: tensor})[0])), ours.top(tensor)
        right["ort"] += theirs == label
        right["polestar"] += mine == label
        agree += mine == theirs
    n = len(photos)
    print(f"{n} photos: top-1 ONNX Runtime {right['ort']} ({100 * right['ort'] / n:.1f} %), "
          f"polestar {right['polestar']} ({100 * right['polestar'] / n:.1f} %), same class on {agree}")
    same = 0
    for name, label, data in photos[:arguments.cli]:
        found = cli_top(str(arguments.binary), str(arguments.model / "model.onnx"), data)
        same += found["runs"][0]["top"][0][0]["index"] == ours.top(tensor_of(data))
    if arguments.cli:
        print(f"{same} of {min(arguments.cli, n)} photos: `polestar run PHOTO` names the same class")
    return 0 if abs(right["ort"] - right["polestar"]) <= 1 and agree >= 0.99 * n else 1


if __name__ == "__main__":
    sys.exit(main())
