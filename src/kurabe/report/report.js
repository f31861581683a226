"use strict";
(() => {
  const { data, specs } = JSON.parse(document.getElementById("kurabe").textContent);
  const names = data.contestants;

  /** An element with texts and elements in it; texts are set as texts, never as markup. */
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  /** A select's options; `change` is called with the place of the one chosen, and once at first. */
  function choose(id, options, change) {
    const select = document.getElementById(id);
    if (!select) return;
    options.forEach((option, place) => select.append(make("option", { value: place }, option)));
    select.addEventListener("change", () => change(Number(select.value)));
    change(0);
  }

  /** Draw a chart with its named data, in place of the one that stood there. */
  const drawn = new Map();
  async function draw(name, values, domain) {
    const place = document.getElementById("chart-" + name);
    if (!place || !specs[name]) return;
    const spec = structuredClone(specs[name]);
    spec.datasets = Object.assign(spec.datasets || {}, values);
    if (domain) for (const layer of spec.layer) layer.encoding.x.scale.domain = domain;
    spec.config.legend.columns = Math.max(1, Math.floor(place.clientWidth / 190));
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, logLevel: 1 };
    try {
      const { view } = await vegaEmbed(place, spec, options);
      drawn.get(name)?.finalize();
      drawn.set(name, view);
    } catch (error) {
      place.replaceChildren(make("p", { class: "empty" }, "This chart could not be drawn: " + error.message));
    }
  }

  function table(kind, head, body) {
    return make("table", { class: kind }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  }

  for (const name of ["cost", "speed"]) {
    const place = document.getElementById("chart-" + name);
    if (!place) continue;
    const narrow = place.clientWidth < 440; // there is room for the names on the Pareto line alone
    const logs = data[name].map((point) => Math.log(point.x));
    const left = Math.min(...logs), span = Math.max(...logs) - left || 1;
    const placed = (point, i) => {
      if (!narrow) return point;
      return { ...point, side: !point.pareto ? "" : (logs[i] - left) / span > 0.5 ? "left" : "right" };
    };
    draw(name, { [name]: data[name].map(placed) });
  }

  function drawPoints(place) {
    const { low, high, log, rows, truth, guesses, unread, input } = data.points;
    const guessed = guesses[names[place]];
    const unreadHere = new Set(unread[names[place]]);
    const show = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: Math.abs(value) < 1000 ? 4 : 6 });
    let outside = 0;
    const values = [];
    guessed.forEach((guess, i) => {
      if (guess === null || truth[i] === null) return;
      const inside = Math.min(Math.max(guess, low), high);
      outside += inside !== guess;
      values.push({
        t: truth[i], g: inside, kind: unreadHere.has(i) ? "unread" : "read",
        input: `#${rows[i] + 1}: ${input[i]}`, truth: show(truth[i]),
        guess: show(guess) + (unreadHere.has(i) ? " (stands for an unread answer)" : ""),
      });
    });
    const notes = [];
    if (outside) notes.push(`${outside} guess${outside > 1 ? "es" : ""} beyond the axes ${outside > 1 ? "are" : "is"} drawn at the edge.`);
    if (unreadHere.size) notes.push("Orange points stand for unread answers.");
    document.getElementById("points-note").textContent = notes.join(" ");
    draw("points", { points: values });
  }

  function drawConfusion(place) {
    const { labels, counts } = data.confusion;
    const cells = [];
    labels.forEach((truth, i) => {
      const row = counts[names[place]].slice(i * labels.length, (i + 1) * labels.length);
      const total = row.reduce((a, b) => a + b, 0) || 1;
      row.forEach((rows, j) => cells.push({ truth, guess: labels[j], rows, share: rows / total, right: i === j }));
    });
    draw("confusion", { cells });
  }

  function drawHistogram(place) {
    const counts = data.histograms[names[place]];
    const bins = counts.map((rows, i) => ({ low: i / counts.length, high: (i + 1) / counts.length, rows }));
    draw("histogram", { bins });
  }

  const guessChart = { number: drawPoints, label: drawConfusion, text: drawHistogram }[data.kind];
  if (guessChart) choose("guess-contestant", names, guessChart);
  if (specs.curves) draw("curves", { curves: data.curves, trials: data.trials });
  if (specs.losses) draw("losses", { losses: data.losses });
  if (specs.checked) draw("checked", { checked: data.checked });
  if (specs.accumulated) draw("accumulated", { accumulated: data.accumulated });

  function drawSlices(place) {
    const { labels, sizes, rows } = data.slices[place];
    const heads = labels.map((label, i) => `${label} (${sizes[i].toLocaleString("en-US")})`);
    const charted = names.slice(0, data.sliceChart).flatMap((contestant) =>
      rows[contestant].flatMap((cell, i) => (cell ? [{ contestant, slice: heads[i], ...cell }] : [])));
    charted.sort((a, b) => heads.indexOf(a.slice) - heads.indexOf(b.slice));
    const ends = [Math.min(...charted.map((cell) => cell.low)), Math.max(...charted.map((cell) => cell.high))];
    const room = 0.04 * (ends[1] - ends[0]) || 0.5, [least, most] = data.bounds;
    draw("slices", { slices: charted }, [Math.max(ends[0] - room, least ?? -Infinity), Math.min(ends[1] + room, most ?? Infinity)]);
    const best = labels.map((_, i) => {
      const scores = names.map((name) => rows[name][i]).filter(Boolean).map((cell) => cell.score);
      return data.greater ? Math.max(...scores) : Math.min(...scores);
    });
    const head = [make("th", { scope: "col" }, "Contestant"),
      ...labels.map((label, i) => make("th", { scope: "col", class: "num" }, label, make("br", {}),
        make("small", {}, `${sizes[i].toLocaleString("en-US")} rows`)))];
    const body = names.map((name) => make("tr", {}, make("th", { scope: "row" }, name),
      ...rows[name].map((cell, i) => {
        if (!cell) return make("td", { class: "num" }, "–");
        const cut = cell.shown.indexOf(" ");
        return make("td", { class: cell.score === best[i] ? "num top" : "num" }, cell.shown.slice(0, cut),
          make("small", {}, cell.shown.slice(cut + 1)));
      })));
    document.getElementById("slice-table").replaceChildren(table("slices", head, body));
  }
  if (data.slices && data.slices.length) choose("slice-column", data.slices.map((slicing) => slicing.column), drawSlices);

  function drawWorst(place) {
    const rows = data.worst[names[place]];
    const target = document.getElementById("worst-table");
    if (!rows.length) {
      target.replaceChildren(make("p", { class: "empty" }, "Every answer is right."));
      return;
    }
    const raw = rows.some((row) => row.raw !== null);
    const error = data.kind === "label" ? [] : [data.kind === "number" ? "Error" : "1 − score"];
    const head = [["Row", "num"], ["Input", ""], ["Truth", ""], ["Guess", ""], ...error.map((t) => [t, "num"]), ...(raw ? [["Raw answer", ""]] : [])]
      .map(([title, kind]) => make("th", { scope: "col", class: kind }, title));
    const body = rows.map((row) => make("tr", {},
      make("td", { class: "num" }, row.row.toLocaleString("en-US")), make("td", { class: "text" }, row.input),
      make("td", {}, row.truth), make("td", {}, row.guess + (row.unread ? " (unread)" : "")),
      ...error.map(() => make("td", { class: "num" }, row.error)),
      ...(raw ? [make("td", { class: "raw" }, row.raw ?? "")] : [])));
    target.replaceChildren(table("rows", head, body));
  }
  if (data.worst) choose("worst-contestant", names, drawWorst);

  /** Rows side by side: searched by their texts, sorted by a column's head, 25 at a time. */
  function beside() {
    const { contestants, rows, input, truth, guesses, losses } = data.beside;
    const search = document.getElementById("beside-search"), said = document.getElementById("beside-said");
    const target = document.getElementById("beside-table");
    const texts = rows.map((row, i) => [row, input[i], truth[i], ...contestants.map((name) => guesses[name][i] ?? "")].join("\n").toLowerCase());
    const keys = [(i) => rows[i], (i) => input[i], (i) => truth[i], ...contestants.map((name) => (i) => losses[name][i] ?? -1)];
    const titles = ["Row", "Input", "Truth", ...contestants];
    let sorted = 0, down = false;
    const order = (a, b) => {
      const x = keys[sorted](a), y = keys[sorted](b);
      const by = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
      return (down ? -by : by) || a - b;
    };
    function show() {
      const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = rows.map((_, i) => i).filter((i) => wanted.every((word) => texts[i].includes(word))).sort(order);
      const head = titles.map((title, column) => {
        const button = make("button", { type: "button", title: column > 2 ? "Sort by how wrong it is" : "Sort" }, title + (column === sorted ? (down ? " ▼" : " ▲") : ""));
        button.addEventListener("click", () => {
          down = column === sorted ? !down : column > 2;  // of answers, the worst first
          sorted = column;
          show();
        });
        return make("th", { scope: "col", "aria-sort": column === sorted ? (down ? "descending" : "ascending") : "none" }, button);
      });
      const body = found.slice(0, 25).map((i) => {
        const best = Math.min(...contestants.map((name) => losses[name][i] ?? Infinity));
        return make("tr", {}, make("td", { class: "num" }, rows[i].toLocaleString("en-US")), make("td", { class: "text" }, input[i]), make("td", {}, truth[i]),
          ...contestants.map((name) => make("td", { class: losses[name][i] === best ? "top" : "" }, guesses[name][i] ?? "–")));
      });
      said.textContent = `${found.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} rows` + (found.length > 25 ? "; the first 25 are shown" : "");
      target.replaceChildren(table("rows beside", head, body));
    }
    search.addEventListener("input", show);
    show();
  }
  if (data.beside) beside();
})();
