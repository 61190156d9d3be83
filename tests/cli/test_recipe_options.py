"""Options that come from the fields of recipes, and the arguments that commands make of them."""

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from cli.option_groups import OptionGroup
from cli.output import Answer, command_listing
from cli.recipe_options import options_of, parse_triple
from lpqld.errors import ConfigError
from lpqld.storage import setting
from lpqld.training import Recipe


@dataclass(frozen=True)
class Paint:
    color: str = setting("red", "red or blue.")
    coats: int = setting(1, "How often.", minimum=1)
    mean: tuple[float, float, float] | None = setting(None, "Of the light.")
    gloss: bool = setting(False, "Shines.")
    hidden: int = 3


FURNITURE = OptionGroup(
    {
        "table.legs": Annotated[int | None, typer.Option("--legs", help="Of the table.")],
        "table.top": Annotated[list[str] | None, typer.Option("--top", help="Repeatable.")],
    }
)
APP = typer.Typer(rich_markup_mode=None)


@APP.command()
@command_listing("coats name")
def paint(
    name: Annotated[str, typer.Option("--name", help="Of it.")],
    changes: Annotated[dict[str, Any], options_of(Paint)],
    furniture: Annotated[dict[str, Any], FURNITURE],
    light: Annotated[Any, options_of(Recipe, needed="source", source=Annotated[str | None, typer.Option("--lamp")])],
) -> Answer:
    """Paint."""
    return Answer({"name": name, "changes": changes, "furniture": furniture, "light": light}, "")


def said(*words: str) -> Any:
    import json

    done = CliRunner().invoke(APP, [*words, "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_a_command_gets_what_was_typed():
    document = said("--name", "a", "--coats", "2", "--mean", "0.5", "--gloss", "--legs", "4")
    assert document["changes"] == {"coats": 2, "mean": [0.5, 0.5, 0.5], "gloss": True}
    assert document["furniture"] == {"table.legs": 4}
    assert said("--name", "a")["changes"] == said("--name", "a")["furniture"] == {}
    assert said("--name", "a", "--top", "x", "--top", "y")["furniture"] == {"table.top": ["x", "y"]}


def test_options_about_what_is_not_there_mean_nothing():
    assert said("--name", "a", "--arch", "convnet")["light"] is None
    assert said("--name", "a", "--lamp", "b", "--arch", "c")["light"] == {"source": "b", "architecture": "c"}


def test_help_lists_named_options_first_and_says_what_fields_say():
    text = CliRunner().invoke(APP, ["--help"]).stdout
    places = [text.index(option) for option in ("--coats", "--name", "--color", "--gloss", "--legs")]
    assert places == sorted(places)
    assert "How often.  [x>=1]" in text
    assert "--hidden" not in text


def test_the_order_names_options():
    with pytest.raises(ValueError, match="has no option no, other"):
        command_listing("other no name")(lambda name: Answer(name, ""))


def test_some_of_a_group():
    assert [parameter.name for parameter in FURNITURE.only("table.top").parameters()] == ["table_top"]


@pytest.mark.parametrize("text", ["1,2", "a", "1,2,3,4", ""])
def test_three_numbers_or_one(text):
    assert parse_triple("1 2,3", "--mean") == (1, 2, 3)
    assert parse_triple("2", "--mean") == (2, 2, 2)
    with pytest.raises(ConfigError, match=f"^--mean '{text}': expected three numbers"):
        parse_triple(text, "--mean")
