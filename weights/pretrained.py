"""Published weights of timm and open_clip, through the libraries' own loading."""

from __future__ import annotations

import logging
import pickle
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weights.errors import WeightsError
from weights.hub import cache_if_out_of_reach, is_of_client
from weights.programs import refuse_program

if TYPE_CHECKING:
    from collections.abc import Iterator

Colours = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of red, green, blue in 0..1."""

#: The word for the weights that timm takes for a network by default.
DEFAULT = "imagenet"

#: Where the text of a library's error is cut off.
_REASON_CHARS = 300

#: What reading and fetching raise, in both libraries and what they build on.
_UNREADABLE = (OSError, RuntimeError, ValueError, pickle.UnpicklingError)


def is_file_name(source: str) -> bool:
    """Tell files from names of published weights, which have neither folder nor suffix."""
    return Path(source).is_file() or Path(source).name != source or bool(Path(source).suffix)


def timm_options(name: str, source: str) -> dict[str, Any]:
    """Say to `timm.create_model(name, num_classes=0)` where weights come from.

    Args:
        name: Of the network, perhaps with a tag of weights.
        source: `imagenet` for the network's default weights or those of its tag, another tag of
            the network, or a file in timm's layout, whose classifier is left out.

    Raises:
        WeightsError: If there is no such tag or file, or the file cannot be read.
    """
    import timm

    if is_file_name(source):
        return {"pretrained": True, "pretrained_cfg_overlay": _from_file(name, source)}
    if source == DEFAULT:
        return {"pretrained": True}
    plain = name.partition(".")[0]
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{plain}.*")]
    if source not in tags:
        raise WeightsError(
            f"timm has no weights '{source}' for {name}; give {DEFAULT}, none, a file, or one of: "
            f"{', '.join(tags) or '(none published)'}"
        )
    return {"pretrained": True, "pretrained_cfg": timm.get_pretrained_cfg(f"{plain}.{source}")}


def open_clip_options(name: str, source: str) -> dict[str, Any]:
    """Say to `open_clip.create_model(name)` where weights come from.

    Args:
        name: Of the network.
        source: A tag of the network, as `openai`, or a file of both towers in open_clip's layout.

    Raises:
        WeightsError: If there is no such tag or file.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if is_file_name(source):
        _require_file(source)
        refuse_program(source)
    elif source not in tags:
        raise WeightsError(
            f"open_clip has no weights '{source}' for {name}; give none, a file, or one of: "
            f"{', '.join(tags) or '(none published)'}"
        )
    return {"pretrained": source}


def published_colours(library: str, name: str, source: str) -> Colours | None:
    """Tell what pictures were brought to when published weights were trained.

    Args:
        library: `timm` or `open_clip`.
        name: Of the network, perhaps with a tag of weights.
        source: As `timm_options` or `open_clip_options` took it.

    Returns:
        Mean and standard deviation of red, green, blue in 0..1; None where nobody tells, as of
        files.
    """
    if is_file_name(source):
        return None
    if library == "timm":
        import timm

        tagged = name if source == DEFAULT else f"{name.partition('.')[0]}.{source}"
        about = timm.get_pretrained_cfg(tagged)
        return None if about is None else (tuple(about.mean), tuple(about.std))
    import open_clip

    found = open_clip.get_pretrained_cfg(name, source)
    if not found or not found.get("mean") or not found.get("std"):
        return None
    return tuple(found["mean"]), tuple(found["std"])


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the libraries' log off the screen.

    They tell every attempt to reach a server, and of every network without weights that it has
    none; what matters is raised.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def fetching(name: str, source: str) -> Iterator[None]:
    """Say in one line why published weights cannot be had, or do not fit.

    Args:
        name: Of the network.
        source: The weights.

    Raises:
        WeightsError: If the block cannot reach the network or read, or the weights do not fit.
    """
    with _one_line(name, source):
        if is_file_name(source):
            yield
            return
        with cache_if_out_of_reach() as reason:
            try:
                yield
            except Exception as error:
                if not (reason and _is_missing(error)):
                    raise
                # The libraries say at length that the cache lacks it, but not why only that counts.
                raise OSError(f"{reason}, and the cache has no copy") from error


def _is_missing(error: BaseException | None) -> bool:
    """Tell whether a file was sought in vain, however often the error was raised anew."""
    while error is not None:
        if isinstance(error, FileNotFoundError | ConnectionError):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _one_line(name: str, source: str) -> Iterator[None]:
    try:
        with quietly(), warnings.catch_warnings():
            # open_clip only warns, and then computes another function than was trained.
            warnings.filterwarnings("error", message="QuickGELU mismatch")
            yield
    except UserWarning as error:
        raise WeightsError(
            f"the weights '{source}' were trained with another activation than {name} has; "
            "choose the encoder of the same name with, or without, '-quickgelu'"
        ) from error
    except Exception as error:
        if not (isinstance(error, _UNREADABLE) or is_of_client(error)):
            raise
        if is_file_name(source):
            raise WeightsError(f"{source} does not fit {name}: {_reason(error)}") from error
        raise WeightsError(
            f"the weights '{source}' of {name} could not be fetched ({_reason(error)}); without "
            "access to the internet give a file (--weights PATH), or start from scratch "
            "(--weights none)"
        ) from error


def _from_file(name: str, path: str) -> dict[str, Any]:
    """Read a file, less its classifier, so that timm compares all else strictly."""
    import timm

    published = timm.get_pretrained_cfg(name)
    heads = published.classifier if published else None
    prefixes = tuple(f"{h}." for h in ((heads,) if isinstance(heads, str) else heads or ()))
    _require_file(path)
    try:
        # Tensors only: a file from elsewhere must not be able to run code.
        state = timm.models.load_state_dict(path, weights_only=True)
    except (*_UNREADABLE, EOFError, AttributeError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {_reason(error)}") from error
    encoder = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    return {"state_dict": encoder, "num_classes": 0}


def _require_file(path: str) -> None:
    if not Path(path).is_file():
        raise WeightsError(f"There is no weight file {path}.")


def _reason(error: Exception) -> str:
    """Give an error's text on one line, shortened: lists of keys may be long."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "weights_only" in text:  # torch's text goes on to advise what could run code
        return "it was not written by torch.save, or holds more than tensors"
    return text if len(text) <= _REASON_CHARS else f"{text[:_REASON_CHARS]} ..."
