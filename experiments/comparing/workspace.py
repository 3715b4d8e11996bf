"""A W&B workspace and report in code: the panels of the page, over the runs' logged names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError
from experiments.wandb_access import has_key, project

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.comparing.runs import Run

#: What every training logs, by section and title.
_TRAINING = {
    "Validation": ("val/video_auc", "val/clip_auc", "val/video_eer", "val/video_ap"),
    "Training": ("train/loss", "train/clips_per_s", "train/data_wait"),
}
_TEST_FIGURES = ("video_auc", "clip_auc", "video_eer")
_MEDIA = ("predictions", "roc", "pr")


def panel_keys(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Name what the panels show.

    Args:
        runs: Their sets become test sections.

    Returns:
        Logged names by section.
    """
    logged = {name for run in runs for name in run.curves.columns}
    keys = {
        section: [name for name in names if not logged or name in logged]
        for section, names in _TRAINING.items()
    }
    for name in dict.fromkeys(name for run in runs for name in run.evaluations):
        prefix = "test" if name == "test" else f"test/{name}"
        keys[f"Test: {name}"] = [f"{prefix}/{figure}" for figure in _TEST_FIGURES]
    return {section: names for section, names in keys.items() if names}


def make_workspace(runs: Sequence[Run], title: str, entity: str) -> Any:
    """Make the workspace, runs grouped by experiment; nothing is sent.

    Args:
        runs: The compared runs.
        title: Its name.
        entity: User or team.

    Returns:
        A `wandb_workspaces.workspaces.Workspace`.
    """
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(name=section, panels=_panels(section, names), is_open=True)
        for section, names in panel_keys(runs).items()
    ]
    return ws.Workspace(
        entity=entity,
        project=project(),
        name=title,
        sections=sections,
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group")]),
    )


def make_report(runs: Sequence[Run], title: str, entity: str) -> Any:
    """Make the report: the panels, tables of predictions and curves; nothing is sent.

    Args:
        runs: The compared runs.
        title: Its name.
        entity: User or team.

    Returns:
        A `wandb_workspaces.reports.v2.Report`.
    """
    import wandb_workspaces.reports.v2 as wr

    names = ", ".join(run.name for run in runs)
    blocks: list[Any] = [
        wr.P(f"Runs {names}; intervals and marks are on the page of make compare.")
    ]
    for section, keys in panel_keys(runs).items():
        panels = _panels(section, keys)
        if section.startswith("Test: "):
            prefix = keys[0].rpartition("/")[0]
            panels += [wr.WeavePanelSummaryTable(table_name=f"{prefix}/{_MEDIA[0]}")]
        runset = wr.Runset(entity=entity, project=project(), groupby=["Group"])
        blocks += [wr.H2(section), wr.PanelGrid(runsets=[runset], panels=panels)]
    return wr.Report(
        project=project(), entity=entity, title=title[:128], blocks=blocks, width="fluid"
    )


def publish(runs: Sequence[Run], title: str) -> list[str]:
    """Save workspace and report.

    Args:
        runs: The compared runs, logged online or synchronised.
        title: Their name.

    Returns:
        Lines that say where they are.

    Raises:
        UsageError: If there is no key, the package is missing, or the server refuses.
    """
    if not has_key():
        raise UsageError(
            "--wandb needs a key: set WANDB_API_KEY or run `wandb login`, and `wandb sync` the "
            "offline runs; the page needs neither"
        )
    try:
        import wandb
        import wandb_workspaces  # noqa: F401 (asked for here, used in the functions)
    except ImportError as error:
        raise UsageError(
            f"--wandb needs the extra `wandb`: pip install -e '.[wandb]' ({error})"
        ) from error
    try:
        entity = str(wandb.Api().default_entity)
        saved = [
            make_workspace(runs, title, entity).save(),
            make_report(runs, title, entity).save(),
        ]
    except (wandb.Error, ValueError, OSError) as error:
        raise UsageError(f"W&B does not take it: {error}") from error
    return [f"{name}: {one.url}" for name, one in zip(("workspace", "report"), saved, strict=True)]


def _panels(section: str, names: Sequence[str]) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    if section.startswith("Test: "):
        return [wr.BarPlot(title=name, metrics=[name]) for name in names]
    return [wr.LinePlot(title=name, x="Step", y=[name]) for name in names]
