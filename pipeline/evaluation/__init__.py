"""The stage `evaluate`: every network on the test split, students against their twins.

A network goes through the exam (as it is, corrupted), its logits become scores and answers, and its
cost is measured in a fresh process. All of it ends up in `results.evaluation.Evaluation`.

A new corruption is a file in corruptions/. A new figure of a network is a field of
`results.evaluation.Scores`, computed in scores.py and shown by a `Column` of report/tables.py.

breakdown.py    functions that scores.py calls: accuracy by class, by pair, among the first few
corruptions/    images made worse: noise, blur, contrast, JPEG
exam.py         the test split, as every network is run on it
networks.py     every network: its facts, scores, answers and cost
plots.py        rows of the plots and metrics that DVC shows
scores.py       logits to scores, and to an answer on each sample
settings.py     the section `evaluate` of params.yaml
stores.py       stores of soft labels, as the evaluation shows them
twins.py        students against twins over seeds, with standard errors
"""
