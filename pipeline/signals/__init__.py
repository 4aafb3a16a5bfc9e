"""The signal that a teacher gives for a sample: so far logits over classes.

losses.py   a signal's loss against hard labels, and its distance to the teacher's, per example
metrics.py  the figures of a classifier: accuracy, NLL, calibration, agreement with the teacher
"""
