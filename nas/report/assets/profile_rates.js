// Rates: multiply-accumulates a second against work a byte, and bandwidth against bytes; with roofs where peaks are known.

function renderRates(data) {
  const body = bodyOf("rates");
  const choose = fileChoice(data, () => again.forEach((draw) => draw()));
  if (choose.node) body.append(choose.node);
  const panels = h("div", { class: "panels" });
  body.append(panels);
  const again = [
    [arithmetic, "Arithmetic", "MACs a byte moved, against MACs a second"],
    [traffic, "Traffic", "bytes that an operator reads and writes, against bytes a second"],
  ].map(([draw, title, text]) => {
    const host = h("div", { class: "figure" });
    panels.append(h("div", { class: "panel" }, h("h3", null, title), h("p", { class: "muted" }, text), host));
    return drawn(host, (width) => host.replaceChildren(draw(data, choose.profile(), width)));
  });
  const roofs = peaksFor(data, data.profiles[0]);
  body.append(
    note(
      "The area of a mark is its time. Bytes are what operators read and write, each tensor once: caches serve much of it, so a bandwidth may exceed that of the memory. ",
      roofs.length
        ? `Roofs: ${roofs.map((roof) => `${roof.name} ${rateText(roof.shown, roof.unit)} (${roof.source})`).join("; ")}.`
        : `The card of ${data.device.name} has no peak rates, so no roofs are drawn.`,
    ),
  );
}

/** The roofs of a profile. A multiply-accumulate is two operations. */
function peaksFor(data, profile) {
  const { peaks } = data.device;
  const quantised = profile.operators.some((operator) => operator.kind.startsWith("QLinear"));
  const precision = profile.precision.startsWith("int8") || quantised ? "int8" : "float32";
  const roofs = [];
  if (peaks[precision]) {
    roofs.push({ name: precision, shown: peaks[precision].per_second / 2, unit: "MAC", source: peaks[precision].source });
  }
  if (peaks.memory_bandwidth) {
    roofs.push({ name: "memory", shown: peaks.memory_bandwidth.per_second, unit: "B", source: peaks.memory_bandwidth.source });
  }
  return roofs;
}

function arithmetic(data, profile, width) {
  const operators = profile.operators.filter((operator) => operator.macs > 0 && operator.total_bytes > 0);
  if (!operators.length) return empty("No operator with known multiply-accumulates.");
  const points = operators.map((operator) => [operator.macs / operator.total_bytes, operator.macs_per_second / 1e9, operator]);
  const roofs = peaksFor(data, profile);
  const compute = roofs.find((roof) => roof.unit === "MAC");
  const memory = roofs.find((roof) => roof.unit === "B");
  const xs = padded(points.map(([x]) => x), { log: true, air: 0.12 });
  const ys = padded([...points.map(([, y]) => y), ...(compute ? [compute.shown / 1e9] : [])], { log: true, air: 0.12 });
  const plot = frame({
    width,
    height: 340,
    x: { domain: xs, log: true, label: "MACs a byte", format: threeDigits },
    y: { domain: ys, log: true, label: "GMAC a second", format: threeDigits },
    label: "Arithmetic rate of operators",
  });
  const line = (x1, y1, x2, y2) =>
    plot.marks.append(s("line", { class: "roof", x1: plot.x(x1), y1: plot.y(y1), x2: plot.x(x2), y2: plot.y(y2) }));
  const ridge = compute && memory ? compute.shown / memory.shown : null;
  if (memory) line(xs[0], (memory.shown / 1e9) * xs[0], ridge || xs[1], (memory.shown / 1e9) * (ridge || xs[1]));
  if (compute) line(Math.max(ridge || xs[0], xs[0]), compute.shown / 1e9, Math.max(xs[1], ridge || 0), compute.shown / 1e9);
  place(plot, points, profile);
  return plot.svg;
}

function traffic(data, profile, width) {
  const points = profile.operators
    .filter((operator) => operator.total_bytes > 0)
    .map((operator) => [operator.total_bytes, operator.bytes_per_second / 1e9, operator]);
  const memory = peaksFor(data, profile).find((roof) => roof.unit === "B");
  const plot = frame({
    width,
    height: 340,
    x: { domain: padded(points.map(([x]) => x), { log: true, air: 0.12 }), log: true, label: "bytes", format: (value) => formatQuantity(value, "bytes") },
    y: {
      domain: padded([...points.map(([, y]) => y), ...(memory ? [memory.shown / 1e9] : [])], { log: true, air: 0.12 }),
      log: true,
      label: "GB a second",
      format: threeDigits,
    },
    label: "Bandwidth of operators",
  });
  if (memory) {
    const y = plot.y(memory.shown / 1e9);
    plot.marks.append(s("line", { class: "roof", x1: plot.box.left, x2: plot.box.right, y1: y, y2: y }));
  }
  place(plot, points, profile);
  return plot.svg;
}

/** Marks with areas in proportion to time, the small ones on top. */
function place(plot, points, profile) {
  const ordered = [...points].sort((a, b) => b[2].share - a[2].share);
  ordered.forEach(([x, y, operator]) => {
    const r = Math.max(2.5, Math.min(18, 46 * Math.sqrt(operator.share)));
    plot.marks.append(s("circle", { class: `dot ${operator.family}`, cx: plot.x(x), cy: plot.y(y), r }));
  });
  interactive(
    plot,
    ordered.map(([x, y, operator]) => ({
      x: plot.x(x),
      y: plot.y(y),
      card: () => operatorCard(operator),
      select: () => showRow(profile, operator),
    })),
  );
}

/** A choice among the files of the page; without a node where there is one file only. */
function fileChoice(data, changed) {
  let index = 0;
  const profile = () => data.profiles[index];
  if (data.profiles.length < 2) return { node: null, profile };
  const select = h(
    "select",
    { "aria-label": "file" },
    data.profiles.map((one, place) => h("option", { value: place }, profileTitle(one))),
  );
  select.addEventListener("change", () => {
    index = Number(select.value);
    changed();
  });
  const pick = (one) => {
    index = data.profiles.indexOf(one);
    select.value = String(index);
    changed();
  };
  return { node: h("p", { class: "controls" }, h("label", null, "file ", select)), profile, pick };
}
