"""The tiny models as mlx-vlm reads them: tokenizer, template, preprocessing, configuration, weights."""

import json
import shutil
from pathlib import Path

import vgs_mlx  # noqa: F401  (before mlx: it loads a fast BLAS)

# isort: split
import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map
from mlx_vlm.models.qwen3_vl import Model, ModelConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from vgs_mlx.data.shapes import SIDE, examples

VOCABULARY = 576
PATCH, MERGE = 12, 2
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
PAD, START, END, VISION_START, VISION_END, IMAGE, VIDEO = range(len(SPECIAL))
GROUP_SIZE, BITS = 64, 4
SHARPNESS = 1.6  # first weight of the query and key norms: at 1 attention stays too soft to look a word up

CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {%- if part.type == 'image' or 'image' in part or 'image_url' in part %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif part.type == 'video' or 'video' in part %}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
            {%- elif 'text' in part %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

PREPROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": PATCH,
    "merge_size": MERGE,
    "temporal_patch_size": 2,
    "min_pixels": (PATCH * MERGE) ** 2,
    "max_pixels": 4 * SIDE * SIDE,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
}

SIZES = {
    "teacher": {
        "text": {
            "hidden_size": 192,
            "num_hidden_layers": 4,
            "intermediate_size": 256,
            "num_attention_heads": 6,
        },
        "vision": {"hidden_size": 128, "depth": 3, "intermediate_size": 384, "num_heads": 4},
        "deepstack": [0, 1],
    },
    "student": {
        "text": {
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "intermediate_size": 256,
            "num_attention_heads": 4,
        },
        "vision": {"hidden_size": 64, "depth": 3, "intermediate_size": 192, "num_heads": 2},
        "deepstack": [0, 1],
    },
}


def write_shared_files(folder: Path) -> None:
    """The files that student and teacher have in common, byte for byte."""
    folder.mkdir(parents=True, exist_ok=True)
    _train_tokenizer().save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(SPECIAL[1:2] + SPECIAL[3:]),
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", tokenizer_config)
    _write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    _write_json(
        folder / "generation_config.json",
        {"do_sample": False, "temperature": 0.0, "eos_token_id": [END, PAD], "pad_token_id": PAD},
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def make_config(name: str) -> dict:
    """config.json of the tiny `teacher` or `student`, unquantised."""
    size = SIZES[name]
    width = size["text"]["hidden_size"]
    text = size["text"] | {
        "model_type": "qwen3_vl_text",
        "num_key_value_heads": size["text"]["num_attention_heads"],
        "head_dim": 32,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [6, 5, 5]},
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "hidden_act": "silu",
    }
    vision = size["vision"] | {
        "model_type": "qwen3_vl",
        "out_hidden_size": width,
        "patch_size": PATCH,
        "spatial_patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "in_channels": 3,
        "num_position_embeddings": (SIDE // PATCH) ** 2,
        "deepstack_visual_indexes": size["deepstack"],
        "hidden_act": "gelu_pytorch_tanh",
    }
    return {
        "model_type": "qwen3_vl",
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "text_config": text,
        "vision_config": vision,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": True,
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
        "eos_token_id": [END, PAD],
        "pad_token_id": PAD,
    }


def build(name: str) -> Model:
    """An untrained model; the weights follow mlx's seed."""
    config = make_config(name)
    model = Model(ModelConfig.from_dict(config))
    embedding = model.language_model.model.embed_tokens
    embedding.weight = 0.05 * mx.random.normal(embedding.weight.shape)
    for layer in model.language_model.model.layers:
        for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):
            norm.weight = SHARPNESS * norm.weight
    return model


def save_model(
    name: str, weights: dict[str, mx.array], shared: Path, output: Path, *, quantise: bool
) -> None:
    """Write a folder that stock mlx-vlm loads: bfloat16, with the language model 4-bit where `quantise`."""
    config = make_config(name)
    model = Model(ModelConfig.from_dict(config))
    model.load_weights(list(weights.items()), strict=True)
    model.update(tree_map(lambda array: array.astype(mx.bfloat16), model.parameters()))
    if quantise:
        nn.quantize(model.language_model, group_size=GROUP_SIZE, bits=BITS)
        config["quantization"] = {"group_size": GROUP_SIZE, "bits": BITS, "mode": "affine"}
        config["quantization_config"] = config["quantization"]
        config["vision_config"]["skip_vision"] = True
    config["dtype"] = config["text_config"]["dtype"] = "bfloat16"
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted(shared.iterdir()):
        shutil.copyfile(path, output / path.name)
    _write_json(output / "config.json", config)
    tensors = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(output / "model.safetensors"), tensors, metadata={"format": "mlx"})


def _train_tokenizer(rows: int = 4000) -> Tokenizer:
    """A byte-level BPE over prompts and answers of both habits, in mixed parts."""
    corpus = ["user\n", "assistant\n", "system\n"] * rows
    for style in ("teacher", "student"):
        corpus += [
            text
            for row in examples("train", rows, seed=99, style=style)
            for text in (row.question, row.solution)
        ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
