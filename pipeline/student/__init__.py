"""The stage `train_student`: from data and stored labels to a network. Never loads the teacher.

A student learns from views that its teacher saw, each with the stored label of that view.
`labelled_views` joins both, `objective` turns a batch into a loss, `run` trains one student, or a
group of them in one pass over the same batches.

settings.py        a row of the table `students`; a new setting of a student goes here
groups.py          the rows of a group, and what its students must have in common
stores.py          the store that a row names
data.py            the splits, opened once for all students that are trained together
shown_views.py     the view that an epoch shows, and the stored label beside it
labelled_views.py  views with their stored labels, batch by batch, for one student or several
batches.py         a batch with soft targets
blends.py          hard labels and soft targets in one, worked out before the step
position_blends.py  the same of soft targets at positions
losses/            the losses of soft targets, one file each; a new loss goes here
feature_losses/    the losses of stored embeddings, one file each; a new loss goes here
features.py        the store of embeddings that a row names, and whether it fits
projected.py       a student that learns from embeddings, while it is trained
objective.py       the losses of hard labels, soft targets and features, weighted
task.py            batches, loss and validation of a student, as the training loop wants them
pilots.py          short trials of a student, kept, and the choice between them
temperature.py     `temperature: auto`: a student's temperature, chosen by short trials
weights.py         `hard_weight: auto` and `soft_weight: auto`, chosen by short trials
run.py             students in training: started or resumed, trained in one pass, written
"""
