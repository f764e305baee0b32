"""A model of the Hugging Face Hub -> its local folder, or in one line why there is none."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from vgs_mlx.errors import Refusal
from vgs_mlx.lazy import Lazy

mlx_vlm = Lazy("mlx_vlm")

PATIENCE = 10.0  # seconds


def download(id: str, option: str) -> Path:
    """The folder of the model `id` (owner/name), downloaded where it isn't yet. Raises `Refusal`.

    The Hub is asked first, with a time limit: a download would wait for ever on one that doesn't answer.
    Without the Hub, what was downloaded earlier will do.
    """
    try:
        return _download(id)
    except Exception as error:  # huggingface_hub and what it is built on raise many kinds
        raise Refusal(f"{option} {id}: no such folder, and {reason(error)}") from error


def _download(id: str) -> Path:
    try:
        HfApi().model_info(id, timeout=PATIENCE)
    except RepositoryNotFoundError:
        raise
    except Exception as unreachable:
        try:
            return Path(snapshot_download(id, local_files_only=True))
        except LocalEntryNotFoundError:
            raise unreachable from None
    return mlx_vlm.utils.get_model_path(id)


def reason(error: Exception) -> str:
    """Why the Hub gave nothing, with the mend. What the libraries say spans several lines."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, GatedRepoError):
        return "the Hub gives it to those alone who accepted its terms: do so there, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "the Hub has no model of that name (or it is private: `hf auth login`)"
    if isinstance(error, (HfHubHTTPError, ValueError)):
        return f"the Hub refused: {said}"
    return f"the Hub can't be reached ({said}): go online, or give a local folder"
