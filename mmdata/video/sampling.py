"""Which frames to take: pure functions of a clip's presentation times.

:class:`Strategy` names one of the rules below with its arguments, as in ``uniform:24`` or
``fps:2:64``. A rule is a function of a :class:`Clock` and those arguments that gives back frame
numbers, which may repeat. The rules of the house come first, then those of published programs, each
under the name that it goes by: ``llava_next`` is the spelling of a sampler, whichever model reads
what it takes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from mmdata._tools.options import NonNegativeFloat, PositiveInt, check_fields, checked
from mmdata.errors import UsageError, VideoError, nearest
from mmdata.video.clock import HAIR, Clock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmdata.video.clock import Numbers, Times

__all__ = ["RULES", "Few", "Pad", "Strategy", "mf_predict_positions", "nearest_numbers"]

Pad: TypeAlias = Literal["none", "repeat"]
Few: TypeAlias = Literal["refuse", "all"]


Rule: TypeAlias = "Callable[..., Numbers]"

RULES: Final[dict[str, Rule]] = {}
"""Every rule by its name in the grammar."""

# Rules that take any number of arguments.
_LISTS: Final = {"times": "t1,t2,...", "frames": "n1,n2,..."}


@dataclass(frozen=True, slots=True)
class Strategy:
    """A rule and its arguments; :meth:`parse` reads one, ``str`` writes it.

    >>> str(Strategy.parse("fps:2:64"))
    'fps:2:64'
    """

    name: str
    arguments: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        """Check the types."""
        check_fields(self)

    @classmethod
    def parse(cls, text: str | Strategy) -> Strategy:
        """Return the strategy that ``text`` names, its arguments checked.

        Raises:
            UsageError: no such rule, or not its arguments; the message shows how it is written.
        """
        if isinstance(text, Strategy):
            return text
        name, *words = text.split(":")
        if name not in RULES:
            raise UsageError(
                f"no frame strategy named {name!r} (in {text!r}).{nearest(name, RULES)} "
                f"There are: {', '.join(RULES)}."
            )
        return cls(name, _arguments(name, words))

    @checked
    def numbers(self, clock: Clock, *, pad: Pad = "none", few: Few = "refuse") -> Numbers:
        """Return the numbers of the frames to take, (wanted,) int64, never empty.

        ``pad="none"`` drops repeats from rules that ask a short clip for more frames than it has;
        ``"repeat"`` keeps them, and repeats the last frame up to the maximum of rules that have
        one. Program rules are left as they are. Some of those refuse a clip that has fewer frames
        than they want; ``few="all"`` takes all of such a clip.

        Raises:
            VideoError: the clip has no frame, or the rule finds none in it.
        """
        if not len(clock):
            raise VideoError(f"no frame to sample by {self}: the clip is empty")
        options = {"pad": pad, "few": few}
        names = options.keys() & {parameter.name for parameter in _parameters(self.name)}
        taken = {name: options[name] for name in names}
        return RULES[self.name](clock, *self.arguments, **taken)

    @property
    def is_list(self) -> bool:
        """Whether its arguments list the frames, by time or number, in any order."""
        return self.name in _LISTS

    def __str__(self) -> str:
        separator = "," if self.name in _LISTS else ":"
        return (
            ":".join([self.name, separator.join(map(_word, self.arguments))])
            if self.arguments
            else self.name
        )


@cache
def _parameters(name: str) -> tuple[inspect.Parameter, ...]:
    """What the rule takes beside the clock."""
    return tuple(inspect.signature(RULES[name]).parameters.values())[1:]


def _arguments(name: str, words: list[str]) -> tuple[Any, ...]:
    if name in _LISTS:
        words = words[0].split(",") if len(words) == 1 else []
    parameters = _parameters(name)

    try:
        if parameters[:1] and parameters[0].kind is parameters[0].VAR_POSITIONAL:
            return _at_least_one(
                tuple(_number(word, str(parameters[0].annotation)) for word in words)
            )
        positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        required = sum(p.default is p.empty for p in positional)
        if not required <= len(words) <= len(positional):
            raise ValueError(f"{len(words)} arguments")
        return tuple(
            _number(word, str(p.annotation)) for word, p in zip(words, positional, strict=False)
        )
    except ValueError as error:
        raise UsageError(
            f"{':'.join([name, *words])!r}: {error}; it is written {_usage(name, parameters)}"
        ) from error


def _at_least_one(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("no argument")
    return values


def _number(word: str, kind: str) -> int | float | bool:
    if kind == "bool":
        if word not in ("true", "false"):
            raise ValueError(f"{word!r} is neither true nor false")
        return word == "true"
    value = int(word) if kind.startswith("int") else float(word)
    if not 0 <= value < math.inf:
        raise ValueError(f"{word} is out of range")
    return value


def _word(argument: float | bool) -> str:
    return str(argument).lower() if isinstance(argument, bool) else format(argument, ".15g")


def _usage(name: str, parameters: tuple[inspect.Parameter, ...]) -> str:
    if name in _LISTS:
        return f"{name}:{_LISTS[name]}"
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return name + "".join(
        f":{p.name}" if p.default is p.empty else f"[:{p.name}]" for p in positional
    )


def _rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


# --- the rules of the house
# --------------------------------------------------------------------------------------


@_rule
def uniform(clock: Clock, count: int, *, pad: Pad = "none") -> Numbers:
    """``count`` frames over the whole clip, evenly by number, first and last included."""
    return _drop_repeats(_evenly(0, len(clock) - 1, _positive(count)), pad)


@_rule
def middle(clock: Clock, count: int, *, pad: Pad = "none") -> Numbers:
    """The frames at the centres of ``count`` equal segments of the clip."""
    import numpy as np

    segments = np.arange(_positive(count))
    return _drop_repeats((2 * segments + 1) * len(clock) // (2 * count), pad)


@_rule
def fps(clock: Clock, rate: float, maximum: int | None = None, *, pad: Pad = "none") -> Numbers:
    """The frame nearest each tick of a clock of ``rate`` a second;
    beyond ``maximum``, that many evenly spread.
    """
    import numpy as np

    # A last frame at a tick counts, though its time may be a hair below it: both are quotients of
    # floats.
    last = math.floor(clock.times[-1] * _positive(rate) + HAIR)
    ticks = np.arange(last + 1)  # (ticks,)
    numbers = _drop_repeats(nearest_numbers(clock.times, ticks / rate, tie=HAIR), "none")
    return _pad(_spread(numbers, maximum), maximum, pad)


@_rule
def seconds(clock: Clock, maximum: int | None = None, *, pad: Pad = "none") -> Numbers:
    """The frame nearest each whole second, the first ``maximum`` of them ."""
    return _pad(_each_second(clock.times)[:maximum], maximum, pad)


@_rule
def every(clock: Clock, step: int, maximum: int | None = None, *, pad: Pad = "none") -> Numbers:
    """Every ``step``-th frame from the first on;
    beyond ``maximum``, that many evenly spread among them.
    """
    import numpy as np

    return _pad(_spread(np.arange(0, len(clock), _positive(step)), maximum), maximum, pad)


@_rule
def keyframes(clock: Clock, maximum: int | None = None, *, pad: Pad = "none") -> Numbers:
    """The frames that decode by themselves;
    beyond ``maximum``, that many evenly spread among them.
    """
    if clock.keyframes is None or not len(clock.keyframes):
        raise VideoError(
            "no keyframe among the presented frames; sample by another strategy, such as uniform:N"
        )
    return _pad(_spread(clock.keyframes, maximum), maximum, pad)


@_rule
def times(clock: Clock, *moments: float) -> Numbers:
    """The frame nearest each of the given times in seconds."""
    import numpy as np

    last = float(clock.times[-1])
    tolerance = 1 / clock.fps if clock.fps > 0 else 0.0
    if late := [moment for moment in moments if moment > last + tolerance]:
        raise VideoError(f"asked for a frame at {late[0]:g} s, but the last one is at {last:.3f} s")
    return nearest_numbers(clock.times, np.asarray(moments, np.float64), tie=HAIR)


@_rule
def frames(clock: Clock, *numbers: int) -> Numbers:
    """The frames of the given numbers, which count from 0 in presentation order."""
    import numpy as np

    if late := [number for number in numbers if number >= len(clock)]:
        raise VideoError(f"asked for frame {late[0]}, but the last one is {len(clock) - 1}")
    return np.asarray(numbers, np.int64)


# --- the rules of other programs
# ---------------------------------------------------------------------------------


@_rule
def hf_chat(clock: Clock, maximum: int = 24) -> Numbers:
    """A published demo for a chat checkpoint: one frame a second, seconds compared in float32."""
    import numpy as np

    return _each_second(clock.times.astype(np.float32))[:maximum]


@_rule
def hf_base(clock: Clock, count: int = 24, start: float = 0.0, end: float = 60.0) -> Numbers:
    """A published demo for a base checkpoint, and ms-swift:
    evenly over ``start`` to ``end`` seconds.
    """
    first, stop = int(start * clock.fps), min(len(clock), int(end * clock.fps))
    if stop <= first:
        raise VideoError(
            f"no frame between {start:g} and {end:g} s at {clock.fps:g} frames a second"
        )
    return _evenly(first, stop - 1, _positive(count))


@_rule
def mf_train_average(clock: Clock, count: int = 24) -> Numbers:
    """MindFormers in training, and its OpenCV reader: evenly, short clips repeat frames."""
    return _evenly(0, len(clock) - 1, _positive(count))


@_rule
def mf_predict(
    clock: Clock, per_second: int = 1, maximum: int = 24, *, few: Few = "refuse"
) -> Numbers:
    """MindFormers in prediction: the last second is left out;
    fractional positions are cut to frames.
    """
    import numpy as np

    numbers: Numbers = mf_predict_positions(clock, per_second, maximum).astype(np.int64)
    if not len(numbers) and few == "all":
        return np.arange(len(clock))[:maximum]
    if not len(numbers):
        raise VideoError(
            "mf_predict finds no frame in a clip shorter than half a second; hf_chat finds one"
        )
    return numbers


@checked
def mf_predict_positions(
    clock: Clock, per_second: PositiveInt = 1, maximum: PositiveInt = 24
) -> Times:
    """MindFormers' positions in frames, (wanted,) float64,
    before they are cut to whole numbers; may be empty.
    """
    import numpy as np

    anchors = _each_second(np.arange(len(clock)) / clock.fps)  # (seconds,)
    steps = np.arange(_positive(per_second)) / per_second
    positions: Times = (anchors[:-1, None] + np.diff(anchors)[:, None] * steps).ravel()
    return positions[:maximum]


@_rule
def mindie(clock: Clock, maximum: int = 24, *, few: Few = "refuse") -> Numbers:
    """MindIE's reader: every ``round(fps)``-th frame."""
    return _steps(len(clock), round(clock.fps), few)[:maximum]


@_rule
def llava_next(
    clock: Clock,
    rate: float = 1.0,
    bound: int = 0,
    force: bool = False,
    *,
    few: Few = "refuse",
) -> Numbers:
    """The published decord reader of that name
    (``video_fps``, ``frames_upbound``, ``force_sample``).
    """
    numbers = _steps(len(clock), round(clock.fps / _positive(rate)), few)
    return (
        _evenly(0, len(clock) - 1, bound) if bound and (force or len(numbers) > bound) else numbers
    )


@_rule
def llava_next_pyav(
    clock: Clock, rate: float = 1.0, bound: int = 0, *, few: Few = "refuse"
) -> Numbers:
    """The published PyAV reader of that name,
    which takes the rate to be frames over the last frame's time.
    """
    last = float(clock.times[-1])
    if not last and few == "all":
        return _evenly(0, 0, 1)
    if not last:
        raise VideoError(
            "llava_next_pyav divides by the time of the last frame, which is 0; llava_next does not"
        )
    numbers = _steps(len(clock), round(len(clock) / last / _positive(rate)), few)
    return _evenly(0, len(clock) - 1, bound) if 0 < bound < len(numbers) else numbers


@_rule
def hf_num_frames(clock: Clock, count: int, *, few: Few = "refuse") -> Numbers:
    """Transformers' video processors with ``num_frames``:
    the starts of ``count`` equal segments.
    """
    import numpy as np

    if few == "all":
        count = min(count, len(clock))
    if count > len(clock):
        raise VideoError(
            f"hf_num_frames:{count} of a clip of {len(clock)} frames; "
            f"uniform:{count} takes what there is"
        )
    return np.arange(_positive(count)) * len(clock) // count


@_rule
def hf_fps(clock: Clock, rate: float, *, few: Few = "refuse") -> Numbers:
    """Transformers' video processors with ``fps``."""
    return hf_num_frames(clock, max(1, int(len(clock) / clock.fps * rate)), few=few)


@_rule
def hf_doc(clock: Clock, count: int = 8) -> Numbers:
    """The example in the documentation of transformers: ``arange(0, n, n / count)``."""
    import numpy as np

    numbers: Numbers = np.arange(0, len(clock), len(clock) / _positive(count)).astype(np.int64)
    return numbers


@_rule
def qwen(
    clock: Clock,
    rate: float = 2.0,
    minimum: int = 4,
    maximum: int = 768,
    start: float = 0.0,
    end: float | None = None,
) -> Numbers:
    """Qwen's published utilities (``fps``, ``min_frames``, ``max_frames``, ``video_start``,
    ``video_end``): an even number of frames, evenly spread, the first and the last included.

    They count frames, which is right where the rate is constant. Where it is not, the number of
    frames follows from how long the clip lasts, and they are the nearest to moments that are evenly
    spread from the first frame to the last.
    """
    first, last = _published_range(clock, start, end)
    count = last - first + 1
    length = count / clock.fps if clock.is_constant else clock.end * count / len(clock)
    fewest, most = 2 * math.ceil(minimum / 2), 2 * (min(maximum, count) // 2)
    wanted = min(max(length * _positive(rate), fewest), most, count)
    return _evenly_in_time(clock, first, last, 2 * math.floor(wanted / 2))


@_rule
def qwen_frames(clock: Clock, count: int, start: float = 0.0, end: float | None = None) -> Numbers:
    """The same utilities with ``nframes``: so many frames, rounded half to even pairs."""
    first, last = _published_range(clock, start, end)
    return _evenly_in_time(clock, first, last, 2 * round(_positive(count) / 2))


def _published_range(clock: Clock, start: float, end: float | None) -> tuple[int, int]:
    """Return the numbers of the first and the last frame between two times, both included."""
    last = len(clock) - 1
    if clock.is_constant:
        length = len(clock) / clock.fps
        first = math.ceil(min(max(start, 0.0), length) * clock.fps)
        if end is not None:
            last = min(math.floor(min(max(end, 0.0), length) * clock.fps), last)
    else:
        first = clock.first_at(start)
        if end is not None:
            last = min(clock.first_at(end + 2 * HAIR), len(clock)) - 1
    if first >= last and (start > 0 or end is not None):
        raise VideoError(
            f"no two frames from {start:g} to {end} s; the clip lasts {clock.end:.3f} s"
        )
    return first, last


def _evenly_in_time(clock: Clock, first: int, last: int, count: int) -> Numbers:
    import numpy as np

    if not 2 <= count <= last - first + 1:
        raise VideoError(
            f"{count} frames of a clip of {last - first + 1}: the rule takes 2 at least, and no "
            "frame twice; uniform:N takes what there is"
        )
    if clock.is_constant:
        numbers: Numbers = np.rint(_linspace_float32(first, last, count)).astype(np.int64)
        return numbers
    moments = np.linspace(clock.times[first], clock.times[last], count)
    return nearest_numbers(clock.times, moments, tie=HAIR)


def _linspace_float32(first: int, last: int, count: int) -> NDArray[Any]:
    """Return torch's linspace: in float32, each half from its own end."""
    import numpy as np

    step = np.float32(last - first) / np.float32(count - 1)
    index = np.arange(count, dtype=np.float32)
    from_first = np.float32(first) + step * index
    from_last = np.float32(last) - step * (np.float32(count - 1) - index)
    return np.where(index < count // 2, from_first, from_last)


@_rule
def hf_pairs(clock: Clock, rate: float = 2.0, minimum: int = 4, maximum: int = 768) -> Numbers:
    """Transformers' video processor for clips in pairs of frames, with ``fps``: an even number of
    frames, from the starts of equal segments.
    """
    count = len(clock)
    fewest, most = 2 * math.ceil(minimum / 2), 2 * (min(maximum, count) // 2)
    wanted = min(max(count / clock.fps * _positive(rate), fewest), most, count)
    return _segment_starts(count, 2 * math.floor(wanted / 2))


@_rule
def hf_pairs_frames(clock: Clock, count: int) -> Numbers:
    """The same with ``num_frames``, rounded half to even pairs."""
    return _segment_starts(len(clock), 2 * round(_positive(count) / 2))


def _segment_starts(count: int, wanted: int) -> Numbers:
    import numpy as np

    if not 0 < wanted <= count:
        raise VideoError(
            f"{wanted} frames in pairs of a clip of {count}; uniform:N takes what there is"
        )
    return np.arange(0, count, count / wanted).astype(np.int64)[:wanted]


@_rule
def hf_ends(clock: Clock, rate: float = 2.0, minimum: int = 4, maximum: int = 768) -> Numbers:
    """Transformers' video processor that samples by itself, with ``fps``: evenly by number, the
    first and the last frame included.
    """
    count = len(clock)
    wanted = min(max(int(count / clock.fps * _positive(rate)), minimum), maximum, count)
    return _round_evenly(count, wanted)


@_rule
def hf_ends_frames(clock: Clock, count: int) -> Numbers:
    """The same with ``num_frames``."""
    return _round_evenly(len(clock), _positive(count))


def _round_evenly(count: int, wanted: int) -> Numbers:
    import numpy as np

    numbers: Numbers = np.rint(np.linspace(0, count - 1, wanted)).astype(np.int64)
    return numbers


# --- arithmetic
# --------------------------------------------------------------------------------------------------


def _positive(value: float) -> Any:
    if value <= 0:
        raise UsageError(f"a count, step or rate of frames must be above 0, found {value:g}")
    return value


def _evenly(first: int, last: int, count: int) -> Numbers:
    """Floor of ``count`` points from ``first`` to ``last``,
    in floats as numpy's linspace: the programs do the same.
    """
    import numpy as np

    numbers: Numbers = np.floor(np.linspace(first, last, count)).astype(np.int64)
    return numbers


def _steps(count: int, step: int, few: Few) -> Numbers:
    import numpy as np

    if step <= 0 and few == "all":
        step = 1
    if step <= 0:
        raise VideoError(
            "the clip has fewer frames a second than are asked for; ask for fewer, or use uniform:N"
        )
    return np.arange(0, count, step)


def _each_second(times: NDArray[Any]) -> Numbers:
    """The frame nearest 0, 1, 2 ... seconds, up to the last time rounded half to even."""
    import numpy as np

    return nearest_numbers(times, np.arange(round(float(times[-1])) + 1))


@checked
def nearest_numbers(
    times: NDArray[Any], moments: NDArray[Any], *, tie: NonNegativeFloat = 0.0
) -> Numbers:
    """The lowest number among the frames nearest each moment; ``times`` ascend.

    Frames whose distances differ by no more than ``tie`` seconds are equally near. Rules of other
    programs leave it at 0 and the choice to the floats, as the programs do.
    """
    import numpy as np

    if len(times) == 1:
        return np.zeros(len(moments), np.int64)
    moments = moments.astype(times.dtype)
    after = np.searchsorted(times, moments).clip(1, len(times) - 1)  # (moments,)
    before = after - 1
    numbers = np.where(
        np.abs(times[after] - moments) < np.abs(times[before] - moments) - tie, after, before
    )
    first: Numbers = np.searchsorted(times, times[numbers])  # of frames that share a time
    return first


def _spread(numbers: Numbers, maximum: int | None) -> Numbers:
    if maximum is None or len(numbers) <= maximum:
        return numbers
    return numbers[_evenly(0, len(numbers) - 1, _positive(maximum))]


def _drop_repeats(numbers: Numbers, pad: Pad) -> Numbers:
    import numpy as np

    return np.unique(numbers) if pad == "none" else numbers


def _pad(numbers: Numbers, maximum: int | None, pad: Pad) -> Numbers:
    import numpy as np

    if pad == "none" or maximum is None or len(numbers) >= maximum:
        return numbers
    return np.concatenate([numbers, np.repeat(numbers[-1:], maximum - len(numbers))])
