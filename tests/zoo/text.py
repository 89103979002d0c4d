"""Transformers for text, alone and with sound or pictures: every configuration is tiny, every design is whole."""

import torch
import transformers as hf
from transformers import DynamicCache, EncoderDecoderCache

from registry import Case, Flat, calibrate, image, mask, model, picture, settle, tokens

VOCABULARY = 120
TOKENS = {0: "batch", 1: "sequence"}


def make(cls, config, exporter, **options):
    """Attention spelled out for the old exporter, as PyTorch's own operator for the new one."""
    config._attn_implementation = "eager" if exporter == "torchscript" else options.pop("attention", "sdpa")
    config.use_cache = options.get("use_cache", False)
    try:
        net = cls(config)
    except (ValueError, ImportError):  # the design has no such attention
        config._attn_implementation = "eager"
        net = cls(config)
    return settle(net)


# ---- encoders ----
small = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
ENCODERS = {
    "bert": ("BertModel", "BertConfig", small),
    "bert_classifier": ("BertForSequenceClassification", "BertConfig", small),
    "bert_masked": ("BertForMaskedLM", "BertConfig", small),
    "bert_tokens": ("BertForTokenClassification", "BertConfig", small),
    "bert_questions": ("BertForQuestionAnswering", "BertConfig", small),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {
            "dim": 64,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 128,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 64,
            "initializer_range": 0.2,
        },
    ),
    "roberta": ("RobertaModel", "RobertaConfig", small),
    "xlm_roberta": ("XLMRobertaForSequenceClassification", "XLMRobertaConfig", small),
    "albert": ("AlbertModel", "AlbertConfig", small | {"embedding_size": 32}),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig", small | {"embedding_size": 32}),
    "deberta": (
        "DebertaModel",
        "DebertaConfig",
        small | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    ),
    "deberta_v2": (
        "DebertaV2Model",
        "DebertaV2Config",
        small
        | {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
        },
    ),
    "mpnet": ("MPNetModel", "MPNetConfig", small),
    "mobilebert": (
        "MobileBertModel",
        "MobileBertConfig",
        small | {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32, "initializer_range": 0.05},
    ),
    "squeezebert": ("SqueezeBertModel", "SqueezeBertConfig", small | {"embedding_size": 64}),
    "convbert": ("ConvBertModel", "ConvBertConfig", small | {"embedding_size": 32}),
    "roformer": ("RoFormerModel", "RoFormerConfig", small | {"embedding_size": 64}),
    "xlnet": (
        "XLNetModel",
        "XLNetConfig",
        {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128, "vocab_size": VOCABULARY, "initializer_range": 0.2},
    ),
    "modernbert": (
        "ModernBertModel",
        "ModernBertConfig",
        small
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 8},
    ),
    "funnel": (
        "FunnelBaseModel",
        "FunnelConfig",
        {"vocab_size": VOCABULARY, "d_model": 64, "n_head": 4, "d_head": 16, "d_inner": 128, "block_sizes": [1, 1]},
    ),
    "ernie": ("ErnieModel", "ErnieConfig", small),
    "fnet": ("FNetModel", "FNetConfig", small),
    "layoutlm": ("LayoutLMModel", "LayoutLMConfig", small | {"max_2d_position_embeddings": 64}),
    "rembert": ("RemBertModel", "RemBertConfig", small | {"input_embedding_size": 32, "output_embedding_size": 32}),
    "nystromformer": ("NystromformerModel", "NystromformerConfig", small | {"segment_means_seq_len": 16, "num_landmarks": 8}),
    "longformer": ("LongformerModel", "LongformerConfig", small | {"attention_window": 8}),
    "bigbird": ("BigBirdModel", "BigBirdConfig", small | {"attention_type": "original_full"}),
}
NO_MASK = {"fnet"}


def first_tensors(found):
    return [value for value in (found.to_tuple() if hasattr(found, "to_tuple") else found) if isinstance(value, torch.Tensor)]


for arch, (cls, config, options) in ENCODERS.items():

    @model(arch, "text", "transformers")
    def _(exporter, arch=arch, cls=cls, config=config, options=options):
        net = make(getattr(hf, cls), getattr(hf, config)(**options), exporter)
        if arch in NO_MASK:
            net = Flat(net, lambda m, ids: first_tensors(m(input_ids=ids)))
            return Case(net, [(tokens(2, 16),), (tokens(1, 16),)], ["input_ids"], {"input_ids": {0: "batch"}})
        net = Flat(net, lambda m, ids, mask: first_tensors(m(input_ids=ids, attention_mask=mask)))
        return Case(
            net,
            [(tokens(2, 16), mask(2, 16)), (tokens(3, 24), mask(3, 24))],
            ["input_ids", "attention_mask"],
            {"input_ids": TOKENS, "attention_mask": TOKENS},
        )


# ---- decoders with a cache of keys and values ----
llama = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DECODERS = {
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY, "n_positions": 64, "initializer_range": 0.2},
    ),
    "gpt_neo": (
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 64,
            "initializer_range": 0.2,
        },
    ),
    "gptj": (
        "GPTJForCausalLM",
        "GPTJConfig",
        {
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "rotary_dim": 8,
            "vocab_size": VOCABULARY,
            "n_positions": 64,
            "initializer_range": 0.2,
        },
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", small),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {
            "hidden_size": 64,
            "word_embed_proj_dim": 64,
            "ffn_dim": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 64,
            "init_std": 0.2,
        },
    ),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY, "initializer_range": 0.2},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", llama),
    "mistral": ("MistralForCausalLM", "MistralConfig", llama | {"sliding_window": 32}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", llama),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", llama | {"head_dim": 16}),
    "phi": ("PhiForCausalLM", "PhiConfig", llama),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", llama),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", llama | {"head_dim": 16}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", llama | {"head_dim": 16, "sliding_window": 32}),
    "falcon": (
        "FalconForCausalLM",
        "FalconConfig",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY, "initializer_range": 0.2},
    ),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", llama),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", llama),
    "cohere": ("CohereForCausalLM", "CohereConfig", llama),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", llama),
    "granite": ("GraniteForCausalLM", "GraniteConfig", llama),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", llama | {"num_local_experts": 4}),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", llama),
}


def decode(net, ids, seen, *past):
    cache = DynamicCache(ddp_cache_data=[(past[i], past[i + 1]) for i in range(0, len(past), 2)])
    found = net(input_ids=ids, attention_mask=seen, past_key_values=cache, use_cache=True)
    return [found.logits] + [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


for arch, (cls, config, options) in DECODERS.items():

    @model(arch, "text with cache", "transformers")
    def _(exporter, arch=arch, cls=cls, config=config, options=options):
        settings = getattr(hf, config)(**options)
        net = make(getattr(hf, cls), settings, exporter, use_cache=True)
        heads = getattr(settings, "num_key_value_heads", None) or settings.num_attention_heads
        if arch == "falcon":
            heads = 1
        layers = settings.num_hidden_layers
        width = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads

        def inputs(batch, length, before):
            past = [torch.randn(batch, heads, before, width) * 0.5 for _ in range(2 * layers)]
            return (tokens(batch, length), torch.ones(batch, before + length, dtype=torch.int64), *past)

        names = [f"past_{kind}_{i}" for i in range(layers) for kind in ("key", "value")]
        dynamic = {"input_ids": TOKENS, "attention_mask": {0: "batch", 1: "total"}}
        dynamic |= {name: {0: "batch", 2: "past"} for name in names}
        return Case(
            Flat(net, decode),
            [inputs(2, 3, 5), inputs(1, 4, 9)],
            ["input_ids", "attention_mask"] + names,
            dynamic,
            ["logits"] + [name.replace("past", "present") for name in names],
        )


# ---- encoder and decoder ----
def encoder_case(net, exporter):
    net = Flat(net, lambda m, ids, mask: m(input_ids=ids, attention_mask=mask)[0])
    return Case(
        net,
        [(tokens(2, 12), mask(2, 12)), (tokens(1, 17), mask(1, 17))],
        ["input_ids", "attention_mask"],
        {"input_ids": TOKENS, "attention_mask": TOKENS},
        ["last_hidden_state"],
    )


def decode_from(net, ids, hidden, seen, *past):
    """One step of a decoder whose own keys and values are in `past`; those of the encoder are made from `hidden`."""
    own = DynamicCache(ddp_cache_data=[(past[i], past[i + 1]) for i in range(0, len(past), 2)])
    cache = EncoderDecoderCache(own, DynamicCache())
    extra = {} if seen is None else {"attention_mask": seen}
    found = net(decoder_input_ids=ids, encoder_outputs=(hidden,), past_key_values=cache, use_cache=True, **extra)
    return [found.logits] + [tensor for layer in own.layers for tensor in (layer.keys, layer.values)]


def decoder_case(net, layers, heads, width, hidden, with_mask=True):
    def inputs(batch, length, before, source):
        past = [torch.randn(batch, heads, before, width) * 0.5 for _ in range(2 * layers)]
        seen = (mask(batch, source),) if with_mask else ()
        return (tokens(batch, length), torch.randn(batch, source, hidden), *seen, *past)

    call = decode_from if with_mask else lambda m, ids, hidden, *past: decode_from(m, ids, hidden, None, *past)
    names = [f"past_{kind}_{i}" for i in range(layers) for kind in ("key", "value")]
    dynamic = {"decoder_input_ids": TOKENS, "encoder_hidden": {0: "batch", 1: "source"}}
    dynamic |= {"encoder_mask": {0: "batch", 1: "source"}} if with_mask else {}
    dynamic |= {name: {0: "batch", 2: "past"} for name in names}
    return Case(
        Flat(net, call),
        [inputs(2, 2, 5, 12), inputs(1, 3, 8, 9)],
        list(dynamic),
        dynamic,
        ["logits"] + [name.replace("past", "present") for name in names],
    )


t5 = {
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": VOCABULARY,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0,
}
bart = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "init_std": 0.2,
    "decoder_start_token_id": 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
SEQUENCE = {
    "t5": ("T5ForConditionalGeneration", "T5Config", t5),
    "mt5": ("MT5ForConditionalGeneration", "MT5Config", t5 | {"feed_forward_proj": "gated-gelu"}),
    "bart": ("BartForConditionalGeneration", "BartConfig", bart),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", bart),
    "marian": ("MarianMTModel", "MarianConfig", bart),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", bart),
    "m2m100": ("M2M100ForConditionalGeneration", "M2M100Config", bart),
}
for arch, (cls, config, options) in SEQUENCE.items():

    def whole(exporter, cls=cls, config=config, options=options):
        return make(getattr(hf, cls), getattr(hf, config)(**options), exporter, use_cache=True)

    @model(arch + "_encoder", "translation", "transformers")
    def _(exporter, whole=whole):
        return encoder_case(whole(exporter).get_encoder(), exporter)

    @model(arch + "_decoder", "translation", "transformers")
    def _(exporter, whole=whole):
        return decoder_case(whole(exporter), 2, 4, 16, 64)


@model("bart_classifier", "translation", "transformers")
def _(exporter):
    net = make(hf.BartForSequenceClassification, hf.BartConfig(**bart), exporter)
    net = Flat(net, lambda m, ids, mask: m(input_ids=ids, attention_mask=mask).logits)

    def text(batch, length):
        found = tokens(batch, length)
        found[:, -1] = 2
        return found, mask(batch, length)

    return Case(
        net,
        [text(1, 12), text(1, 9)],
        ["input_ids", "attention_mask"],
        {"input_ids": {1: "sequence"}, "attention_mask": {1: "sequence"}},
    )


# ---- state spaces and recurrences ----
@model("mamba", "text", "transformers")
def _(exporter):
    net = make(hf.MambaModel, hf.MambaConfig(hidden_size=32, state_size=8, num_hidden_layers=2, vocab_size=VOCABULARY), exporter)
    net = Flat(net, lambda m, ids: m(input_ids=ids, use_cache=False)[0])
    return Case(net, [(tokens(1, 8),), (tokens(2, 8),)], ["input_ids"], {"input_ids": {0: "batch"}})


# ---- text with pictures ----
def clip_config():
    text = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 32,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "image_size": 32,
        "patch_size": 8,
    }
    return text, vision


def embeddings(found):
    return found.logits_per_image, found.text_embeds, found.image_embeds


def with_end(batch, length):
    found = tokens(batch, length)
    found[:, -1] = 2
    return found


@model("clip", "text and pictures", "transformers")
def _(exporter):
    text, vision = clip_config()
    net = make(hf.CLIPModel, hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32), exporter)
    net = Flat(net, lambda m, ids, pixels, seen: embeddings(m(input_ids=ids, pixel_values=pixels, attention_mask=seen)))
    return Case(
        net,
        [(with_end(2, 8), image(2, 3, 32, 32), mask(2, 8)), (with_end(3, 11), image(1, 3, 32, 32), mask(3, 11))],
        ["input_ids", "pixel_values", "attention_mask"],
        {"input_ids": {0: "texts", 1: "sequence"}, "pixel_values": {0: "images"}, "attention_mask": {0: "texts", 1: "sequence"}},
        ["logits_per_image", "text_embeds", "image_embeds"],
    )


@model("siglip", "text and pictures", "transformers")
def _(exporter):
    text, vision = clip_config()
    net = make(hf.SiglipModel, hf.SiglipConfig(text_config=text | {"max_position_embeddings": 8}, vision_config=vision), exporter)
    net = Flat(net, lambda m, ids, pixels: embeddings(m(input_ids=ids, pixel_values=pixels)))
    return Case(
        net,
        [(tokens(2, 8), image(2, 3, 32, 32)), (tokens(3, 8), image(1, 3, 32, 32))],
        ["input_ids", "pixel_values"],
        {"input_ids": {0: "texts"}, "pixel_values": {0: "images"}},
        ["logits_per_image", "text_embeds", "image_embeds"],
    )


# ---- pictures ----
vit = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.2,
}
resnet = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 64],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage4"],
}


def pictures(name, cls, config, side, take=first_tensors, kind="classification", batch=True, compare="numbers"):
    @model("hf_" + name, kind, "transformers", compare=compare)
    def _(exporter):
        net = calibrate(make(getattr(hf, cls), config(), exporter), picture(4, 3, side, side))
        net = Flat(net, lambda m, pixels: take(m(pixel_values=pixels)))
        sets = [(picture(1, 3, side, side),), (picture(2 if batch else 1, 3, side, side),)]
        return Case(net, sets, ["pixel_values"], {"pixel_values": {0: "batch"}} if batch else {})


pictures("vit", "ViTForImageClassification", lambda: hf.ViTConfig(**vit), 32)
pictures("dinov2", "Dinov2Model", lambda: hf.Dinov2Config(**vit | {"mlp_ratio": 2}), 32)
pictures("beit", "BeitForImageClassification", lambda: hf.BeitConfig(**vit | {"use_relative_position_bias": True}), 32)
pictures(
    "swin",
    "SwinForImageClassification",
    lambda: hf.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4),
    32,
)
pictures(
    "convnext",
    "ConvNextForImageClassification",
    lambda: hf.ConvNextConfig(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1]),
    64,
)
pictures("resnet", "ResNetForImageClassification", lambda: hf.ResNetConfig(**resnet), 64)
pictures(
    "mobilevit",
    "MobileViTForImageClassification",
    lambda: hf.MobileViTConfig(hidden_sizes=[32, 48, 64], neck_hidden_sizes=[8, 16, 24, 32, 48, 64, 128], image_size=64),
    64,
)
pictures(
    "poolformer",
    "PoolFormerForImageClassification",
    lambda: hf.PoolFormerConfig(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1]),
    64,
)
pictures(
    "segformer",
    "SegformerForSemanticSegmentation",
    lambda: hf.SegformerConfig(
        hidden_sizes=[16, 32, 32, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=32
    ),
    64,
    kind="segmentation",
)
pictures(
    "dpt",
    "DPTForDepthEstimation",
    lambda: hf.DPTConfig(
        **vit
        | {
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [16, 16, 32, 32],
            "fusion_hidden_size": 32,
            "is_hybrid": False,
            "reassemble_factors": [4, 2, 1, 0.5],
        }
    ),
    32,
    kind="depth",
)
pictures(
    "depth_anything",
    "DepthAnythingForDepthEstimation",
    lambda: hf.DepthAnythingConfig(
        backbone_config=hf.Dinov2Config(
            **vit
            | {
                "num_hidden_layers": 4,
                "mlp_ratio": 2,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
                "reshape_hidden_states": False,
            }
        ),
        patch_size=8,
        reassemble_hidden_size=64,
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        head_hidden_size=16,
    ),
    32,
    kind="depth",
)
pictures(
    "glpn",
    "GLPNForDepthEstimation",
    lambda: hf.GLPNConfig(
        hidden_sizes=[16, 32, 32, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=16
    ),
    64,
    kind="depth",
)
pictures(
    "upernet",
    "UperNetForSemanticSegmentation",
    lambda: hf.UperNetConfig(
        backbone_config=hf.ConvNextConfig(
            hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
        ),
        hidden_size=32,
        use_auxiliary_head=False,
        num_labels=5,
    ),
    64,
    kind="segmentation",
)
boxes = lambda found: [found.logits, found.pred_boxes]
detr = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "num_queries": 20,
}
pictures(
    "detr",
    "DetrForObjectDetection",
    lambda: hf.DetrConfig(**detr, backbone_config=hf.ResNetConfig(**resnet)),
    96,
    boxes,
    "detection",
)
pictures(
    "conditional_detr",
    "ConditionalDetrForObjectDetection",
    lambda: hf.ConditionalDetrConfig(**detr, backbone_config=hf.ResNetConfig(**resnet)),
    96,
    boxes,
    "detection",
)
pictures(
    "deformable_detr",
    "DeformableDetrForObjectDetection",
    lambda: hf.DeformableDetrConfig(
        **detr,
        backbone_config=hf.ResNetConfig(**resnet | {"out_features": ["stage2", "stage3", "stage4"]}),
        num_feature_levels=4,
        disable_custom_kernels=True,
    ),
    96,
    boxes,
    "detection",
)
pictures(
    "yolos",
    "YolosForObjectDetection",
    lambda: hf.YolosConfig(**vit | {"image_size": [64, 64], "num_detection_tokens": 10}),
    64,
    boxes,
    "detection",
)
pictures(
    "rt_detr",
    "RTDetrForObjectDetection",
    lambda: hf.RTDetrConfig(
        backbone_config=hf.RTDetrResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 32, 64, 64],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_in_channels=[32, 64, 64],
        encoder_hidden_dim=64,
        d_model=64,
        encoder_ffn_dim=64,
        decoder_in_channels=[64, 64, 64],
        decoder_ffn_dim=64,
        num_queries=20,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        disable_custom_kernels=True,
        feat_strides=[8, 16, 32],
        anchor_image_size=None,
    ),
    96,
    boxes,
    "detection",
    False,
    "queries",
)
pictures(
    "maskformer",
    "MaskFormerForInstanceSegmentation",
    lambda: hf.MaskFormerConfig(
        fpn_feature_size=32,
        mask_feature_size=32,
        backbone_config=hf.SwinConfig(
            image_size=64,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 4, 4],
            window_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        decoder_config=hf.DetrConfig(**detr | {"d_model": 32}, backbone_config=hf.ResNetConfig(**resnet)),
    ),
    64,
    lambda found: [found.class_queries_logits, found.masks_queries_logits],
    "segmentation",
)


@model("hf_sam_encoder", "segmentation", "transformers")
def _(exporter):
    config = hf.SamVisionConfig(
        hidden_size=48,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
        window_size=4,
        global_attn_indexes=[1],
        mlp_dim=96,
    )
    net = make(hf.SamVisionModel, config, exporter)
    return Case(Flat(net, lambda m, pixels: m(pixel_values=pixels)[0]), [(image(1, 3, 64, 64),)], ["pixel_values"])


@model("hf_trocr_decoder", "text and pictures", "transformers")
def _(exporter):
    config = hf.TrOCRConfig(
        d_model=64,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=128,
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        cross_attention_hidden_size=48,
    )
    net = make(hf.TrOCRForCausalLM, config, exporter)
    net = Flat(net, lambda m, ids, hidden: m(input_ids=ids, encoder_hidden_states=hidden, use_cache=False).logits)
    return Case(
        net,
        [(tokens(2, 5), torch.randn(2, 9, 48)), (tokens(1, 8), torch.randn(1, 9, 48))],
        ["input_ids", "hidden"],
        {"input_ids": TOKENS, "hidden": {0: "batch"}},
        ["logits"],
    )


# ---- sound ----
w2v = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [32, 32, 32],
    "conv_kernel": [10, 3, 3],
    "conv_stride": [5, 2, 2],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
    "initializer_range": 0.2,
}
SOUND = {
    "wav2vec2": ("Wav2Vec2ForCTC", "Wav2Vec2Config", w2v | {"pad_token_id": 0}),
    "wav2vec2_layernorm": (
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        w2v | {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "hubert": ("HubertModel", "HubertConfig", w2v),
    "wavlm": ("WavLMModel", "WavLMConfig", w2v | {"num_buckets": 16, "max_bucket_distance": 32}),
    "sew": ("SEWModel", "SEWConfig", w2v | {"squeeze_factor": 2}),
    "unispeech": ("UniSpeechModel", "UniSpeechConfig", w2v),
    "data2vec_audio": (
        "Data2VecAudioModel",
        "Data2VecAudioConfig",
        {k: v for k, v in w2v.items() if k not in ("num_conv_pos_embeddings",)}
        | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
    ),
}
for arch, (cls, config, options) in SOUND.items():

    @model(arch, "sound", "transformers")
    def _(exporter, cls=cls, config=config, options=options):
        net = make(getattr(hf, cls), getattr(hf, config)(**options), exporter)
        net = Flat(net, lambda m, sound: m(input_values=sound)[0])
        return Case(
            net,
            [(torch.randn(1, 1600),), (torch.randn(2, 2000),)],
            ["input_values"],
            {"input_values": {0: "batch", 1: "samples"}},
        )


whisper = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "vocab_size": VOCABULARY,
    "num_mel_bins": 20,
    "max_source_positions": 30,
    "max_target_positions": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "init_std": 0.2,
}


@model("whisper_encoder", "sound", "transformers")
def _(exporter):
    net = make(hf.WhisperForConditionalGeneration, hf.WhisperConfig(**whisper), exporter).get_encoder()
    return Case(
        Flat(net, lambda m, mel: m(mel)[0]),
        [(torch.randn(1, 20, 60),), (torch.randn(2, 20, 60),)],
        ["input_features"],
        {"input_features": {0: "batch"}},
    )


@model("whisper_decoder", "sound", "transformers")
def _(exporter):
    net = make(hf.WhisperForConditionalGeneration, hf.WhisperConfig(**whisper), exporter, use_cache=True)
    return decoder_case(net, 2, 4, 16, 64, with_mask=False)


@model("audio_spectrogram", "sound", "transformers")
def _(exporter):
    net = make(
        hf.ASTForAudioClassification,
        hf.ASTConfig(
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            patch_size=8,
            frequency_stride=6,
            time_stride=6,
            max_length=60,
            num_mel_bins=32,
        ),
        exporter,
    )
    return Case(
        Flat(net, lambda m, x: m(input_values=x).logits),
        [(torch.randn(1, 60, 32),), (torch.randn(3, 60, 32),)],
        ["input_values"],
        {"input_values": {0: "batch"}},
    )


@model("vits", "speech from text", "transformers")
def _(exporter):
    config = hf.VitsConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=64,
        flow_size=32,
        spectrogram_bins=33,
        upsample_initial_channel=32,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        prior_encoder_num_wavenet_layers=2,
        posterior_encoder_num_wavenet_layers=2,
        prior_encoder_num_flows=2,
        duration_predictor_num_flows=2,
        depth_separable_num_layers=2,
        noise_scale=0.0,
        noise_scale_duration=0.0,
        use_stochastic_duration_prediction=False,
        use_bias=True,
    )
    net = settle(hf.VitsModel(config), 0.02)
    net.noise_scale = net.noise_scale_duration = 0.0
    return Case(
        Flat(net, lambda m, ids, seen: m(input_ids=ids, attention_mask=seen).waveform),
        [(tokens(1, 9, 40), torch.ones(1, 9, dtype=torch.int64))],
        ["input_ids", "attention_mask"],
        {"input_ids": {1: "sequence"}, "attention_mask": {1: "sequence"}},
        ["waveform"],
    )


@model("fastspeech2_conformer", "speech from text", "transformers")
def _(exporter):
    config = hf.FastSpeech2ConformerConfig(
        hidden_size=48,
        vocab_size=40,
        num_mel_bins=20,
        encoder_layers=1,
        decoder_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        encoder_linear_units=64,
        decoder_linear_units=64,
        duration_predictor_channels=32,
        energy_predictor_channels=32,
        pitch_predictor_channels=32,
        speech_decoder_postnet_layers=2,
        speech_decoder_postnet_units=32,
    )
    net = settle(hf.FastSpeech2ConformerModel(config), 0.05)
    with torch.no_grad():
        net.duration_predictor.linear.bias.fill_(1.2)
    return Case(
        Flat(net, lambda m, ids: m(input_ids=ids, return_dict=True).spectrogram),
        [(tokens(1, 7, 40),), (tokens(1, 10, 40),)],
        ["input_ids"],
        {"input_ids": {1: "sequence"}},
        ["spectrogram"],
    )


@model("hifigan", "speech from text", "transformers")
def _(exporter):
    config = hf.SpeechT5HifiGanConfig(
        model_in_dim=20,
        upsample_initial_channel=32,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
    )
    net = settle(hf.SpeechT5HifiGan(config), 0.05)
    return Case(
        net,
        [(torch.randn(1, 11, 20),), (torch.randn(2, 17, 20),)],
        ["spectrogram"],
        {"spectrogram": {0: "batch", 1: "frames"}},
        ["waveform"],
    )


@model("encodec_encoder", "sound", "transformers")
def _(exporter):
    config = hf.EncodecConfig(num_filters=8, hidden_size=32, codebook_size=32, upsampling_ratios=[4, 2], num_lstm_layers=1)
    net = settle(hf.EncodecModel(config), 0.05)
    return Case(Flat(net, lambda m, x: m.encoder(x)), [(torch.randn(1, 1, 640),)], ["sound"])


@model("patchtst", "forecast", "transformers")
def _(exporter):
    config = hf.PatchTSTConfig(
        num_input_channels=3,
        context_length=48,
        patch_length=8,
        patch_stride=8,
        d_model=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        prediction_length=6,
    )
    net = settle(hf.PatchTSTForPrediction(config))
    return Case(
        Flat(net, lambda m, x: m(past_values=x).prediction_outputs),
        [(torch.randn(2, 48, 3),), (torch.randn(1, 48, 3),)],
        ["past_values"],
        {"past_values": {0: "batch"}},
    )


@model("timesformer", "video", "transformers")
def _(exporter):
    config = hf.TimesformerConfig(**vit | {"num_frames": 3})
    net = make(hf.TimesformerForVideoClassification, config, exporter)
    return Case(Flat(net, lambda m, x: m(pixel_values=x).logits), [(image(1, 3, 3, 32, 32),)], ["pixel_values"])


@model("videomae", "video", "transformers")
def _(exporter):
    config = hf.VideoMAEConfig(**vit | {"num_frames": 4})
    net = make(hf.VideoMAEForVideoClassification, config, exporter)
    return Case(Flat(net, lambda m, x: m(pixel_values=x).logits), [(image(1, 4, 3, 32, 32),)], ["pixel_values"])
