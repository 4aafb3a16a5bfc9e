"""`make bench`: every claim that is measured in minutes.

`seeds`, `cifar_teacher`, `three_arms`, `mislabelled` and `teacher_memory` take longer; `memory`
runs best in a Python of its own. These are started one by one.
"""

from benchmarks import (
    dump_overhead,
    farm,
    label_read,
    label_size,
    loader_speed,
    plain_loop,
    step_cost,
    teacher_step,
    view_speed,
)
from pipeline.core.errors import one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        step_cost.main()
        plain_loop.main()
        teacher_step.main()
        view_speed.main()
        farm.of_fashion_mnist()
        dump_overhead.main()
        label_read.main()
        label_size.main()
        loader_speed.main()
