"use strict";
// The parts of the page that answer to the reader: tables that sort, confusions by network, the browser of samples.

const data = JSON.parse(document.getElementById("data").textContent);
const classNames = data.class_names;
const PAGE = 12;
const KINDS = { suspect: "probably mislabelled", disagreed: "students disagree", attributed: "with maps" };
const MOST_ROWS = 8; // networks on a card before one asks for more
const percent = (share) => (share >= 0.9995 ? "100" : (100 * share).toFixed(share < 0.0995 ? 1 : 0)) + "%";

/** An element with properties and children; texts are put in as text, never as HTML. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Tables that sort: by what a cell is worth, not by how it is written; what does not apply comes last.

function sortBy(table, column, descending) {
  const worth = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [worth(a), worth(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return descending ? -order : order;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const first = heading.classList.contains("number") ? "descending" : "ascending";
      const other = first === "descending" ? "ascending" : "descending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      sortBy(table, column, order === "descending");
    });
  });
}

// Confusions

function showConfusions(name) {
  const { classes, cells, largest } = data.confusions[name] ?? { classes: [], cells: [], largest: [] };
  const [between, after, note] = data.confusion_words;
  const said = (actual, predicted) => `${classNames[actual]}${between}${classNames[predicted]}${after}`;
  const counts = new Map(cells.map(([actual, predicted, count]) => [`${actual} ${predicted}`, count]));
  const totals = new Map();
  for (const [actual, , count] of cells) totals.set(actual, (totals.get(actual) ?? 0) + count);
  document.getElementById("confusion-largest").replaceChildren(
    ...largest.map(([actual, predicted, count]) =>
      make("li", {}, make("b", { textContent: count }), ` × ${said(actual, predicted)}`),
    ),
  );
  const heading = (place, scope) => make("th", { scope, textContent: classNames[place], title: classNames[place] });
  const corner = make("td", { textContent: "" });
  const head = make("thead", {}, make("tr", {}, corner, ...classes.map((place) => heading(place, "col"))));
  const row = (actual) =>
    classes.map((predicted) => {
      const count = counts.get(`${actual} ${predicted}`);
      const cell = make("td", { textContent: count ?? "" });
      if (count) {
        cell.title = `${actual === predicted ? classNames[actual] : said(actual, predicted)}: ${count}`;
        cell.style.setProperty("--tone", actual === predicted ? "var(--muted)" : "var(--orange)");
        cell.style.setProperty("--heat", `${actual === predicted ? 18 : 10 + 38 * Math.sqrt(count / totals.get(actual))}%`);
      }
      return cell;
    });
  const body = make("tbody", {}, ...classes.map((actual) => make("tr", {}, heading(actual, "row"), ...row(actual))));
  document.getElementById("confusion-table").replaceChildren(head, body);
  document.getElementById("confusion-note").textContent =
    note +
    (classes.length < classNames.length ? ` The ${classes.length} of ${classNames.length} classes that it confuses most.` : "");
}

const chooser = document.getElementById("confusion-network");
for (const [name, role] of Object.entries(data.roles)) chooser.append(new Option(role === name ? name : `${name} (${role})`, name));
chooser.addEventListener("change", () => showConfusions(chooser.value));
showConfusions(chooser.value);

// The browser of samples

function startBrowser(browser) {
  const form = document.getElementById("filters");
  const place = document.getElementById("browser");
  const found = document.getElementById("found");
  const students = browser.networks.filter((name) => data.roles[name] === "student");
  let page = 0;
  let shown = [];

  // Of independent classes a hard label is a list: all that are there.
  const nameOf = (place) => (place === null ? "none" : browser.class_names[place]);
  const namesOf = (label) => (Array.isArray(label) ? label.map(nameOf).join(", ") || "none of the classes" : nameOf(label));
  const isHard = (place, label) => (Array.isArray(label) ? label.includes(place) : place === label);
  const isWrong = (sample, name) => {
    const label = sample.hard_label;
    if (label === null || !Array.isArray(label)) return label !== null && sample.says[name][0][0] !== label;
    const said = sample.says[name].filter(([, share]) => share >= 0.5).map(([place]) => place);
    const known = (place) => !sample.unknown.includes(place);
    return said.some((place) => known(place) && !label.includes(place)) || label.some((place) => !said.includes(place));
  };
  const suspicion = (sample) => sample.suspicion ?? 0; // test images have none
  const disagreement = (sample) => sample.disagreement ?? 0; // none has any where the teacher runs elsewhere
  const orders = {
    suspicion: (a, b) => suspicion(b) - suspicion(a) || disagreement(b) - disagreement(a),
    disagreement: (a, b) => disagreement(b) - disagreement(a) || suspicion(b) - suspicion(a),
  };

  /** A tile of a sheet, as large as fits `room` in whole pixels of the image. */
  function tile(sheet, number, [height, width], room, label) {
    const scale = Math.max(1, Math.floor(room / Math.max(height, width)));
    const canvas = make("canvas", { width, height });
    canvas.style.width = `${scale * width}px`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const [x, y] = [number % browser.columns, Math.floor(number / browser.columns)];
    canvas.getContext("2d").drawImage(document.getElementById(sheet), x * width, y * height, width, height, 0, 0, width, height);
    return canvas;
  }

  /** A sample or a view as it looks: a tile, or its parts. */
  function look(shown, room, label) {
    return Array.isArray(shown) ? parts(shown, label) : tile("tiles", shown, browser.tile_px, room, label);
  }

  /** Words of a text in a row, or cells of a row of a table one below the other.
   * Where `added` is given, each is coloured by what it adds to a class, the strongest the most. */
  function parts(shown, label, added) {
    const strongest = Math.max(...(added ?? []).map(Math.abs), 1e-9);
    const each = shown.map((part, place) => {
      const children = part.name === undefined ? [part.text] : [make("b", { textContent: part.name }), " ", part.text];
      const element = make("span", { className: part.change ? `part ${part.change}` : "part" }, ...children);
      if (part.change) element.title = part.change;
      if (added) {
        element.title = `${added[place] < 0 ? "−" : "+"}${Math.abs(added[place]).toFixed(3)} nats`;
        element.classList.add(added[place] < 0 ? "against" : "for");
        element.style.setProperty("--strength", `${((70 * Math.abs(added[place])) / strongest).toFixed(0)}%`);
      }
      return element;
    });
    const isRow = shown.some((part) => part.name !== undefined);
    const element = make("div", { className: isRow ? "parts cells" : "parts" });
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", label);
    element.append(...each.flatMap((part) => [part, " "]));
    if (!shown.length) element.append("(nothing)");
    return element;
  }

  /** Lines of three: who says it, and the most likely classes; a sign marks the hard label. */
  function says(who, guesses, hardLabel) {
    const line = guesses.map(([place, share]) => {
      const hard = isHard(place, hardLabel);
      const text = `${nameOf(place)}${hard ? " (the hard label)" : ""}: ${percent(share)}`;
      const guess = make("div", { className: hard ? "guess hard" : "guess", title: text });
      guess.append(make("span", { textContent: (hard ? "● " : "") + nameOf(place) }), percent(share));
      guess.style.setProperty("--share", percent(share));
      return guess;
    });
    while (line.length % 3 || !line.length) line.push(make("div"));
    return line.flatMap((guess, place) => (place % 3 ? [guess] : [make("div", { className: "who" }, place ? "" : who), guess]));
  }

  function networkLines(sample, names) {
    return make("div", { className: "says" }, ...names.flatMap((name) => says(name, sample.says[name], sample.hard_label)));
  }

  function maps(sample, names) {
    const each = names.map((name) => {
      const agreement = sample.map_agreement?.[name];
      const caption = name + (agreement === undefined ? "" : ` ${agreement.toFixed(2)}`);
      const [map, label] = [sample.maps[name], `where ${name} looks`];
      const shown = Array.isArray(map) ? parts(sample.image, label, map) : tile("maps", map, browser.map_px, 64, label);
      return make("div", {}, shown, caption);
    });
    return make("div", { className: Array.isArray(sample.image) ? "maps wide" : "maps" }, ...each);
  }

  /** What `show` makes of the first networks, and of the others where one asks for them. */
  function byNetwork(sample, title, names, show) {
    if (!names.length) return [];
    const [first, more] = [names.slice(0, MOST_ROWS), names.slice(MOST_ROWS)];
    const parts = [make("h4", { textContent: title }), show(sample, first)];
    if (more.length) {
      const rest = make("details", {}, make("summary", { textContent: `${more.length} more` }));
      rest.addEventListener("toggle", () => rest.children.length < 2 && rest.append(show(sample, more)));
      parts.push(rest);
    }
    return parts;
  }

  function card(sample) {
    const facts = make("div", { className: "facts" }, make("h3", { textContent: sample.id }));
    const measured = [
      "suspicion" in sample ? `suspicion ${suspicion(sample).toFixed(2)}` : "",
      "disagreement" in sample ? `disagreement ${disagreement(sample).toFixed(2)} nats` : "",
    ];
    facts.append(
      make("p", {}, "hard label: ", make("b", { textContent: namesOf(sample.hard_label) })),
      make("p", {}, `${sample.split}, number ${sample.index}`),
      make("p", {}, ...sample.kinds.map((kind) => make("span", { className: "kind", textContent: KINDS[kind] }))),
      make("p", {}, make("small", { textContent: measured.filter(Boolean).join(", ") })),
    );
    const image = look(sample.image, 112, `sample ${sample.id}`);
    const article = make("article", { className: "card sample" }, make("header", {}, image, facts));
    if (Array.isArray(sample.image)) article.firstElementChild.classList.add("worded");
    if (sample.view_labels?.length) {
      const lines = sample.view_labels.flatMap((guesses, view) =>
        says(look(sample.views[view], 40, `view ${view}`), guesses, sample.hard_label),
      );
      article.append(make("h4", { textContent: "What the teacher said of each view (stored)" }), make("div", { className: Array.isArray(sample.image) ? "says wide" : "says" }, ...lines));
    }
    const lookedAt = "Where they look, and agreement with the teacher";
    article.append(
      ...byNetwork(sample, "What each network says", browser.networks, networkLines),
      ...byNetwork(sample, lookedAt, Object.keys(sample.maps ?? {}), maps),
    );
    return article;
  }

  const numPages = () => Math.max(1, Math.ceil(shown.length / PAGE));
  const isPage = (number) => number >= 0 && number < numPages();

  function draw() {
    const cards = shown.slice(page * PAGE, (page + 1) * PAGE).map(card);
    place.replaceChildren(...(cards.length ? cards : [make("p", { className: "empty", textContent: "No sample is like this." })]));
    found.textContent = `${shown.length} of ${browser.samples.length} samples, page ${page + 1} of ${numPages()}`;
    for (const button of document.querySelectorAll("[data-step]")) {
      // A button that becomes `disabled` loses the focus.
      button.setAttribute("aria-disabled", !isPage(page + Number(button.dataset.step)));
    }
  }

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    const id = wanted.id.trim().toLowerCase();
    const wrong = wanted.wrong === "*" ? students : [wanted.wrong];
    shown = browser.samples
      .filter((sample) => !wanted.kind || sample.kinds.includes(wanted.kind))
      .filter((sample) => !wanted.split || sample.split === wanted.split)
      .filter((sample) => !wanted.label || [sample.hard_label].flat().map(String).includes(wanted.label))
      .filter((sample) => !wanted.wrong || wrong.some((name) => isWrong(sample, name)))
      .filter((sample) => sample.id.includes(id))
      .sort(orders[wanted.order]);
    page = 0;
    draw();
  }

  function turn(step) {
    if (!isPage(page + step)) return;
    page += step;
    draw();
    form.scrollIntoView({ block: "start" });
  }

  const options = (name, pairs) => form.elements[name].append(...pairs.map(([text, value]) => new Option(text, value)));
  const labels = [...new Set(browser.samples.flatMap((sample) => sample.hard_label))].sort((a, b) => (a ?? -1) - (b ?? -1));
  options("kind", [...new Set(browser.samples.flatMap((sample) => sample.kinds))].map((kind) => [KINDS[kind], kind]));
  options("label", labels.map((label) => [nameOf(label), String(label)]));
  options("wrong", browser.networks.map((name) => [name, name]));
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => turn(Number(button.dataset.step)));
  }
  const steps = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 };
  document.addEventListener("keydown", (event) => {
    const { top, bottom } = document.getElementById("samples").getBoundingClientRect();
    const seen = top < innerHeight && bottom > 0;
    const elsewhere = event.target.closest("input, select, .scroll") || event.ctrlKey || event.metaKey || event.altKey;
    if (!(event.key in steps) || !seen || elsewhere) return;
    event.preventDefault();
    turn(steps[event.key]);
  });
  filter();
}

function tellWithoutSheets() {
  for (const useless of document.querySelectorAll("#filters, #samples > .pager")) useless.remove();
  const said = "The samples can't be shown: this browser can't read the sheet of their images.";
  document.getElementById("browser").replaceChildren(make("p", { className: "empty", role: "alert", textContent: said }));
}

if (data.browser) {
  const sheets = [...document.querySelectorAll("#samples > img")];
  Promise.all(sheets.map((sheet) => sheet.decode())).then(() => startBrowser(data.browser), tellWithoutSheets);
}
