// What was tried: progress of the search, its random baseline, failures, and what it all cost.

function renderHistory(data) {
  const root = bodyOf("history");
  const search = data.search;
  root.append(costFacts(data));
  if (!search.count) {
    root.append(empty("history.jsonl is missing or empty: no evaluation is recorded."));
    return;
  }
  const best = h("div", { class: "figure" });
  const volume = h("div", { class: "figure" });
  root.append(
    h(
      "div",
      { class: "panels" },
      h("div", { class: "panel" }, h("h3", null, "Best validation accuracy"), best),
      search.curves.hypervolume ? h("div", { class: "panel" }, h("h3", null, "Hypervolume"), volume) : null,
    ),
  );
  drawn(best, (width) => drawBest(best, data, width));
  if (search.curves.hypervolume) drawn(volume, (width) => drawVolume(volume, data, width));
  root.append(historyLegend(data), baselineNote(data), failureTable(search), workersPart(data.workers));
}

function costFacts(data) {
  const { search, about, forecast } = data;
  const failed = search.count - search.complete;
  const kinds = new Map();
  search.failures.forEach((kind) => kinds.set(kind.status, (kinds.get(kind.status) || 0) + kind.count));
  const budget = search.fidelities.map(
    ({ fidelity, count }) =>
      `${integer(count)} × ${fidelity.epochs ? `${fidelity.epochs} epochs` : Object.values(fidelity).join(" ")}`,
  );
  const steps = Object.entries(about.timings).map(([name, seconds]) => [name, duration(seconds)]);
  const wall = Object.values(about.timings)
    .filter(isNumber)
    .reduce((total, seconds) => total + seconds, 0);
  return facts(
    [
      ["evaluated", plural(search.count, "candidate")],
      ["complete", integer(search.complete)],
      [
        "without result",
        failed ? `${integer(failed)} (${[...kinds].map(([status, count]) => `${count} ${status}`).join(", ")})` : "0",
      ],
      ["fidelity", budget.slice(0, 3).join(", ")],
      ["exported files", integer(data.files.length)],
      ...steps,
      ["these steps together", steps.length > 1 ? duration(wall) : null],
      ["forecast for search and finish", duration(forecast.seconds)],
      [
        "a candidate took",
        search.seconds.median === null
          ? null
          : `${duration(search.seconds.median)} (median), ${duration(search.seconds.longest)} at most`,
      ],
      ["workers spent on all candidates", duration(search.seconds.total)],
    ],
    "facts strip",
  );
}

function drawBest(host, data, width) {
  const { search } = data;
  const { sample } = search;
  const random = search.baseline;
  const order = sample.accuracy.filter(isNumber).sort((a, b) => a - b);
  const values = [
    ...order.slice(Math.floor(order.length * 0.1)),
    ...search.curves.best.value,
    ...(random ? random.best.value.slice(1) : []),
  ];
  const domain = padded(values);
  const total = Math.max(search.count, random ? random.count : 0);
  const plot = frame({
    width,
    height: 260,
    x: {
      domain: [0, total * 1.01],
      label: "evaluations",
      format: (value) => (Number.isInteger(value) ? integer(value) : ""),
    },
    y: {
      domain: [Math.max(0, domain[0]), Math.min(1.002, domain[1])],
      label: "accuracy",
      format: shareTicks(domain),
    },
    label: "Best validation accuracy against evaluations. Arrow keys walk along the candidates.",
  });
  const known = sample.place.map((_, place) => place).filter((place) => isNumber(sample.accuracy[place]));
  const at = (place) => [plot.x(sample.place[place]), plot.y(sample.accuracy[place])];
  plot.marks.append(dots(known.map(at), "candidates"));
  search.failed_places.forEach((place) =>
    plot.marks.append(s("path", { class: "failed", d: `M${plot.x(place + 1)} ${plot.box.bottom}v-9` })),
  );
  drawCurve(plot, random && random.best, "random");
  drawCurve(plot, search.curves.best, "searched");
  interactive(
    plot,
    known
      .map((place) => ({ x: at(place)[0], y: at(place)[1], card: () => candidateCard(data, place) }))
      .filter((target) => target.y <= plot.box.bottom),
  );
  host.replaceChildren(plot.svg);
}

function drawCurve(plot, curve, className) {
  if (!curve || !curve.position.length) return;
  const places = curve.position.map((position, place) => [plot.x(position), plot.y(curve.value[place])]);
  plot.marks.append(s("path", { class: `curve ${className}`, d: path(places, { step: true }) }));
}

function drawVolume(host, data, width) {
  const { search } = data;
  const random = search.baseline && search.baseline.hypervolume;
  const band = data.audit.chance && data.audit.chance.band;
  const total = Math.max(search.count, random ? search.baseline.count : 0);
  const values = [...search.curves.hypervolume.value, ...(random ? random.value : [])].sort((a, b) => a - b);
  const domain = padded([values[Math.floor(values.length * 0.06)], values[values.length - 1]]);
  const plot = frame({
    width,
    height: 260,
    x: {
      domain: [0, total * 1.01],
      label: "evaluations",
      format: (value) => (Number.isInteger(value) ? integer(value) : ""),
    },
    y: {
      domain: [Math.max(0, domain[0]), Math.min(1, domain[1])],
      label: "hypervolume",
      format: (value) => value.toFixed(domain[1] - domain[0] < 0.05 ? 3 : 2),
    },
    label: "Hypervolume against evaluations. Arrow keys walk along the curve.",
  });
  if (band) drawBand(plot, band);
  else drawCurve(plot, random, "random");
  drawCurve(plot, search.curves.hypervolume, "searched");
  const curves = [
    ["search", search.curves.hypervolume],
    ["random, on average", band ? { position: band.position, value: band.mean } : random],
  ].filter(([, curve]) => curve);
  interactive(
    plot,
    curves.flatMap(([name, curve]) =>
      curve.position.map((position, place) => ({
        x: plot.x(position),
        y: plot.y(curve.value[place]),
        rank: name === "search" ? 1 : 0,
        card: () =>
          h(
            "div",
            null,
            h("strong", null, name),
            facts([
              ["after", plural(position, "evaluation")],
              ["hypervolume", curve.value[place].toFixed(3)],
            ]),
          ),
      })),
    ),
  );
  host.replaceChildren(plot.svg);
}

/** Random searches: their average, and where nine of ten orders of the draws lie. */
function drawBand(plot, band) {
  const side = (values) => band.position.map((position, place) => [plot.x(position), plot.y(values[place])]);
  const outline = [...side(band.high), ...side(band.low).reverse()];
  plot.marks.append(
    s("path", { class: "random-band", d: `${path(outline)}Z` }),
    s("path", { class: "curve random", d: path(side(band.mean)) }),
  );
}

function historyLegend(data) {
  const line = (className) => swatch(s("path", { class: `curve ${className}`, d: "M-10 0H10" }));
  return legend(
    [
      [line("searched"), "search"],
      data.search.baseline ? [line("random"), "random baseline"] : null,
      data.audit.chance
        ? [swatch(s("rect", { class: "random-band", x: -10, y: -5, width: 20, height: 10 })), "90 % of its orders"]
        : null,
      [swatch(dots([[0, 0]], "candidates")), "candidate"],
      data.search.failures.length ? [swatch(s("path", { class: "failed", d: "M0 6V-5" })), "without result"] : null,
    ].filter(Boolean),
  );
}

/** What the hypervolume is a share of. */
function baselineNote(data) {
  const { search } = data;
  const ends = Object.entries(search.box || {}).map(([key, limit]) => {
    const quantity = data.quantities[key];
    return quantity.maximize
      ? `${quantity.label} from 0 to 100\u00a0%`
      : `${placed(quantity, data)} from 0 to ${formatMetric(limit, quantity)}`;
  });
  const meaning = ends.length ? `Hypervolume: share of the box (${ends.join(", ")}) that the front dominates.` : "";
  return note(
    meaning,
    search.fidelities.length > 1
      ? " Networks were judged at several fidelities, and each judgement counts as it came: short trainings make the curves rise early."
      : "",
    search.baseline ? "" : " No random baseline was run, so nothing here shows what the strategy itself gained.",
  );
}

function failureTable(search) {
  if (!search.failures.length) return note("Every evaluation gave a result.");
  return h(
    "div",
    null,
    h("h3", null, "Evaluations without a result"),
    grid(
      ["count", "status", "reason (an example where only numbers differ)", "first at"],
      search.failures.map((kind) => [
        integer(kind.count),
        kind.status,
        h("span", { class: "reason" }, kind.error),
        integer(kind.first),
      ]),
      { right: [0, 3] },
    ),
  );
}
