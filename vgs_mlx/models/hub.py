"""Downloads a model from the Hugging Face Hub; a failure is explained in one line."""

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
    """The folder of the model `id`, downloaded if it isn't yet. Raises `Refusal`.

    The Hub is asked first, with a time limit: a download would wait forever for a Hub that doesn't answer.
    If the Hub can't be reached, an earlier download is used.
    """
    try:
        return _download(id)
    except Exception as error:  # huggingface_hub and its dependencies raise many kinds of error
        raise Refusal(f"{option} {id}: no such folder, and {reason(error)}") from error


def pinned(id: HubId, option: str) -> HubId:
    """The same model pinned to the commit that its revision names today; downloads it. Raises `Refusal`."""
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
    # by the revision's name, so that the cache can resolve it without the Hub
    return mlx_vlm.utils.get_model_path(id.name, revision=id.revision)


def reason(error: Exception) -> str:
    """Why the Hub gave no model, and the fix, in one line. Messages of the libraries span several."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, GatedRepoError):
        return "the Hub asks you to accept the model's terms: accept them on its page, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "the Hub has no model with that name: check it, or if it is private run `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return "the Hub has the model, but no revision of that name: give a branch, a tag or a commit after the @"
    if isinstance(error, (HfHubHTTPError, ValueError)):
        return f"the Hub refused: {said}"
    return f"the Hub can't be reached ({said}): go online, or give a local folder"
