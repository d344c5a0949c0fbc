// How sure the figures are: accuracy, timing, predictor; predicted against measured latency.

function renderLatency(data) {
  const root = bodyOf("latency");
  root.append(
    h("div", { class: "statements" }, accuracyStatement(data), timingStatements(data), predictorStatement(data)),
  );
  const panels = data.latency_panels.filter((panel) => panel.points.length || panel.exported.num_files);
  const estimated = data.latency_panels.filter((panel) => panel.estimated && !panels.includes(panel));
  if (estimated.length) {
    const names = estimated.map((panel) => `${panel.device}, ${panel.precision}`).join("; ");
    root.append(note(`Estimated from the device's card, with nothing measured to hold against it: ${names}.`));
  }
  if (!panels.length) {
    root.append(empty("No predicted and measured latencies are recorded, so they cannot be compared."));
    return;
  }
  root.append(
    h(
      "div",
      { class: "panels" },
      panels.map((panel) => latencyPanel(panel, data)),
    ),
    latencyLegend(),
  );
}

const statement = (title, value, ...text) =>
  h("div", { class: "statement" }, h("h3", null, title), h("p", { class: "value" }, value), h("p", null, ...text));

function accuracyStatement(data) {
  const judged = data.files.filter((file) => file.interval);
  if (!judged.length)
    return statement("Accuracy", "unknown", "The number of test samples is not recorded, so no interval can be given.");
  const best = judged.reduce((a, b) => (b.accuracy > a.accuracy ? b : a));
  const alike = judged.filter((file) => file !== best && !toldApart(file, best)).length;
  return statement(
    "Accuracy",
    plural(best.num_samples, "test sample"),
    `The best file's ${percent(best.accuracy)} stand for ${intervalText(best)} (Wilson, 95 %). `,
    alike
      ? `${plural(alike, "other file")} of ${judged.length} ${alike === 1 ? "is" : "are"} not told apart from it by this test set: choose among them by cost.`
      : "Every other file is worse by more than chance.",
  );
}

const timingStatements = (data) =>
  (data.devices.length ? data.devices : [{ name: "", measurable: true, estimated: [] }]).map((device) =>
    timingStatement(device, data),
  );

/** How steady the timings on a device were; where nobody can measure, that. */
function timingStatement(device, data) {
  const timings = data.files.map((file) => file.timings[device.name]).filter(Boolean);
  const spreads = timings
    .map((timing) => timing.spread)
    .filter(isNumber)
    .sort((a, b) => a - b);
  const judged = timings.filter((timing) => timing.settled !== null);
  const restless = judged.filter((timing) => !timing.settled).length;
  const title = data.devices.length > 1 ? `Latency on ${device.name}` : "Measured latency";
  if (!device.measurable && data.files.length)
    return statement(
      title,
      device.estimated.length ? "estimated" : "predicted",
      `No file was timed there: its figures are ${device.estimated.length ? "estimates from the device's card" : "predictions"}, and budgets were held against their bounds. Measure the files there before you rely on them.`,
    );
  if (!spreads.length && !judged.length)
    return statement(
      title,
      "spread unknown",
      "The manifests of the models do not say how far repeated timings differ.",
    );
  return statement(
    title,
    spreads.length ? `spread ${percent(spreads[Math.floor(spreads.length / 2)])}` : "spread unknown",
    spreads.length
      ? `Median coefficient of variation of the timing's blocks; at worst ${percent(spreads[spreads.length - 1])}. `
      : "",
    judged.length
      ? restless
        ? `${plural(restless, "file")} of ${judged.length} did not settle and should be measured again.`
        : `All ${judged.length} timings settled.`
      : "",
  );
}

function predictorStatement(data) {
  const checks = data.latency_panels.map((panel) => panel.exported).filter((check) => check.num_files);
  if (!checks.length)
    return statement("Predicted latency", "not checked", "No exported file has both a prediction and a measurement.");
  const sum = (key) => checks.reduce((total, check) => total + (check[key] || 0), 0);
  const mape = checks.reduce((total, check) => total + check.mape * check.num_files, 0) / sum("num_files");
  return statement(
    "Predicted latency",
    `off by ${percent(mape)}`,
    `Mean error on the ${plural(sum("num_files"), "exported file")}. ${boundName(data)[0].toUpperCase()}${boundName(data).slice(1)} held for ${sum("bounds_held")} of ${sum("num_bounds")}.`,
  );
}

function latencyPanel(panel, data) {
  const host = h("div", { class: "figure" });
  drawn(host, (width) => drawLatency(host, panel, data, width));
  const { quality, exported } = panel;
  const row = (name, heldOut, files) => [name, heldOut, files];
  return h(
    "div",
    { class: "panel" },
    h(
      "h3",
      null,
      latencyKeys(data).length > 1 ? `${panel.device}, ${panel.precision}` : panel.precision,
      panel.estimated ? h("span", { class: "tag" }, "estimated") : null,
    ),
    host,
    grid(
      ["", "held-out calibration", "exported files"],
      [
        row("number", integer(quality.num_test), integer(exported.num_files)),
        row("rank correlation (Spearman)", isNumber(quality.spearman) ? quality.spearman.toFixed(3) : "–", "–"),
        row("mean absolute error", percent(quality.mape), percent(exported.mape)),
        row("within 10 %", percent(quality.within_10_percent, 0), percent(exported.within_10_percent, 0)),
        row(
          "bound held",
          percent(quality.coverage, 0),
          exported.num_bounds ? `${exported.bounds_held} of ${exported.num_bounds}` : "–",
        ),
      ],
      { right: [1, 2] },
    ),
    isNumber(quality.num_train)
      ? note(
          `Fitted on ${plural(quality.num_train, "architecture")}${panel.cross_validated ? "; each held-out one was predicted without having been seen (cross-validation)" : ""}${panel.file ? `; stored in ${panel.file}` : ""}.`,
        )
      : null,
  );
}

function drawLatency(host, panel, data, width) {
  const { key } = panel;
  const files = data.files.filter(
    (file) => file.device_precision === panel.precision && file.costs[key] > 0 && file.predicted[key] > 0,
  );
  const values = [
    ...panel.points.flatMap((point) => point.slice(0, 3)),
    ...files.flatMap((file) => [file.costs[key], file.predicted[key], file.upper[key]]),
  ];
  const domain = padded(values, { log: true });
  const format = (value) => formatQuantity(value, "time");
  const plot = frame({
    width,
    height: Math.min(width * 0.86, 430),
    x: { domain, log: true, label: "measured", format },
    y: { domain, log: true, label: "predicted", format },
    left: 74,
    label: `Predicted against measured latency, ${panel.precision}. Arrow keys walk along the exported files.`,
  });
  [
    [1, "diagonal"],
    [1.1, "ten"],
    [1 / 1.1, "ten"],
  ].forEach(([factor, className]) => {
    const ends = domain.map((value) => [plot.x(value), plot.y(value * factor)]);
    plot.marks.append(s("path", { class: className, d: path(ends) }));
  });
  interactive(plot, [...drawPoints(plot, panel, data), ...drawExported(plot, files, panel, data)]);
  host.replaceChildren(plot.svg);
}

/** The points of the calibration; gives what answers to the pointer. */
function drawPoints(plot, panel, data) {
  const at = ([measured, predicted]) => [plot.x(measured), plot.y(predicted)];
  plot.marks.append(dots(panel.points.filter((point) => !point[3]).map(at), "fitted"));
  panel.points
    .filter((point) => point[3])
    .forEach((point) => {
      const [cx, cy] = at(point);
      plot.marks.append(
        boundWhisker(plot, point[0], point[1], point[2], "heldout"),
        s("circle", { class: "heldout", cx, cy, r: 3.5 }),
      );
    });
  return panel.points.map((point) => ({ x: at(point)[0], y: at(point)[1], card: () => pointCard(point, data) }));
}

/** The exported files, with their bounds; gives what answers to pointer and keys. */
function drawExported(plot, files, panel, data) {
  const { key } = panel;
  return files.map((file) => {
    const { shape, className } = look(file.precision, data);
    const [x, y] = [plot.x(file.costs[key]), plot.y(file.predicted[key])];
    plot.marks.append(
      boundWhisker(plot, file.costs[key], file.predicted[key], file.upper[key], className),
      mark(shape, x, y, 5, { class: `file ${className}` }),
    );
    return { x, y, rank: 1, card: () => fileCard(file, data), select: () => revealRow(file) };
  });
}

/** From the prediction up to its bound; a bound that was broken is drawn in the colour of warnings. */
function boundWhisker(plot, measured, predicted, upper, className) {
  if (!isNumber(upper)) return "";
  const [x, low, high] = [plot.x(measured), plot.y(predicted), plot.y(upper)];
  return s("path", {
    class: `whisker ${measured > upper ? "broken" : className}`,
    d: `M${x} ${low}V${high}M${x - 3} ${high}h6`,
  });
}

const pointCard = ([measured, predicted, upper, heldOut], data) =>
  h(
    "div",
    null,
    h("strong", null, heldOut ? "held-out architecture" : "fitted architecture"),
    facts([
      ["measured", formatQuantity(measured, "time")],
      ["predicted", formatQuantity(predicted, "time")],
      [boundName(data), isNumber(upper) ? formatQuantity(upper, "time") : null],
      ["error", percent(predicted / measured - 1)],
    ]),
  );

const latencyLegend = () =>
  legend([
    [swatch(mark("circle", 0, 0, 5, { class: "file precision0" })), "exported file, whisker up to its bound"],
    [swatch(s("circle", { class: "heldout", r: 3.5 })), "calibration, held out"],
    [swatch(dots([[0, 0]], "fitted")), "calibration, fitted"],
    [swatch(s("path", { class: "diagonal", d: "M-10 0H10" })), "equal"],
    [swatch(s("path", { class: "ten", d: "M-10 0H10" })), "± 10 %"],
    [swatch(s("path", { class: "whisker broken", d: "M0 6V-6M-3 -6h6" })), "bound below what was measured"],
  ]);
