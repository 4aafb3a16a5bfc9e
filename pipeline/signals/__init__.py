"""The signal that a teacher gives for a sample: so far logits over classes.

A new signal has a file of losses and one of metrics here (without hard labels, as an embedding,
only its distance to the teacher's). It goes on in this order: its hard labels (sources/base.py,
assign.py, write.py in preparation/, dataset.py, split_on_disk.py, splits.py in data/; those with
positions turn with the image: views/operations/), the network's output (models/classifier.py,
models/predict.py, labelling/teacher.py), its description and bytes (`LabelSpace` and an encoding in
labels/encodings/, whose base.py takes log probabilities; measured in labels/fields.py and
labels/fidelity.py), training on hard labels (training/hard_labels.py, training/validation.py), what
a student learns from it (a file in student/losses/; from something other than logits: its base.py,
student/objective.py, student/batches.py and `Detail` in labels/targets.py, too) and its scores
(evaluation/scores.py).

chance.py   the checks that a classifier is better than guessing
losses.py   a signal's loss against hard labels, and its distance to the teacher's, per example
metrics.py  functions of logits: accuracy, NLL, calibration, agreement with the teacher
pieces.py   values per sample, computed for some samples at a time
"""
