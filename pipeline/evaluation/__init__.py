"""The stage `evaluate`: every network on the test split, students against their twins.

A network goes through the exam (as it is, corrupted), its logits become marks (scores and answers),
and its cost is measured in a fresh process. All of it ends up in `results.evaluation.Evaluation`.

A new corruption is a file in corruptions/, a new signal one in marks/. A new figure of a network is
a field of `results.evaluation.Scores`, computed in marks/ and shown by a `Column` of
report/columns.py or report/marks/.

balanced.py     figures in which every class counts the same, however few samples it has
breakdown.py    accuracy by class, by pair, among the first few, where classes exclude each other
collected.py    outputs at positions, in a file where they are large
corruptions/    images made worse: noise, blur, contrast, JPEG
exam.py         the test split, as every network is run on it
marks/          logits to scores and to an answer on each sample, one file for each signal
networks.py     every network: its facts, marks and cost
plots.py        rows of the plots and metrics that DVC shows
probes.py       what an embedding knows of classes, for the command `probe`
settings.py     the section `evaluate` of params.yaml
stores.py       stores of soft labels, as the evaluation shows them
twins.py        students against twins over seeds, with standard errors
"""
