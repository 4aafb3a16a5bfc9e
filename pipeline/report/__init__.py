"""The stage `report`: tables, figures, the page.

content.py        Everything that the report is made of: what the stages before it wrote
cost_figures.py   The charts of accuracy against what it costs
drawing.py        Figures as files: PNG for Markdown, SVG for the page, where colours follow the reader's light or dark mode
figures.py        The charts of the report
label_figures.py  Figures of the commands that look into labels: the ladder of encodings, and the views of one sample
page.py           The report as one HTML file that needs nothing else: no network, no other file, no library in the browser
summary.py        The report in words and tables: report.md, and what a terminal shows
tables.py         Tables and sentences of the report, for a terminal, for Markdown and for the page
verdicts.py       The answer: per student, whether distillation paid
"""
