import json
from dataclasses import dataclass, fields

import pytest

from lpqld.distill.recipe import RecoverRecipe
from lpqld.errors import ConfigError
from lpqld.storage.settings import (
    Rule,
    Setting,
    check_settings,
    one_of,
    setting,
    setting_of,
    settings_json,
    settings_values,
)
from lpqld.training.recipe import Recipe


@dataclass(frozen=True)
class Paint:
    color: str = setting("red", "red or blue.", rule=one_of("red", "blue"))
    coats: int = setting(1, "How often.", minimum=1, rule=Rule("must be at least 1", lambda coats: coats >= 1))
    mix: tuple[float, float] = setting((0.5, 0.5), later=True)
    plain: int = 3


def test_fields_describe_themselves():
    described = {field.name: setting_of(field) for field in fields(Paint)}
    assert (described["coats"].about, described["coats"].minimum) == ("How often.", 1)
    assert described["mix"].about is None
    assert described["plain"] == Setting()
    assert Paint() == Paint("red", 1, (0.5, 0.5), 3)


def test_later_fields_are_written_where_they_say_something():
    assert settings_json(Paint()) == {"color": "red", "coats": 1, "plain": 3}
    assert settings_json(Paint(mix=(0.2, 0.8))) == {"color": "red", "coats": 1, "mix": [0.2, 0.8], "plain": 3}
    assert Paint(**settings_values({"mix": [0.2, 0.8]})) == Paint(mix=(0.2, 0.8))


def test_the_first_wrong_value_is_named():
    check_settings(Paint())
    with pytest.raises(ConfigError, match=r"^color must be red or blue, found 'green'$"):
        check_settings(Paint("green", 0))
    with pytest.raises(ConfigError, match=r"^paint\.coats must be at least 1, found 0$"):
        check_settings(Paint(coats=0), prefix="paint.", shown=str)
    assert one_of("a", "b", "c").words == "must be a, b or c"


@pytest.mark.parametrize("recipe", [Recipe(), RecoverRecipe()], ids=lambda recipe: type(recipe).__name__)
def test_bounds_of_options_are_within_what_is_valid(recipe):
    # An option's bound is refused before the recipe's rule, and must refuse nothing that is valid.
    for field in fields(recipe):
        minimum, rule = setting_of(field).minimum, setting_of(field).rule
        if minimum is not None and rule is not None:
            assert not rule.holds(minimum - 1), field.name


def test_recipes_are_json():
    for recipe in (Recipe(ema=0.9, order="recorded"), RecoverRecipe(batch_size=3)):
        assert type(recipe).from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
