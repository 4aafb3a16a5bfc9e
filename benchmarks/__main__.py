"""`make bench`: every claim that is quick to measure. `python -m benchmarks.seeds` takes longer and runs by itself."""

from benchmarks import dump_speed, step_cost
from pipeline.errors import one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        step_cost.main()
        dump_speed.main()
