"""What a template is made of, ours and others'.

A template turns a conversation into a sequence of :class:`Run` (ids of text that share one fate)
and :class:`Medium` (the placeholders of one picture or clip, and its :class:`PixelPlan`), and the
sequence into arrays:

1. :func:`require_answer` or :func:`require_question` give the messages that a sample or a prompt is
made of;
2. :func:`render_content` and :func:`merge_texts` give their content in pieces: strings, control
tokens, media;
3. :func:`plan_clip` says which frames of a video are taken and when they are, and
:func:`read_size` how large a picture is, before anything is decoded; a template that reads files
for it has :class:`ReadsFiles`' method, by which a stream sets its limits;
4. :func:`truncate` cuts what is too long, as ``max_length`` and ``over_long`` of the template say;
5. :func:`build_encoded` makes the arrays, with :func:`sequential_positions` or positions of the
family's own.

Families in ChatML with tools, whose media are cut into patches of any grid, inherit :class:`ChatML`
and say by :class:`Turn` how they render, and by :class:`Block` where clips are.

Of an answer, :func:`cut_at_stop` takes what is before its end, :func:`text_and_times` reads times,
and a grid of
:data:`GRIDS` reads boxes. A template declares the rest that the pipeline asks for, see
:class:`mmdata.templates.Template`; what most families say alike it inherits from
:class:`BaseTemplate`. Options say by their annotations what they
take, such as ``PositiveInt``: :func:`check_fields` holds a template to them, :func:`checked` a
function. The page ``docs/write_a_family.md`` leads through a family from the first line to the
installed package.

>>> items = [Run([1, 2]), Run([3, 4], trained=True)]
>>> kept, cut = truncate(items, max_length=3, over_long="truncate_right", conversation="one")
>>> build_encoded(kept, sequential_positions, cut=cut).labels.tolist()
[-100, -100, 3]
"""

from __future__ import annotations

from mmdata._tools.options import PositiveInt, check_fields, checked
from mmdata.templates._base import BaseTemplate
from mmdata.templates._box_objects import BoxUnit
from mmdata.templates._chatml import ChatML
from mmdata.templates._content import (
    Mark,
    Piece,
    cut_at_stop,
    media_of,
    merge_texts,
    refuse_region,
    refuse_system,
    render_content,
    require_answer,
    require_plain,
    require_question,
)
from mmdata.templates._encoded import IGNORE, Encoded, MediaSlot, PixelPlan, attention_mask
from mmdata.templates._features import FeatureIndex, index_all_rows
from mmdata.templates._fit import OverLong, truncate
from mmdata.templates._grid import GRIDS, Grid, GridName
from mmdata.templates._media import (
    Clip,
    FrameClock,
    ImageSize,
    MediaFiles,
    ReadsFiles,
    plan_clip,
    read_size,
    with_limits,
)
from mmdata.templates._places import Block, grid_block, place_blocks, position_delta
from mmdata.templates._sequence import (
    Item,
    Medium,
    Positions,
    Run,
    build_encoded,
    num_tokens,
    sequential_positions,
)
from mmdata.templates._times import text_and_times, time_text
from mmdata.templates._turns import (
    Bit,
    Turn,
    call_bits,
    message_bits,
    tool_head,
    tool_responses,
    tools_of,
)

__all__ = [
    "GRIDS",
    "IGNORE",
    "BaseTemplate",
    "Bit",
    "Block",
    "BoxUnit",
    "ChatML",
    "Clip",
    "Encoded",
    "FeatureIndex",
    "FrameClock",
    "Grid",
    "GridName",
    "ImageSize",
    "Item",
    "Mark",
    "MediaFiles",
    "MediaSlot",
    "Medium",
    "OverLong",
    "Piece",
    "PixelPlan",
    "Positions",
    "PositiveInt",
    "ReadsFiles",
    "Run",
    "Turn",
    "attention_mask",
    "build_encoded",
    "call_bits",
    "check_fields",
    "checked",
    "cut_at_stop",
    "grid_block",
    "index_all_rows",
    "media_of",
    "merge_texts",
    "message_bits",
    "num_tokens",
    "place_blocks",
    "plan_clip",
    "position_delta",
    "read_size",
    "refuse_region",
    "refuse_system",
    "render_content",
    "require_answer",
    "require_plain",
    "require_question",
    "sequential_positions",
    "text_and_times",
    "time_text",
    "tool_head",
    "tool_responses",
    "tools_of",
    "truncate",
    "with_limits",
]
