"""A small SmolVLM with random weights as a folder, laid out as the Hub's: a real tokenizer, processor and template."""

import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_vlm.models import smolvlm as stock
from mlx_vlm.utils import update_module_configs

from vgs_mlx.resources import tiny_model

SIDE, PATCH, SCALE = 32, 8, 2  # pixels of a tile and of a patch; scale x scale patches make one image token
TILE_TOKENS = (SIDE // PATCH // SCALE) ** 2
ROWS = 4  # tiles of a picture's longer side, at most
SPECIAL = ("<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>")
PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, ROWS + 1) for column in range(1, ROWS + 1))
TEMPLATE = """<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}\
{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}\
{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}\
{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""
HUB_NAMES = {
    "language_model.lm_head.": "lm_head.",
    "language_model.": "model.text_model.",
    "vision_model.": "model.vision_model.",
    "connector.": "model.connector.",
}
"""mlx-vlm's names of weights and those of checkpoints that transformers saves, by how they begin."""


def write_smolvlm(
    folder: Path, seed: int = 0, *, hidden: int = 32, layers: int = 2, hub: bool = False, scale: float = 3.0
) -> Path:
    """A model whose predictions depend clearly on its picture. `hub`: names and layout of weights as transformers'."""
    folder.mkdir(parents=True)
    placeholder, rows = _write_tokenizer(folder)
    _write(folder, "preprocessor_config.json", PICTURES)
    processor = {"image_seq_len": TILE_TOKENS, "processor_class": "SmolVLMProcessor"}
    _write(folder, "processor_config.json", processor)
    _write(
        folder,
        "generation_config.json",
        {"bos_token_id": 1, "eos_token_id": placeholder + 2, "pad_token_id": 0},
    )
    if hub:
        _write(folder, "chat_template.json", {"chat_template": TEMPLATE})
    else:
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    config = _config(hidden, layers, placeholder, rows)
    _write(folder, "config.json", config)
    mx.random.seed(seed)
    module = build(config)
    grown = tree_map(lambda each: each * scale if each.ndim > 1 else each, module.parameters())
    weights = dict(tree_flatten(grown))
    if hub:
        weights = {_hub_name(name): _hub_value(name, value) for name, value in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def build(config: dict) -> stock.Model:
    """mlx-vlm's model of a config, with its own first weights."""
    copy = json.loads(json.dumps(config))
    made = update_module_configs(stock.ModelConfig.from_dict(copy), stock, copy, ["text", "vision"])
    return stock.Model(made)


PICTURES = dict(
    do_convert_rgb=True, do_image_splitting=True, do_normalize=True, do_pad=True, do_rescale=True, do_resize=True,
    image_mean=[0.5] * 3, image_processor_type="SmolVLMImageProcessor", image_std=[0.5] * 3,
    max_image_size={"longest_edge": SIDE}, processor_class="SmolVLMProcessor", resample=1,
    rescale_factor=0.00392156862745098, size={"longest_edge": ROWS * SIDE},
    video_sampling={"fps": 1, "max_frames": 64, "video_size": {"longest_edge": SIDE}},
)  # fmt: skip


def _config(hidden: int, layers: int, placeholder: int, rows: int) -> dict:
    """As the Hub's: ends of sequences below text_config, and all that mlx-vlm doesn't read."""
    text = dict(
        architectures=["VLlama3ForCausalLM"], attention_bias=False, attention_dropout=0.0, bos_token_id=1,
        eos_token_id=placeholder + 2, head_dim=hidden // 4, hidden_act="silu", hidden_size=hidden,
        intermediate_size=2 * hidden, max_position_embeddings=8192, mlp_bias=False, model_type="llama",
        num_attention_heads=4, num_hidden_layers=layers, num_key_value_heads=2, pad_token_id=0, pretraining_tp=1,
        rms_norm_eps=1e-5, rope_scaling=None, rope_theta=10_000.0, tie_word_embeddings=False, torch_dtype="float32",
        use_cache=True, vocab_size=rows,
    )  # fmt: skip
    vision = dict(
        attention_dropout=0.0, hidden_act="gelu_pytorch_tanh", hidden_size=16, image_size=SIDE, intermediate_size=32,
        layer_norm_eps=1e-6, max_image_size={"longest_edge": SIDE}, model_type="smolvlm_vision",
        num_attention_heads=2, num_channels=3, num_hidden_layers=2, patch_size=PATCH,
        size={"longest_edge": ROWS * SIDE}, tie_word_embeddings=False,
    )  # fmt: skip
    return dict(
        architectures=["SmolVLMForConditionalGeneration"], image_token_id=placeholder, model_type="smolvlm",
        pad_token_id=0, scale_factor=SCALE, text_config=text, tie_word_embeddings=False, torch_dtype="float32",
        use_cache=True, vision_config=vision, vocab_size=rows,
    )  # fmt: skip


def _write_tokenizer(folder: Path) -> tuple[int, int]:
    """The embedded student's tokenizer with SmolVLM's own tokens. Returns the placeholder's id and the head's rows."""
    source = tiny_model("student")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    first = 1 + max(
        *tokenizer["model"]["vocab"].values(), *(each["id"] for each in tokenizer["added_tokens"])
    )
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
    for id, content in enumerate([*SPECIAL, *PLACES], start=first):
        tokenizer["added_tokens"].append(dict(id=id, content=content, special=content in SPECIAL, **flags))
    _write(folder, "tokenizer.json", tokenizer)
    settings = json.loads((source / "tokenizer_config.json").read_text()) | dict(
        additional_special_tokens=list(SPECIAL), bos_token="<|im_start|>", eos_token="<end_of_utterance>",
        model_max_length=8192, processor_class="SmolVLMProcessor",
    )  # fmt: skip
    _write(folder, "tokenizer_config.json", settings)
    ids = first + len(SPECIAL) + len(PLACES)
    return first + SPECIAL.index("<image>"), 16 * (ids // 16 + 1)


def _hub_name(name: str) -> str:
    begun = next(each for each in HUB_NAMES if name.startswith(each))
    return HUB_NAMES[begun] + name.removeprefix(begun)


def _hub_value(name: str, value: mx.array) -> mx.array:
    """PyTorch's convolutions have their channels second."""
    return value.transpose(0, 3, 1, 2) if "patch_embedding.weight" in name else value


def _write(folder: Path, name: str, values: dict) -> None:
    (folder / name).write_text(json.dumps(values, indent=2))
