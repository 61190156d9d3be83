"""The configuration of a sweep, the presets that ship, and what `plan` makes of them."""

from pathlib import Path

import pytest
from torch import nn

from lpqld.errors import ConfigError
from lpqld.models.architectures import build
from sweeps.config.load import load_config, parse_settings, preset_names
from sweeps.config.sweep import SweepConfig
from sweeps.plan import make_plan

PRESETS = ["cifar10", "cifar100", "digits", "in1k", "in21k", "tiny"]
CHEAP = {
    "in1k": {"teacher.input_size": 32, "images.size": 32},
    "in21k": {"teacher.input_size": 32, "images.size": 32, "student.batch_size": 4, "relabel.batch_size": 4},
    "tiny": {"teacher.input_size": 16, "images.size": 16},
}


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


class TestPresets:
    def test_names(self):
        assert preset_names() == PRESETS

    @pytest.mark.parametrize("name", PRESETS)
    def test_parses_and_says_what_data_it_needs(self, name):
        config = load_config(name)
        assert config.name == name
        assert config.description
        config.views.rule()
        if name == "digits":
            config.require_data()
            return
        with pytest.raises(ConfigError) as caught:
            config.require_data()
        for words in ("--images PATH", "--eval PATH", "--teacher FILE", "Parquet", "image folder", ".safetensors"):
            assert words in str(caught.value)

    def test_only_what_is_missing_is_asked_for(self):
        config = load_config("cifar10", {"images.source": "a", "teacher.source": "b"})
        with pytest.raises(ConfigError, match="--eval PATH") as caught:
            config.require_data()
        assert "--images" not in str(caught.value)
        assert "--teacher" not in str(caught.value)

    @pytest.mark.integration  # a plan measures the machine
    @pytest.mark.parametrize("name", PRESETS)
    def test_plans(self, name):
        config = load_config(name, CHEAP.get(name, {}))
        plan = make_plan(config, measure_seconds=0.01)
        assert plan.labels.num_views == plan.images.num_images * plan.labels.views_per_image
        assert plan.labels.all_label_bytes == plan.labels.num_views * plan.images.num_classes * 2
        assert plan.images.num_images == plan.images.num_classes * config.images.ipc
        assert plan.images.image_bytes_are_estimated == (name != "digits")
        assert plan.hours.relabel_rate > 0
        assert plan.hours.train_hours == pytest.approx(
            plan.hours.num_trainings * plan.images.num_images * config.student.epochs / plan.hours.train_rate / 3600
        )
        assert len(plan.budgets) == len(config.search.budgets)
        for budget in plan.budgets:
            assert budget.compression == pytest.approx(plan.labels.all_label_bytes / budget.budget)
            assert 0 <= budget.prune_ratio[0] <= budget.prune_ratio[1] < 1

    @pytest.mark.parametrize("mode", ["class", "cross"])
    def test_plans_what_is_recovered_first(self, mode):
        changed = {"images.source": "recover", "images.real": "digits:train", "images.ipc": 3, "recover.mode": mode}
        plan = make_plan(load_config("digits", changed), measure_seconds=0.01)
        recover = plan.synthesis
        assert plan.images.num_images == 30
        assert recover.num_training_images == 1078
        layers = [layer.num_features for layer in build("convnet", 10).modules() if isinstance(layer, nn.BatchNorm2d)]
        assert recover.statistics_bytes == (10 * (16 + 8 * sum(layers)) if mode == "class" else 0)
        assert (recover.num_batches, recover.batch_size) == ((10, 3) if mode == "class" else (1, 30))
        assert recover.recover_hours == pytest.approx(30 * recover.iterations / recover.image_rate / 3600)
        assert (recover.squeeze_hours > 0) == (mode == "class")
        assert make_plan(load_config("digits"), measure_seconds=0.01).synthesis is None

    def test_every_epoch_that_trials_choose_from_is_labeled_by_every_expert(self, tmp_path):
        for name in ("e-seed0", "e-seed0-epoch1", "e-seed0-epoch4", "e-seed0-epoch9", "e-seed1"):
            (tmp_path / f"{name}.safetensors").touch()
        for epoch in (1, 4, 9):
            (tmp_path / f"e-seed1-epoch{epoch}.safetensors").touch()
        experts = {"teacher": {"experts": str(tmp_path / "e-seed?.safetensors")}}

        def labeled(changes: dict[str, object]) -> tuple[int, int, float]:
            plan = make_plan(load_config("digits", changes), measure_seconds=0.01)
            once = plan.labels.num_views / plan.hours.relabel_rate / 3600
            copies = plan.labels.master_bytes // plan.labels.all_label_bytes
            return plan.labels.num_masters, copies, plan.hours.relabel_hours / once

        assert labeled({}) == (1, 1, pytest.approx(1))
        assert labeled(experts) == (1, 1, pytest.approx(2))
        experts["teacher"]["epoch"] = "search"
        assert labeled(experts) == (3, 3, pytest.approx(6))
        assert labeled({"relabel": {"labels": "somewhere"}}) == (0, 0, 0)

    def test_papers_settings_of_imagenet_1k(self):
        config = load_config("in1k", CHEAP["in1k"])
        plan = make_plan(config, measure_seconds=0.01)
        assert (plan.labels.num_views, plan.labels.bytes_per_label) == (3_000_000, 2_000)
        assert plan.labels.all_label_bytes == 6_000_000_000  # 5.59 GiB; published, with containers: 5.67
        assert [budget.budget for budget in plan.budgets] == [150_000_000, 75_000_000, 30_000_000]
        assert plan.labels.master_bytes == 3_000_000 * 250 * 4
        assert plan.labels.num_shards == 510  # a 512th of the job, 46 batches of 128
        student, rule = config.student, config.views.rule()
        assert (student.optimizer, student.lr, student.epochs, student.batch_size) == ("adamw", 1e-3, 300, 128)
        assert (rule.mix, rule.flip, rule.crop_scale, config.relabel.batch_size) == ("cutmix", True, (0.08, 1), 128)

    def test_papers_settings_of_imagenet_21k(self):
        config = load_config("in21k", CHEAP["in21k"])
        plan = make_plan(config, measure_seconds=0.01)
        assert plan.labels.num_views == 10_450 * 10 * 300
        assert plan.labels.all_label_bytes / 2**30 == pytest.approx(610, rel=0.01)  # published, with containers: 643
        assert plan.memory.pixel_bytes == 10_450 * 10 * 3 * config.images.size**2
        full = load_config("in21k")
        student, rule = full.student, full.views.rule()
        assert (student.optimizer, student.lr, student.mean, student.std) == ("adamw", 2e-3, (0, 0, 0), (1, 1, 1))
        assert (rule.mix, rule.flip, rule.cutout, full.relabel.batch_size) == ("none", False, True, 32)
        assert full.paper.k_for(10_450) == pytest.approx(200, abs=2)

    def test_papers_settings_of_tiny_imagenet(self):
        config = load_config("tiny")
        student, rule = config.student, config.views.rule()
        assert (student.optimizer, student.lr, student.momentum, student.weight_decay) == ("sgd", 0.2, 0.9, 1e-4)
        assert (student.epochs, student.warmup_epochs, student.square_temperature) == (100, 5, True)
        assert (rule.mix, rule.flip, config.relabel.batch_size, config.teacher.architecture) == (
            *("none", True, 64, "tiny_resnet18"),
        )


class TestFiles:
    def test_base_preset_and_overrides(self, tmp_path):
        path = write(tmp_path / "mine.yaml", "base: digits\nstudent: {epochs: 7}\nsearch: {budgets: [x10, 5KB]}\n")
        config = load_config(path)
        assert (config.name, config.student.epochs, config.search.budgets) == ("mine", 7, ("x10", "5KB"))
        assert config.student.lr == load_config("digits").student.lr
        assert config.teacher == load_config("digits").teacher

    def test_base_of_a_base(self, tmp_path):
        path = write(tmp_path / "mine.yaml", "base: cifar100\nimages: {ipc: 2}\n")
        config = load_config(path)
        assert (config.images.ipc, config.images.size, config.num_classes) == (2, 32, 100)

    def test_base_of_itself(self, tmp_path):
        path = tmp_path / "mine.yaml"
        write(path, f"base: {path}\n")
        with pytest.raises(ConfigError, match="base"):
            load_config(str(path))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: [", "not valid YAML"),
            ("- 1\n", "expected a mapping"),
            ("", "expected a mapping"),
            ("base: nothing\n", "'nothing' is neither a preset"),
        ],
        ids=["syntax", "list", "empty", "base"],
    )
    def test_bad_file(self, tmp_path, text, message):
        with pytest.raises(ConfigError, match=message):
            load_config(write(tmp_path / "bad.yaml", text))


class TestMistakes:
    @pytest.mark.parametrize(
        ("preset", "message"),
        [("digit", r"neither a preset .*did you mean digits\?"), ("no/such.yaml", "nor a YAML file")],
        ids=["typo", "path"],
    )
    def test_unknown_preset(self, preset, message):
        with pytest.raises(ConfigError, match=message):
            load_config(preset)

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("student.epoch", r"unknown key student\.epoch; did you mean epochs\?"),
            ("studnet.epochs", r"unknown key studnet; did you mean student\?"),
            ("search.zzz", r"unknown key search\.zzz; the keys in search are budgets, trials"),
        ],
        ids=["leaf", "group", "no-guess"],
    )
    def test_unknown_key_says_which_was_meant(self, key, message):
        with pytest.raises(ConfigError, match=message):
            load_config("digits", {key: 3})

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("images.ipc", 0),
            ("student.epochs", "many"),
            ("student.epochs", 0),
            ("student.optimizer", "adam"),
            ("student.temperature", "hot"),
            ("student.lr", -1),
            ("paper.temperature", "20:2:linear"),
            ("views.crop_scale", [0, 1]),
            ("views.mix", "blend"),
            ("search.budgets", ["x0.5"]),
            ("search.budgets", ["50XB"]),
            ("search.budgets", []),
            ("search.bits", [1, 4]),
            ("search.k", [0]),
            ("search.lr", [0.1, 0.01]),
            ("search.ca", ["maybe"]),
            ("teacher.mean", [0.5, 0.5]),
            ("teacher.epoch", "best"),
            ("teacher.epoch", 3),
            ("name", "../x"),
            ("name", ""),
            ("confirm.seeds", 0),
        ],
        ids=str,
    )
    def test_bad_value_is_refused_before_anything_starts(self, key, value):
        with pytest.raises(ConfigError) as caught:
            load_config("digits", {key: value})
        assert key.split(".")[-1] in str(caught.value)

    def test_one_teacher_alone(self):
        with pytest.raises(ConfigError, match="source and experts: a sweep has one teacher"):
            load_config("cifar10", {"teacher.source": "a.pth", "teacher.experts": "b*.safetensors"})
        config = load_config("cifar10", {"teacher.experts": "b*.safetensors", "teacher.epoch": "search"})
        assert config.has_teacher
        assert config.searches_epoch
        own = {"images.source": "a", "eval.source": "b", "relabel.labels": "c"}
        with pytest.raises(ConfigError, match=r"leave out teacher\.epoch=search"):
            load_config("cifar10", {"teacher.experts": "b", "teacher.epoch": "search", **own}).require_data()

    def test_of_labels_that_are_there_no_teacher_is_fitted(self):
        assert load_config("digits").has_teacher
        assert not load_config("digits", {"relabel.labels": "labels"}).has_teacher

    def test_setting_below_a_value(self):
        with pytest.raises(ConfigError, match=r"--set name\.x: name is a value"):
            load_config("digits", {"name.x": 1})

    def test_all_mistakes_are_said_at_once(self):
        with pytest.raises(ConfigError, match=r"images\.ipc: .*; .*unknown key student\.epoch"):
            load_config("digits", {"images.ipc": 0, "student.epoch": 1})


class TestSettings:
    def test_values_are_yaml(self):
        settings = parse_settings(["a.b=3", "c=[1, 2]", "d=x40", "e=1e-3", "f=a=b", "g=", "h=true"])
        assert settings == {"a.b": 3, "c": [1, 2], "d": "x40", "e": "1e-3", "f": "a=b", "g": None, "h": True}

    def test_learning_rate_may_be_written_with_an_exponent(self):
        assert load_config("digits", parse_settings(["student.lr=1e-3"])).student.lr == 1e-3

    @pytest.mark.parametrize("text", ["student.epochs", "=3", "a={"])
    def test_other_forms_are_refused(self, text):
        with pytest.raises(ConfigError, match="--set"):
            parse_settings([text])


class TestBudgets:
    def test_ratios_and_sizes(self):
        search = load_config("digits", {"search.budgets": ["x40", "50KB", "8KiB", "x10"]}).search
        assert search.budget_bytes(1_000_000) == (100_000, 50_000, 25_000, 8192)

    def test_equal_budgets_are_one(self):
        search = load_config("digits", {"search.budgets": ["x40", "25KB"]}).search
        assert search.budget_bytes(1_000_000) == (25_000,)

    def test_papers_k_follows_the_classes(self):
        paper = SweepConfig(name="a").paper
        assert [paper.k_for(classes) for classes in (10, 100, 200, 1000)] == [2, 10, 20, 100]
