"""The report: tables and verdicts agree with the figures; drawings are the same bytes each time."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib import pyplot as plt
from report_fixture import exported, stores, write_reports

from pipeline.core.files import read_json, write_json
from pipeline.report.columns import Table, size
from pipeline.report.content import Content, read_content, read_table
from pipeline.report.drawing import shortened
from pipeline.report.figures import charts
from pipeline.report.marks import MARKS
from pipeline.report.page import render_page
from pipeline.report.summary import markdown, terminal
from pipeline.report.tables import (
    COSTS,
    everything,
    export_lines,
    network_lines,
    quality_columns,
    robustness_table,
    stores_table,
)
from pipeline.report.verdicts import headline, verdicts
from pipeline.results.evaluation import StoreRow
from pipeline.results.export import ExportedFile


def read(folder: Path) -> Content:
    return read_content(folder / "reports", folder / "data/explain", exported(folder))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    folder = tmp_path_factory.mktemp("report")
    write_reports(folder)
    return read(folder)


def cells(table: str, name: str) -> list[str]:
    """Returns the cells of a network's or a store's line in a Markdown table."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def with_paid(content: Content, *paid: str) -> Content:
    comparisons = [replace(content.evaluation.comparisons[0], paid=each) for each in paid]
    return replace(content, evaluation=replace(content.evaluation, comparisons=comparisons))


# Tables


def test_every_network_is_a_line_with_its_figures(content: Content) -> None:
    table = Table.of(quality_columns(MARKS["categorical"]), network_lines(content.networks)).text("github")
    assert len(table.splitlines()) == 2 + len(content.networks)
    expected = ["small", "student", "88.00%", "99.80%", "88.10%", "+1.10", "0.4321", "0.0123", "91.00%", "0.1400"]
    assert cells(table, "small") == expected
    assert cells(table, "medium")[5] == "-0.90"
    assert cells(table, "small_hard")[1] == "twin of small"
    # What does not apply is empty, not zero.
    assert [cells(table, "teacher")[i] for i in (4, 5, 8, 9)] == [""] * 4


def test_costs_are_those_of_one_image_and_memory_is_what_the_network_adds(content: Content) -> None:
    table = Table.of(COSTS, network_lines(content.networks)).text("github")
    assert cells(table, "tiny") == ["tiny", "6,274", "0.14 M", "27.1 kB", "0.116", "0.15", "0.0925", "22.0 MB", "12"]


def test_a_column_that_no_network_has_is_left_out(content: Content) -> None:
    lines = network_lines(content.networks)
    for line in lines:
        del line["top5_accuracy"]
    assert "top-5" not in Table.of(quality_columns(MARKS["categorical"]), lines).text("github")


def test_exported_files_stand_below_their_network(content: Content) -> None:
    names = [line[0].text for line in everything(content).lines]
    assert names[1:4] == ["tiny", "tiny, ONNX", "tiny, int8"]
    changes = [line["change_points"] for line in export_lines(content.exports)]
    assert changes == pytest.approx([0, -0.2, 0, -0.2])


def test_what_stays_in_float32_is_told_in_every_report(content: Content) -> None:
    kept = "tiny: int8: 1 of 4 layers stays in float32 (2.0; 4,608 bytes of weights)"
    why = "(wholly in int8 it loses 1.40 points; so, 0.20, on 500 validation images)"
    for text in (terminal(content), markdown(content, []), render_page(content, list(charts(content)))):
        assert f"{kept} {why}" in text


def test_a_file_that_was_not_timed_is_listed(content: Content) -> None:
    file = ExportedFile(
        bytes=5000, accuracy=0.5, largest_difference=0.0, relative_difference=0.0, top1_agreement=1.0, kl_to_torch=0.0
    )
    export = replace(content.exports["tiny"], files={"model.pte": file})
    (line,) = export_lines({"tiny": export})
    assert line["file_bytes"] == 5000
    assert list(charts(replace(content, exports={"tiny": export})))


def test_robustness_is_a_column_a_corruption_with_the_mean_last(content: Content) -> None:
    lines = robustness_table(content.networks).text("github")
    assert cells(lines, "network") == [
        "network",
        "clean",
        "gaussian noise",
        "gaussian blur",
        "contrast",
        "jpeg",
        "mean",
    ]
    assert cells(lines, "tiny")[1:] == ["86.00%", "66.00%", "74.00%", "56.00%", "84.00%", "70.00%"]


def test_every_store_is_a_line_with_its_size_and_fidelity() -> None:
    rows = {name: StoreRow(**row) for name, row in stores().items()}
    table = stores_table(rows).text("github")
    assert table.index("KL at 1 ") < table.index("KL at 4 ") < table.index("KL at 10 ")
    figures = ["8", "54,000", "4.56", "10.25", "7.5e-05", "1.5e-05", "1.5e-05", "99.987%"]
    assert cells(table, "dense8") == ["dense8", *figures]
    assert cells(table, "none") == ["none", "8", "54,000", "0.44", "no labels", "", "", "", ""]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (27_096, "27.1 kB"), (999_600, "1.00 MB"), (3e9, "3.00 GB")],
)
def test_sizes_have_three_digits(count: float, text: str) -> None:
    assert size(count) == text


def test_a_table_is_read_by_column_whatever_its_words_are(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text('name\taccuracy\n"""up"\t0.5\ndown\t0.25\n')
    assert read_table(tmp_path / "x.tsv") == [{"name": '"up', "accuracy": "0.5"}, {"name": "down", "accuracy": "0.25"}]


def test_a_store_of_embeddings_has_a_card_of_its_own_distances(content: Content) -> None:
    errors = {"mean": 2e-4, "p999": 3e-3, "max": 4e-3}
    fidelity = {"num_labels": 9, "same_direction": 1.0, "relative_error": errors, "cosine_distance": errors}
    row = replace(content.evaluation.stores["dense8"], encoding={"kind": "vector_int8"}, fidelity=fidelity)
    beside = replace(content.evaluation, stores={**content.evaluation.stores, "features": row})
    text = render_page(replace(content, evaluation=beside), [])
    assert "0.999800" in text
    assert "2.0e-04 <small>p99.9 3.0e-03</small>" in text
    assert "99.987%" in text  # the card of labels


# Verdicts


def test_a_verdict_says_whether_distillation_paid_and_how_sure_that_is(content: Content) -> None:
    tiny, small, medium = verdicts(content)
    assert small == (
        "small (24,274 parameters, one seed): distillation paid: 88.00% against 86.90% of its hard-label twin, +1.10 ± 0.60 points"
    )
    assert "unclear whether distillation paid" in tiny
    assert "distillation did not pay" in medium


def test_a_verdict_over_seeds_says_how_many(content: Content) -> None:
    comparison = replace(content.evaluation.comparisons[0], seeds=[0, 1, 2])
    evaluation = replace(content.evaluation, comparisons=[comparison])
    assert "mean of 3 seeds" in verdicts(replace(content, evaluation=evaluation))[0]


@pytest.mark.parametrize(
    ("paid", "said"),
    [
        ((), "No student has a hard-label twin, so this run can't say whether distillation paid."),
        (("yes",), "Distillation paid for tiny in this run."),
        (("unclear",), "It is not clear whether distillation paid for tiny in this run."),
        (("yes", "yes"), "Distillation paid for all 2 students in this run."),
        (("yes", "no", "unclear"), "Distillation paid for 1 of 3 students in this run, not for 1, unclear for 1."),
        (("unclear", "unclear"), "Distillation paid for 0 of 2 students in this run, unclear for 2."),
    ],
)
def test_the_headline_counts_verdicts(content: Content, paid: tuple[str, ...], said: str) -> None:
    assert headline(with_paid(content, *paid)) == said


# Markdown and the terminal


def test_the_report_holds_verdicts_tables_calibration_faults_and_figures(content: Content) -> None:
    drawn = list(charts(content))
    text = markdown(content, drawn)
    for line in verdicts(content):
        assert f"- {line}\n" in text
    for heading in ("Networks", "Costs", "Exports", "Robustness", "Soft-label stores", "Figures"):
        assert f"\n## {heading}\n" in text
    assert "2,000 test images" in text
    assert "is 1.750: it takes the NLL there from 0.5000 to 0.3000 and the ECE from 0.0800 to 0.0100" in text
    assert "\nVerified: dense8 (2 faults), none (0 faults, teacher not asked).\n" in text
    for chart in drawn:
        assert f"](figures/{chart.name}.png)" in text


def test_a_terminal_has_room_for_the_table_and_the_answer_comes_last(content: Content) -> None:
    lines = terminal(content).splitlines()
    assert max(len(line) for line in lines if ": int8: " not in line) <= 140  # prose may wrap
    assert lines[-1] == headline(content)


@pytest.mark.parametrize("absent", ["twins", "exports", "explained"])
def test_what_was_not_made_is_not_reported(tmp_path: Path, absent: str) -> None:
    write_reports(tmp_path, **{absent: False})
    content = read(tmp_path)
    text = markdown(content, list(charts(content)))
    assert ("## Exports" in text) == (absent != "exports")
    assert ("class_gains" in text) == (absent != "twins")
    assert (content.samples is None) == (absent == "explained")
    assert terminal(content)


def test_a_teacher_that_runs_elsewhere_has_no_line(tmp_path: Path) -> None:
    write_reports(tmp_path)
    evaluation: dict[str, Any] = read_json(tmp_path / "reports/evaluate.json", made_by="")
    del evaluation["models"]["teacher"]
    write_json(tmp_path / "reports/evaluate.json", evaluation)
    content = read(tmp_path)
    drawn = list(charts(content))
    assert [chart.svg() for chart in drawn]
    assert "| teacher" not in markdown(content, drawn)


# Charts


def test_a_chart_is_drawn_to_the_same_bytes_each_time(content: Content, tmp_path: Path) -> None:
    for chart in charts(content):
        for folder in ("one", "deep/er/two"):
            chart.save(tmp_path / folder)
        image = (tmp_path / f"one/{chart.name}.png").read_bytes()
        assert image.startswith(b"\x89PNG")
        assert (tmp_path / f"deep/er/two/{chart.name}.png").read_bytes() == image


def test_a_chart_on_the_page_is_text_in_the_pages_colours(content: Content) -> None:
    drawn = {chart.name: chart.svg() for chart in charts(content)}
    everything = "".join(drawn.values())
    assert not re.findall(r"(?:fill|stroke): #\w+", everything)
    assert "http" not in everything
    assert "<style" not in everything
    identities = re.findall(r' id="([^"]*)"', everything)
    assert len(set(identities)) == len(identities)
    for pointer in re.findall(r'(?:href="|url\()#([^")]*)', everything):
        assert pointer in identities
    root = ElementTree.fromstring(drawn["class_gains"])
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"].startswith("Gain of students over their twins by class")
    texts = [element.text for element in root.iter("text")]
    assert "Trouser" in texts
    assert "<b>Pullover</b>" in texts


def test_the_teacher_alone_an_imported_one_and_hundreds_of_students_are_drawn(tmp_path: Path) -> None:
    write_reports(tmp_path / "alone", students=())
    alone = read(tmp_path / "alone")
    evaluation = replace(alone.evaluation, models={"teacher": replace(alone.networks["teacher"], train_seconds=0.0)})
    imported = replace(alone, evaluation=evaluation, curves={"teacher": []})
    write_reports(tmp_path / "many", students=[f"s{n}" for n in range(150)], explained=False)
    many = read(tmp_path / "many")
    for content in (alone, imported, many):
        for chart in charts(content):
            assert len(chart.svg()) < 400_000
    captions = {chart.name: chart.caption for chart in charts(many)}
    assert "(the first 12 of 150)" in captions["training_curves"]
    assert "(the first 6 of 150)" in captions["class_gains"]


def test_a_legend_names_everything_that_is_drawn_also_where_the_first_student_has_no_twin(content: Content) -> None:
    rows = {name: row for name, row in content.networks.items() if name != "tiny_hard"}
    rows["tiny"] = replace(rows["tiny"], twin=None)
    evaluation = replace(content.evaluation, models=rows, comparisons=[])
    drawn = {chart.name: chart for chart in charts(replace(content, evaluation=evaluation))}
    chart = drawn["training_curves"].svg()
    assert all(f">{role}</text>" in chart for role in ("student", "twin", "teacher's last"))


def test_the_legend_of_costs_covers_no_point(content: Content) -> None:
    drawn = {chart.name: chart for chart in charts(content)}
    figure = drawn["accuracy_against_size"].draw()
    (axes,), (legend,) = figure.axes, figure.legends
    figure.draw_without_rendering()
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1
    plt.close(figure)


def test_a_name_that_no_xml_may_hold_is_drawn(tmp_path: Path) -> None:
    write_reports(tmp_path, class_names=["bell\x07", "end\uffff", "x\u200cy"], explained=False)
    chart = next(chart for chart in charts(read(tmp_path)) if chart.name == "class_gains")
    texts = [element.text for element in ElementTree.fromstring(chart.svg()).iter("text")]
    assert {"bell\ufffd", "end\ufffd", "x\u200cy"} <= set(texts)
    assert shortened("half \ud83d") == "half \ufffd"


def test_of_a_thousand_classes_the_20_with_the_largest_gains_are_drawn(tmp_path: Path) -> None:
    write_reports(tmp_path, class_names=[f"class {n}" for n in range(1000)], explained=False)
    chart = next(chart for chart in charts(read(tmp_path)) if chart.name == "class_gains")
    assert "the 20 of 1,000 classes" in chart.caption
    assert chart.svg().count(">class ") == 20
