"""One script per stage of dvc.yaml: read params, open inputs, call pipeline, write outputs; and
commands of like form.
"""
