"""repair: puts whole files in place of damaged ones, in outputs and in DVC's cache of them.

It drops those of which no whole copy is left, so that `dvc repro` makes them again.
"""

from pipeline.core.command import run_stage
from pipeline.core.progress import say
from pipeline.doctor.outputs import Repair


def main() -> None:
    for line in Repair().run():
        say(line)


if __name__ == "__main__":
    run_stage(main)
