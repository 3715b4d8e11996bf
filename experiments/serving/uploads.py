"""Receive what a request brings: limits hold while it comes, not after."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pydantic import ValidationError
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from experiments.serving.schemas import PredictRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Bytes of a JSON body, and of what stands around the file of a multipart one. [ours]
_MAX_JSON = 16 * 2**10
_MAX_AROUND = 64 * 2**10
_MAX_HEADERS = 16
#: Seconds that a sender may be silent. [ours]
_IDLE_S = 30.0


class RequestError(Exception):
    """Refuse a request.

    Attributes:
        status: HTTP status.
        code: For programs.
        headers: To go with it.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


class Places:
    """Places for uploads, of which one key gets at most half: whoever trickles holds up himself.

    Args:
        count: Uploads at once.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._most = max(1, count // 2)
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, who: str) -> Iterator[None]:
        """Hold a place.

        Args:
            who: Identity of the key, empty without keys.

        Raises:
            RequestError: None is free.
        """
        if not self._free or (who and self._held[who] >= self._most):
            raise RequestError(
                429, "uploads", "too many uploads at once; try again", {"Retry-After": "5"}
            )
        self._free -= 1
        self._held[who] += 1
        try:
            yield
        finally:
            self._free += 1
            self._held[who] -= 1
            self._held += Counter()  # forgets those who hold none


@dataclass(frozen=True)
class UploadLimits:
    """What a body may be.

    Attributes:
        max_bytes: Largest file.
        total_s: Seconds that it may take.
    """

    max_bytes: int
    total_s: float


async def receive(
    request: Request, target: Path, limits: UploadLimits, received: Callable[[int], None]
) -> str | None:
    """Receive a request's video, or the URL of one.

    Args:
        request: With a JSON or a multipart body.
        target: Where an uploaded file goes.
        limits: What it may be.
        received: Called with the bytes that came.

    Returns:
        The URL; None if a file was uploaded.

    Raises:
        RequestError: The body is not what it should be.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    body = _pieces(request, limits, received)
    try:
        if kind == b"application/json":
            return await _json(body)
        if kind == b"multipart/form-data":
            await _multipart(body, options.get(b"boundary", b""), target, limits.max_bytes)
            return None
    except ClientDisconnect:
        raise RequestError(400, "gone", "the client went away") from None
    raise RequestError(
        415, "media_type", 'send {"file_path": "https://..."} as JSON, or a file as multipart'
    )


async def _pieces(
    request: Request, limits: UploadLimits, received: Callable[[int], None]
) -> AsyncIterator[bytes]:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.max_bytes + _MAX_AROUND:
        raise _too_large(limits.max_bytes)
    deadline = time.monotonic() + limits.total_s
    stream = request.stream()
    while True:
        wait_s = min(_IDLE_S, deadline - time.monotonic())
        try:
            piece = await asyncio.wait_for(anext(stream), max(0.0, wait_s))
        except StopAsyncIteration:
            return
        except (asyncio.TimeoutError, TimeoutError):
            raise RequestError(408, "too_slow", "the upload takes too long") from None
        received(len(piece))
        yield piece


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(413, "too_large", f"the file is larger than {max_bytes} bytes")


async def _json(body: AsyncIterator[bytes]) -> str:
    whole = b""
    async for piece in body:
        whole += piece
        if len(whole) > _MAX_JSON:
            raise RequestError(413, "too_large", f"a JSON body has at most {_MAX_JSON} bytes")
    try:
        return PredictRequest.model_validate_json(whole).file_path
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise RequestError(422, "invalid", f"{where}: {first['msg']}") from None


async def _multipart(
    body: AsyncIterator[bytes], boundary: bytes, target: Path, max_bytes: int
) -> None:
    if not boundary or len(boundary) > 70:  # RFC 2046, section 5.1.1
        raise RequestError(400, "malformed", "the multipart body names no valid boundary")
    with target.open("xb") as file:
        form = _Form(file, max_bytes)
        parser = MultipartParser(boundary, form.callbacks(), max_header_count=_MAX_HEADERS)
        try:
            async for piece in body:
                # the file is written by a thread: a slow disk must not hold other requests up
                await asyncio.to_thread(parser.write, piece)
                form.count_around(len(piece))
            parser.finalize()
        except MultipartParseError:
            raise RequestError(400, "malformed", "the multipart body is malformed") from None
        form.check_end()


class _Form:
    """The one file of a form, written as it comes."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._around = 0
        self._written = 0
        self._field = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._has_file = False
        self._ended = False

    def callbacks(self) -> MultipartCallbacks:
        """Give the parser what to call."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def count_around(self, received: int) -> None:
        """Hold a body that is all boundaries and headers to its limit."""
        self._around += received
        if self._around - self._written > _MAX_AROUND:
            raise RequestError(413, "too_large", "there is too much around the file")

    def check_end(self) -> None:
        """Refuse a body that brought no file, or not all of one."""
        if not self._ended:
            raise RequestError(400, "malformed", "the multipart body ends before its end")
        if not self._has_file:
            raise RequestError(422, "invalid", "the multipart body holds no part named 'file'")
        if not self._written:
            raise RequestError(422, "invalid", "the file is empty")

    def _part_begin(self) -> None:
        if self._has_file:
            raise RequestError(422, "invalid", "send one file and nothing else")
        self._disposition = b""

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        # whatever else the sender says of the file, its name above all, is looked at by nobody
        if kind != b"form-data" or options.get(b"name") != b"file":
            raise RequestError(422, "invalid", "send one part, named 'file'")
        self._has_file = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._written += end - start
        if self._written > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self._ended = True
