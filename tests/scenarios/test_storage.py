"""Label sets and images on an S3-compatible server, through Ray and the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.labels.label_set import LabelSet
from lpqld.labels.manifest import MANIFEST_FILE
from lpqld.labels.relabel import Labeler, specify
from lpqld.labels.shards import shard_file
from lpqld.models.teacher import Teacher, save_teacher
from lpqld.views.registry import drawn_by
from lpqld.views.rule import ViewRule
from sweeps.config.load import load_config
from sweeps.export import export
from sweeps.jobs.master_labels import make_master
from sweeps.jobs.relabel_shards import relabel
from sweeps.report.result import Accuracy, Point, SweepResult
from tests.checks import untrained_teacher
from tests.heard import Heard

CPU = torch.device("cpu")
RULE = ViewRule(crop_scale=(0.6, 1.0), flip=False)
CLASSES = tuple("0123456789")

pytestmark = pytest.mark.usefixtures("ray_cluster", "one_thread")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return ImageSet.open("digits:train").sample_per_class(2, seed=0)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return untrained_teacher(CLASSES)


@pytest.fixture(scope="module")
def checkpoint(teacher, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_teacher(path, teacher, teacher.spec)
    return path


@pytest.fixture(scope="module")
def spec(teacher, images):
    return specify(teacher, images, RULE, views_per_image=30, batch_size=50, shard_views=100, seed=0, device=CPU)


@pytest.fixture(scope="module")
def expected(spec, teacher, images) -> dict[str, bytes]:
    labeler = Labeler(teacher, images, RULE, 0, CPU)
    return {shard_file(index): labeler.shard(spec, index) for index in range(6)}


@pytest.fixture(scope="module")
def stored(object_store, spec, teacher, images) -> str:
    """600 labels in 6 shards, made through Ray in the store."""
    uri = object_store.uri("labels")
    relabel(teacher, images, spec, uri)
    return uri


class TestRelabel:
    def test_bytes_are_those_of_one_process(self, object_store, stored, expected):
        found = object_store.files("labels")
        manifest = found.pop(MANIFEST_FILE)
        assert found == expected, "the shards and nothing else"
        label_set = LabelSet.open(stored)
        assert label_set.num_bytes["total"] == len(manifest) + sum(map(len, expected.values()))
        label_set.verify()

    def test_an_interrupted_job_makes_what_is_missing(self, object_store, stored, spec, teacher, images):
        finished = object_store.files("labels")
        claim = json.dumps({"fingerprint": spec.fingerprint}).encode()
        for name, content in {**finished, ".relabel.json": claim}.items():
            if name not in (shard_file(1), shard_file(4), MANIFEST_FILE):
                object_store.write(f"resumed/{name}", content)
        object_store.requests.clear()
        heard = Heard()
        relabel(teacher, images, spec, object_store.uri("resumed"), workers=1, progress=heard)
        assert heard.counts == [("relabel", done, 6) for done in (4, 5, 6)]
        assert object_store.files("resumed") == finished
        written = [path.rpartition("/")[2] for method, path, _ in object_store.requests if method in ("PUT", "POST")]
        *shards, manifest, marker = written
        assert (sorted(shards), manifest) == ([shard_file(1), shard_file(4)], MANIFEST_FILE), "the manifest comes last"
        assert marker == "", "deleting the job's claim, pyarrow leaves an empty object for the folder"

    def test_a_finished_set_is_left_alone_and_another_job_refused(self, object_store, stored, spec, teacher, images):
        object_store.requests.clear()
        relabel(teacher, images, spec, stored)
        assert {method for method, _, _ in object_store.requests} == {"HEAD", "GET"}
        with pytest.raises(ConfigError, match=r"holds another label set \(seed\); choose another --out"):
            relabel(teacher, images, replace(spec, views=drawn_by(RULE, 1)), stored)

    def test_a_store_that_refuses_stops_the_job_at_once(self, object_store, spec, teacher, images):
        object_store.requests.clear()
        with object_store.refusing(), pytest.raises(ConfigError, match="refuses these credentials"):
            relabel(teacher, images, spec, object_store.uri("refused"), workers=1)
        with pytest.raises(ConfigError, match="there is no bucket nowhere"):
            relabel(teacher, images, spec, object_store.uri("labels", bucket="nowhere"))
        assert len(object_store.requests) < 30, "what is refused is not asked again and again"

    def test_a_sweep_keeps_its_master_where_its_configuration_says(
        self, object_store, stored, teacher, images, tmp_path
    ):
        settings = {"relabel.folder": object_store.uri("masters"), "relabel.views": 3, "relabel.workers": 1}
        config = load_config("digits", settings)
        for _ in range(2):  # found again the second time
            object_store.requests.clear()
            label_set = make_master(config, teacher, images, tmp_path, CPU).label_set
        assert {method for method, _, _ in object_store.requests} == {"HEAD", "GET"}
        assert str(label_set.folder) == object_store.uri(f"masters/{label_set.spec.fingerprint[:16]}")
        assert list(tmp_path.iterdir()) == []


class TestCommands:
    def test_from_images_in_the_store_to_a_student(self, object_store, images, checkpoint, in_process, tmp_path):
        where = {name: object_store.uri(f"commands/{name}") for name in ("images", "labels", "small", "test")}
        images.write(where["images"])
        ImageSet.open("digits:test").sample_per_class(5, seed=0).write(where["test"])
        line = ["--images", where["images"], "--teacher", checkpoint, "--views", 20, "--preset", "digits", "--json"]
        made = in_process("relabel", *line, "--out", where["labels"]).document
        assert (made["path"], made["num_views"]) == (where["labels"], 400)
        assert made["bytes"]["total"] == sum(map(len, object_store.files("commands/labels").values()))
        small = in_process("compress", where["labels"], where["small"], "--k", 3, "--bits", 4, "--json").document
        assert small["bytes"]["total"] == sum(map(len, object_store.files("commands/small").values()))
        found = in_process("inspect", where["small"], "--against", where["labels"], "--json").document
        assert (found["path"], found["bytes"]) == (where["small"], small["bytes"])
        assert in_process("inspect", where["images"], "--json").document["fingerprint"] == images.fingerprint
        checked = ["--images", where["images"], "--teacher", checkpoint, "--sample", 20, "--json"]
        assert in_process("verify", where["labels"], *checked).document["recomputed"] == 20
        data = ["--images", where["images"], "--labels", where["small"], "--eval", where["test"]]
        settings = ["--arch", "convnet", "--epochs", 2, "--seeds", 1, "--root", tmp_path]
        trained = in_process("train", *data, *settings, "--json").document
        assert trained["label_bytes"] == small["bytes"]["total"]

    def test_verify_finds_a_flipped_byte_and_a_truncated_object(self, object_store, stored, in_process):
        for name, content in object_store.files("labels").items():
            object_store.write(f"damaged/{name}", content)
        content = object_store.files("damaged")[shard_file(3)]
        flipped = bytes([*content[:99], content[99] ^ 1, *content[100:]])
        for damaged, message in [(flipped, "its checksum does not match"), (content[:-1], "the file is truncated")]:
            object_store.write(f"damaged/{shard_file(3)}", damaged)
            done = in_process("verify", object_store.uri("damaged"))
            assert done.exit_code == 3
            assert f"s3://bucket/damaged/{shard_file(3)}" in done.stderr
            assert message in done.stderr

    @pytest.mark.parametrize("command", ["sweep", "pareto", "train"])
    def test_the_root_stays_local(self, command, in_process, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        data = ["--images", "digits:train", "--labels", "labels", "--eval", "digits:test"]
        done = in_process(command, *(data if command == "train" else ["digits"]), "--root", "s3://bucket/runs")
        assert done.exit_code == 2
        assert "s3://bucket/runs" in done.stderr
        assert "relabel.folder" in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_mistakes_are_of_the_configuration(self, object_store, in_process):
        missing = object_store.uri("x", bucket="nowhere")
        for line in (["inspect", missing], ["verify", missing], ["compress", missing, "out"]):
            done = in_process(*line)
            assert (done.exit_code, "Traceback" in done.stderr) == (2, False)
            assert "there is no bucket nowhere; create it or correct its name" in done.stderr


@pytest.mark.parametrize("count", [1, 2])
def test_label_sets_are_exported_to_the_store(count, object_store, stored, tmp_path):
    labels = LabelSet.open(stored).labels
    points = [
        Point(f"trial{k}", None, 0, 0, Accuracy.of([0.5]), 0.5, {}, labels=str(tmp_path), on_front=True)
        for k in range(1, count + 1)
    ]
    written = {}
    for k, point in enumerate(points, start=1):
        encoded = encode(labels, TopK(k))
        encoded.write(tmp_path / "digits" / "labels" / point.trial_id)
        written[point.trial_id] = [*encoded.shards, encoded.manifest.to_bytes()]
    result = SweepResult("digits", str(tmp_path), {}, tuple(points), (), {}, 0, 0, (), {})
    uri = object_store.uri(f"exported{count}")
    targets = [found.folder for found in export(result, points, uri, "lpqld", tmp_path)]
    assert [[(target / name).read_bytes() for name in LabelSet.open(target).files] for target in targets] == [
        written[point.trial_id] for point in points
    ]
    assert str(targets[0]) == (uri if count == 1 else object_store.uri("exported2/trial1"))
    with pytest.raises(ConfigError, match="is not empty; choose a new folder"):
        export(result, points, uri, "lpqld", tmp_path)
