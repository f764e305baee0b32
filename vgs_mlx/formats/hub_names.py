"""Names on the Hugging Face Hub: owner/name, or owner/name@revision."""

import re
from dataclasses import dataclass

PATIENCE = 10.0  # seconds that a question to the Hub may take
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubId:
    """A model or data set on the Hub at a revision: a branch, a tag or a commit; None is the newest."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def is_commit(self) -> bool:
        """Whether it always names the same content."""
        return bool(self.revision and COMMIT.fullmatch(self.revision))


def parse(text: str) -> HubId | None:
    """The Hub id that `text` may be; None for what can only be a path or a built-in name."""
    name, mark, revision = text.partition("@")
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or name.startswith((".", "~")):
        return None
    if bool(mark) != bool(revision) or ":" in revision:  # no git revision has a colon
        return None
    return HubId(name, revision or None)


def without_commit(text: str) -> str:
    """A name as it was before a commit was added to it: owner/name@<40 hex digits>:split -> owner/name:split."""
    return re.sub(rf"@{COMMIT.pattern}(?=:|$)", "", text)
