"""What a teacher says of a sample, one file each.

losses.py   per-example losses
metrics.py  accuracy, NLL, ECE, Brier, agreement, KL
"""
