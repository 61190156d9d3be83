"""Messages for people who type options: the library names arguments, this says which option each of them is."""

import re
from collections.abc import Iterator
from typing import Any

import typer

# `size`, or `size=224`; never two words, which are something else in backquotes.
_ARGUMENT = re.compile(r"`([a-z][a-z_]*)(?:=([^`]*))?`")
# Arguments that no option is called after, and what commands call them; the first that a command has is meant.
_SYNONYMS = {
    "architecture": ("architecture", "teacher_architecture"),
    "memory": ("image_memory",),
    "n": ("ipc", "images_ipc"),
    "skip_bad": ("skip_bad_images",),
}
# Of one command alone.
_SYNONYMS_IN = {"import": {"mean": ("image_mean",), "std": ("image_std",)}}


def with_option_names(message: str, context: typer.Context) -> str:
    """A message whose arguments in backquotes are the options of the running command, or else of any command.

    `size` becomes --size, `size=224` becomes --size 224, and the name of a command in backquotes what one types for it.
    What is neither stays as it is.
    """
    root: Any = context.find_root().command
    commands = dict(_commands(root))
    scopes = [_options(context.command), _options(*commands.values())]

    def spelled(match: re.Match[str]) -> str:
        name, value = match.groups()
        wanted = _SYNONYMS_IN.get(context.info_name or "", {}).get(name) or _SYNONYMS.get(name, (name,))
        for options in scopes:
            for each in wanted:
                if each in options:
                    return options[each] if value is None else f"{options[each]} {value}"
        return f"`lpqld {name}`" if name in commands and value is None else match[0]

    return _ARGUMENT.sub(spelled, message)


def _commands(group: Any) -> Iterator[tuple[str, Any]]:
    """Every command, those of sub-groups too, by its own name."""
    for name, command in getattr(group, "commands", {}).items():
        yield name, command
        yield from _commands(command)


def _options(*commands: Any) -> dict[str, str]:
    """The options of commands by the argument that each of them is."""
    return {
        parameter.name: parameter.opts[0]
        for command in commands
        for parameter in command.params
        if parameter.opts[0].startswith("--")
    }
