"""Write the annotated video: decode, draw, encode as H.264, and take the sound along."""

from __future__ import annotations

from contextlib import ExitStack, closing
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.errors import DataError
from datamodules.video.frames_reader import is_frames
from datamodules.video.libav import open_container, short_reason
from datamodules.video.reader import open_video
from experiments.predicting.ahead import ahead
from experiments.predicting.clock import sound_stream, stream_starts
from experiments.predicting.drawing import Painter
from experiments.predicting.faces import FRAMES_AHEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from experiments.predicting.report import VideoReport

    Tell = Callable[[str, int, int], None]
    Paint = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]

#: Ticks of a second: that of MPEG, which all usual frame rates divide.
_TICKS = 90_000
#: Close to the source to the eye, at a speed that does not hold up the networks. [ours]
_X264 = {"preset": "veryfast", "crf": "20"}
#: Seconds by which the lengths of frames differ where times are rounded to milliseconds, or finer.
_ROUNDING_S = 0.002
#: Sound that an mp4 plays nearly everywhere as it is; other sound becomes AAC.
_MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})
_SOUND_BITS = 192_000


def annotate_video(
    path: Path,
    video: Path,
    report: VideoReport,
    tell: Tell = lambda *_: None,
    paint: Paint = lambda frame, _: frame,
) -> str:
    """Write the video with its scores drawn in.

    Frames keep their times, also where the rate varies; they are stored upright. The sound is
    copied where an mp4 takes it, else encoded as AAC.

    Args:
        path: The mp4 to write.
        video: The source.
        report: Its scores.
        tell: Called with what is being done, how much of it is done, and of how much.
        paint: Changes a frame, given with its number, before the scores are drawn.

    Returns:
        What is wrong with the sound, or an empty string.

    Raises:
        DataError: If the video cannot be encoded at its size.
        OSError: If the disk refuses the bytes.
    """
    import av

    count = None if report.video.decoder.endswith("_prefix") else report.video.num_frames
    try:
        with (
            open_video(video, report.video.decoder, count) as reader,
            ahead(_drawn(reader, report, paint), FRAMES_AHEAD) as pictures,
            closing(_Sound(video)) as sound,
            av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as output,
        ):
            _encode(output, pictures, sound, report, tell)
            return sound.wrong
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno and error.filename:
            raise
        raise DataError(
            f"{video} cannot be written as an annotated video ({short_reason(error)}); "
            "type --no-video to do without"
        ) from error


def _drawn(reader: Any, report: VideoReport, paint: Paint) -> Iterator[NDArray[np.uint8]]:
    painter = None
    for number, frame in enumerate(reader):
        if number == report.video.num_frames:
            return
        painter = painter or Painter(report, *frame.shape[:2])
        yield painter.paint(paint(frame, number), number)


def _encode(
    output: Any,
    pictures: Iterator[NDArray[np.uint8]],
    sound: _Sound,
    report: VideoReport,
    tell: Tell,
) -> None:
    import av

    rate = Fraction(report.video.fps or 25).limit_denominator(1001)
    stream = output.add_stream("libx264", rate=rate, options=_X264 | _order(report.times_s))
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, _TICKS)
    sound.open(output)
    last = -1
    for number, picture in enumerate(pictures):
        if number == 0:
            stream.height, stream.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        # Times that round to the same tick would stop the encoder.
        last = max(last + 1, round(report.times_s[number] * _TICKS))
        frame.pts, frame.time_base = last, Fraction(1, _TICKS)
        sound.write(last / _TICKS)
        output.mux(stream.encode(frame))
        tell("writing the annotated video", number + 1, report.video.num_frames)
    output.mux(stream.encode())
    sound.write(None)


def _order(times_s: NDArray[np.float64]) -> dict[str, str]:
    """Choose whether frames may be stored in another order than they are shown.

    That makes files about a fourth smaller, but an mp4 tells its length by the stored order: where
    the rate varies players would take it for shorter than it is, and not go to its last frames.
    """
    steps = np.diff(times_s)
    varies = len(steps) > 0 and float(np.ptp(steps)) > _ROUNDING_S
    return {"bf": "0"} if varies else {}


class _Sound:
    """The sound of a video, passed on as far as the pictures have come.

    Args:
        video: The source.

    Attributes:
        wrong: What is wrong with the sound, or an empty string.
    """

    def __init__(self, video: Path) -> None:
        self.wrong = ""
        self._stack = ExitStack()
        self._packets: Iterator[tuple[float, list[Any]]] = iter(())
        self._next: tuple[float, list[Any]] | None = None
        self._source: Any = None
        self._shift_s = 0.0
        if is_frames(video):
            return
        container = self._stack.enter_context(open_container(video))
        self._container, self._source = container, sound_stream(container)
        self._shift_s = -stream_starts(container, video).first

    def open(self, output: Any) -> None:
        """Add the stream of sound to a container, if there is any sound."""
        if self._source is None:
            return
        if self._source.codec_context.codec.canonical_name in _MP4_SOUND:
            made = output.add_stream_from_template(self._source)
            packets = self._copied(made)
        else:
            made = output.add_stream("aac", rate=_aac_rate(self._source.codec_context.sample_rate))
            made.bit_rate = _SOUND_BITS
            packets = self._recoded(made)
        self._output = output
        self._packets = packets

    def write(self, until_s: float | None) -> None:
        """Write the sound up to a time; None for all of it."""
        import av

        try:
            while True:
                self._next = self._next or next(self._packets, None)
                if self._next is None or (until_s is not None and self._next[0] > until_s):
                    return
                for packet in self._next[1]:
                    self._output.mux(packet)
                self._next = None
        except (av.error.FFmpegError, ValueError) as error:
            self.wrong = f"its sound ends early ({short_reason(error)})"
            self._packets, self._next = iter(()), None

    def close(self) -> None:
        """Release the source."""
        self._stack.close()

    def _copied(self, made: Any) -> Iterator[tuple[float, list[Any]]]:
        base = self._source.time_base
        shift = round(self._shift_s / base)
        for packet in self._container.demux(self._source):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts += shift
            packet.dts += shift
            packet.stream = made
            yield float(packet.pts * base), [packet]

    def _recoded(self, made: Any) -> Iterator[tuple[float, list[Any]]]:
        import av

        resampler = av.AudioResampler(format="fltp", rate=made.codec_context.sample_rate)
        time_s = 0.0
        for frame in self._container.decode(self._source):
            if frame.pts is not None:
                time_s = float(frame.pts * frame.time_base) + self._shift_s
                # Ticks may be as long as a packet (AVI), too coarse for packets of AAC.
                frame.pts = round(time_s * frame.sample_rate)
                frame.time_base = Fraction(1, frame.sample_rate)
            for part in resampler.resample(frame):
                yield time_s, made.encode(part)
        yield time_s, made.encode()


def _aac_rate(rate: int) -> int:
    """Choose the rate of samples that AAC has: the next one up, or its highest."""
    import av

    rates = av.Codec("aac", "w").audio_rates or [rate]
    return min((r for r in rates if r >= rate), default=max(rates))
