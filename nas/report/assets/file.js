// What the parts of the page say about one exported file.

/** What a file is compared by on the run's first device: measured, or predicted where nobody can measure. */
const latencyOf = (file, data) => (data.latency ? file.figures[data.latency] : undefined);
const isMeasured = (file, key) => isNumber(file.costs[key]);
const deviceOf = (key) => key.slice(key.indexOf(".") + 1);
/** How a file was timed on the device of `key`; empty where it was not. */
const timingOf = (file, key) => file.timings[deviceOf(key || ".")] || {};
/** The predictions of a file on a device were made from the device's card, or by a predictor fitted to it. */
const isEstimated = (file, device, data) => {
  const source = (file.timings[device] || {}).source;
  const known = data.devices.find((item) => item.name === device);
  return source ? source === "estimated" : Boolean(known) && known.estimated.includes(file.device_precision);
};
const predictionName = (file, key, data) => (isEstimated(file, deviceOf(key), data) ? "estimated" : "predicted");
const fileTitle = (file) => `${short(file.digest)} ${file.precision}`;
const fileName = (file) => file.path.split(/[\\/]/).pop() || fileTitle(file);
const intervalText = (file) =>
  file.interval ? `${percent(file.interval[0])}\u00a0… ${percent(file.interval[1])}` : "";

/** The run's budgets that a file breaks, by what was measured, or by its bound where nobody can measure. */
const brokenBudgets = (file, data) => file.broken.map((place) => data.budgets[place]);

/** Latencies that lie above the bound they were predicted to keep. */
const brokenBounds = (file) => Object.keys(file.upper).filter((key) => file.costs[key] > file.upper[key]);

/** What a reader must know before shipping: [class, mark, text]. */
function flags(file, data) {
  const found = [];
  brokenBudgets(file, data).forEach((budget) => found.push(["bad", "✕", `breaks the run's budget: ${budget.text}`]));
  if (file.refused)
    found.push(["bad", "✕", `not accepted: ${file.quality_reason || file.reason || "no reason recorded"}`]);
  Object.entries(file.timings)
    .filter(([, timing]) => timing.settled === false)
    .forEach(([device, timing]) => {
      const where = data.devices.length > 1 ? ` on ${device}` : "";
      const why = timing.note ? ` (${timing.note})` : "";
      found.push(["warn", "~", `its timing${where} did not settle${why}: measure it again on a quiet machine`]);
    });
  brokenBounds(file).forEach((key) => {
    found.push([
      "warn",
      "↑",
      `measured above its predicted bound of ${formatMetric(file.upper[key], quantityOf(key, data))}${data.devices.length > 1 ? ` on ${deviceOf(key)}` : ""}`,
    ]);
  });
  if (file.verification && file.verification !== "executed")
    found.push(["warn", "?", `verification: ${file.verification}`]);
  return found;
}

const flagList = (file, data) => {
  const found = flags(file, data);
  return found.length
    ? h(
        "ul",
        { class: "flags" },
        found.map(([kind, sign, text]) => h("li", { class: kind }, h("b", null, sign), ` ${text}`)),
      )
    : null;
};

const flagSigns = (file, data) =>
  flags(file, data).map(([kind, sign, text]) =>
    h("span", { class: `sign ${kind}`, title: text, role: "img", "aria-label": text }, sign),
  );

/** Short marks for tables: non-dominated, broken budget, unsettled timing, broken bound. */
function marks(file, data) {
  const front = file.non_dominated
    ? h(
        "span",
        {
          class: "sign front",
          title: "non-dominated: nothing exported is better in every objective",
          role: "img",
          "aria-label": "non-dominated",
        },
        "●",
      )
    : null;
  return h("span", { class: "signs" }, front, flagSigns(file, data));
}

const spreadText = (file, key) => {
  const { spread } = timingOf(file, key);
  return isNumber(spread) ? `±\u00a0${percent(spread)}` : "";
};

/** The explanation of a metric key; one that the page does not list is read like a latency. */
const quantityOf = (key, data) => data.quantities[key] || { key, label: key, short: key, device: "", dimension: "time" };

/** A quantity in words, with its device where the run has several. */
const placed = (quantity, data) =>
  quantity.device && data.devices.length > 1 ? `${quantity.label} on ${quantity.device}` : quantity.label;

/** Keys of the latencies that the page knows, that of the run's first device leading. */
const latencyKeys = (data) => data.axes.filter((key) => key.startsWith("latency_ms."));

/** Keys of what a file costs on devices, in the order of the page. */
const deviceKeys = (file) => [
  ...new Set([...Object.keys(file.costs), ...Object.keys(file.predicted), ...Object.keys(file.upper)]),
].filter((key) => key.includes("."));

/** All figures of a file as [term, text] pairs. */
function figures(file, data) {
  const pairs = [
    ["accuracy", percent(file.accuracy)],
    ["95 % interval", intervalText(file)],
  ];
  deviceKeys(file).forEach((key) => {
    const quantity = quantityOf(key, data);
    const name = key.startsWith("latency_ms.") ? deviceOf(key) : `${quantity.label}, ${deviceOf(key)}`;
    const spread = key.startsWith("latency_ms.") ? spreadText(file, key) : "";
    if (isMeasured(file, key)) pairs.push([`measured, ${name}`, `${formatMetric(file.costs[key], quantity)} ${spread}`.trim()]);
    else pairs.push([name, "not measured"]);
    pairs.push([predictionName(file, key, data), formatMetric(file.predicted[key], quantity)]);
    pairs.push([boundName(data), formatMetric(file.upper[key], quantity)]);
  });
  ["size_bytes", "peak_activation_bytes", "macs", "parameters"].forEach((key) => {
    pairs.push([data.quantities[key].label, formatMetric(file.costs[key], data.quantities[key])]);
  });
  pairs.push(["decides like torch", percent(file.agreement)]);
  pairs.push(["verification", file.verification]);
  return pairs;
}

/**
 * Whether two accuracies differ by more than chance at 95 %: the hybrid score interval of their difference [Newcombe 1998],
 * from both Wilson intervals. It takes the files as judged on independent samples; they share theirs, so it is cautious.
 */
function toldApart(a, b) {
  if (!a.interval || !b.interval) return false;
  const [better, worse] = a.accuracy >= b.accuracy ? [a, b] : [b, a];
  const reach = Math.hypot(better.accuracy - better.interval[0], worse.interval[1] - worse.accuracy);
  return better.accuracy - worse.accuracy > reach;
}

/** "95 % bound", with the confidence of the run where it says one. */
function boundName(data) {
  const budget = data.budgets.find((item) => isNumber(item.confidence));
  return budget ? `${threeDigits(100 * budget.confidence)} % bound` : "upper bound";
}

const choiceFacts = (choices) =>
  facts(Object.entries(choices), `facts choices${Object.keys(choices).length > 14 ? " many" : ""}`);

function fileCard(file, data) {
  return h(
    "div",
    null,
    h("strong", null, fileTitle(file)),
    file.non_dominated ? h("span", { class: "muted" }, " non-dominated") : null,
    facts(figures(file, data)),
    flagList(file, data),
    choiceFacts(file.choices),
  );
}

/** The shape and class of a precision's marks: float32 and int8 have theirs, others follow. */
function look(precision, data) {
  const order = [...new Set(["float32", "int8", ...data.files.map((file) => file.precision)])];
  const shapes = ["circle", "diamond", "square", "triangle"];
  const place = order.indexOf(precision);
  return { shape: shapes[place % shapes.length], className: `precision${place % shapes.length}` };
}

/** Files that nothing dominates in accuracy and the cost `key`, by rising cost. */
function staircase(files, key) {
  const ordered = files
    .filter((file) => isNumber(file.figures[key]) && isNumber(file.accuracy))
    .sort((a, b) => a.figures[key] - b.figures[key] || b.accuracy - a.accuracy);
  let best = -Infinity;
  return ordered.filter((file) => {
    if (file.accuracy <= best) return false;
    best = file.accuracy;
    return true;
  });
}
