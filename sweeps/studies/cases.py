"""What each study varies: its cases, of which every one is a label set and students of several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from lpqld.errors import ConfigError
from lpqld.storage import canonical_json, fingerprint
from lpqld.training import schedule_parts
from sweeps.config import StudyConfig

Edit = Literal[
    "none", "softened", "swapped", "swapped-top", "top-k", "hard", "argmax", "smoothed",
    "without-images", "without-mass", "without-mass-renormalised",
]  # fmt: skip
_STEPS = (1, 2, 5)
_MEMBERS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Case:
    """Labels of some images, and what is done to them.

    Attributes:
        ipc: images of each class.
        epoch: of the experts that say the labels; None for hard ones.
        members: experts whose logits are averaged.
        edit: what is done to the labels.
        value: of the edit: a temperature, a rank, how many classes are kept, a share that is smoothed away.
        removed: the class of which images or probability are removed, and whose own accuracy is measured too.
    """

    ipc: int
    epoch: int | None = None
    members: int = 1
    edit: Edit = "none"
    value: float | None = None
    removed: int | None = None

    @property
    def params(self) -> dict[str, Any]:
        """What differs from a plain soft label, by name."""
        plain = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != plain[name]}

    @property
    def case_id(self) -> str:
        """What tells it from other cases, 12 hexadecimal digits."""
        return fingerprint(canonical_json(self.params))[:12]

    @property
    def edit_name(self) -> str:
        """What is done to the labels, or what stands beside what others do to theirs."""
        if self.edit != "none":
            return self.edit
        return "soft" if self.removed is None else "control"

    def __str__(self) -> str:
        shown = {**self.params, **({"edit": self.edit_name} if self.removed is not None else {})}
        return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                         for name, value in shown.items())  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A question.

    Attributes:
        about: in a line, for help and reports.
        cases: of a configuration, the epochs of its experts, how many experts there are, and C.
    """

    about: str
    cases: Callable[[StudyConfig, Sequence[int], int, int], list[Case]]


def steps(most: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 ... below `most`, and `most`."""
    found = {step * 10**power for power in range(9) for step in _STEPS if step * 10**power < most}
    return sorted(found | {most})


def _epoch(config: StudyConfig, epochs: Sequence[int]) -> int:
    if config.epoch is None:
        return epochs[-1]
    if config.epoch not in epochs:
        raise ConfigError(f"epoch {config.epoch}: no expert was kept then; there are {', '.join(map(str, epochs))}")
    return config.epoch


def _by_epoch(config: StudyConfig, epochs: Sequence[int], experts: int, num_classes: int) -> list[Case]:
    return [Case(ipc, epoch) for ipc in config.ipc for epoch in epochs]


def _by_temperature(config: StudyConfig, epochs: Sequence[int], experts: int, num_classes: int) -> list[Case]:
    return [
        Case(ipc, epoch) if temperature == 1 else Case(ipc, epoch, edit="softened", value=temperature)
        for ipc in config.ipc
        for epoch in epochs
        for temperature in config.temperatures
    ]


def _by_members(config: StudyConfig, epochs: Sequence[int], experts: int, num_classes: int) -> list[Case]:
    some = config.members or [members for members in _MEMBERS if members <= experts]
    if experts < max(2, *some):
        more = "name more with experts.source" if config.experts.source else "raise experts.seeds"
        raise ConfigError(f"an ensemble of {max(2, *some)} needs as many experts, and there are {experts}: {more}")
    return [Case(ipc, _epoch(config, epochs), members) for ipc in config.ipc for members in some]


def _by_rank(config: StudyConfig, epochs: Sequence[int], experts: int, num_classes: int) -> list[Case]:
    epoch, found = _epoch(config, epochs), list[Case]()
    if bad := [rank for rank in config.ranks or () if rank >= num_classes]:
        raise ConfigError(f"ranks: {bad[0]} of {num_classes} classes cannot be exchanged with the last")
    for ipc in config.ipc:
        found.append(Case(ipc, epoch))
        found += [Case(ipc, epoch, edit="swapped", value=k) for k in config.ranks or steps(num_classes - 1)]
        found += [
            Case(ipc, epoch, edit="swapped-top", value=k)
            for k in config.ranks or steps(num_classes // 2)
            if k <= num_classes // 2
        ]
    return found


def _zero_shot(config: StudyConfig, epochs: Sequence[int], experts: int, num_classes: int) -> list[Case]:
    if bad := [label for label in config.removed if label >= num_classes]:
        raise ConfigError(f"removed: class {bad[0]}, and there are {num_classes} from 0")
    if set(schedule_parts(config.student.temperature)[:2]) != {1.0}:
        raise ConfigError(
            f"student.temperature {config.student.temperature}: zero-shot removes a class's share of labels as they"
            " are, at a temperature of 1"
        )
    epoch = _epoch(config, epochs)
    edits: tuple[Edit, ...] = ("none", "without-images", "without-mass", "without-mass-renormalised")
    return [
        Case(ipc, epoch, edit=edit, removed=removed)
        for ipc in config.ipc
        for removed in config.removed
        for edit in edits
    ]


def _by_size_and_k(config: StudyConfig, epochs: Sequence[int], experts: int, num_classes: int) -> list[Case]:
    epoch, found = _epoch(config, epochs), list[Case]()
    if bad := [k for k in config.k or () if k > num_classes]:
        raise ConfigError(f"k {bad[0]}: there are {num_classes} classes")
    for ipc in config.ipc:
        for k in config.k if config.k is not None else [0, *steps(num_classes)]:
            if k == 0:
                found.append(Case(ipc, edit="hard"))
            elif k == num_classes:
                found.append(Case(ipc, epoch))
            else:
                found.append(Case(ipc, epoch, edit="top-k", value=k))
    return found


def _hard(config: StudyConfig, epochs: Sequence[int], experts: int, num_classes: int) -> list[Case]:
    epoch, found = _epoch(config, epochs), list[Case]()
    for ipc in config.ipc:
        found += [Case(ipc, epoch), Case(ipc, epoch, edit="argmax"), Case(ipc, edit="hard")]
        found += [Case(ipc, edit="smoothed", value=epsilon) for epsilon in config.smoothing]
    return found


STUDIES = {
    "expert-epoch": Study("student accuracy by the epoch of the expert, for each number of images", _by_epoch),
    "temperature": Study("labels softened at a temperature, by the epoch of the expert", _by_temperature),
    "ensemble": Study("the mean of the logits of several experts", _by_members),
    "swap": Study("a rank of the label exchanged with its last, and the top ranks with the last ones", _by_rank),
    "entropy": Study("the labels' entropy and the expert's accuracy beside the student's", _by_epoch),
    "zero-shot": Study("a class whose images are removed, or whose share of other labels is", _zero_shot),
    "scaling": Study("images of a class and classes kept in a label: how many images a label is worth", _by_size_and_k),
    "hard": Study("hard, argmax and smoothed labels beside soft ones", _hard),
}
