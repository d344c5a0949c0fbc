// Several runs: their fronts on one plot, what they are, and how their hypervolumes grew.

const RUN_SHAPES = ["circle", "diamond", "square", "triangle"];
const hueOf = (place) => `run${place % 6}`;
const dashed = (place) => (place >= 6 ? " dashed" : "");
const runMark = (place, x, y, r) =>
  mark(RUN_SHAPES[place % 4], x, y, r, { class: `compared ${hueOf(place)}${place >= 6 ? " open" : ""}` });
const axisName = (quantity) => (quantity.device ? `${quantity.label} on ${quantity.device}` : quantity.label);

function renderHead(data) {
  const best = data.runs
    .filter((run) => isNumber(run.hypervolume))
    .reduce((one, run) => (one && one.hypervolume >= run.hypervolume ? one : run), null);
  document
    .getElementById("masthead")
    .append(
      h("p", { class: "eyebrow" }, "neural architecture search · comparison of runs"),
      h("h1", null, data.runs.map((run) => run.name).join(", ")),
      h(
        "p",
        { class: "verdict" },
        best
          ? `${best.name} dominates most of the common box: ${best.hypervolume.toFixed(3)} of it, as judged in the search.`
          : "The runs share no box in which their fronts could be measured.",
      ),
    );
}

/** Points of a run in the chosen set that have both figures. */
function pointsOf(run, view, across, up) {
  const set = run[view.set];
  const [xs, ys] = [set.figures[across] || [], set.figures[up] || []];
  return set.label
    .map((label, place) => ({ label, front: set.front[place], x: xs[place], y: ys[place] }))
    .filter((point) => isNumber(point.x) && isNumber(point.y) && (!view.log || point.x > 0));
}

function renderFronts(data) {
  const root = bodyOf("fronts");
  if (data.warnings.length) root.append(h("ul", { class: "warnings" }, data.warnings.map((text) => h("li", null, text))));
  if (data.notes.length) root.append(note(data.notes.join(" · ")));
  const everyone = data.runs.every((run) => run.files.label.length);
  const view = { set: everyone ? "files" : "candidates", axis: data.axes[0], log: true, others: true };
  const host = h("div", { class: "figure" });
  let redraw = () => {};
  const change = (part) => {
    Object.assign(view, part);
    redraw();
  };
  const choose = (key, entries) =>
    h(
      "select",
      { onchange: (event) => change({ [key]: event.target.value }) },
      entries.map(([value, text]) => h("option", { value, selected: value === view[key] }, text)),
    );
  const box = (key, text) =>
    h("label", null, h("input", { type: "checkbox", checked: view[key], onchange: (event) => change({ [key]: event.target.checked }) }), ` ${text}`);
  root.append(
    h(
      "form",
      { class: "controls", onsubmit: (event) => event.preventDefault() },
      h(
        "label",
        null,
        "show ",
        choose("set", [
          ["candidates", "candidates, as judged in the search"],
          ["files", "exported files, as measured"],
        ]),
      ),
      h("label", null, "against ", choose("axis", data.axes.map((key) => [key, axisName(data.quantities[key])]))),
      box("log", "logarithmic"),
      box("others", "dominated ones"),
    ),
    host,
    legend(data.runs.map((run, place) => [swatch(runMark(place, 0, 0, 5)), run.name])),
  );
  redraw = drawn(host, (width) => drawFronts(host, data, view, width));
}

function drawFronts(host, data, view, width) {
  const up = data.objectives[0];
  const [across, vertical] = [data.quantities[view.axis], data.quantities[up]];
  const all = data.runs.map((run) => pointsOf(run, view, view.axis, up));
  const shown = all.map((points) => (view.others ? points : points.filter((point) => point.front)));
  const flat = shown.flat();
  if (!flat.length) {
    host.replaceChildren(empty(view.set === "files" ? "No run has exported files." : "No run has results."));
    return;
  }
  const share = vertical.dimension === "share";
  const y = padded(flat.map((point) => point.y));
  const plot = frame({
    width,
    height: Math.max(320, Math.min(520, width * 0.5)),
    x: {
      domain: padded(flat.map((point) => point.x), { log: view.log, air: 0.05 }),
      log: view.log,
      label: axisName(across),
      format: (value) => formatQuantity(across.dimension === "share" ? 100 * value : value, across.dimension),
    },
    y: {
      domain: share ? [Math.max(0, y[0]), Math.min(1.005, y[1])] : y,
      label: axisName(vertical),
      format: share ? shareTicks(y) : (value) => formatQuantity(value, vertical.dimension),
    },
    label: "Fronts of the runs. With arrow keys you walk along their points.",
  });
  const targets = shown.flatMap((points, place) => drawRun(plot, data, view, { points, place, up }));
  interactive(plot, targets);
  host.replaceChildren(plot.svg);
}

function drawRun(plot, data, view, { points, place, up }) {
  const at = (point) => [plot.x(point.x), plot.y(point.y)];
  const others = points.filter((point) => !point.front);
  const front = points.filter((point) => point.front).sort((a, b) => a.x - b.x);
  if (others.length) plot.marks.append(dots(others.map(at), `behind ${hueOf(place)}`));
  // With two objectives the front is a staircase; with more its points only look as if they were dominated.
  if (data.objectives.length === 2 && data.objectives.includes(view.axis) && front.length > 1) {
    plot.marks.append(s("path", { class: `steps ${hueOf(place)}${dashed(place)}`, d: path(front.map(at), { step: true }) }));
  }
  front.forEach((point) => plot.marks.append(runMark(place, ...at(point), 4.5)));
  return points.map((point) => ({
    x: at(point)[0],
    y: at(point)[1],
    rank: point.front ? 1 : 0,
    card: () =>
      facts([
        ["run", data.runs[place].name],
        ["model", point.label],
        [data.quantities[up].label, formatMetric(point.y, data.quantities[up])],
        [data.quantities[view.axis].label, formatMetric(point.x, data.quantities[view.axis])],
      ]),
  }));
}

function renderRuns(data) {
  const volume = (value) => (isNumber(value) ? h("span", { class: "hypervolume" }, value.toFixed(3)) : "–");
  const head = ["run", "hypervolume", "exported, as measured", ...data.objectives.map((key) => `best ${data.quantities[key].short}`)];
  head.push("candidates", "failed", "work", "strategy", "seed", "space", "devices", "begun");
  const right = [1, 2, ...data.objectives.map((_, place) => 3 + place)];
  const next = 3 + data.objectives.length;
  bodyOf("runs").append(
    grid(
      head,
      data.runs.map((run, place) => [
        h("span", { class: "called" }, swatch(runMark(place, 0, 0, 5)), run.name),
        volume(run.hypervolume),
        volume(run.file_hypervolume),
        ...data.objectives.map((key) => formatMetric(run.best[key], data.quantities[key])),
        integer(run.count),
        integer(run.failed),
        duration(run.seconds),
        run.strategy || "–",
        integer(run.seed),
        run.space.split(" ")[0],
        run.devices.join(", "),
        moment(run.created),
      ]),
      { right: [...right, next, next + 1, next + 2, next + 4] },
    ),
    note(
      "A hypervolume is the share of one box, the same for all runs, that a front dominates: from 0 to 100 % of a share, and for costs from 0 to the budget that all runs have, else to the largest value that any run has seen. Candidates and exported files have a box each.",
    ),
  );
}

function renderGrowth(data) {
  const root = bodyOf("growth");
  const runs = data.runs.map((run, place) => ({ run, place })).filter(({ run }) => run.growth.position.length > 1);
  if (!runs.length) {
    root.append(empty("No run has results in the common box."));
    return;
  }
  const host = h("div", { class: "figure" });
  root.append(host, legend(runs.map(({ run, place }) => [swatch(runMark(place, 0, 0, 5)), run.name])));
  drawn(host, (width) => {
    const most = Math.max(...runs.map(({ run }) => run.growth.position[run.growth.position.length - 1]));
    const values = runs.flatMap(({ run }) => run.growth.value);
    const y = padded(values);
    const plot = frame({
      width,
      height: Math.max(260, Math.min(380, width * 0.36)),
      x: { domain: [0, most], label: "evaluations", format: integer },
      y: { domain: [Math.max(0, y[0]), Math.min(1.02, y[1])], label: "hypervolume", format: (value) => value.toFixed(2) },
      label: "Hypervolume of each run over its evaluations.",
    });
    runs.forEach(({ run, place }) => {
      const places = run.growth.position.map((position, step) => [plot.x(position), plot.y(run.growth.value[step])]);
      plot.marks.append(s("path", { class: `grown ${hueOf(place)}${dashed(place)}`, d: path(places, { step: true }) }));
      const [x, top] = places[places.length - 1];
      plot.marks.append(runMark(place, x, top, 4.5));
    });
    host.replaceChildren(plot.svg);
  });
}

const payload = JSON.parse(document.getElementById("payload").textContent);
renderHead(payload);
[
  ["fronts", renderFronts],
  ["runs", renderRuns],
  ["growth", renderGrowth],
].forEach(([id, render]) => {
  try {
    render(payload);
  } catch (error) {
    bodyOf(id).append(empty(`This part could not be drawn: ${error.message}`));
    console.error(error);
  }
});
addEventListener("scroll", () => card.hide(), { passive: true });
