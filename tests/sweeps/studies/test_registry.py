"""The registry of studies, and what each study and edit in it promises."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from lpqld.errors import ConfigError
from sweeps.studies.case import Case
from sweeps.studies.catalogue.hard import Argmax, Smoothed
from sweeps.studies.catalogue.swap import Swapped, SwappedTop
from sweeps.studies.catalogue.temperature import Softened
from sweeps.studies.catalogue.zero_shot import Control, WithoutImages, WithoutMass, WithoutMassRenormalised
from sweeps.studies.edits import Hard, Soft
from sweeps.studies.grid import KeptClasses
from sweeps.studies.registry import STUDY_NAMES, study_named
from tests.conftest import CHECKOUT

# Folders of label sets carry these ids: a study that was begun by an earlier version is found again.
CASES = {
    Case(1, 30): "bff35296cf7a",
    Case(2, 4, members=3): "5147b1f01dd8",
    Case(1, 30, edit=Softened(4.0)): "6b5060904c64",
    Case(1, 30, edit=Swapped(2)): "6056d3b00370",
    Case(1, 30, edit=SwappedTop(2)): "658483dbf5d0",
    Case(1, 30, edit=KeptClasses(5)): "cf7bbbfe4a79",
    Case(1, edit=Hard()): "747d5a637b20",
    Case(1, 30, edit=Argmax()): "1bd24de0a600",
    Case(1, edit=Smoothed(0.1)): "31d7461afda5",
    Case(1, 30, edit=Control(0)): "11208ff8a7a7",
    Case(1, 30, edit=WithoutImages(0)): "4f6c484e3098",
    Case(1, 30, edit=WithoutMass(0)): "e27082a974a4",
    Case(1, 30, edit=WithoutMassRenormalised(0)): "18635dec443b",
}


def test_every_module_of_the_catalogue_is_registered_under_its_name():
    modules = {path.stem for path in (CHECKOUT / "sweeps" / "studies" / "catalogue").glob("*.py")} - {"__init__"}
    assert {name.replace("-", "_") for name in STUDY_NAMES} == modules
    assert [study_named(name).name for name in STUDY_NAMES] == list(STUDY_NAMES)


def test_a_study_that_is_not_there():
    with pytest.raises(ConfigError, match="no study 'swaps': expected expert-epoch, temperature, "):
        study_named("swaps")


def test_names_are_known_without_what_runs_a_study():
    program = "import sys; from sweeps.studies import STUDY_NAMES; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "matplotlib", "ray"} & set(done.stdout.split())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_keeps_its_id_and_cannot_be_changed(case):
    assert case.case_id == CASES[case]
    assert is_dataclass(case.edit)
    for field in fields(case.edit):
        with pytest.raises(FrozenInstanceError):
            setattr(case.edit, field.name, 0)


def test_edits_of_the_same_numbers_are_told_apart():
    edits = [Swapped(2), SwappedTop(2), KeptClasses(2), WithoutImages(2), WithoutMass(2), Control(2)]
    assert len(set(edits)) == len({Case(1, 1, edit=edit).case_id for edit in edits}) == len(edits)
    assert Control(2).unchanged == WithoutMassRenormalised(2).unchanged == Control(2)
    assert Swapped(2).unchanged == Hard().unchanged == Soft()
