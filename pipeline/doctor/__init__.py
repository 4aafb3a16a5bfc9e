"""The commands beside the stages: `make doctor`, `make new` and `potstill repair`.

The check-up finds mistakes before hours are spent on them: it reads params.yaml, looks at a few
images, plans the label stores, and runs each network on one batch. Each finding is a printed line
(ok, warning or error); nothing is left on the disk. A new check goes into the file of its subject
and is called in checkup.py.

checkup.py      the whole check-up, step by step: start here
embeddings.py   rows of embeddings: bytes, and students that learn from them
findings.py     prints findings line by line, and counts them
folders.py      the folders that are looked into
params.py       params.yaml as a whole: every section and row, and every fault in them
devices.py      whether this machine has the devices that stages compute with
dag.py          dvc.yaml and params.yaml, as DVC reads them
grid_task.py    the settings of a new project whose pixels have classes
images.py       a look at the prepared images, and what a look holds
changes.py      whether prepared images are those that `prepare` would make now
source.py       a look at images that are not prepared yet, and the time that preparing them takes
trials.py       a few images prepared in a temporary folder, for bytes and seconds
memory.py       whether images fit into the memory budget of each stage
budgets.py      encodings for budgets, before a dump has chosen them
labels.py       the label stores that students will read, and some labels to measure
networks.py     tries of the teacher and the students on a few images
speed.py        seconds per image of real training steps
times.py        the time of each stage, from those seconds
disk.py         bytes of the files that are there
outputs.py      damaged files of outputs, and of their copies in DVC's cache
space.py        bytes that the data set and the stores will take
reporting.py    the printed lines about images, times and disk
steps.py        whether schedules have enough steps
load.py         whether other processes are at work, and times as if they were not
inputs.py       kinds of samples that a new project may have, and the settings each begins with
new_project.py  a new project: this code in another folder
announcement.py the lines that `make new` prints
fitting.py      the defaults of a new project, fitted to its images and this machine
columns.py      the columns of its table, where they have other names than the usual ones
tasks.py        the task of a new project: the settings that fit what its labels are
facts.py        the facts that decide what fits
choice.py       a choice: settings, and a line about them
recipe.py       batch size, balance and encodings, by the facts alone
schedule.py     image size, epochs and views, by speeds and a budget of time
sizes_and_steps.py  that schedule as choices
comparison.py   one student, trained shortly on each of several stores
total.py        views and bytes for a store of a total size, decided by short trainings
pretrained.py   a teacher with published weights that are on this machine
"""
