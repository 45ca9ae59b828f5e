"""The licences of everything that the package is installed with.

`python tools/licences.py train export` lists each distribution that the package and the extras named need, with its
version and licence, from the metadata that pip installed, and fails if one of them is under the GPL or AGPL: a program
under the Apache License 2.0 that needs such a part can no longer be passed on under the Apache License alone. Licences
that nobody stated are listed as unknown, for a person to look up.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PERMISSIVE, WEAK, OWN, UNKNOWN, STRONG = range(5)
WORDS = ("permissive", "weak copyleft", "own terms", "unknown", "GPL or AGPL")

_STRONG = re.compile(r"(?<![LlO])A?GPL|(?<!Lesser )(?<!Library )General Public|Affero", re.IGNORECASE)
_WEAK = re.compile(r"LGPL|Lesser|Library or|MPL|Mozilla|EPL|Eclipse|CDDL", re.IGNORECASE)
_PERMISSIVE = re.compile(
    r"\b(MIT|0?BSD|Apache|ISC|PSF|Python|Zlib|CC0|Unlicense|Public Domain|HPND|Boost|BSL-1|CNRI|NCSA|OFL|X11|libpng)",
    re.IGNORECASE,
)
_OWN = re.compile("Proprietary|NVIDIA", re.IGNORECASE)
_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_LONGEST = 200

Find = Callable[[str], Distribution]


@dataclass(frozen=True)
class Found:
    """One distribution and what it says of its licence."""

    name: str
    version: str
    licence: str
    verdict: int


def needed(root: str, extras: Iterable[str], find: Find = distribution) -> dict[str, Distribution]:
    """Every installed distribution that one needs, with those that these need, by canonical name; without itself.

    What is asked for by an extra that nobody named, or on another system, is not needed; what is not installed is left
    out.
    """
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    queue = [(canonicalize_name(root), frozenset(extras))]
    while queue:
        name, wanted = queue.pop()
        if (name, wanted) in asked:
            continue
        asked.add((name, wanted))
        try:
            found[name] = found.get(name) or find(name)
        except PackageNotFoundError:
            continue
        for text in found[name].requires or []:
            requirement = Requirement(text)
            if _applies(requirement, wanted):
                queue.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    found.pop(canonicalize_name(root), None)
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""})


def licence_of(found: Distribution) -> str:
    """What the metadata says, most exact first: SPDX expression, classifiers, free text; empty if it says nothing."""
    metadata = found.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    marks = [text for text in metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    named = [text.rpartition("::")[2].strip() for text in marks]
    if named := [text for text in named if text not in ("OSI Approved", "Other/Proprietary License")]:
        return " AND ".join(f"({text})" for text in named)
    lines = (metadata.get("License") or "").strip().splitlines()
    return lines[0][:_LONGEST] if lines and lines[0].strip().upper() != "UNKNOWN" else ""


def verdict_on(licence: str) -> int:
    """How far a licence reaches. Of alternatives (OR) the mildest counts, of several that hold (AND) the strictest."""
    tokens = _TOKEN.findall(licence)
    try:
        verdict, rest = _either(tokens)
    except IndexError:
        return _simple(licence)
    return verdict if not rest else _simple(licence)


def _either(tokens: Sequence[str]) -> tuple[int, Sequence[str]]:
    verdict, rest = _all(tokens)
    while rest and rest[0].upper() == "OR":
        other, rest = _all(rest[1:])
        verdict = min(verdict, other)
    return verdict, rest


def _all(tokens: Sequence[str]) -> tuple[int, Sequence[str]]:
    verdict, rest = _one(tokens)
    while rest and rest[0].upper() == "AND":
        other, rest = _one(rest[1:])
        verdict = max(verdict, other)
    return verdict, rest


def _one(tokens: Sequence[str]) -> tuple[int, Sequence[str]]:
    if tokens[0] == "(":
        verdict, rest = _either(tokens[1:])
        if rest[0] != ")":
            raise IndexError
        return verdict, rest[1:]
    words = list(tokens[:1])
    rest = tokens[1:]
    while rest and rest[0] not in "()" and rest[0].upper() not in ("AND", "OR"):
        words.append(rest[0])
        rest = rest[1:]
    return _simple(" ".join(words)), rest


def _simple(licence: str) -> int:
    base, _, exception = licence.partition(" WITH ")
    if exception and _STRONG.search(base):  # the runtime libraries of compilers, free to link with
        return WEAK
    if _STRONG.search(licence):
        return STRONG
    if _WEAK.search(licence):
        return WEAK
    if _OWN.search(licence):
        return OWN
    return PERMISSIVE if _PERMISSIVE.search(licence) else UNKNOWN


def licences(root: str, extras: Iterable[str], find: Find = distribution) -> list[Found]:
    """What `needed` finds, judged; the strictest first."""
    rows = []
    for name, found in needed(root, extras, find).items():
        licence = licence_of(found)
        rows.append(Found(name, found.version, licence or "not stated", verdict_on(licence)))
    return sorted(rows, key=lambda row: (-row.verdict, row.name))


def main(extras: Sequence[str], find: Find = distribution) -> int:
    """Print the list; 1 if something in it is incompatible."""
    rows = licences("diffusionmtl", extras, find)
    for row in rows:
        print(f"{WORDS[row.verdict]:14}{row.name} {row.version}: {row.licence}")
    bad = [row.name for row in rows if row.verdict == STRONG]
    print(f"{len(rows)} distributions, {sum(row.verdict == UNKNOWN for row in rows)} unknown")
    if bad:
        print(f"incompatible with Apache-2.0: {', '.join(bad)}; do without them or make them optional", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
