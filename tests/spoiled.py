"""Files with right digests and content that `store` would never write."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from stages.core import contents, store


def write(path: Path, kind: str, arrays: dict[str, np.ndarray], **attributes: Any) -> Path:
    """As `store.write`, without a look at the rows."""
    with mock.patch.dict(contents.KINDS, {kind: {}}):
        store.write(path, kind, arrays, **attributes)
    return path


def again(path: Path, kind: str, to: Path | None = None, **changed: np.ndarray) -> Path:
    """The file at `path` written again (or `to` another place) with some datasets `changed`."""
    with mock.patch.dict(contents.KINDS, {kind: {}}):
        stored = store.Stored(path, kind)
        names = [n for n in (*stored._places, *changed)]
        arrays = {n: changed.get(n, np.array(stored[n]) if n in stored else None) for n in names}
        own = ("format", "digest", "attributes_digest")
        about = {k: v for k, v in stored.attributes.items() if k not in own}
        store.write(to or path, kind, arrays, **about)  # type: ignore[arg-type]
    return to or path
