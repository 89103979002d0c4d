"""What bench/compress.py compresses: real models with data to calibrate and other data to judge, and how right answers are.

A case has `model`, `calibration` and `judged` (lists of input arrays), and `right(outputs)`: for each judged input 0 to 1.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFilter, ImageFont

TOP = Path(__file__).resolve().parent.parent
sys.path += [str(TOP / "bench"), str(TOP / "tools")]
from demo_inputs import ocr_input, read_text  # noqa: E402
from top1 import read_photos, tensor_of  # noqa: E402


class Case:
    measure = "right"
    methods = ("MinMax",)  # of ONNX Runtime's quantizer
    words = ()  # of polestar compress, beside its data
    counts = True  # an answer is right or wrong

    def right(self, outputs):
        raise NotImplementedError

    def same(self, left, right):
        """For each output of two runs, whether it says the same."""
        return [np.array_equal(a.argmax(1), b.argmax(1)) for a, b in zip(left, right)]

    def agree(self, left, right):
        """The same, of the single decisions that an output is made of."""
        return self.same(left, right)


class Photos(Case):
    """EfficientNet-Lite0: the first 100 photos calibrate, the others judge."""
    measure, methods = "top-1", ("MinMax", "Percentile", "Entropy")

    def __init__(self, shared, folder):
        self.model = shared / "models/efficientnet-lite0/model.onnx"
        photos = read_photos(shared / "imagenet-public.tar")
        tensors = [tensor_of(data) for _, _, data in photos]
        self.calibration, self.judged = tensors[:100], tensors[100:]
        self.labels = [label for _, label, _ in photos[100:]]
        self.data = folder / "photos"
        self.data.mkdir()
        for name, _, data in photos:
            (self.data / name).write_bytes(data)
        (self.data / "labels.txt").write_text("".join(f"{name} {label}\n" for name, label, _ in photos))
        self.words = ("--calibration", self.data, "--calibration-samples", 100, "--preset", "efficientnet-lite0")

    def right(self, outputs):
        return np.array([float(o.argmax() == label) for o, label in zip(outputs, self.labels)])


class Arrays(Case):
    """Data of our own, one .npy a sample."""

    def write(self, folder):
        self.data = folder / "calibration"
        self.data.mkdir()
        for index, array in enumerate(self.calibration):
            np.save(self.data / f"{index:04}.npy", array)
        self.words = ("--calibration", self.data)


# ---- lines of text --------------------------------------------------------------------------------------------------
WORDS = """account address airport answer autumn balance battery bicycle blanket border bottle branch bread bridge budget
cabinet camera candle carpet castle ceiling chapter charge cheese chicken circle citizen client coffee colour common concert
copper corner cotton country courage credit customer daily danger deliver dentist desert diamond dinner doctor dollar donkey
double dragon eastern edition effort eight electric elevator engine evening example expert factory family farmer father
fifteen finger flower forest forward freedom friend garden gentle ginger glass golden grammar guitar hammer harbour health
height history holiday hospital hunger invoice island jacket journey jungle kitchen ladder language leather lecture letter
library liquid litre machine magnet manager market master medicine meeting member metal middle minute mirror monday monitor
morning mother mountain museum music napkin nation nature needle network north notice number object october office orange
order oxygen package painter paper parcel passage patient pencil pepper person picture planet plastic platform pocket police
portrait pressure print problem quality quarter question rabbit railway receipt record reply report river rocket salad sample
scale school season second secret seven shelter shoulder signal silver simple sister smooth soldier spring square station
storage street student summer sunday surface system tablet tailor teacher temper theatre thunder ticket timber tissue tomato
total tower traffic travel treasure tunnel twelve uncle uniform upper useful valley vehicle velvet village violin visitor
volume waiter warehouse water weather weekend western whisper window winter wonder wooden worker yellow zebra""".split()


def line_text(rng):
    def some(low, high):
        return int(rng.integers(low, high + 1))

    def word():
        text = str(rng.choice(WORDS))
        return text.capitalize() if rng.random() < 0.3 else text

    kinds = (
        lambda: " ".join(word() for _ in range(some(2, 4))),
        lambda: f"{word().capitalize()} {some(10, 9999)} for {some(1, 999)}.{some(0, 99):02} EUR",
        lambda: f"{some(1, 28):02}.{some(1, 12):02}.{some(1980, 2030)} at {some(0, 23):02}:{some(0, 59):02}",
        lambda: f"{word()} {some(1, 100)} percent of {some(2, 99)}",
        lambda: f"{word()} {some(100, 99999)}-{some(10, 99)}",
    )
    return kinds[int(rng.choice(5, p=(0.4, 0.2, 0.1, 0.15, 0.15)))]()


def line_image(text, rng):
    """Pillow's own font in many sizes, colours and states of wear; RGB. Its spaces are narrow: words stand two of them apart."""
    text = text.replace(" ", "  ")
    size = int(rng.integers(26, 41))
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = font.getbbox(text)
    pad = rng.integers(4, 14, 4)
    dark, bright = rng.integers(0, 90, 3), rng.integers(170, 256, 3)
    paint, paper = (bright, dark) if rng.random() < 0.15 else (dark, bright)
    page = Image.new("RGB", (int(right - left + pad[0] + pad[2]), int(bottom - top + pad[1] + pad[3])), tuple(map(int, paper)))
    ImageDraw.Draw(page).text((int(pad[0]) - left, int(pad[1]) - top), text, fill=tuple(map(int, paint)), font=font)
    if rng.random() < 0.3:
        page = page.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.8))))
    noise = rng.normal(0, rng.uniform(0, 8), (page.height, page.width, 1))
    return Image.fromarray(np.clip(np.asarray(page, np.float64) + noise, 0, 255).astype(np.uint8))


def draw_lines(first, count):
    lines = []
    for index in range(first, first + count):
        rng = np.random.default_rng([77, index])
        text = line_text(rng)
        lines.append((text, ocr_input(line_image(text, rng), 48)))
    return lines


class Lines(Arrays):
    """The PP-OCR recogniser: exact text of drawn lines, but for spaces at its ends, where blank paper is. Lines 0 ... calibrate,
    lines 100,000 ... judge."""
    measure, first = "exact text", 100000

    def __init__(self, shared, folder, count=200):
        self.model = shared / "models/ppocr-v4-rec/model.onnx"
        metadata = {entry.key: entry.value for entry in onnx.load(self.model).metadata_props}
        self.charset = metadata["character"].split("\n")
        self.shared = shared
        self.calibration = [array for _, array in draw_lines(0, 100)]
        judged = draw_lines(self.first, count)
        self.texts, self.judged = [text for text, _ in judged], [array for _, array in judged]
        self.write(folder)

    def read(self, outputs):
        return [read_text(o, self.charset).strip(" ") for o in outputs]

    def right(self, outputs):
        return np.array([float(a == b) for a, b in zip(self.read(outputs), self.texts)])

    def same(self, left, right):
        return [a == b for a, b in zip(self.read(left), self.read(right))]

    def agree(self, left, right):
        return [float(np.mean(a.argmax(2) == b.argmax(2))) for a, b in zip(left, right)]


class TuningLines(Lines):
    """Lines by which layers of a mixed file are chosen: others than those that calibrate and judge."""
    first = 200000


# ---- the medical stand-ins ------------------------------------------------------------------------------------------
def medical(array):
    return ((array.astype(np.float32) / 255 - 0.5) / 0.25)[None, None]


class Medical(Arrays):
    """Synthetic pictures of ../shared/med-generator: the first of those for training calibrate, those for tests judge."""

    def __init__(self, shared, folder, name, draw, count):
        sys.path.insert(0, str(shared / "med-generator"))
        import medgen
        draw = getattr(medgen, draw)
        self.model = shared / "models" / name / "model.onnx"
        self.calibration = [medical(draw(i)[0]) for i in range(48)]
        judged = [draw(100000 + i) for i in range(count)]
        self.judged, self.labels = [medical(picture) for picture, _ in judged], [label for _, label in judged]
        self.write(folder)


class Classes(Medical):
    def right(self, outputs):
        return np.array([float(o.argmax() == label) for o, label in zip(outputs, self.labels)])


class Slices(Medical):
    """Dice of organ and lesions over all pictures together."""
    measure, counts = "Dice", False

    def dice(self, outputs, kind):
        both = total = 0
        for output, mask in zip(outputs, self.labels):
            seen = output[0].argmax(0) == kind
            both += (seen & (mask == kind)).sum()
            total += seen.sum() + (mask == kind).sum()
        return 2 * both / total

    def right(self, outputs):
        return np.array([self.dice(outputs, 1), self.dice(outputs, 2)])

    def same(self, left, right):
        return [float(np.mean(a.argmax(1) == b.argmax(1))) for a, b in zip(left, right)]


def make(name, shared, folder, lines):
    folder.mkdir(parents=True)
    if name == "lite0":
        return Photos(shared, folder)
    if name == "ocr":
        return Lines(shared, folder, lines)
    if name == "xray":
        return Classes(shared, folder, "med-xray-cls-synth", "xray", 200)
    if name == "ct":
        return Slices(shared, folder, "med-ct-seg-synth", "ct", 150)
    if name == "mri":
        return Classes(shared, folder, "med-mri-cls3d-synth", "mri", 150)
    raise SystemExit(f"compress: no case '{name}'; there are lite0, ocr, xray, ct, mri")
