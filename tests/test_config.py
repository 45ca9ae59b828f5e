"""Settings go to text and back, and what is wrong with them is said in one line."""

from dataclasses import fields
from typing import get_type_hints

import pytest
import yaml
from docstring_parser import parse as parse_docstring
from hypothesis import given
from hypothesis import strategies as st

from diffusionmtl.config import GROUPS, Settings, changed, settings_from_flat
from diffusionmtl.errors import UserError
from diffusionmtl.plain_yaml import parse_yaml, read_yaml

WORDS = [f.name for kind in GROUPS.values() for f in fields(kind)]


def test_no_word_stands_in_two_groups():
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.parametrize("kind", GROUPS.values())
def test_every_word_is_explained(kind):
    explained = {p.arg_name for p in parse_docstring(kind.__doc__).params}
    assert explained == {f.name for f in fields(kind)}


def test_the_defaults_are_nothing():
    assert settings_from_flat({}, "nowhere") == Settings()
    assert changed(Settings()) == Settings()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "data": st.lists(st.text("abc/é ", min_size=1), min_size=1, max_size=3).map(tuple),
            "tasks": st.lists(st.text("abc", min_size=1), max_size=3).map(tuple),
            "size": st.tuples(st.integers(1, 999), st.integers(1, 999)),
            "holdout": st.floats(0, 0.9),
            "fit": st.booleans(),
            "method": st.sampled_from(["feature", "prediction", "multitask"]),
            "backbone_weights": st.none() | st.text("abc.", min_size=1),
            "width": st.integers(1, 999),
            "lr": st.floats(1e-9, 1),
            "task_weights": st.dictionaries(st.text("abc", min_size=1), st.floats(0, 9), max_size=3),
            "scale": st.just((0.5, 1.5)),
            "seed": st.integers(0, 2**31),
        },
    )
)
def test_settings_survive_yaml(words):
    settings = changed(Settings(), **words)
    text = yaml.safe_dump(settings.flat(), allow_unicode=True)
    assert settings_from_flat(parse_yaml(text, "text"), "text") == settings


def test_tuples_are_tuples_again():
    settings = settings_from_flat({"size": [3, 4], "data": ["a"]}, "x")
    assert (settings.data.size, settings.data.data) == ((3, 4), ("a",))
    for name, kind in GROUPS.items():
        for f in fields(kind):
            if str(get_type_hints(kind)[f.name]).startswith("tuple"):
                assert isinstance(getattr(getattr(settings, name), f.name), tuple)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"epchs": 3}, ["unknown setting 'epchs'", "Did you mean 'epochs'"]),
        ({"epochs": "three"}, ["epochs", "three"]),
        ({"epochs": 2.5}, ["epochs"]),
        ({"size": [3]}, ["size"]),
        ({"size": "big"}, ["size"]),
        ({"method": "featur"}, ["method", "featur"]),
        ({"fit": "maybe"}, ["fit", "maybe"]),
        ({"task_weights": {"depth": "much"}}, ["task_weights"]),
        ({"task_weights": [1]}, ["task_weights"]),
        ({"size": None}, ["'size' has no value"]),
        ({"epochs": 0}, ["--epochs 0", "1 or more"]),
        ({"batch": -1}, ["--batch -1", "1 or more"]),
        ({"size": [0, 5]}, ["--size 0", "1 or more"]),
        ({"ema": 1.0}, ["--ema 1.0", "between 0 and 1"]),
        ({"flip": 1.5}, ["--flip 1.5", "between 0 and 1"]),
        ({"lr": float("nan")}, ["--lr nan"]),
        ({"noise_start": 0.0}, ["--noise-start 0.0"]),
        ({"scale": [2.0, 0.5]}, ["--scale 2.0 0.5", "comes first"]),
        ({"seed": -1}, ["--seed -1", "0 or more"]),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_file_and_field(words, said):
    with pytest.raises(UserError) as raised:
        settings_from_flat(words, "run/config.yaml")
    message = str(raised.value)
    assert message.startswith("run/config.yaml: ")
    assert "\n" not in message
    for word in said:
        assert word in message


def test_changing_an_unknown_word():
    with pytest.raises(UserError, match="unknown setting 'epchs'"):
        changed(Settings(), epchs=3)
    with pytest.raises(UserError, match="--epochs 0: must be 1 or more"):
        changed(Settings(), epochs=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: &x [1]\nb: *x", "line 2: aliases"),
        (b"a: [", "not valid YAML"),
        (b"a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        (b"\xff\xfe\x00", "not "),
        (b"[" * 100_000, "nested too deeply"),
        (b"{a: " * 20_000, "nested too deeply"),
        (b" " * 1_000_001, "larger than"),
    ],
)
def test_only_plain_yaml_is_read(tmp_path, content, said):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_yaml(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(UserError, match="not readable"):
        read_yaml(tmp_path)
