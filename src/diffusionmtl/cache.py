"""Where things are kept that can be made again."""

import os
from pathlib import Path


def default_cache() -> Path:
    """Where drawn rooms are kept: `$DIFFUSIONMTL_CACHE`, or `~/.cache/diffusionmtl`."""
    said = os.environ.get("DIFFUSIONMTL_CACHE")
    return Path(said).expanduser() if said else Path.home() / ".cache" / "diffusionmtl"
