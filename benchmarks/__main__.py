"""`make bench`: every claim that is measured in minutes. `seeds` and `cifar_teacher` take longer and run by themselves."""

from benchmarks import dump_overhead, label_read, label_size, step_cost
from pipeline.errors import one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        step_cost.main()
        dump_overhead.main()
        label_read.main()
        label_size.main()
