"""What an image set that is made of another one has from it."""

from dataclasses import dataclass

from alseg.core.images import ClassTable, ImageSet, channels_of


@dataclass(frozen=True)
class Derived:
    """The part of an `ImageSet` that is the other set's.

    Attributes:
        whole: The other set.
    """

    whole: ImageSet

    @property
    def classes(self) -> ClassTable:
        """See `ImageSet.classes`."""
        return self.whole.classes

    @property
    def channels(self) -> int:
        """See `alseg.core.images.channels_of`."""
        return channels_of(self.whole)

    @property
    def has_truth(self) -> bool:
        """See `ImageSet.has_truth`."""
        return self.whole.has_truth

    @property
    def scenes(self) -> tuple[str, ...]:
        """See `ImageSet.scenes`."""
        return self.whole.scenes
