"""Writes notebooks from their sources, run: ``python -m notebooks [NAME ...]``.

A notebook is kept as ``NAME.py``, which is edited, and as ``NAME.ipynb``, which is read. The second
is made of the first: run from end to end in an empty folder, with what came out. Warnings and
progress bars are left out, pictures are kept as small as they may be.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path

import jupytext
import nbclient
import nbformat
from PIL import Image

HERE = Path(__file__).parent
#: Names of the notebooks, in the order in which they are read.
NAMES = ("quickstart", "label_your_own", "own_acquisition", "compare")
_WIDEST = 900
_PNG, _JPEG = "image/png", "image/jpeg"
_WIDGET = "application/vnd.jupyter.widget-view+json"


def made(name: str) -> nbformat.NotebookNode:
    """A notebook as it follows from its source, not run."""
    notebook = jupytext.read(HERE / f"{name}.py")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"  # the same whenever it is written
    return notebook


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=None, resources=resources).execute()
    return notebook


def tidied(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with outputs worth keeping, and no path of the folder it was run in."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the time of day
        if cell.cell_type == "code":
            cell.outputs = [_smaller(output) for output in cell.outputs if _worth(output)]
            for output in cell.outputs:
                if "text/plain" in output.get("data", {}):
                    plain = output.data["text/plain"]
                    output.data["text/plain"] = plain.replace(f"{folder}/", "")
    notebook.metadata.pop("language_info", None)  # the release of Python it happened to be
    notebook.metadata.pop("widgets", None)
    return notebook


def _worth(output: nbformat.NotebookNode) -> bool:
    return output.get("name") != "stderr" and _WIDGET not in output.get("data", {})


def _smaller(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A picture as JPEG of at most `_WIDEST` pixels, if that takes less than half."""
    data = output.get("data", {})
    if _PNG in data:
        png = base64.b64decode(data[_PNG])
        buffer = io.BytesIO()
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        picture.thumbnail((_WIDEST, _WIDEST))
        picture.save(buffer, "JPEG", quality=75, optimize=True)
        kept, kind = (buffer.getvalue(), _JPEG) if 2 * buffer.tell() < len(png) else (png, _PNG)
        for name in (_PNG, _JPEG):
            data.pop(name, None)
        data[kind] = base64.b64encode(kept).decode("ascii")
    return output


def main(names: list[str]) -> None:
    """Write the notebooks of these names, or all."""
    for name in names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            notebook = tidied(executed(made(name), Path(folder)), Path(folder))
        path = HERE / f"{name}.ipynb"
        nbformat.write(notebook, path)
        print(f"{path}, {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
