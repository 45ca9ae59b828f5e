"""Known vulnerabilities of everything that the package is installed with, from a public list of advisories.

`python tools/audit.py train export` looks up each distribution that the package and the extras named need, in the
version that is installed here, and prints what is known against it. pip-audit does the asking; it is installed into an
environment of its own (`--venv`, `.venv/audit`) and changes nothing here.

Ends with 1 if something is known, and with 3 where nothing could be asked: pip-audit cannot be installed, or the
advisories cannot be reached. A mirror of the index may answer without any, and everything would look well: so it is
asked first about an old release that is known to be bad. 3 is no verdict, and no test depends on this program: what is
known changes without anybody changing the code.
"""

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tools.licences import needed  # noqa: E402

KNOWN, NOT_ASKED = 1, 3
SECONDS = 600
BAD = "pillow==9.0.0"
"""A release against which a dozen advisories stand, CVE-2022-22817 among them."""


@dataclass(frozen=True)
class Advisory:
    """What is known against one version of a distribution."""

    name: str
    version: str
    number: str
    mended: tuple[str, ...]


def pinned(extras: Iterable[str]) -> list[str]:
    """`NAME==VERSION` of everything installed that is needed; of local versions (`+cpu`) the public part."""
    found = needed("diffusionmtl", extras)
    return [f"{name}=={Version(found[name].version).public}" for name in sorted(found)]


def advisories(said: str) -> list[Advisory] | None:
    """From pip-audit's JSON; None if that is none, which is how it says that it could not ask."""
    try:
        return [
            Advisory(str(one["name"]), str(one["version"]), str(known["id"]), tuple(map(str, known["fix_versions"])))
            for one in json.loads(said)["dependencies"]
            for known in one.get("vulns", ())
        ]
    except (ValueError, KeyError, TypeError):
        return None


def program(folder: Path) -> Path | None:
    """pip-audit, installed if need be; None where it cannot be."""
    found = folder / "bin" / "pip-audit"
    if not found.is_file():
        venv.create(folder, symlinks=True)
        command = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
        if subprocess.run([*command, "--disable-pip-version-check", "pip-audit>=2.9"]).returncode:
            return None
    return found


def ask(command: Sequence[str | Path], pins: Sequence[str], folder: Path) -> tuple[list[Advisory] | None, str]:
    """What is known, or None and why that cannot be told."""
    listed = folder / "installed.txt"
    listed.write_text("".join(f"{pin}\n" for pin in pins), "utf-8")
    words = ["--requirement", listed, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        asked = subprocess.run([*command, *words], capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    lines = asked.stderr.strip().splitlines()
    return advisories(asked.stdout), lines[-1] if lines else f"it ended with {asked.returncode}"


def main() -> int:
    """See --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help="extras of the package")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv" / "audit", metavar="DIR", help="for pip-audit")
    args = parser.parse_args()
    if (asked := program(args.venv)) is None:
        print("Not audited: pip-audit cannot be installed; see above.")
        return NOT_ASKED
    pins, known, why = pinned(args.extras), *ask([asked], [BAD], args.venv)
    found, why = ask([asked], pins, args.venv) if known else (None, "nothing is said of " + BAD if known == [] else why)
    if found is None:
        print(f"Not audited: the advisories on {len(pins)} packages cannot be reached ({why[:300]}).")
        return NOT_ASKED
    for one in found:
        print(f"{one.name} {one.version}: {one.number}; mended in {', '.join(one.mended) or 'no version yet'}")
    print(f"{len(found)} known vulnerabilities of {len(pins)} packages")
    return KNOWN if found else 0


if __name__ == "__main__":
    sys.exit(main())
