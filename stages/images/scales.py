"""How a model sees a whole image: its long side and the scales whose descriptors are summed.

Each is one value for all models, or a map model: value with `default` for those it does not name,
since the published teachers were scored at scales of their own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ..core.errors import UserError
from ..core.plugins import nearest

Scales = Annotated[list[Annotated[float, Field(gt=0, le=4)]], Field(min_length=1)]
Side = Annotated[int, Field(ge=16)] | Literal["native"] | None


@dataclass(frozen=True)
class How:
    """`scales` of an image whose long side is at most `px` (None: as it is)."""

    scales: list[float]
    px: int | None


def how_of(scales: Any, image_px: Any, model: str, own_px: int, where: Path) -> How:
    """What the settings `scales` and `image_px` say for `model`, whose own long side is `own_px`.

    `image_px` null is the model's own, `native` no limit.
    """
    px = _of(image_px, model, f"{where}: describe.image_px")
    chosen = _of(scales, model, f"{where}: describe.scales")
    return How(chosen, None if px == "native" else own_px if px is None else px)


def check_names(settings: Iterable[Any], models: Iterable[str], where: Path) -> None:
    """UserError where a map names a model that there is not."""
    known = [*models, "default"]
    for value in settings:
        if odd := [n for n in value if n not in known] if isinstance(value, dict) else []:
            raise UserError(
                f"{where}: describe: no model {odd[0]!r}{nearest(odd[0], known)}: "
                f"choose from {', '.join(known)}"
            )


def _of(value: Any, model: str, where: str) -> Any:
    if not isinstance(value, dict):
        return value
    if model not in value and "default" not in value:
        raise UserError(f"{where}: neither {model} nor default is in the map")
    return value.get(model, value.get("default"))
