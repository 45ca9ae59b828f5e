"""Calls the program and looks at what it says."""

from pathlib import Path

from diffusionmtl.cli import main

H, W = 24, 32


def files_below(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def refused(capsys, *arguments: object) -> str:
    """What one mistake says: one line on stderr, exit status 2."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert "Traceback" not in err + out
    assert lines[0].startswith("diffusionmtl: ")
    return lines[0].removeprefix("diffusionmtl: ")


def done(capsys, *arguments: object) -> str:
    """What a command prints that does what it is asked to."""
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out
