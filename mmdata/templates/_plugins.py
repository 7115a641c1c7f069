"""Templates of other packages: what they stumble over is told apart from our own faults, and names
the package.
"""

from __future__ import annotations

from mmdata.schema import Conversation
from mmdata.templates import registry
from mmdata.templates._encoded import Encoded
from mmdata.templates._template import Template

__all__ = ["encode"]


def encode(template: Template, conversation: Conversation, *, prompt: bool = False) -> Encoded:
    """Return a conversation as ``template`` reads it, as a training sample or as the ``prompt`` of
    its last question.

    Raises:
        TokenError: the template cannot encode it.
        PluginError: the template is another package's, and at fault.
    """
    with registry.blame_plugin(type(template)):
        encoded: object = template.prompt(conversation) if prompt else template.encode(conversation)

        if not isinstance(encoded, Encoded):
            name = "prompt" if prompt else "encode"
            raise TypeError(f"{name} must return an Encoded, found {type(encoded).__name__}")
        return encoded
