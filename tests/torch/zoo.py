#!/usr/bin/env python3
"""Exports architectures with random seeded weights by torch.export, runs polestar on the archives and compares with
PyTorch. Not part of the default tests: needs torch, torchvision and transformers in a venv of their own.

    VENV/bin/python tests/torch/zoo.py                 all, and the table of docs/models.md is written anew
    VENV/bin/python tests/torch/zoo.py resnet18 gpt2   some; docs/models.md stays
    --keep DIR      leave the folders there (model.pt2, test_data_set_0)
    --decompose     with run_decompositions(): core ATen instead of what export leaves

Tolerance: |got - want| <= 1e-4 of the output's range + 1e-3 |want|. Both sides add up in f32 in different orders; over
the depth of these networks PyTorch itself moves by up to some 1e-5 of the range between its own kernels."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np  # noqa: E402
import torch  # noqa: E402
from onnx_pb import tensor_bytes  # noqa: E402
from torch import nn  # noqa: E402

TOP = Path(__file__).resolve().parent.parent.parent
POLESTAR = os.environ.get("POLESTAR", str(TOP / "build/release/bin/polestar"))
MODELS = {}


def model(name, dynamic=None):
    """Registers a maker of (module, example inputs). dynamic: dims to leave open, as torch.export takes them."""
    def add(make):
        MODELS[name] = (make, dynamic)
        return make
    return add


def image(size=224, n=1):
    return torch.randn(n, 3, size, size)


def tokens(n=1, length=12, vocabulary=99):
    return torch.randint(0, vocabulary, (n, length))


def vision(name, size=224, **kwargs):
    def make():
        import torchvision
        made = torchvision.models.get_model(name, weights=None, **kwargs)
        return made, (image(size),)
    MODELS[name] = (make, None)


for each in ("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
             "efficientnet_b0", "efficientnet_v2_s", "densenet121", "squeezenet1_1", "shufflenet_v2_x1_0", "regnet_y_400mf",
             "regnet_x_400mf", "convnext_tiny", "vit_b_16", "swin_t", "swin_v2_t", "vgg11", "alexnet", "mnasnet0_5"):
    vision(each)
vision("googlenet", aux_logits=False, init_weights=True)
vision("inception_v3", 299, aux_logits=False, init_weights=False)
vision("maxvit_t")


class First(nn.Module):
    """A segmentation model returns a dict; the tensor of one key is compared."""

    def __init__(self, inner, key):
        super().__init__()
        self.inner, self.key = inner, key

    def forward(self, *args):
        result = self.inner(*args)
        return result[self.key] if isinstance(result, dict) else getattr(result, self.key)


def segmentation(name):
    def make():
        import torchvision
        made = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=21)
        return First(made, "out"), (image(128),)
    MODELS[name] = (make, None)


for each in ("deeplabv3_resnet50", "fcn_resnet50", "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"):
    segmentation(each)


@model("resnet18-batch", ({0: torch.export.Dim("batch", min=1, max=64)},))
def resnet18_batch():
    import torchvision
    return torchvision.models.resnet18(weights=None), (image(64, 3),)


@model("r3d_18")
def r3d():
    import torchvision
    return torchvision.models.video.r3d_18(weights=None), (torch.randn(1, 3, 8, 56, 56),)


# ---- transformers, small configurations ----

def small(config, **kwargs):
    import transformers
    return getattr(transformers, config)(attn_implementation="sdpa", **kwargs)


BERT = {"vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
        "max_position_embeddings": 64}


@model("bert")
def bert():
    import transformers
    made = transformers.BertModel(small("BertConfig", **BERT))
    mask = torch.ones(2, 12, dtype=torch.int64)
    mask[1, 9:] = 0
    return First(made, "last_hidden_state"), (tokens(2), mask)


@model("bert-dynamic", (({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},),))
def bert_dynamic():
    import transformers
    made = transformers.BertModel(small("BertConfig", **BERT))
    return First(made, "last_hidden_state"), (tokens(2),)


@model("distilbert")
def distilbert():
    import transformers
    made = transformers.DistilBertModel(small("DistilBertConfig", vocab_size=99, dim=64, n_layers=3, n_heads=4, hidden_dim=128,
                                              max_position_embeddings=64))
    return First(made, "last_hidden_state"), (tokens(2),)


@model("roberta")
def roberta():
    import transformers
    made = transformers.RobertaModel(small("RobertaConfig", **BERT))
    return First(made, "last_hidden_state"), (tokens(2, vocabulary=90) + 2,)


@model("gpt2")
def gpt2():
    import transformers
    made = transformers.GPT2LMHeadModel(small("GPT2Config", vocab_size=99, n_embd=64, n_layer=3, n_head=4, n_positions=64,
                                              use_cache=False))
    return First(made, "logits"), (tokens(2),)


@model("llama")
def llama():
    import transformers
    made = transformers.LlamaForCausalLM(small("LlamaConfig", vocab_size=99, hidden_size=64, num_hidden_layers=3,
                                               num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
                                               max_position_embeddings=64, use_cache=False))
    return First(made, "logits"), (tokens(2),)


@model("qwen2")
def qwen2():
    import transformers
    made = transformers.Qwen2ForCausalLM(small("Qwen2Config", vocab_size=99, hidden_size=64, num_hidden_layers=3,
                                               num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
                                               max_position_embeddings=64, use_cache=False))
    return First(made, "logits"), (tokens(2),)


@model("t5-encoder")
def t5():
    import transformers
    made = transformers.T5EncoderModel(transformers.T5Config(vocab_size=99, d_model=64, d_kv=16, d_ff=128, num_layers=3,
                                                             num_heads=4, use_cache=False))
    return First(made, "last_hidden_state"), (tokens(2),)


WHISPER = {"vocab_size": 99, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
           "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_mel_bins": 80,
           "max_source_positions": 50, "max_target_positions": 40, "pad_token_id": 0, "use_cache": False}


@model("whisper-encoder")
def whisper():
    from transformers.models.whisper.modeling_whisper import WhisperEncoder
    made = WhisperEncoder(small("WhisperConfig", **WHISPER))
    return First(made, "last_hidden_state"), (torch.randn(1, 80, 100),)


@model("clip-text")
def clip_text():
    import transformers
    made = transformers.CLIPTextModel(small("CLIPTextConfig", vocab_size=99, hidden_size=64, num_hidden_layers=3,
                                            num_attention_heads=4, intermediate_size=128, max_position_embeddings=32))
    return First(made, "last_hidden_state"), (tokens(2),)


@model("clip-vision")
def clip_vision():
    import transformers
    made = transformers.CLIPVisionModel(small("CLIPVisionConfig", hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                                              intermediate_size=128, image_size=64, patch_size=16))
    return First(made, "last_hidden_state"), (image(64, 2),)


@model("vit")
def vit():
    import transformers
    made = transformers.ViTModel(small("ViTConfig", hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                                       intermediate_size=128, image_size=64, patch_size=16))
    return First(made, "last_hidden_state"), (image(64, 2),)


@model("segformer")
def segformer():
    import transformers
    made = transformers.SegformerModel(transformers.SegformerConfig())
    return First(made, "last_hidden_state"), (image(64),)


@model("wav2vec2")
def wav2vec2():
    import transformers
    made = transformers.Wav2Vec2Model(small("Wav2Vec2Config", vocab_size=32, hidden_size=64, num_hidden_layers=2,
                                            num_attention_heads=4, intermediate_size=128, conv_dim=(32, 32, 32),
                                            conv_stride=(5, 2, 2), conv_kernel=(10, 3, 3), num_feat_extract_layers=3,
                                            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4))
    return First(made, "last_hidden_state"), (torch.randn(1, 1600),)


# ---- layers of torch.nn ----

class Recurrent(nn.Module):
    def __init__(self, kind, **kwargs):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(50, 24), kind(24, 32, num_layers=2, batch_first=True, **kwargs)
        self.head = nn.Linear(32 * (2 if kwargs.get("bidirectional") else 1), 10)

    def forward(self, x):
        y, _ = self.rnn(self.embed(x))
        return self.head(y[:, -1])


for name, kind in (("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)):
    MODELS[f"nn.{name}"] = (lambda kind=kind: (Recurrent(kind, bidirectional=True), (tokens(3, 9, 50),)), None)


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)

    def forward(self, source, target):
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.inner(source, target, tgt_mask=mask, tgt_is_causal=True)


@model("nn.transformer")
def transformer():
    return Translator(), (torch.randn(2, 7, 32), torch.randn(2, 5, 32))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()

        def block(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.SiLU(), nn.Conv2d(b, b, 3, padding=1),
                                 nn.InstanceNorm2d(b, affine=True), nn.LeakyReLU(0.1, inplace=True))
        self.down1, self.down2, self.middle = block(3, 16), block(16, 32), block(32, 64)
        self.up2, self.up1 = nn.ConvTranspose2d(64, 32, 2, stride=2), nn.Upsample(scale_factor=2, mode="bilinear")
        self.join2, self.join1, self.head = block(64, 32), block(48, 16), nn.Conv2d(16, 2, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.middle(self.pool(b))
        c = self.join2(torch.cat([self.up2(c), b], 1))
        return self.head(self.join1(torch.cat([self.up1(c), a], 1)))


@model("unet")
def unet():
    return UNet(), (image(64),)


# ---- running ----

def randomize(module):
    """Freshly made normalisations do nothing, and some heads are zero; give them values, seeded."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm3d)):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.8, 1.2)
        if isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.xavier_uniform_(part.weight)


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in (value.values() if isinstance(value, dict) else value) for t in flat(item)]


def export(name, folder, decompose):
    torch.manual_seed(7)
    make, dynamic = MODELS[name]
    with torch.no_grad():
        module, inputs = make()
        randomize(module)
        module.eval()
        if dynamic:
            program = torch.export.export(module, inputs, dynamic_shapes=dynamic)
        else:
            program = torch.export.export(module, inputs)
        if decompose:
            program = program.run_decompositions()
        outputs = flat(module(*inputs))
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, folder / "model.pt2")
    for kind, values in (("input", inputs), ("output", outputs)):
        for index, value in enumerate(values):
            (data / f"{kind}_{index}.pb").write_bytes(tensor_bytes(value.numpy()))
    return max(float(np.ptp(v.float().numpy())) for v in outputs), len(program.graph.nodes)


def check(name, folder, span):
    command = [POLESTAR, "verify", "--json", "--rtol", "1e-3", "--atol", str(span * 1e-4), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        return {"status": "failed", "message": done.stderr.strip() or f"exit code {done.returncode}", "max_abs_error": 0}
    return json.loads(done.stdout)["models"][0]


def write_table(rows, decompose):
    import torchvision
    import transformers
    page = TOP / "docs/models.md"
    text = page.read_text() if page.exists() else "# Models\n"
    begin, end = "<!-- pt2 -->\n", "<!-- /pt2 -->\n"
    if begin not in text:
        text += f"\n## .pt2\n{begin}{end}"
    head, rest = text.split(begin)
    passed = sum(row[1] == "passed" for row in rows)
    lines = [f"Printed by `tests/torch/zoo.py`: {passed} of {len(rows)} architectures with random seeded weights, exported by",
             f"torch {torch.__version__.split('+')[0]} (torchvision {torchvision.__version__.split('+')[0]}, transformers "
             f"{transformers.__version__}), give PyTorch's outputs within 1e-4 of their range + 1e-3.", "",
             "| architecture | nodes | result | largest error / range |", "| --- | --- | --- | --- |"]
    lines += [f"| {n} | {nodes} | {status} | {detail} |" for n, status, nodes, detail in rows]
    page.write_text(head + begin + "\n".join(lines) + "\n" + end + rest.split(end)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep")
    parser.add_argument("--decompose", action="store_true")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.names or MODELS:
            folder = Path(args.keep or temporary) / name
            try:
                span, nodes = export(name, folder, args.decompose)
            except Exception as problem:  # noqa: BLE001 an export that fails is a row of the table
                rows.append((name, "not exported", "", str(problem).splitlines()[0][:100]))
            else:
                result = check(name, folder, span)
                detail = result["message"] if result["status"] != "passed" else f"{result['max_abs_error'] / (span or 1):.1e}"
                rows.append((name, result["status"], nodes, detail))
            print(*rows[-1], sep="  ", flush=True)
            if not args.keep:
                subprocess.run(["rm", "-rf", str(folder)], check=True)
    passed = sum(row[1] == "passed" for row in rows)
    print(f"{passed} passed, {len(rows) - passed} failed, 0 skipped")
    if not args.names and not args.decompose:
        write_table(rows, args.decompose)
    return passed != len(rows)


if __name__ == "__main__":
    sys.exit(main())
