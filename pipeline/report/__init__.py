"""The stage `report`: tables, charts and a page from the files that other stages wrote.

A content holds all of them, typed; tables and charts are functions of it. A new column is a
`Column` of tables.py; a new chart is a function of figures.py, and a line of page.html shows it.

content.py        the files of the other stages, read
verdicts.py       the answer in sentences: whether distillation paid
tables.py         columns and tables, for a terminal, for Markdown and for the page
figures.py        the charts of quality
cost_figures.py   the charts of accuracy against what it costs
label_figures.py  figures of the commands about labels: the ladder of encodings, views of a sample
drawing.py        colours, and figures as files: PNG for Markdown, SVG for the page
summary.py        report.md, and the table that a terminal shows
page.py           report.html, with page.html, page.css and page.js
"""
