"""The stage `report`: tables, charts and a page from the files that other stages wrote.

A content holds all of them, typed; tables and charts are functions of it. A new column is a
`Column` of columns.py, or of marks/ where only one signal has it; a new chart is a function of
figures.py, and a line of page.html shows it.

columns.py        columns, and tables of them for a terminal, for Markdown and for the page
content.py        the files of the other stages, read
marks/            words, columns and figures in which signals differ, one file each
verdicts.py       the answer in sentences: whether distillation paid
tables.py         tables: their lines, and which columns they have
figures.py        the charts of quality
cost_figures.py   the charts of accuracy against what it costs
label_figures.py  figures of the commands about labels: the ladder of encodings, views of a sample
map_figures.py    a figure of one sample's maps of classes
drawing.py        colours, and figures as files: PNG for Markdown, SVG for the page
summary.py        report.md, and the table that a terminal shows
map_samples.py    images with their maps of classes, for the page (maps.html)
page.py           report.html, with page.html, page.css and page.js
"""
