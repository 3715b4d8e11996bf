"""Weight files that are programs."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from weights.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path


def refuse_program(path: str | Path) -> None:
    """Refuse TorchScript archives, as OpenAI publishes its CLIP, with what to do instead.

    Args:
        path: The file.

    Raises:
        WeightsError: If the file is one; files that are none, or not there, pass.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            is_program = any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return
    if is_program:
        raise WeightsError(
            f"{path} is a TorchScript archive, a program with its tensors (as OpenAI publishes "
            "CLIP), and is not run; take --weights openai, which open_clip fetches, or, if you "
            "trust the file, save torch.jit.load(FILE).visual.state_dict() and give that"
        )
