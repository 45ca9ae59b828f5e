"""What data sets share whose labels are files that their tasks read as they are."""

from abc import abstractmethod

from diffusionmtl.data.base import DenseDataset
from diffusionmtl.errors import UserError
from diffusionmtl.labels import LabelMap, ValidMap

RATIO_TOLERANCE = 0.02


class StoredDataset(DenseDataset):
    """Labels may be of another size than their image; they are resized by their own rule when they are asked for."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """H, W of an image, upright."""

    @abstractmethod
    def stored_label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """A label at the size of its file."""

    @abstractmethod
    def where(self, index: int, task: str | None) -> str:
        """The place of a label, or of the image if `task` is None, for messages."""

    def label(self, index: int, task: str) -> tuple[LabelMap, ValidMap]:
        """A label at the size of its upright image."""
        return self.fitted(index, task, *self.stored_label(index, task))

    def fitted(self, index: int, task: str, label: LabelMap, valid: ValidMap) -> tuple[LabelMap, ValidMap]:
        """A stored label at the size of its image, by the label's own rule.

        Raises:
            UserError: it shows another aspect ratio.
        """
        height, width = self.size(index)
        stored_height, stored_width = label.shape[-2:]
        if (stored_height, stored_width) == (height, width):
            return label, valid
        if abs(stored_width * height / (stored_height * width) - 1) > RATIO_TOLERANCE:
            raise UserError(
                f"{self.where(index, task)}: task '{task}': the label is {stored_height}x{stored_width} and its "
                f"image {self.where(index, None).rsplit('/', 1)[-1]} {height}x{width} (height x width, upright), "
                "another aspect ratio; save the label for the whole image"
            )
        return label.resized(height, width), valid.resized(height, width)
