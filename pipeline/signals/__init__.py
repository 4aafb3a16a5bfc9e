"""The signal that a teacher gives for a sample: so far logits over classes.

A new signal has a file of losses and one of metrics here. Its shape beside a label is the
`LabelSpace` of labels/encodings/base.py, its bytes are an encoding there, its hard labels a field
of the `Split` of data/splits.py, its outputs those of models/classifier.py; what a student learns
from it is a file in student/losses/. Figures of a network on the test split are put together in
evaluation/scores.py.

losses.py   a signal's loss against hard labels, and its distance to the teacher's, per example
metrics.py  functions of logits: accuracy, NLL, calibration, agreement with the teacher
"""
