from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_reading_ledgers_imports_neither_torch_nor_lightning() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "experiments" / "evaluation").glob("*.py"))
    ]
    lines = [f"import {name}" for name in names if not name.endswith("__init__")]
    heavy = "{'torch', 'pytorch_lightning', 'torchmetrics', 'cv2', 'decord'}"
    code = "\n".join(["import sys", *lines, f"sys.exit(str({heavy} & {{*sys.modules}} or ''))"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
