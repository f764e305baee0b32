"""A model of the Hugging Face Hub -> its local folder, or in one line why there is none."""

from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vgs_mlx.errors import Refusal
from vgs_mlx.formats.hub_names import PATIENCE, HubId
from vgs_mlx.machine.lazy import Lazy

mlx_vlm = Lazy("mlx_vlm")


def download(id: HubId, option: str) -> Path:
    """The folder of the model `id`, downloaded where it isn't yet. Raises `Refusal`.

    The Hub is asked first, with a time limit: a download would wait for ever on one that doesn't answer.
    Without the Hub, what was downloaded earlier will do.
    """
    try:
        return _download(id)
    except Exception as error:  # huggingface_hub and what it is built on raise many kinds
        raise Refusal(f"{option} {id}: no such folder, and {reason(error)}") from error


def pinned(id: HubId, option: str) -> HubId:
    """The same model at the commit that its revision stands for today, which is downloaded. Raises `Refusal`."""
    return id if id.is_commit else replace(id, revision=download(id, option).name)  # a snapshot's folder


def _download(id: HubId) -> Path:
    try:
        HfApi().model_info(id.name, revision=id.revision, timeout=PATIENCE)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception as unreachable:
        try:
            return Path(snapshot_download(id.name, revision=id.revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise unreachable from None
    # by its revision's name, which the cache then knows without the Hub too
    return mlx_vlm.utils.get_model_path(id.name, revision=id.revision)


def reason(error: Exception) -> str:
    """Why the Hub gave nothing, with the mend. What the libraries say spans several lines."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, GatedRepoError):
        return "the Hub gives it to those alone who accepted its terms: do so there, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "the Hub has no model of that name (or it is private: `hf auth login`)"
    if isinstance(error, RevisionNotFoundError):
        return "the Hub has it, but no revision of that name: give a branch, a tag or a commit after the @"
    if isinstance(error, (HfHubHTTPError, ValueError)):
        return f"the Hub refused: {said}"
    return f"the Hub can't be reached ({said}): go online, or give a local folder"
