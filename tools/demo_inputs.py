"""Real input for real models, made here: a drawn page, a sung vowel, bytes of files; and what the models' answers mean.

Used by tools/demo and tests/gen/golden.py. Needs numpy and pillow (whose built-in font draws the page).
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAGE_LINES = ("Polestar reads this page", "on a plain processor", "Invoice 2638: 95.10 EUR")


# ---- text: PP-OCR ---------------------------------------------------------------------------------------------------
def draw_page(lines=PAGE_LINES, width=480, size=28):
    """A white page with one line of black text each; height a multiple of 32. RGB image."""
    pitch = size * 2
    height = -(-(len(lines) * pitch + size) // 32) * 32
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=size)
    for index, line in enumerate(lines):
        pen.text((24, size // 2 + index * pitch), line, fill="black", font=font)
    return page


def ocr_input(image, height=None):
    """f32 [1, 3, H, W], BGR, (x / 255 - 0.5) / 0.5; scaled to `height` when given."""
    if height:
        width = max(8, round(image.width * height / image.height))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image.convert("RGB"), np.float32)[:, :, ::-1]
    return np.ascontiguousarray(((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None])


def runs(flags, least=4):
    """[(first, last + 1)] of the stretches of true values that are at least `least` long."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(a, b) for a, b in zip(edges[::2], edges[1::2]) if b - a >= least]


def text_boxes(probability, threshold=0.3, margin=6):
    """Boxes (x0, y0, x1, y1) of the lines of an upright page, top to bottom, from the detector's map [1, 1, H, W]."""
    mask = probability[0, 0] > threshold
    boxes = []
    for top, bottom in runs(mask.any(axis=1)):
        columns = np.flatnonzero(mask[top:bottom].any(axis=0))
        box = (columns[0] - margin, top - margin, columns[-1] + 1 + margin, bottom + margin)
        boxes.append(tuple(int(max(0, edge)) for edge in box))
    return boxes


def read_text(probability, charset):
    """Greedy CTC over [1, T, classes]: class 0 is the blank, then the charset, last a space."""
    best = probability[0].argmax(axis=1)
    keep = best[(best != 0) & (np.diff(best, prepend=-1) != 0)]
    letters = list(charset) + [" "]
    return "".join(letters[index - 1] for index in keep)


# ---- sound: Silero VAD ----------------------------------------------------------------------------------------------
def vowel(seconds=1.0, rate=16000, seed=0):
    """A vowel-like sound: a 120 Hz pulse train with some vibrato through four formant resonators; peak 0.5. f32 [n]."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    time = np.arange(n) / rate
    phase = np.cumsum(120 * (1 + 0.03 * np.sin(2 * np.pi * 5 * time))) / rate
    sound = np.diff(np.floor(phase), prepend=0) + 0.005 * rng.standard_normal(n)
    for frequency, bandwidth in ((730, 90), (1090, 110), (2440, 120), (3400, 150)):
        radius = np.exp(-np.pi * bandwidth / rate)
        first, second = 2 * radius * np.cos(2 * np.pi * frequency / rate), -radius * radius
        before = older = 0.0
        filtered = np.empty(n)
        for index, value in enumerate(sound):
            before, older = value + first * before + second * older, before
            filtered[index] = before
        sound = filtered
    sound *= 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)  # syllables
    return (sound / np.abs(sound).max() * 0.5).astype(np.float32)


def hiss(seconds=1.0, rate=16000, seed=1):
    """White noise at -40 dB: a quiet room. f32 [n]."""
    return (0.01 * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype(np.float32)


def sound_chunks(sound, rate=16000):
    """f32 [1, context + new] chunks as the model wants them: 512 new samples after 64 of context (256 after 32 at 8 kHz)."""
    new, context = (512, 64) if rate == 16000 else (256, 32)
    padded = np.concatenate((np.zeros(context, np.float32), sound))
    return [padded[None, start:start + context + new] for start in range(0, len(sound) - new + 1, new)]


# ---- bytes: magika --------------------------------------------------------------------------------------------------
def file_bytes(data):
    """i32 [1, 2048]: the first 1024 bytes (of the first 4096, left-stripped) and the last 1024 (right-stripped); 256 pads."""
    head = data[:4096].lstrip()[:1024]
    tail = data[-4096:].rstrip()[-1024:]
    values = np.full((1, 2048), 256, np.int32)
    values[0, :len(head)] = list(head)
    values[0, 2048 - len(tail):] = list(tail)
    return values
