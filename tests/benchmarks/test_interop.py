"""What students learn before and after compression, by method: the page has the committed results, of every case."""

import importlib
import json

from tests.conftest import CHECKOUT


def test_the_page_has_the_committed_results(monkeypatch):
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    interop = importlib.import_module("interop")
    for case in interop.CASES:
        found = json.loads(interop.result_file(case).read_bytes())
        assert found["method"] == case.method
        for labels in ("all", "small"):
            assert found[labels]["accuracy"]["n"] == 3
        assert found["small"]["label_bytes"] < found["all"]["label_bytes"]
    assert interop.markdown(list(interop.CASES)) in (CHECKOUT / "docs" / "interop.md").read_text()
