"""Window functions, mel weights, DFT and STFT; lengths with large prime factors, padding, cutting, one-sided forms."""
import numpy as np

from ops_cases import C

TOLERANCE = {
    "DFT": (1e-5, 2e-5, "the oracle transforms in f32, ours in f64; errors grow with the length"),
    "STFT": (1e-5, 2e-5, "the oracle transforms in f32, ours in f64"),
    "HannWindow": (1e-5, 1e-6, "the oracle computes cosines in f32"),
    "HammingWindow": (1e-5, 1e-6, "the oracle computes cosines in f32"),
    "BlackmanWindow": (1e-5, 1e-6, "the oracle computes cosines in f32"),
}


def scalar(value, dtype=np.int64):
    return C(np.array(value, dtype))


def windows(add):
    for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        for periodic in (0, 1):
            add(op, 17, [scalar(10)], periodic=periodic)
        add(op, 17, [scalar(7, np.int32)], output_datatype=11)
        add(op, 17, [scalar(0)], want=[np.zeros(0, np.float32)])
        add.fails("SHAPE", op, 17, [scalar(-1)])
        add.fails("TYPE", op, 17, [scalar(4)], output_datatype=9)
    # 0.5 - 0.5 cos(2 pi k / 8), truncated to integers
    add("HannWindow", 17, [scalar(8)], output_datatype=6, want=[np.array([0, 0, 0, 0, 1, 0, 0, 0], np.int32)])


def mel(add):
    for bins, length, rate, low, high in ((8, 16, 8192, 0, 4096), (20, 400, 16000, 0, 8000), (5, 8, 8000, 100, 3000)):
        add("MelWeightMatrix", 17, [scalar(bins), scalar(length), scalar(rate), scalar(low, np.float32), scalar(high, np.float32)],
            oracle="reference")
    add("MelWeightMatrix", 17, [scalar(4), scalar(16), scalar(8192), scalar(0, np.float32), scalar(4096, np.float32)],
        output_datatype=11, oracle="reference")
    add.fails("INVALID", "MelWeightMatrix", 17, [scalar(4), scalar(16), scalar(0), scalar(0, np.float32), scalar(1, np.float32)])


def spectrum(x, axis, n=None):
    """numpy's transform of [..., 1 or 2] as [..., 2], in f64."""
    z = x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]
    z = np.fft.fft(z.astype(complex), n, axis)
    return np.stack([z.real, z.imag], -1)


def dft(add):
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 4, 5, 8, 12, 60, 61, 67, 134, 251):  # above 61 a prime goes another way
        x = rng.uniform(-1, 1, (1, n, 2)).astype(np.float32)
        add("DFT", 20, [x], name=f"n{n}", want=[spectrum(x, 1).astype(np.float32)])
        add("DFT", 17, [x], inverse=1, name=f"n{n}",
            want=[(np.stack([(z := np.fft.ifft(x[..., 0] + 1j * x[..., 1], axis=1)).real, z.imag], -1)).astype(np.float32)])
        real = x[..., :1].copy()
        add("DFT", 20, [real], onesided=1, name=f"n{n}", want=[spectrum(real, 1)[:, :n // 2 + 1].astype(np.float32)])
    x = rng.uniform(-1, 1, (2, 3, 4, 2)).astype(np.float32)
    for axis in (0, 1, 2, -2, -4):
        add("DFT", 20, [x, None, scalar(axis)], want=[spectrum(x, axis - 0 if axis >= 0 else axis + 4).astype(np.float32)])
        add("DFT", 17, [x], axis=axis, want=[spectrum(x, axis if axis >= 0 else axis + 4).astype(np.float32)])
    for n in (1, 3, 7):
        add("DFT", 20, [x, scalar(n), scalar(1)], want=[spectrum(x, 1, n).astype(np.float32)])
        add("DFT", 17, [x, scalar(n, np.int32)], axis=1, want=[spectrum(x, 1, n).astype(np.float32)])
    half = np.stack([(z := np.fft.rfft(rng.uniform(-1, 1, (2, 9)))).real, z.imag], -1)
    for n in (8, 9, 4, 13):
        add("DFT", 20, [half, scalar(n)], onesided=1, inverse=1, name="irfft",
            want=[np.fft.irfft(half[..., 0] + 1j * half[..., 1], n)[..., None]])
    add("DFT", 20, [half], onesided=1, inverse=1, name="irfft", want=[np.fft.irfft(half[..., 0] + 1j * half[..., 1])[..., None]])
    add("DFT", 20, [x.astype(np.float16)], name="f16", tol=(1e-3, 1e-3),
        want=[spectrum(x.astype(np.float16), 2).astype(np.float16)])
    add("DFT", 20, [x[:0]], name="empty", want=[x[:0]])
    add.fails("SHAPE", "DFT", 20, [x, None, scalar(3)])
    add.fails("SHAPE", "DFT", 20, [x, scalar(0)])
    add.fails("SHAPE", "DFT", 20, [x[..., :1].repeat(3, -1)])
    add.fails("SHAPE", "DFT", 20, [x], onesided=1)
    add.fails("SHAPE", "DFT", 20, [x[..., :1]], onesided=1, inverse=1)
    add.fails("TYPE", "DFT", 20, [x.astype(np.int32)])


def stft(add):
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, (2, 40, 1)).astype(np.float32)
    window = np.hanning(16).astype(np.float32)

    def frames(signal, step, length, w, onesided):
        z = signal[..., 0] + 1j * signal[..., 1] if signal.shape[-1] == 2 else signal[..., 0]
        starts = range(0, z.shape[1] - length + 1, step)
        out = np.stack([np.fft.fft(z[:, s:s + length] * (1 if w is None else w), axis=1) for s in starts], 1)
        out = out[..., :length // 2 + 1] if onesided else out
        return [np.stack([out.real, out.imag], -1).astype(np.float32)]

    for onesided in (0, 1):
        add("STFT", 17, [x, scalar(8), C(window)], onesided=onesided, want=frames(x, 8, 16, window, onesided))
        add("STFT", 17, [x, scalar(7), C(window), scalar(16)], onesided=onesided, want=frames(x, 7, 16, window, onesided))
        add("STFT", 17, [x, scalar(3), None, scalar(11)], onesided=onesided, want=frames(x, 3, 11, None, onesided))
    add("STFT", 17, [x, scalar(3)], want=frames(x, 3, 40, None, True))
    z = rng.uniform(-1, 1, (1, 20, 2)).astype(np.float32)
    add("STFT", 17, [z, scalar(4), None, scalar(8)], onesided=0, want=frames(z, 4, 8, None, False))
    add.fails("SHAPE", "STFT", 17, [x, scalar(8), C(window), scalar(15)])
    add.fails("SHAPE", "STFT", 17, [x, scalar(8), None, scalar(41)])
    add.fails("INVALID", "STFT", 17, [x, scalar(0), C(window)])


def build(add):
    windows(add)
    mel(add)
    dft(add)
    stft(add)
