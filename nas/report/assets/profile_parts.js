// What the parts of a profile's page share: names, figures in text, the card of an operator, the table with bars.

const FAMILIES = {
  conv: "convolution",
  pointwise: "1x1 convolution",
  depthwise: "depthwise convolution",
  grouped: "grouped convolution",
  linear: "matrix product",
  pool: "pooling",
  elementwise: "element-wise",
  normalisation: "normalisation",
  convert: "layout and type",
  other: "other",
};

// One unit for all times of the page, so that they can be compared at a glance; set by what the page holds.
const times = { factor: 1, unit: "ms" };
const ms = (value) => `${threeDigits(value * times.factor)}\u00a0${times.unit}`;

/** Microseconds where every file takes less than two milliseconds. */
function chooseUnit(profiles) {
  if (profiles.every((profile) => profile.latency.latency_ms < 2)) Object.assign(times, { factor: 1e3, unit: "µs" });
}
const rateText = (perSecond, unit) => (isNumber(perSecond) ? `${threeDigits(perSecond / 1e9)} G${unit}/s` : "–");
const shapeText = (shape) =>
  (shape.length > 1 && shape[0] === 1 ? shape.slice(1) : shape).join("×") || "1";
const profileTitle = (profile) => profile.precision || profile.file;
const stageTitle = (name) => name || "not in the network";
const isMapped = (operator) => operator.mapped !== "none";

/** What runs, and what of the file it computes beside that: FusedConv + Relu. */
function kernelText(operator) {
  const plain = operator.kind.replace(/^(QLinear|Fused|Q(?=Gemm|Attention))/, "");
  return [operator.kind, ...operator.computes.filter((name) => name !== plain)].join(" + ");
}

const MAPPED = {
  name: "by its name",
  tensor: "by the tensor that it makes",
  neighbour: "from the operators around it",
  none: "not found",
};

function operatorCard(operator) {
  return h(
    "div",
    null,
    h("strong", null, operator.layer || kernelText(operator)),
    facts([
      ["kernel", kernelText(operator)],
      ["work", FAMILIES[operator.family]],
      ["time", `${ms(operator.time_ms)}, ${percent(operator.share)}`],
      ["shape", `${shapeText(operator.in_shape)} → ${shapeText(operator.out_shape)} ${operator.dtype}`],
      ["reads and writes", formatQuantity(operator.total_bytes, "bytes")],
      ["of it weights", operator.parameter_bytes ? formatQuantity(operator.parameter_bytes, "bytes") : null],
      ["bandwidth", rateText(operator.bytes_per_second, "B")],
      ["MACs", operator.macs ? formatQuantity(operator.macs, "count") : null],
      ["MAC rate", operator.macs ? rateText(operator.macs_per_second, "MAC") : null],
      ["layer found", MAPPED[operator.mapped]],
    ]),
  );
}

/** The sums that the strip and the tables speak of; `members` says which operators belong. */
function sumOf(profile, members) {
  const operators = profile.operators.filter(members);
  const add = (key) => operators.reduce((sum, operator) => sum + (operator[key] || 0), 0);
  return { operators, time_ms: add("time_ms"), share: add("share"), macs: add("macs"), bytes: add("total_bytes") };
}

function partCard(title, sum, note) {
  return h(
    "div",
    null,
    h("strong", null, title),
    note && note.text ? h("p", { class: "muted" }, note.text) : null,
    facts([
      ["slot", note && note.slot],
      ["time", `${ms(sum.time_ms)}, ${percent(sum.share)}`],
      ["operators", integer(sum.operators.length)],
      ["reads and writes", formatQuantity(sum.bytes, "bytes")],
      ["bandwidth", rateText((1e3 * sum.bytes) / sum.time_ms, "B")],
      ["MACs", sum.macs ? formatQuantity(sum.macs, "count") : null],
      ["MAC rate", sum.macs ? rateText((1e3 * sum.macs) / sum.time_ms, "MAC") : null],
    ]),
  );
}

/** A bar of a part's time, cut by kind of work, on a scale up to `most` ms. */
function stackedBar(operators, most) {
  let left = 0;
  const bar = s("svg", { class: "stack", viewBox: "0 0 1000 12", preserveAspectRatio: "none", "aria-hidden": "true" });
  bar.append(s("rect", { class: "room", x: 0, y: 5, width: 1000, height: 2 }));
  Object.keys(FAMILIES).forEach((family) => {
    const own = operators.filter((operator) => operator.family === family);
    const width = (1000 * own.reduce((sum, operator) => sum + operator.time_ms, 0)) / most;
    if (width > 0) bar.append(s("rect", { class: family, x: left, y: 0, width, height: 12 }));
    left += width;
  });
  return bar;
}

/** Rows of [heading cell, members] with a bar and figures a profile. */
function measureTable(profiles, rows, what) {
  const sums = rows.map(([, members]) => profiles.map((profile) => sumOf(profile, members)));
  const most = Math.max(...sums.flat().map((sum) => sum.time_ms), 1e-9);
  const several = profiles.length > 1;
  const column = (write) => (row) => row.map((sum) => h("span", null, write(sum)));
  const figures = [
    ["time", column((sum) => (sum.operators.length ? ms(sum.time_ms) : "–"))],
    ["share", column((sum) => (sum.operators.length ? percent(sum.share) : "–"))],
    ["MACs", column((sum) => (sum.macs ? formatQuantity(sum.macs, "count") : "–"))],
    ["MAC rate", column((sum) => (sum.macs ? rateText((1e3 * sum.macs) / sum.time_ms, "MAC") : "–"))],
    ["bandwidth", column((sum) => (sum.operators.length ? rateText((1e3 * sum.bytes) / sum.time_ms, "B") : "–"))],
  ];
  const head = [what, "", several ? "file" : null, ...figures.map(([name]) => name), several ? "against first" : null];
  const right = (name) => ["time", "share", "MACs", "MAC rate", "bandwidth", "against first"].includes(name);
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "measures" },
      h(
        "thead",
        null,
        h("tr", null, head.filter((name) => name !== null).map((name) => h("th", { scope: "col", class: right(name) ? "right" : null }, name))),
      ),
      h(
        "tbody",
        null,
        rows.map(([heading], place) =>
          h(
            "tr",
            null,
            h("td", null, heading),
            h("td", { class: "bars-cell" }, sums[place].map((sum) => stackedBar(sum.operators, most))),
            several ? h("td", { class: "stacked muted" }, profiles.map((profile) => h("span", null, profileTitle(profile)))) : null,
            figures.map(([, write]) => h("td", { class: "right stacked" }, write(sums[place]))),
            several ? h("td", { class: "right stacked" }, againstFirst(sums[place])) : null,
          ),
        ),
      ),
    ),
  );
}

function againstFirst([first, ...others]) {
  const text = (sum) => (first.time_ms && sum.operators.length ? `${threeDigits(sum.time_ms / first.time_ms)}×` : "–");
  return [h("span", null, "\u00a0"), ...others.map((sum) => h("span", null, text(sum)))];
}
