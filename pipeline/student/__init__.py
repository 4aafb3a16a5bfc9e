"""The stage `train_student`: from data and stored labels to a network. Never loads the teacher.

batches.py         data set x views -> what is in a batch, and how it is rendered
groups.py          students of one group: what they share
labelled_views.py  views with their stored labels, batch by batch
losses/            per-example losses
objective.py       what a student learns: the losses of a batch, weighted
settings.py        A row of the table `students` of params.yaml
task.py           batches, loss and validation of a student
temperature.py     a student's temperature, chosen by short trials
"""
