"""The first hour with somebody's images: `make new`, `make doctor` and every stage by the defaults
that were written, on 2,500 drawn images of 300 x 300 pixels in four classes of very different size.

    python -m benchmarks.first_hour --minutes 30

Takes about as many minutes as it is given, on an idle machine; processor time is counted beside the
clock, which says more on a busy one. Each call begins with a new project; the images are kept.
"""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import Float, UInt8
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.measure import report
from pipeline.core.errors import one_line_errors
from pipeline.core.progress import say

CLASSES = {"disc": 1150, "ring": 800, "stripes": 400, "twin": 150}
SIDE_PX = 300
_EDGE_PX = 4.0
_QUALITY = 90


def write_images(folder: Path) -> None:
    """Writes the images, a folder for each class; the same ones every time."""
    for number, (name, count) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = draw(name, np.random.default_rng((number, index)))
            Image.fromarray(pixels).save(folder / name / f"{index:04}.jpg", quality=_QUALITY)


def draw(name: str, rng: np.random.Generator) -> UInt8[np.ndarray, "height width"]:
    """Returns a shape somewhere on a cloudy ground, under noise; some are too faint to be told."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    radius = rng.uniform(28, 50)
    top, left = rng.uniform(radius + 20, SIDE_PX - radius - 20, 2)
    y, x, angle = y - top, x - left, rng.uniform(0, np.pi)
    shape = _disc(y, x, radius)
    if name == "ring":
        shape -= rng.uniform(0.6, 1.0) * _disc(y, x, radius * rng.uniform(0.4, 0.6))
    if name == "stripes":
        waves = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / rng.uniform(30, 45))
        shape *= 1.2 * (0.5 + 0.5 * waves)
    if name == "twin":
        dy, dx = 0.55 * radius * np.sin(angle), 0.55 * radius * np.cos(angle)
        shape = np.maximum(_disc(y - dy, x - dx, 0.62 * radius), _disc(y + dy, x + dx, 0.62 * radius))
    ground = 0.9 * _clouds(rng, 6) + 0.5 * _clouds(rng, 24) + rng.normal(0, 0.5, (SIDE_PX, SIDE_PX))
    image = ground + rng.uniform(0.5, 2.1) * shape
    return np.clip(110 + 32 * image, 0, 255).astype(np.uint8)


def _disc(
    y: Float[np.ndarray, "height width"], x: Float[np.ndarray, "height width"], radius: float
) -> Float[np.ndarray, "height width"]:
    disc: np.ndarray = 1 / (1 + np.exp((np.hypot(y, x) - radius) / _EDGE_PX))
    return disc


def _clouds(rng: np.random.Generator, cells: int) -> Float[np.ndarray, "height width"]:
    few = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    return np.asarray(few.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def _timed(command: list[str], folder: Path | None = None) -> dict[str, float]:
    """Runs a command; returns its seconds by the clock and of processors, children included."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", *command], cwd=folder, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - start, "processor seconds": own}


def main(
    folder: Annotated[Path, typer.Option(help="Where images and project go.")] = Path("work/first_hour"),
    minutes: Annotated[float, typer.Option(help="What the settings are fitted to.")] = 30.0,
) -> None:
    images, project = folder.absolute() / "images", folder.absolute() / "project"
    # 1. The images, and a project for them.
    if not (images / "twin/0149.jpg").exists():
        write_images(images)
    rows: list[dict[str, Any]] = []
    new = ["stages.new_project", str(project), "--path", str(images), "--minutes", str(minutes)]
    if project.exists():
        say(f"first_hour: {project} is deleted: what a run left there would make this one look quick")
        shutil.rmtree(project)
    rows.append({"step": "new"} | _timed(new))
    rows.append({"step": "doctor"} | _timed(["stages.doctor"], project))
    # 2. Its stages, one after the other, as `dvc repro` has them; the first one runs before each.
    stages = YAML(typ="safe").load(project / "dvc.yaml")["stages"]
    rows += [{"step": name} | _timed(["dvc", "repro", "--quiet", name], project) for name in [*stages][1:]]
    rows.append({"step": "all"} | {key: sum(row[key] for row in rows) for key in ("seconds", "processor seconds")})
    report("first_hour", f"images of {SIDE_PX} x {SIDE_PX}: a whole run in {minutes:g} min by its own defaults", rows)
    # 3. The networks on the test images.
    print((project / "reports/table.txt").read_text())


if __name__ == "__main__":
    with one_line_errors():
        typer.run(main)
