"""The members of `ViewSource`, and which of them a label set has.

A new member is a file of its own and a line here: in `DRAWN` for another version of the drawing rule, in `RECORDED` for
views that label sets keep in files.
"""

from __future__ import annotations

from lpqld.errors import ConfigError
from lpqld.storage import Fields, Location
from lpqld.views.drawn import DrawnSource
from lpqld.views.recorded import RecordedSource
from lpqld.views.rule import ViewRule
from lpqld.views.source import ViewSource

# By the version of the rule.
DRAWN: dict[int, type[DrawnSource]] = {1: DrawnSource}
# By the version of the label-set format.
RECORDED: dict[int, type[RecordedSource]] = {2: RecordedSource}

# The names of all files that label sets have for their views.
VIEW_FILES = frozenset(name for member in RECORDED.values() for name in member.file_names)


def format_versions(*, with_files: bool) -> tuple[int, ...]:
    """Versions of the label-set format that are read, with or without those whose views are in files."""
    drawn = {member.format_version for member in DRAWN.values()}
    return tuple(sorted(drawn | set(RECORDED) if with_files else drawn))


def drawn_by(rule: ViewRule, seed: int) -> ViewSource:
    """The source of the views that `rule` draws with `seed`.

    Raises:
        ConfigError: this lpqld does not know the version of the rule.
    """
    return _drawing(rule)(rule, seed)


def read_views(version: int, rule: ViewRule, seed: int, fields: Fields, folder: Location | None) -> ViewSource:
    """The source that a manifest describes; see `ViewSource.read`, which raises as this does.

    Args:
        version: of the label-set format.
        rule, seed, fields, folder: see there.
    """
    drawing = _drawing(rule)  # also of recorded views, which the rule describes
    return RECORDED.get(version, drawing).read(rule, seed, fields, folder)


def _drawing(rule: ViewRule) -> type[DrawnSource]:
    """The member that draws by rules of a version."""
    if rule.version not in DRAWN:
        known = " and ".join(map(str, DRAWN))
        raise ConfigError(f"these views were drawn by rule version {rule.version}; this lpqld knows {known}")
    return DRAWN[rule.version]
