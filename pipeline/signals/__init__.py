"""The signal that a teacher gives for a sample: so far logits over classes.

A new signal has a file of losses and one of metrics here. It goes on in this order: its hard labels
(data/splits.py; those with positions turn with the image: views/operations/), the network's output
(models/classifier.py, models/predict.py, labelling/teacher.py), its description and bytes
(`LabelSpace` and an encoding in labels/encodings/, measured in labels/fields.py and
labels/fidelity.py), what a student learns from it (a file in student/losses/; from something other
than logits: its base.py and student/objective.py, too) and its scores (evaluation/scores.py).

chance.py   the checks that a classifier is better than guessing
losses.py   a signal's loss against hard labels, and its distance to the teacher's, per example
metrics.py  functions of logits: accuracy, NLL, calibration, agreement with the teacher
pieces.py   values per sample, computed for some samples at a time
"""
