"""The formats by name. A new one is a module beside these, and a line here."""

from alseg.core.errors import UserError
from alseg.exchange import coco, cvat, geojson, labelme, labelstudio, segmentation
from alseg.exchange.model import Format, Task

#: Every format by its name.
FORMATS: dict[str, Format] = {
    "cvat": cvat,
    "coco": coco,
    "labelstudio": labelstudio,
    "labelme": labelme,
    "mask": segmentation,
    "geojson": geojson,
}


def check_fits(form: Format, task: Task) -> None:
    """Refuse what a format cannot hold.

    Raises:
        UserError: With what it lacks.
    """
    if task.answer in form.refused:
        others = [name for name, other in FORMATS.items() if task.answer not in other.refused]
        raise UserError(
            f"format={form.name} cannot hold answers of kind {task.answer!r}: "
            f"{form.refused[task.answer]}; give one of {', '.join(others)}."
        )
    words = {word.casefold() for word in (*form.reserved(task), *task.words[len(task.names) :])}
    bad = [name for name in task.names if name.casefold() in words or "\n" in name]
    if bad:
        raise UserError(
            f"format={form.name} cannot hold the class names {bad}, which mean something else "
            f"there; rename them in the class table."
        )
