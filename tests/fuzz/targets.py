"""Every reader of files that nobody vouches for, by name."""

from tests.fuzz.containers import CONTAINERS
from tests.fuzz.notes import NOTES
from tests.fuzz.pictures import PICTURES
from tests.fuzz.target import Target
from tests.fuzz.texts import TEXTS

TARGETS: dict[str, Target] = {target.name: target for target in (*PICTURES, *TEXTS, *CONTAINERS, *NOTES)}
