// What the parts of the page say about one exported file.

const measuredOf = (file, data) => (data.latency ? file.costs[data.latency] : undefined);
const fileTitle = (file) => `${short(file.digest)} ${file.precision}`;
const fileName = (file) => file.path.split(/[\\/]/).pop() || fileTitle(file);
const intervalText = (file) =>
  file.interval ? `${percent(file.interval[0])}\u00a0… ${percent(file.interval[1])}` : "";

/** The run's budgets that the measured figures of a file break. */
const brokenBudgets = (file, data) =>
  data.budgets.filter((budget) => {
    const value = budget.key === "accuracy" ? file.accuracy : file.costs[budget.key];
    if (!isNumber(value)) return false;
    return data.quantities[budget.key].maximize ? value < budget.limit : value > budget.limit;
  });

/** Refused for something else than a budget that its measured figures break. */
const refused = (file, data) =>
  Boolean(file.quality_reason) || (file.accepted === false && !brokenBudgets(file, data).length);

/** Latencies that lie above the bound they were predicted to keep. */
const brokenBounds = (file) => Object.keys(file.upper).filter((key) => file.costs[key] > file.upper[key]);

/** What a reader must know before shipping: [class, mark, text]. */
function flags(file, data) {
  const found = [];
  brokenBudgets(file, data).forEach((budget) => found.push(["bad", "✕", `breaks the run's budget: ${budget.text}`]));
  if (refused(file, data))
    found.push(["bad", "✕", `not accepted: ${file.quality_reason || file.reason || "no reason recorded"}`]);
  if (file.settled === false)
    found.push([
      "warn",
      "~",
      `its timing did not settle${file.timing_note ? ` (${file.timing_note})` : ""}: measure it again on a quiet machine`,
    ]);
  brokenBounds(file).forEach((key) => {
    found.push([
      "warn",
      "↑",
      `measured above its predicted bound of ${formatMetric(file.upper[key], data.quantities[key])}`,
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

const spreadText = (file) => (isNumber(file.spread) ? `±\u00a0${percent(file.spread)}` : "");

/** All figures of a file as [term, text] pairs. */
function figures(file, data) {
  const pairs = [
    ["accuracy", percent(file.accuracy)],
    ["95 % interval", intervalText(file)],
  ];
  Object.keys(file.costs)
    .filter((key) => key.startsWith("latency_ms."))
    .forEach((key) => {
      const quantity = data.quantities[key] || data.quantities[data.latency];
      pairs.push([
        `measured, ${key.slice(11)}`,
        `${formatMetric(file.costs[key], quantity)} ${key === data.latency ? spreadText(file) : ""}`.trim(),
      ]);
      pairs.push(["predicted", formatMetric(file.predicted[key], quantity)]);
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
    .filter((file) => isNumber(file.costs[key]) && isNumber(file.accuracy))
    .sort((a, b) => a.costs[key] - b.costs[key] || b.accuracy - a.accuracy);
  let best = -Infinity;
  return ordered.filter((file) => {
    if (file.accuracy <= best) return false;
    best = file.accuracy;
    return true;
  });
}
