"""Where the weights that a backbone starts from come from, and what their licence asks of whoever uses them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from diffusionmtl.config import NetworkSettings
from diffusionmtl.errors import UserError
from diffusionmtl.files import check_plain, read_json
from diffusionmtl.models.backbone import published_weights

_FREE = ("apache-2.0", "mit", "bsd", "isc", "cc0", "cc-by-4.0", "unlicense")
_NOT_COMMERCIAL = ("-nc", "noncommercial", "non-commercial", "research")
_UNNAMED = ("", "unknown", "other", "none")
_LARGEST_NOTE = 1 << 20


@dataclass(frozen=True)
class Origin:
    """Pretrained weights.

    Attributes:
        name: as their publisher calls them, or the name of the file.
        licence: its identifier as timm knows it; None where nobody says.
        sha256: of the file; None for weights that timm fetches.
    """

    name: str
    licence: str | None = None
    sha256: str | None = None

    def plain(self) -> dict[str, str | None]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> "Origin":
        """The reverse of `plain`; what is no text counts as unknown."""
        text = {word: said.get(word) if isinstance(said.get(word), str) else None for word in ("licence", "sha256")}
        return cls(str(said.get("name", "unknown")), **text)

    def caution(self) -> str | None:
        """What to know before the trained network is used or passed on; None under a permissive licence."""
        licence = (self.licence or "").lower()
        whose = f"the pretrained weights {self.name}"
        terms = f"{whose} come under '{self.licence}'"
        if licence in _UNNAMED:
            return f"the licence of {whose} is not known; find out before you pass on what is trained from them"
        if any(word in licence for word in _NOT_COMMERCIAL):
            return f"{terms}, which rules out commercial use, maybe of what is trained from them too"
        if not licence.startswith(_FREE):
            return f"{terms}, which has terms of its own; read them before you pass on what is trained from them"
        return None


def backbone_origin(settings: NetworkSettings) -> Origin | None:
    """Where the backbone's first weights come from; None if they are random.

    Of a file only the note that timm's repositories keep beside it (`config.json`) can tell the licence.

    Raises:
        UserError: the file cannot be read.
    """
    if settings.backbone_weights:  # these are filled in last
        return _of_file(Path(settings.backbone_weights))
    if settings.pretrained:
        return Origin(*published_weights(settings.backbone))
    return None


def _of_file(path: Path) -> Origin:
    check_plain(path)
    try:
        with path.open("rb") as stream:
            digest = file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"--backbone-weights {path}: cannot be read ({error.strerror or error})") from None
    return Origin(path.name, _licence_beside(path), digest)


def _licence_beside(path: Path) -> str | None:
    note = path.with_name("config.json")
    try:
        licence = read_json(note, _LARGEST_NOTE)["pretrained_cfg"]["license"]
    except (UserError, ValueError, KeyError, TypeError):
        return None
    return licence if isinstance(licence, str) else None
