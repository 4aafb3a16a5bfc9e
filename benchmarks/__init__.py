"""Measurements of the project's claims; docs/benchmarks.md has the results.

`make bench` runs those that take minutes. Each file is a command, `python -m benchmarks.<name>`, or
serves others. Most read what `make repro` left; `report` in measure.py prints a table and keeps it
in reports/bench/<name>.json. A new claim is a file here and a section in docs/benchmarks.md.

Speed and size of the pipeline:

    board_steps.py        the losses of a student's first steps, on a board and here
    dump_overhead.py      the dump against the teacher's bare forward pass
    embedding_size.py     bytes and fidelity of a real teacher's embeddings, by encoding
    encoding_speed.py     what encoding and decoding a label takes, for every encoding
    farm.py               several students in one pass against one after the other
    first_hour.py         `make new`, doctor and all stages on drawn images: minutes, and accuracy
    flips.py              flipped bits in what a run left: how many are found
    gpu.py                `make gpu`: the tests and benchmarks that want a graphics card
    int8_networks.py      common students in int8: loss, size, layers that stay in float32
    label_read.py         stores of 10^4 to 10^7 labels: cost per label, memory, files
    label_size.py         bytes and KL of every encoding beside other systems' records
    aware_int8.py         students in float32, in static int8, and in int8 after training for it
    loader_speed.py       images a second of our loaders and of those of torch and torchvision
    many_classes.py       bytes and KL of labels of 21,841 classes, by a simulated teacher
    memory.py             peak memory of a student's training, with data held and streamed
    object_store.py       the dump to an object store against the dump to a disk
    photo_labels.py       the same on a real teacher of 1000 classes and 50 views
    plain_loop.py         a student's epoch against the shortest loop in PyTorch
    prepare_speed.py      preparing and decoding images, against Pillow and torchvision
    profile.py            where the time of a dump and of a student's step goes
    ray_start.py          workers by a local Ray against the same processes by hand
    signal_steps.py       a step against its twin's: sets, maps, embeddings, texts, clicks
    small_memory.py       training within so many MB on one core, PyTorch counted
    step_cost.py          a distilled step against a hard-label step and against online distillation
    teacher_memory.py     peak memory of a teacher's training and of the dump
    teacher_step.py       a teacher's training against its bare passes
    view_speed.py         rendering of views

Worth of distillation:

    inputs.py             texts, sounds and clicks: students, twins, what a step takes
    features.py           the teacher's embeddings: beside labels, alone, before a tenth of labels
    few_views.py          few stored views, and teachers that are not ours, by recipe
    mislabelled.py        labels flipped on purpose, and how many of them are found
    segmentation.py       a class at each pixel: students by what a store holds, bytes by encoding
    seeds.py              students against their twins over several seeds
    signals.py            independent classes: students, twins, and the wrong recipe
    three_arms.py         hard labels, online and offline distillation, by number of views
    transfer.py           a teacher fine-tuned for another task, and its students
    unlabelled.py         a tenth of the hard labels, and soft labels for all images

Parts that these share:

    __main__.py           `make bench`
    cifar_resnet.py       ResNet-20 to ResNet-110, as a network file of one's own
    cifar_teacher.py      residual networks on CIFAR-10, and their logits
    few_views_cases.py    the recipes and cases of few_views
    few_views_tables.py   its tables
    foreign_teachers.py   three teachers of CIFAR-10: overconfident, calibrated, large
    loader_images.py      images for loader_speed: prepared, labelled, and as files
    measure.py            things timed in turn, the machine, the result on disk
    object_dialects.py    what S3, Google and Azure call the same things
    object_server.py      an object store on loopback that fails on purpose
    online.py             a training step with the teacher in the loop
    peers.py              other systems' records, byte for byte
    project.py            a project of its own that a benchmark runs, stage by stage
    photos_teacher.py     a real teacher of 1000 classes: EfficientNet-Lite0 on photographs
    scheduled.py          many small students at once on a card, each step one CUDA graph
    student_steps.py      some training steps of a student of a project
    simulated_teacher.py  logits of a simulated teacher of 1000 classes
"""

from pipeline.core.allocation import keep_freed_memory

keep_freed_memory()  # as every stage does
