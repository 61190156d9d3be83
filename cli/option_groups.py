"""Options that reach a command as one argument: a command names the group, and typer sees every option in it."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args


@dataclass(frozen=True)
class Parser:
    """Beside typer's option in an annotation: how what was typed becomes the value."""

    read: Callable[[str], Any]


@dataclass(frozen=True)
class OptionGroup:
    """Options that are one argument of a command, annotated as `Annotated[what_it_gets, OptionGroup(...)]`.

    Attributes:
        options: typer's annotation of each option, by what it sets, such as "epochs" or "images.source". An option
            whose type has no None is required.
        make: what the command gets, from the values that were given, by what they set.
        needed: what the others are about: where it is not given they mean nothing, and the command gets None.
    """

    options: dict[str, Any]
    make: Callable[[dict[str, Any]], Any] = dict
    needed: str | None = None

    def parameters(self) -> list[inspect.Parameter]:
        """The options as typer reads them from a signature."""
        return [_parameter(_name(key), annotation) for key, annotation in self.options.items()]

    def take(self, values: dict[str, Any]) -> Any:
        """Move this group's options out of the `values` of all, and make of them what the command gets."""
        taken = {key: values.pop(_name(key)) for key in self.options}
        typed = {key: value for key, value in taken.items() if value not in (None, [])}
        if self.needed is not None and self.needed not in typed:
            return None
        return self.make({key: parsed(self.options[key], value) for key, value in typed.items()})

    def only(self, *keys: str) -> "OptionGroup":
        """Some of these options, in another order."""
        return replace(self, options={key: self.options[key] for key in keys})


def signature_of(function: Callable[..., Any], order: str = "") -> list[inspect.Parameter]:
    """Every option of a command, those that `order` names first.

    Raises:
        ValueError: it names what is no option.
    """
    parameters = [one for parameter in inspect.signature(function).parameters.values() for one in _expanded(parameter)]
    places = {name: place for place, name in enumerate(order.split())}
    if unknown := places.keys() - {parameter.name for parameter in parameters}:
        raise ValueError(f"{function.__name__} has no option {', '.join(sorted(unknown))}")
    return sorted(parameters, key=lambda parameter: places.get(parameter.name, len(places)))


def arguments_of(function: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command from the values of all its options."""
    left, arguments = dict(values), {}
    for name, parameter in inspect.signature(function).parameters.items():
        group = _group(parameter)
        arguments[name] = parsed(parameter.annotation, left.pop(name)) if group is None else group.take(left)
    return arguments


def parsed(annotation: Any, value: Any) -> Any:
    """A value as the `Parser` in an annotation reads it, if there is one."""
    parser = next((part for part in get_args(annotation)[1:] if isinstance(part, Parser)), None)
    return value if parser is None or value is None else parser.read(value)


def _name(key: str) -> str:
    return key.replace(".", "_")


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    optional = type(None) in get_args(get_args(annotation)[0])
    default = None if optional else inspect.Parameter.empty
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _group(parameter: inspect.Parameter) -> OptionGroup | None:
    return next((part for part in get_args(parameter.annotation)[1:] if isinstance(part, OptionGroup)), None)


def _expanded(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    group = _group(parameter)
    if group is not None:
        yield from group.parameters()
    else:
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
