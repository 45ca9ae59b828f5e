"""`diffusionmtl compare` from end to end on tiny rooms: cells, seeds, interruptions, failures, mistakes."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from diffusionmtl.build import build_dataset, restore_run
from diffusionmtl.cli import main
from diffusionmtl.commands import cell as cells
from diffusionmtl.commands.cell import read_record, training_images, training_steps
from diffusionmtl.commands.compare import expected_seconds
from diffusionmtl.commands.variants import choose_variants
from diffusionmtl.config import changed
from diffusionmtl.data.partition import Partition, make_partition
from diffusionmtl.errors import UserError
from diffusionmtl.plain_yaml import read_yaml
from diffusionmtl.runfolder import RunFolder
from tests.cli.terminal import done, refused
from tests.runs import TINY, Interrupt, tiny, with_callback

SETTINGS = TINY | dict(tasks=("depth", "saliency"), holdout=0.0, epochs=1, rooms=12)
del SETTINGS["labels"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    words = {k: list(v) if isinstance(v, tuple) else v for k, v in SETTINGS.items()}
    path.write_text(yaml.safe_dump(words))
    return path


@pytest.fixture(scope="module")
def compared(config, tmp_path_factory):
    """Three methods, one seed, done."""
    out = tmp_path_factory.mktemp("compared") / "c"
    methods = ["singletask", "multitask", "feature"]
    assert main(["compare", "--config", str(config), "--methods", *methods, "--out", str(out)]) == 0
    return out


@pytest.fixture
def copied(compared, tmp_path):
    return Path(shutil.copytree(compared, tmp_path / "moved"))


def table(out: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with (out / "comparison.csv").open() as stream:
        return {(row["labels"], row["method"], row["seed"]): row for row in csv.DictReader(stream)}


def settings_of(run: Path):
    return restore_run(read_yaml(run / "config.yaml"), str(run))[0]


# What there is afterwards


def test_every_cell_is_a_run_with_scores_and_the_table_tells_of_all(compared):
    rows = table(compared)
    assert list(rows) == [("one", method, "0") for method in ("singletask", "multitask", "feature")]
    for (labels, method, seed), row in rows.items():
        metrics = json.loads((compared / labels / method / f"seed{seed}" / "metrics.json").read_text())
        for task, figure in (("depth", "absErr@pooled"), ("saliency", "maxF@pooled19")):
            assert float(row[f"{task}:{figure}"]) == pytest.approx(metrics["final"][task][figure], rel=1e-5)
        assert row["state"] == "done" and float(row["seconds"]) > 0 and int(row["params"]) > 1000
    assert float(rows["one", "singletask", "0"]["delta_m_vs_singletask"]) == 0
    assert math.isfinite(float(rows["one", "feature", "0"]["initial_delta_m_vs_multitask"]))
    text = (compared / "comparison.md").read_text()
    assert any(line.startswith("| feature") and "[" in line for line in text.splitlines())
    assert (compared / "comparison.svg").is_file()


def test_one_network_per_task_sees_its_own_labels_for_as_many_steps(compared):
    multi, single = compared / "one/multitask/seed0", compared / "one/singletask/seed0"
    settings = settings_of(multi)
    dataset = build_dataset(settings.data, "train")
    partition = Partition.load(RunFolder(multi).partition, dataset)
    steps = training_steps(settings, partition)
    for task in dataset.tasks:
        own = settings_of(single / task.name)
        seen = Partition.load(RunFolder(single / task.name).partition, build_dataset(own.data, "train"))
        assert seen.visible == {name: tasks & {task.name} for name, tasks in partition.visible.items()}
        assert own.network == changed(settings, method="singletask").network
        assert own.train.batch == settings.train.batch
        assert abs(training_steps(own, seen) - steps) <= training_images(own, seen) // own.train.batch / 2
    rows = table(compared)
    sizes = [int(rows["one", method, "0"]["params"]) for method in ("singletask", "multitask")]
    assert sizes[0] > 1.5 * sizes[1], "two networks, each about as large"


def test_a_few_labels_make_smaller_batches_not_fewer_steps():
    partition = Partition({str(i): frozenset({"depth"}) for i in range(3)}, "three")
    found = cells._with_steps(tiny(batch=8, holdout=0.0), partition, 50)
    assert (found.train.batch, found.train.epochs) == (3, 50)


@pytest.mark.slow
def test_methods_of_one_seed_see_the_same_labels_and_another_seed_others(config, copied, capsys):
    runs = ["multitask", "feature"]
    done(capsys, "compare", "--config", config, "--methods", *runs, "--seeds", 0, 3, "--out", copied)
    seen = {
        (method, seed): (copied / f"one/{method}/seed{seed}/partition.txt").read_text()
        for method in runs
        for seed in (0, 3)
    }
    assert seen["multitask", 0] == seen["feature", 0] != seen["multitask", 3] == seen["feature", 3]
    assert settings_of(copied / "one/feature/seed3").data.label_seed == 3


# Going on


def test_what_is_done_is_not_done_again_wherever_it_lies(config, copied, capsys, monkeypatch):
    monkeypatch.setattr(cells, "train", lambda *_, **__: pytest.fail("trained again"))
    before = (copied / "comparison.csv").read_bytes()
    said = done(
        capsys, "compare", "--config", config, "--methods", "singletask", "multitask", "feature", "--out", copied
    )
    assert "3 cells, 3 done already" in said
    assert (copied / "comparison.csv").read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_cell_goes_on_and_ends_like_one_that_was_not(config, compared, tmp_path, monkeypatch, capsys):
    out = tmp_path / "c"
    command = ["compare", "--config", str(config), "--methods", "multitask", "feature", "--out", str(out)]
    with monkeypatch.context() as patch:
        with_callback(patch, Interrupt(step=1))
        assert main(command) == 130
    assert "goes on" in capsys.readouterr().err
    states = {row["method"]: row["state"] for row in table(out).values()}
    assert states == {"multitask": "interrupted", "feature": "waiting"}
    assert "interrupted" in (out / "comparison.md").read_text()
    assert main(command) == 0
    for method in ("multitask", "feature"):
        weights = f"one/{method}/seed0/checkpoints/last.safetensors"
        assert (out / weights).read_bytes() == (compared / weights).read_bytes()


def test_a_killed_cell_is_interrupted_while_one_that_somebody_works_on_is_running(copied):
    cell, outcome = read_record(copied / "cells/one/feature-seed0.json")
    assert cells.state_of(cell, cells.outcome_of(cell)) == "done"
    cells.save_outcome(cell, replace(outcome, state="running"))
    assert cells.state_of(cell, cells.outcome_of(cell)) == "interrupted"
    with cells._alone(cell.record.with_suffix(".lock")):
        assert cells.state_of(cell, cells.outcome_of(cell)) == "running"
    assert cells.state_of(cell, cells.outcome_of(cell)) == "interrupted"


def test_other_settings_are_refused_but_for_those_that_change_nothing(config, copied, capsys):
    command = ["compare", "--config", config, "--methods", "multitask", "--out", copied]
    said = refused(capsys, *command, "--epochs", 7)
    assert "multitask-seed0.json" in said and "epochs 1, not 7" in said and "--out" in said
    assert "samples 1, not 3" in refused(capsys, *command, "--samples", 3)


def test_a_record_from_before_a_setting_existed_has_its_default(config, copied, capsys):
    record = copied / "cells/one/feature-seed0.json"
    raw = json.loads(record.read_text())
    assert raw["asked"]["settings"].pop("skip_spikes") == tiny().flat()["skip_spikes"]
    record.write_text(json.dumps(raw))
    command = ["compare", "--config", config, "--methods", "feature", "--out", copied]
    assert "1 done already" in done(capsys, *command)
    assert "begun with skip_spikes 0.0, not 7.0" in refused(capsys, *command, "--skip-spikes", "7")


def test_some_of_the_images(config, compared, tmp_path, capsys):
    names = build_dataset(settings_of(compared / "one/feature/seed0").data, "val").names[:2]
    few = tmp_path / "few.txt"
    few.write_text("\n".join(names))
    command = ["compare", "--config", config, "--methods", "multitask", "--out", tmp_path / "c"]
    assert "has no image" in refused(capsys, *command, "--images", compared / "comparison.md")
    done(capsys, *command, "--images", few)
    metrics = json.loads((tmp_path / "c/one/multitask/seed0/metrics.json").read_text())
    assert set(metrics["images"].values()) == {2}
    assert "begun with images" in refused(capsys, *command)


@pytest.mark.slow
def test_a_failing_cell_is_recorded_the_others_go_on_and_the_next_call_tries_again(
    config, tmp_path, capsys, monkeypatch
):
    out, usual = tmp_path / "c", cells.train

    def fails(settings, *args, **words):
        if settings.network.method == "multitask":
            raise UserError("step 3: the loss is not finite")
        if settings.train.seed == 1:
            raise RuntimeError("no such\nluck")
        return usual(settings, *args, **words)

    command = ["compare", "--config", config, "--methods", "multitask", "feature", "--seeds", 0, 1, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(cells, "train", fails)
        assert main([str(word) for word in command]) == 1
    said = capsys.readouterr().err
    assert "one/multitask/seed0 failed: step 3: the loss is not finite" in said
    rows = table(out)
    assert {key[1:]: row["state"] for key, row in rows.items()} == {
        ("multitask", "0"): "failed",
        ("multitask", "1"): "failed",
        ("feature", "0"): "done",
        ("feature", "1"): "failed",
    }
    assert rows["one", "feature", "1"]["reason"] == "RuntimeError: no such luck"
    assert rows["one", "feature", "0"]["params"] and rows["one", "feature", "1"]["params"] == "", "unknown, not 0"
    assert "seed 0: failed: step 3" in (out / "comparison.md").read_text()
    done(capsys, *command)
    assert {row["state"] for row in table(out).values()} == {"done"}


@pytest.mark.slow
def test_an_upper_bound_is_trained_once_for_all_label_settings(config, tmp_path, capsys):
    out = tmp_path / "c"
    words = ["--methods", "multitask", "full-multitask", "--labels", "one", "random"]
    said = done(capsys, "compare", "--config", config, *words, "--out", out)
    assert "3 cells" in said
    rows = table(out)
    assert (
        rows["one", "full-multitask", "0"]["depth:rmse@pooled"]
        == rows["random", "full-multitask", "0"]["depth:rmse@pooled"]
    )
    partition = RunFolder(out / "full/multitask/seed0").partition.read_text()
    assert "\tdepth\tsaliency" in partition
    assert float(rows["one", "full-multitask", "0"]["delta_m_vs_multitask"]) != 0


@pytest.mark.slow
def test_several_at_once_give_the_same_and_stop_together(config, compared, tmp_path):
    out = tmp_path / "c"
    program = [sys.executable, "-m", "diffusionmtl.cli", "compare", "--config", str(config), "--out", str(out)]
    command = [*program, "--methods", "multitask", "feature", "--jobs", "2", "--epochs", "400"]
    # Whoever runs the tests in the background has a shell that makes their processes deaf to Ctrl-C.
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    checkpoints = [out / f"one/{method}/seed0/checkpoints/last.ckpt" for method in ("multitask", "feature")]
    until = time.monotonic() + 240
    while not all(path.is_file() for path in checkpoints) and time.monotonic() < until:
        time.sleep(0.1)
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=240)  # a busy machine takes long to start and stop
    assert running.returncode == 130 and "interrupted" in said and "Traceback" not in said
    for record in (out / "cells/one").glob("*.json"):
        assert read_record(record)[1].state == "running"
        assert "stopping after this step" in record.with_suffix(".log").read_text()
    shutil.rmtree(out)
    done_now = subprocess.run([*command[:-2]], capture_output=True, text=True, timeout=300)
    assert done_now.returncode == 0, done_now.stderr
    assert [row["state"] for row in table(out).values()] == ["done", "done"]


def test_a_process_that_dies_is_a_failed_cell(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("diffusionmtl.commands.pool.sys.executable", shutil.which("false"))
    out = tmp_path / "c"
    command = ["compare", "--config", config, "--methods", "multitask", "feature", "--jobs", 2, "--out", out]
    assert main([str(word) for word in command]) == 1
    assert "its process ended with status 1; see" in capsys.readouterr().err


# Words


def test_the_words_for_methods():
    rows = choose_variants(["feature", "without-diffusion", "full-xtc", "without-conditioning"], ablate="prediction")
    assert [(row.name, dict(row.changes), row.full) for row in rows] == [
        ("feature", {"method": "feature"}, False),
        ("without-diffusion", {"method": "prediction", "diffusion": False}, False),
        ("full-xtc", {"method": "xtc"}, True),
        ("without-conditioning", {"method": "prediction", "condition": "none"}, False),
    ]


def test_variants_of_ones_own(tmp_path):
    path = tmp_path / "variants.yaml"
    path.write_text("four-steps: {steps: 4, form: published}\nzoomed: {scale: [0.5, 2], lr: 1e-3}\n")
    rows = {row.name: row for row in choose_variants(["multitask", "full-zoomed"], own=path)}
    assert list(rows) == ["multitask", "full-zoomed", "four-steps"]
    assert rows["four-steps"].changes == {"steps": 4, "form": "published"}
    assert rows["full-zoomed"].changes == {"scale": (0.5, 2.0), "lr": 1e-3}


BAD_VARIANTS = {
    "- one\n- two": "must say, per variant, its settings",
    "x: 3": "must say, per variant, its settings",
    "x: {stepz: 3}": "Did you mean 'steps'?",
    "x: {steps: many}": "x: ",
    "x: {labels: full}": "labels must be the same for all",
    "x: {seed: 3}": "seed must be the same for all",
    "feature: {steps: 3}": "no word that --methods knows already",
    "a/b: {steps: 3}": "use letters, digits",
    "full-x: {steps: 3}": "use letters, digits",
}


@pytest.mark.parametrize(("text", "said"), BAD_VARIANTS.items())
def test_variants_that_are_wrong(tmp_path, capsys, text, said):
    path = tmp_path / "variants.yaml"
    path.write_text(text)
    line = refused(capsys, "compare", "--variants", path, "--out", tmp_path / "c")
    assert said in line and "variants.yaml" in line


MISTAKES = {
    "unknown method": (["--methods", "featur"], "Did you mean 'feature'?"),
    "twice": (["--methods", "xtc", "xtc"], "--methods xtc: stands twice"),
    "labels twice": (["--labels", "one", "one"], "two go by one name"),
    "unknown labels": (["--labels", "onne"], "Did you mean 'one'?"),
    "sizes that do not fit": (["--width", "18"], "--width 18 is not a multiple"),
    "no jobs": (["--jobs", "0"], "--jobs"),
    "no weights": (["--backbone-weights", "there-is-no.pth"], "there-is-no.pth: no such file"),
    "unknown split": (["--split", "vall"], "no split 'vall'"),
    "no out": ([], "--out: name the folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(config, tmp_path, capsys, mistake):
    words, said = MISTAKES[mistake]
    out = [] if mistake == "no out" else ["--out", tmp_path / "c"]
    assert said in refused(capsys, "compare", "--config", config, "--methods", "multitask", *out, *words)
    assert not (tmp_path / "c").exists()


def test_the_published_configurations_fit_though_they_name_a_method_and_a_seed(tmp_path, capsys):
    nowhere = ["--root", tmp_path / "nowhere", "--out", tmp_path / "c"]
    assert "nowhere" in refused(capsys, "compare", "--config", "pascal/random/feature", *nowhere)


def test_rooms_are_the_same_for_all(config, tmp_path, capsys):
    path = tmp_path / "variants.yaml"
    path.write_text("larger: {size: [64, 64]}")
    said = refused(capsys, "compare", "--config", config, "--variants", path, "--out", tmp_path / "c")
    assert "larger: size would draw other rooms" in said


def test_a_record_that_is_damaged_is_named(config, copied, capsys):
    record = copied / "cells/one/multitask-seed0.json"
    record.write_text("{")
    said = refused(capsys, "compare", "--config", config, "--methods", "multitask", "--out", copied)
    assert "multitask-seed0.json: not the record of a cell" in said


def test_the_time_that_is_left_is_that_of_the_same_method_or_of_any():
    known = {Path("one/a-seed0.json"): 10.0, Path("one/a-seed1.json"): 20.0, Path("one/b-seed0.json"): 60.0}
    waiting = [Path("random/a-seed0.json"), Path("one/c-seed0.json")]
    assert expected_seconds(waiting, known) == 15 + 30
    assert expected_seconds(waiting, {}) == 0


def test_partitions_are_those_of_make_partition(compared):
    settings = settings_of(compared / "one/multitask/seed0")
    dataset = build_dataset(settings.data, "train")
    expected = make_partition("one", dataset, 0)
    assert Partition.load(RunFolder(compared / "one/multitask/seed0").partition, dataset).visible == expected.visible
