"""Models as mlx-vlm loads them: a local folder, a Hub id, or one of the two embedded ones.

Stricter than mlx-vlm, which loads a checkpoint without its picture part, invents a missing tokenizer, and runs
Python files that come with a checkpoint (`model_file`, `auto_map`). All three are refused here.
"""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten

from vgs_mlx import device
from vgs_mlx.errors import Refusal
from vgs_mlx.formats import hub_names, strict_json, texts
from vgs_mlx.machine.lazy import Lazy
from vgs_mlx.models import families, headers, hub, processing
from vgs_mlx.models.base import LoadedModel
from vgs_mlx.models.headers import PICTURE_SETTINGS
from vgs_mlx.models.precision import QUANTISATION_GROUP as QUANTISATION_GROUP
from vgs_mlx.models.precision import (
    compute,
    in_float32,
    is_quantised,
    not_a_number,
    not_finite,
    quantise_language,
    stored_as,
)
from vgs_mlx.models.processing import Processor
from vgs_mlx.resources import tiny_model

mlx_vlm = Lazy("mlx_vlm")

EMBEDDED = "embedded:"
AGAIN = "download the model again"


def find_folder(path: str, option: str) -> Path:
    """The local folder of a model, downloaded from the Hub where `path` is an id. Raises `Refusal`."""
    if not path:
        raise Refusal(
            f"{option}: no model given: name a local folder, a Hub id, or embedded:student or embedded:teacher"
        )
    if path.startswith(EMBEDDED):
        return tiny_model(path.removeprefix(EMBEDDED))
    folder = Path(os.path.expanduser(path))
    if os.path.isdir(folder):  # False for a path that can't be looked up; raises nothing
        return folder.absolute()  # libraries could mistake a relative path for a Hub id
    if (id := hub_names.parse(path)) is None:
        raise Refusal(f"{option} {path}: no such folder, and not a Hub id (owner/name) either")
    return hub.download(id, option)


def read_config(folder: Path, option: str) -> dict[str, Any]:
    """The model's config.json. Raises `Refusal` for a folder that is not a model or has an unknown family."""
    where = f"{option} {folder}"
    try:
        config = strict_json.load((folder / "config.json").read_bytes())
    except strict_json.Faulty as error:
        raise Refusal(f"{where}: config.json: {error}: {headers.COPY_IT}") from error
    except OSError as error:
        is_run = os.path.isfile(folder / "recipe.yaml")
        fix = f"it is a run folder: give what vgs-mlx export {folder} --output MODEL makes"
        raise Refusal(
            f"{where}: no readable config.json there: {fix if is_run else 'give a model folder'}"
        ) from error
    return checked_config(config, where)


def checked_config(config: Any, where: str) -> dict[str, Any]:
    """The config, unchanged, if this tool supports it. Raises `Refusal`."""
    found = config.get("model_type") if isinstance(config, dict) else None
    if isinstance(config, dict) and found is None:
        raise Refusal(f"{where}: its config.json names no model_type: {headers.COPY_IT}")
    if not isinstance(found, str) or found not in families.MODULES:
        known = ", ".join(sorted(families.MODULES))
        raise Refusal(f"{where}: model_type {found!r} is not supported; supported: {known}")
    if "model_file" in config:
        raise Refusal(
            f"{where}: its config.json asks to run Python code of its own (model_file), which is "
            "never done here: take a checkpoint without it"
        )
    headers.refuse_layout(config, where)
    return config


def load_processor(folder: Path, option: str) -> Processor:
    """The processor of a model folder. Code in the folder never runs. Raises `Refusal`.

    Imports mlx-vlm with transformers, which takes seconds.
    """
    where = f"{option} {folder}"
    # registers the family's processor with transformers
    model_type = read_config(folder, option)["model_type"]
    family, needed = families.family(model_type), families.declared(model_type).needed
    missing = [name for name in needed if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in PICTURE_SETTINGS):
        missing = [PICTURE_SETTINGS[0]]
    if missing:
        raise Refusal(f"{where}: no {missing[0]} there: copy it from the original model")
    headers.refuse_unreadable(folder, where)
    try:
        inner = mlx_vlm.utils.load_processor(folder, add_detokenizer=False, trust_remote_code=False)
        processor = Processor(family, inner)
        ordinary = processor.tokenizer.get_vocab().keys() - set(processor.tokenizer.all_special_tokens)
    except Exception as error:  # transformers and tokenizers raise many kinds of error for damaged files
        raise Refusal(
            f"{where}: its tokenizer or processor can't be loaded: download the model again "
            f"({texts.one_line(error)})"
        ) from error
    if not ordinary:
        raise Refusal(f"{where}: no tokenizer there: copy tokenizer.json and tokenizer_config.json to it")
    if not processor.chat_template:
        raise Refusal(f"{where}: no chat template there: copy chat_template.jinja from the original model")
    processing.refuse_unusable(processor, where)
    return processor


def load_model(
    path: str,
    option: str,
    *,
    bits: int | None = None,
    native: bool = False,
    lazy: bool = False,
    say: Callable[[str], None] = print,
) -> LoadedModel:
    """A frozen model in evaluation mode, its weights checked strictly. Raises `Refusal`.

    `bits` quantises the language model if the checkpoint isn't quantised yet. Where the device widens weights
    (`device.widens`), they become float32 unless `native`. `lazy`: a weight is read from its file on first use,
    then stays in memory. A caller that needs only the head, or one weight at a time, thus loads little.
    """
    folder = find_folder(path, option)
    config = read_config(folder, option)
    headers.refuse_types(config, f"{option} {folder}")
    processor = load_processor(folder, option)
    module = _load_module(folder, f"{option} {path}")
    if bits:
        _quantise(module, bits, config, f"{option} {path}", say)
    if not native:
        _as_the_device_computes(module, path, say)
    module.freeze()
    if not lazy:
        _compute_finite(module, f"{option} {path}")
    model = LoadedModel(
        name=path,
        folder=folder,
        family=families.family(config["model_type"]),
        module=module,
        processor=processor,
        vocabulary=max(processor.tokenizer.get_vocab().values()) + 1,
        end_ids=_end_ids(module, processor, f"{option} {path}"),
    )
    _check_parts(model, f"{option} {path}")
    return model


def _quantise(
    module: nn.Module, bits: int, config: dict[str, Any], where: str, say: Callable[[str], None]
) -> None:
    """Pack the language model, in place, unless it is packed already."""
    if "quantization" in config or is_quantised(module):
        say(f"{where}: already quantised: teacher.bits={bits} changes nothing")
    else:
        quantise_language(module, bits)


def _compute_finite(module: nn.Module, where: str) -> None:
    """Compute the weights now; every one must be a finite number. Raises `Refusal`."""
    compute(module)
    if (name := not_finite(dict(tree_flatten(module.parameters())))) is not None:
        raise Refusal(f"{where}: {name} holds a number that isn't finite: {AGAIN}")


def _load_module(folder: Path, where: str) -> nn.Module:
    """The mlx-vlm module with its weights; each must fit. Lazy."""
    if not headers.read(folder, where):
        raise Refusal(f"{where}: no weights (*.safetensors) there: download the whole model")
    try:
        module = mlx_vlm.utils.load_model(folder, lazy=True)
    except Exception as error:  # mlx-vlm checks little and raises many kinds of error
        raise Refusal(
            f"{where}: mlx-vlm {version('mlx-vlm')} can't put its weights into the model of its config.json "
            f"({texts.one_line(error)}): download the model again, or take an mlx-community conversion"
        ) from error
    if (name := not_a_number(module)) is not None:
        raise Refusal(f"{where}: {name} is stored as whole numbers, not as floating-point numbers: {AGAIN}")
    return module


def _as_the_device_computes(module: nn.Module, path: str, say: Callable[[str], None]) -> None:
    """Make all weights float32, in place, if the device widens them. On a CPU, report in one line what was done."""
    kind = device.backend()
    if kind == "cpu" and (kinds := stored_as(module)) != ["float32"]:
        stored = f"cpu      {path}: stored as {' and '.join(kinds)}, run as"
        if device.widens(kind):
            say(f"{stored} float32: up to 80 times faster on a CPU")
        else:
            say(f"{stored} that ({device.KEEP_PRECISION}=1): up to 80 times slower on a CPU than float32")
    if device.widens(kind):
        in_float32(module)


def _check_parts(model: LoadedModel, where: str) -> None:
    """The checkpoint's picture part, tokenizer and head must belong together. Raises `Refusal`."""
    parts = model.family.media_modules(model.module)
    if missing := [path for path, part in parts.items() if part is None]:  # mlx-vlm only warns
        raise Refusal(
            f"{where}: the checkpoint lacks its picture part ({' and '.join(missing)}): take the whole model"
        )
    known = set(model.processor.tokenizer.get_vocab().values())
    unknown = [each for each in model.family.unanswerable_ids(model.module) if each not in known]
    if unknown:
        raise Refusal(
            f"{where}: its tokenizer has no id {unknown[0]}, which its config.json makes a placeholder: "
            "one of the two belongs to another model"
        )
    processing.refuse_other_config(model.processor, model.module.config, where)
    rows = dict(model.module.named_modules())[model.family.head_path(model.module)].weight.shape[0]
    if rows < model.vocabulary:
        raise Refusal(
            f"{where}: its head has {rows:,} rows, its tokenizer {model.vocabulary:,} ids: "
            "one of the two belongs to another model"
        )


def _end_ids(module: nn.Module, processor: Any, where: str) -> frozenset[int]:
    """The ids that end an answer, from config.json, generation_config.json and the tokenizer. Raises `Refusal`."""
    configured = module.config.eos_token_id
    named = configured if isinstance(configured, list) else [configured]
    found = [each for each in [*named, processor.tokenizer.eos_token_id] if each is not None]
    known = set(processor.tokenizer.get_vocab().values())
    if not found or any(type(each) is not int or each not in known for each in found):
        raise Refusal(
            f"{where}: its end-of-sequence ids are {found!r:.100}, not all ids of its tokenizer: copy config.json, "
            "generation_config.json and tokenizer_config.json from the original model"
        )
    return frozenset(found)
