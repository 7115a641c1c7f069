"""The help of a command that has commands: each with all that its first sentence says."""

from __future__ import annotations

import click

__all__ = ["WholeHelp"]


class WholeHelp(click.Group):
    """A group whose help wraps what its commands do; click cuts it where a line is full."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names of the commands and what they do."""
        helps = ((name, self.commands[name].help or "") for name in self.list_commands(ctx))
        rows = [(name, " ".join(text.partition("\n\n")[0].split())) for name, text in helps]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
