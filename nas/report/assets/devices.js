// Several devices: a front for each, and which file serves which of them.

function renderDevices(data) {
  const root = bodyOf("devices");
  if (!data.files.length) {
    root.append(empty("Nothing was exported yet, so nothing serves any device."));
    return;
  }
  const common = bestFor(data, (row) => row.all === true);
  const hosts = data.devices.map((device) => [device, h("div", { class: "figure" })]);
  root.append(
    h("div", { class: "statements" }, commonStatement(common, data), data.devices.map((device) => deviceStatement(device, common, data))),
    h(
      "div",
      { class: "panels devices" },
      hosts.map(([device, host]) => h("div", { class: "panel" }, h("h3", null, device.name, deviceTag(device)), host)),
    ),
    servingTable(data),
    servingKey(data),
  );
  hosts.forEach(([device, host]) => {
    const redraw = drawn(host, (width) => drawDevice(host, device, common, data, width));
    store.listen(() => redraw());
  });
}

const deviceTag = (device) =>
  device.measurable ? null : h("span", { class: "tag" }, device.estimated.length ? "estimated" : "predicted, not measured");

/** The most accurate file among those whose row of `serving` passes; of equals the fastest on the first device. */
function bestFor(data, passes) {
  const latency = (file) => latencyOf(file, data) ?? Infinity;
  return (
    data.files
      .filter((file, place) => isNumber(file.accuracy) && passes(data.serving[place]))
      .sort((a, b) => b.accuracy - a.accuracy || latency(a) - latency(b))[0] || null
  );
}

function commonStatement(common, data) {
  const title = "One file for all devices";
  if (!common)
    return statement(
      title,
      "none",
      data.serving.some((row) => row.all === null)
        ? "No file is known to keep the budgets of every device; some were not measured everywhere."
        : "No exported file keeps the budgets of every device: ship one for each.",
    );
  const spent = data.devices.map((device) => `${latencyText(common, device, data)} on ${device.name}`).join(", ");
  return statement(title, `${fileTitle(common)}, ${percent(common.accuracy)}`, `${spent}.`);
}

/** What a device would get if it had a file of its own. */
function deviceStatement(device, common, data) {
  const best = bestFor(data, (row) => row.on[device.name].keeps === true);
  if (!best) return statement(device.name, "none", "No exported file is known to keep the budgets of this device.");
  const text = `${latencyText(best, device, data)} there. `;
  if (best === common) return statement(device.name, fileTitle(best), `${text}The common file is the best for it, too.`);
  const change = common ? `${points(best.accuracy - common.accuracy)} over the common file` : "";
  const certain = common && !toldApart(best, common) ? ", which this test set does not tell apart from chance" : "";
  return statement(device.name, `${fileTitle(best)}, ${percent(best.accuracy)}`, text, change ? `${change}${certain}.` : "");
}

function latencyText(file, device, data) {
  const quantity = data.quantities[device.key];
  if (!quantity || !isNumber(file.figures[device.key])) return "not measured";
  const figure = formatMetric(file.figures[device.key], quantity);
  return isMeasured(file, device.key) ? figure : `≈ ${figure} (${predictionName(file, device.key, data)})`;
}

function drawDevice(host, device, common, data, width) {
  const { key } = device;
  const files = data.files.filter((file) => file.figures[key] > 0 && isNumber(file.accuracy));
  if (!files.length) {
    host.replaceChildren(empty("No latency of a file is known here."));
    return;
  }
  const limits = data.budgets.filter((budget) => budget.key === key).map((budget) => budget.limit);
  const y = padded(data.files.map((file) => file.accuracy), { air: 0.12 });
  const plot = frame({
    width,
    height: 250,
    x: {
      domain: padded([...files.map((file) => file.figures[key]), ...limits], { log: true, air: 0.07 }),
      log: true,
      label: `latency, ${isMeasured(files[0], key) ? "measured" : predictionName(files[0], key, data)}`,
      format: (value) => formatQuantity(value, "time"),
    },
    y: { domain: [Math.max(0, y[0]), Math.min(1.005, y[1])], label: "accuracy", format: shareTicks(y) },
    label: `Accuracy against latency on ${device.name}. Arrow keys walk along the files; Enter selects one in the table.`,
  });
  drawLimits(plot, data, { key });
  const steps = staircase(
    files.filter((file) => data.serving[data.files.indexOf(file)].on[device.name].front),
    key,
  ).map((file) => [plot.x(file.figures[key]), plot.y(file.accuracy)]);
  if (steps.length)
    plot.marks.append(
      s("path", { class: "staircase", d: path([...steps, [plot.box.right, steps[steps.length - 1][1]]], { step: true }) }),
    );
  const targets = files.map((file) => deviceMark(plot, file, device, common, data));
  interactive(plot, targets);
  host.replaceChildren(plot.svg);
}

/** Filled where the file is on this device's front, struck out where it breaks a budget here, ringed if it serves all. */
function deviceMark(plot, file, device, common, data) {
  const [x, y] = [plot.x(file.figures[device.key]), plot.y(file.accuracy)];
  const row = data.serving[data.files.indexOf(file)].on[device.name];
  const { shape, className } = look(file.precision, data);
  plot.marks.append(
    file === common ? s("circle", { class: "common", cx: x, cy: y, r: 9.5 }) : "",
    mark(shape, x, y, 4.5, { class: `file ${className}${row.front ? "" : " hollow"}` }),
    row.keeps === false ? mark("cross", x, y, 7, { class: "strike" }) : "",
  );
  return { x, y, rank: 1, card: () => fileCard(file, data), select: () => revealRow(file) };
}

function servingTable(data) {
  const order = data.files
    .map((file, place) => [file, data.serving[place]])
    .sort(([a], [b]) => b.accuracy - a.accuracy || (latencyOf(a, data) ?? Infinity) - (latencyOf(b, data) ?? Infinity));
  const rows = order.map(([file, row]) => [
    h("button", { type: "button", class: "link", onclick: () => revealRow(file) }, fileTitle(file)),
    percent(file.accuracy),
    ...data.devices.map((device) => servingCell(file, row.on[device.name], device, data)),
    verdictSign(row.all, "serves all devices", "does not serve all devices"),
  ]);
  const headings = ["file", "accuracy", ...data.devices.map((device) => device.name), "all"];
  return grid(headings, rows, { right: [1], className: "grid serving" });
}

function servingCell(file, row, device, data) {
  const front = row.front ? `on the front of ${device.name}` : null;
  return h(
    "span",
    { class: "serves" },
    verdictSign(row.keeps, `keeps the budgets of ${device.name}`, `breaks a budget or is not accepted for ${device.name}`),
    h("span", { class: "sign front", title: front, role: front ? "img" : null, "aria-label": front }, front ? "●" : ""),
    data.quantities[device.key] ? deviceCell(file, device.key, data) : "–",
  );
}

function verdictSign(verdict, good, bad) {
  const [kind, sign, text] =
    verdict === null ? ["muted", "?", "not known"] : verdict ? ["good", "✓", good] : ["bad", "✕", bad];
  return h("span", { class: `sign ${kind}`, title: text, role: "img", "aria-label": text }, sign);
}

function servingKey(data) {
  const unmeasured = data.devices.filter((device) => !device.measurable).map((device) => device.name);
  return note(
    "✓ keeps the budgets of that device, ✕ breaks one or is not accepted, ? not known; ● on that device's front, in the plots filled. ",
    "The ring marks the common file. ",
    unmeasured.length
      ? `≈ was never measured: on ${unmeasured.join(", ")} the predicted figure stands in the plot, and its bound is held against the budget.`
      : "",
  );
}
