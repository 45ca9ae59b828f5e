"""The list of licences: who is on it, and who must not be."""

from email.message import Message
from importlib.metadata import PackageNotFoundError

import pytest

from tests.scripts import loaded


@pytest.fixture(scope="module")
def tool():
    return loaded("tools/licences.py")


class Fake:
    """An installed distribution, as far as its metadata tells."""

    version = "1.0"

    def __init__(self, requires=(), **fields):
        self.requires = list(requires)
        self.metadata = Message()
        for name, value in fields.items():
            for text in value if isinstance(value, list) else [value]:
                self.metadata[name.replace("_", "-")] = text


def finder(**installed):
    def find(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    return find


@pytest.mark.parametrize(
    "licence,word",
    [
        ("MIT", "permissive"),
        ("Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause", "permissive"),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", "permissive"),
        ("(ISC License (ISCL))", "permissive"),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", "weak copyleft"),
        ("LGPL-2.1-or-later", "weak copyleft"),
        ("(GNU Lesser General Public License v3 (LGPLv3))", "weak copyleft"),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", "weak copyleft"),
        ("GPL-3.0-only", "GPL or AGPL"),
        ("GPLv3", "GPL or AGPL"),
        ("(GNU General Public License v2 (GPLv2))", "GPL or AGPL"),
        ("(GNU Affero General Public License v3)", "GPL or AGPL"),
        ("AGPL-3.0", "GPL or AGPL"),
        ("MIT OR GPL-2.0-only", "permissive"),
        ("MIT AND GPL-2.0-only", "GPL or AGPL"),
        ("MIT AND (GPL-2.0-only OR MPL-2.0)", "weak copyleft"),
        ("LicenseRef-NVIDIA-Proprietary", "own terms"),
        ("", "unknown"),
        ("see the file", "unknown"),
        ("Limited Licence of Somebody", "unknown"),
        ("((MIT", "permissive"),
    ],
)
def test_how_far_a_licence_reaches(tool, licence, word):
    assert tool.WORDS[tool.verdict_on(licence)] == word


def test_where_a_licence_is_stated(tool):
    marks = ["License :: OSI Approved :: MIT License", "Programming Language :: Python"]
    assert tool.licence_of(Fake(License_Expression="BSD-3-Clause", Classifier=marks)) == "BSD-3-Clause"
    assert tool.licence_of(Fake(Classifier=marks, License="whatever")) == "(MIT License)"
    assert tool.licence_of(Fake(License="BSD\nRedistribution and use ...")) == "BSD"
    for nothing in (Fake(), Fake(License="UNKNOWN"), Fake(Classifier=["License :: OSI Approved"])):
        assert tool.licence_of(nothing) == ""


def test_what_is_needed_and_nothing_else(tool):
    find = finder(
        diffusionmtl=Fake(["a>=1", 'b; extra == "train"', 'c; extra == "dev"', 'd; sys_platform == "none"']),
        a=Fake(["A.B[fast]", "diffusionmtl", "gone"], License="MIT"),
        b=Fake(License="MIT"),
        c=Fake(License="GPLv3"),
        d=Fake(License="GPLv3"),
        **{"a-b": Fake(['e; extra == "fast"', 'c; extra == "slow"'], License="MIT"), "e": Fake(License="MIT")},
    )
    assert set(tool.needed("diffusionmtl", [], find)) == {"a", "a-b", "e"}
    assert set(tool.needed("diffusionmtl", ["train"], find)) == {"a", "a-b", "b", "e"}
    assert tool.main(["train"], find) == 0
    assert tool.main(["dev"], find) == 1


def test_what_is_incompatible_is_named(tool, capsys):
    find = finder(
        diffusionmtl=Fake(["good", "bad", "silent"]),
        good=Fake(License="MIT"),
        bad=Fake(License="AGPL-3.0"),
        silent=Fake(),
    )
    assert tool.main([], find) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "GPL or AGPL   bad 1.0: AGPL-3.0",
        "unknown       silent 1.0: not stated",
        "permissive    good 1.0: MIT",
        "3 distributions, 1 unknown",
    ]
    assert err == "incompatible with Apache-2.0: bad; do without them or make them optional\n"


def test_nothing_that_this_package_needs_is_incompatible(tool, capsys):
    assert tool.main(["train", "demo", "scale", "export", "video"]) == 0, capsys.readouterr().err
    assert "permissive    timm" in capsys.readouterr().out
