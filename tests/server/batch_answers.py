#!/usr/bin/env python3
"""Random requests to models of several kinds, many at a time: each answer must equal the one that the request gets alone.

    tools/python tests/server/batch_answers.py [REQUESTS] [SEED]         10000 and 1

"Alone" is a server of the same binary with --max-batch 1, asked one request after the other. The tolerance is that of `polestar
verify`: a batched product may sum in another order. Prints how many answers differed and how large the batches were; exit code 1 if
one differed or nothing was batched."""

import os
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import requests
import tritonclient.grpc
import tritonclient.http
from conftest import TOP, Server, save, value
from onnx import TensorProto, helper, numpy_helper

RTOL, ATOL = 1e-3, 1e-5
THREADS = 48
NAMES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}
MODELS = Path(os.environ.get("POLESTAR_MODELS", TOP / "../shared/models"))


def weights(random, **shapes):
    return [numpy_helper.from_array((random.standard_normal(s) / np.sqrt(s[-1])).astype(np.float32), name)
            for name, s in shapes.items()]


def dense(folder, random):
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
             helper.make_node("MatMul", ["r", "b"], ["s"]), helper.make_node("Softmax", ["s"], ["y"])]
    return save(folder / "dense.onnx", nodes, [value("x", TensorProto.FLOAT, ["n", 256])],
                [value("y", TensorProto.FLOAT, ["n", 32])], weights(random, a=(256, 1024), b=(1024, 32)))


def recurrent(folder, random):
    """Rows in front, any length."""
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
             helper.make_node("LSTM", ["t", "w", "r"], ["all", "last"], hidden_size=48),
             helper.make_node("Squeeze", ["last", "zero"], ["y"])]
    return save(folder / "recurrent.onnx", nodes, [value("x", TensorProto.FLOAT, ["n", "length", 24])],
                [value("y", TensorProto.FLOAT, ["n", 48])],
                [*weights(random, w=(1, 192, 24), r=(1, 192, 48)), numpy_helper.from_array(np.array([0]), "zero")])


def convolution(folder, random):
    nodes = [helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[3, 3], pads=[1] * 4), helper.make_node("Relu", ["c"], ["r"]),
             helper.make_node("GlobalAveragePool", ["r"], ["g"]), helper.make_node("Flatten", ["g"], ["y"])]
    return save(folder / "convolution.onnx", nodes, [value("x", TensorProto.FLOAT, ["n", 3, "height", 20])],
                [value("y", TensorProto.FLOAT, ["n", 16])], weights(random, k=(16, 3, 3, 3)))


def lookup(folder, random):
    nodes = [helper.make_node("Gather", ["table", "x"], ["e"]),
             helper.make_node("ReduceMean", ["e"], ["y"], axes=[1], keepdims=0)]
    return save(folder / "lookup.onnx", nodes, [value("x", TensorProto.INT64, ["n", "length"])],
                [value("y", TensorProto.FLOAT, ["n", 64])], weights(random, table=(500, 64)))


def floats(*dims):
    return lambda random: {"x": random.standard_normal(dims_of(random, dims)).astype(np.float32)}


def dims_of(random, dims):
    """A dim that is a pair is drawn."""
    return [int(random.integers(*d)) if isinstance(d, tuple) else d for d in (rows(random), *dims)]


def rows(random):
    return 1 if random.random() < 0.7 else int(random.integers(2, 5))


def words(random):
    n, length = rows(random), int(random.integers(1, 6))
    return {"x": random.integers(0, 500, (n, length))}


def sentences(random):
    """For MiniLM; a few lengths, so that some meet."""
    n, length = rows(random), int(random.choice([4, 7, 12]))
    mask = np.ones((n, length), np.int64)
    mask[:, length - int(random.integers(0, 3)):] = 0
    return {"input_ids": random.integers(0, 30000, (n, length)), "attention_mask": mask if length > 4 else np.ones_like(mask),
            "token_type_ids": np.zeros((n, length), np.int64)}


def make_models(folder, random):
    """({name: what draws inputs}, paths and NAME=PATH)"""
    made = {"dense": floats(256), "recurrent": floats((2, 6), 24), "convolution": floats(3, (16, 19), 20), "lookup": words}
    paths = [make(folder, random) for make in (dense, recurrent, convolution, lookup)]
    minilm = MODELS / "minilm-l6-v2-emb16/model.onnx"
    if minilm.exists():
        made["minilm"] = sentences
        paths.append(f"minilm={minilm}")
    return made, paths


class Asker:
    """A client over one of the two protocols."""

    def __init__(self, server, over_grpc):
        self.module = tritonclient.grpc if over_grpc else tritonclient.http
        self.client = self.module.InferenceServerClient(server.grpc if over_grpc else server.url)

    def ask(self, model, arrays):
        inputs = []
        for name, array in arrays.items():
            inputs.append(self.module.InferInput(name, list(array.shape), NAMES[array.dtype]))
            inputs[-1].set_data_from_numpy(array)
        reply = self.client.infer(model, inputs)
        names = ["y"] if "x" in arrays else ["last_hidden_state", "sentence_embedding"]
        return [reply.as_numpy(name) for name in names]


def equal(got, want):
    return all(a.shape == b.shape and np.allclose(a, b, RTOL, ATOL) for a, b in zip(got, want, strict=True))


def ask_together(server, work, wanted):
    """Indices of those whose answer differs, or failed."""
    wrong, lock, left = [], threading.Lock(), iter(range(len(work)))

    def run(number):
        asker = Asker(server, number % 2 == 1)
        while True:
            with lock:
                i = next(left, None)
            if i is None:
                return
            try:
                good = equal(asker.ask(*work[i]), wanted[i])
            except Exception as error:  # counted, with its text
                good = False
                print(f"request {i}: {error}", file=sys.stderr)
            if not good:
                with lock:
                    wrong.append(i)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def compare(n, seed):
    """(those that differ, {model: (requests that ran, runs)})"""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        made, paths = make_models(Path(folder), random)
        work = [(name := str(random.choice(list(made))), made[name](random)) for _ in range(n)]
        one = Server(*paths, "--max-batch", "1")
        asker = Asker(one, False)
        wanted = [asker.ask(*item) for item in work]
        one.stop()
        server = Server(*paths, "--runners", "1")
        wrong = ask_together(server, work, wanted)
        stats = requests.get(f"{server.base}/v2/models/stats", timeout=10).json()["model_stats"]
        code, log = server.stop()
        assert code == 0, log
    return wrong, {s["name"]: (s["inference_stats"]["success"]["count"], s["execution_count"]) for s in stats}


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    wrong, runs = compare(n, seed)
    for name, (asked, executed) in runs.items():
        print(f"{name:12s} {asked:6d} requests in {executed:6d} runs")
    print(f"{len(wrong)} of {n} differ from their answers alone")
    return 1 if wrong or sum(executed for _, executed in runs.values()) == n else 0


if __name__ == "__main__":
    sys.exit(main())
