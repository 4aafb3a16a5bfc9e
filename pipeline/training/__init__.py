"""The training loop, for teacher and students alike.

batch_norm.py      batch norm over a batch that several processes share
checkpoints.py     a run's state on disk, replaced whole
epochs.py          one training epoch over one view, of data in memory or on disk
fit.py             fit, the one loop; several students in one pass
moving_average.py  the moving average of a network's weights
optimizers.py      torch's optimizers without torch's compiler
recipe.py          the training recipe: schedule and optimizer
start.py           what a network starts from: weights, the images that it wants, what its outputs mean
team.py            several processes that train one network, as torchrun starts them
trainer.py         one training run, step by step, with exact resume
batches.py  what is in a batch, and which part of it is a process's
"""
