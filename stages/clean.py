"""clean: deletes `work/`, unless a stage is at work in it."""

from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.locks import clear


def main(work: Path = Path("work")) -> None:
    clear(work)


if __name__ == "__main__":
    run_stage(main)
