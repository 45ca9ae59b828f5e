"""What the doctor found, for people."""

from collections.abc import Iterator

from diffusionmtl.commands.doctor import GIGABYTE, NAME, Diagnosis


def diagnosis_text(found: Diagnosis) -> str:
    """Some forty lines; the last says whether all is well."""
    return "\n".join(_lines(found))


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"{NAME} {found.versions.get(NAME) or 'not installed'}, Python {found.versions['python']}, {found.platform}"
    yield ""
    yield "What the core needs"
    yield from (
        f"  {name:24}{version or 'MISSING'}" for name, version in found.versions.items() if name not in (NAME, "python")
    )
    yield ""
    yield "Where it can compute"
    for device in found.devices:
        memory = f", {device.memory / GIGABYTE:.1f} GB" if device.memory else ""
        yield f"  {device.name:24}{device.about}{memory}"
    yield f"  {'processors':24}{found.processors}"
    if found.memory_available is not None:
        yield f"  {'memory available':24}{found.memory_available / GIGABYTE:.1f} GB"
    yield from (
        f"  {'disk, ' + place.name:24}{place.free / GIGABYTE:.1f} GB free at {place.path}" for place in found.places
    )
    yield ""
    yield "What more it can do"
    for feature in found.features:
        yield f"  {feature.purpose:40}{'yes' if not feature.missing else 'no: ' + feature.remedy}"
        if feature.missing:
            yield f"  {'':40}missing: {', '.join(feature.missing)}"
    if found.checks:
        yield ""
        yield "Self-test"
    for check in found.checks:
        yield f"  {check['device']:8}{check['name']:24}{check['wrong'] or 'well'}, {check['seconds']:.1f} s"
    yield ""
    yield from (f"warning: {line}" for line in found.warnings)
    yield from (f"problem: {line}" for line in found.problems)
    yield "All is well." if found.well else "Mend the problems above, then ask again."
