"""Configurations that come with the package, by name: `pascal/one/feature`."""

from pathlib import Path

from diffusionmtl.errors import UserError, nearest

# Beside this file once installed; in a checkout at the root, where people look for them.
_INSTALLED = Path(__file__).parent / "configs"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "configs"


def preset_names() -> list[str]:
    """The names of all of them, sorted."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def config_file(name: str) -> Path:
    """The YAML file that `--config` means: that path if there is such a file, else the preset of that name.

    Raises:
        UserError: there is neither; names the nearest preset.
    """
    path = Path(name)
    if path.exists():
        return path
    known = preset_names()
    word = name.removesuffix(".yaml").removeprefix("configs/")
    if word in known:
        return FOLDER / f"{word}.yaml"
    families = ", ".join(dict.fromkeys(word.rpartition("/")[0] or word for word in known))
    raise UserError(
        f"{name}: no such file, nor a configuration that comes with the package.{nearest(word, known)} "
        f"Those are in: {families}"
    )
