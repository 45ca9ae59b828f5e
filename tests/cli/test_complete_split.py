"""`diffusionmtl complete --split`: labels that another split than the trained one misses."""

import json
import shutil
from pathlib import Path

from diffusionmtl.commands.reviewed_completed import CompletedFolder
from diffusionmtl.data.export import export_folder
from tests.cli.terminal import done, files_below, refused
from tests.runs import tiny, trained
from tests.toy import TASK_NAMES, ToyDataset


def test_val_is_completed_by_thresholds_of_train(tmp_path, capsys):
    data, bare, out = (tmp_path / name for name in ("toys", "bare", "out"))
    export_folder(data, {"train": ToyDataset(8), "val": ToyDataset(3, annotated={0: ["depth"], 1: []})})
    settings = tiny(data=(str(data),), labels="full", holdout=0.3, epochs=1, batch=2, self_training="never")
    run = trained(settings, tmp_path / "run").root
    words = ["complete", run, "--samples", 1, "--threshold", "depth=0", "--split", "val", "--data"]
    assert f"Next: diffusionmtl serve {run} --review {out}" in done(capsys, *words, data, "--out", out)
    written, before = files_below(out / "val"), files_below(data / "val")
    given = {f: content for f, content in written.items() if not f.startswith("predicted/")}
    assert given.items() <= before.items() and not (out / "train").exists()
    assert {Path(f).with_suffix("") for f in given} == {Path(f).with_suffix("") for f in before}
    missing = {(t, f"image {i}") for t in TASK_NAMES for i in range(2)} - {("depth", "image 0")}
    assert {(f.parent.name, f.stem) for f in (out / "confidence").rglob("*.png")} == missing

    folder = CompletedFolder(out)
    (pair,) = (pair for pair in folder.pairs if pair.task == "depth")
    assert pair.image == "image 1"
    folder.apply(pair, "reject")
    assert (out / f"rejected/{pair.task}").is_dir() and len(files_below(out / "val")) < len(written)

    # Labels of `val` choose no threshold: without any the thresholds are the same.
    shutil.copytree(data, bare, ignore=lambda folder, names: TASK_NAMES if Path(folder).name == "val" else [])
    done(capsys, *words, bare, "--out", tmp_path / "again")
    found = [json.loads((folder / "completed.json").read_text())["tasks"] for folder in (out, tmp_path / "again")]
    for task, said in found[0].items():
        assert said["images"] > 0
        assert said == found[1][task] | {key: said[key] for key in ("labels", "share")}

    words = [*words[:2], "--out", tmp_path / "none", "--data"]
    assert f"{run} saw a label of every task" in refused(capsys, *words, data)
    assert "no split 'vall'" in refused(capsys, *words, data, "--split", "vall")
    shutil.copytree(data / "train", data / "test")
    assert "split 'test' has a label of every task" in refused(capsys, *words, data, "--split", "test")
    assert not (tmp_path / "none").exists()
