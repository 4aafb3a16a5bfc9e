"""The training loop, for teacher and students alike.

A Task gives batches, a loss and a validation; a Trainer takes one network through them, step by
step; `fit` drives one Trainer or several over the same batches. Nothing here knows a store. A new
optimizer or schedule belongs into recipe.py.

batch_norm.py      batch norm over a batch that several processes share
batches.py         the contents of a batch, and the part of it that is one process's
checkpoints.py     a run's state on disk, replaced whole
epochs.py          one training epoch over one view, of data in memory or on disk
finite.py          a watch over losses and gradients that waits for no device at each step
fit.py             the one loop, over one run or several, and the reports of a run
hard_labels.py     the loss against hard labels, of plain and of mixed views
input_settings.py  the form in which a network takes its inputs
moving_average.py  the moving average of a network's weights
optimizers.py      torch's optimizers without torch's compiler
recipe.py          the training recipe: schedule, optimizer, frozen layers
run.py             a run's surroundings, progress and result
start.py           a network before its first step: weights, input size, meaning of its outputs
task.py            the abstract Task, and a wrapper to change one
team.py            several processes that train one network, as torchrun starts them
trainer.py         one training run, step by step, with exact resume
validation.py      the validation split, predicted by all processes together
"""
