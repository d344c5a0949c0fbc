// What was ruled out before training, and which options the front prefers.

function renderSpace(data) {
  const root = bodyOf("space");
  root.append(
    h("div", { class: "panels" }, forecastPanel(data), screenedPanel(data)),
    rangesPanel(data),
    ...sharesPanel(data),
  );
}

/** A share as a bar on a line from 0 to 1, with an interval if given. */
function bar(share, low, high) {
  const at = (value) => Math.max(0, Math.min(100, 100 * value));
  return s(
    "svg",
    { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "track", width: 100, height: 10 }),
    s("rect", { class: "share", width: at(share), height: 10 }),
    isNumber(low) && isNumber(high)
      ? s("rect", { class: "band", x: at(low), width: Math.max(0.4, at(high) - at(low)), height: 10 })
      : null,
  );
}

/** A small share needs more digits than one. */
const smallShare = (share) =>
  isNumber(share) && share > 0 && share < 0.001 ? `${Number((100 * share).toPrecision(2))} %` : percent(share);

/** Rows of a text, a figure and its bar. */
function barTable(rows) {
  const row = ([text, figure, drawing]) =>
    h(
      "tr",
      null,
      h("th", { scope: "row" }, text),
      h("td", { class: "right" }, figure),
      h("td", { class: "wide" }, drawing),
    );
  return h("table", { class: "bars" }, h("tbody", null, rows.map(row)));
}

function forecastPanel(data) {
  const { forecast } = data;
  const known = Object.entries(forecast.budgets).filter(([, share]) => isNumber(share));
  const rows = known.map(([text, share]) => [
    text === "buildable" ? "can be built for this data" : text,
    smallShare(share),
    bar(share),
  ]);
  const sampled = !forecast.exhaustive && isNumber(forecast.share_low);
  if (isNumber(forecast.share) && (data.budgets.length || !rows.length)) {
    const interval = sampled ? [forecast.share_low, forecast.share_high] : [];
    rows.push(["all budgets", smallShare(forecast.share), bar(forecast.share, ...interval)]);
  }
  const panel = h("div", { class: "panel" }, h("h3", null, "Share of the space that fits, before training"));
  if (!rows.length) {
    panel.append(empty("No forecast is recorded."));
    return panel;
  }
  const limits = known.filter(([text]) => text !== "buildable");
  panel.append(
    barTable(rows),
    note(
      forecast.exhaustive
        ? `All ${plural(forecast.num_samples, "architecture")} were looked at.`
        : `From ${plural(forecast.num_samples, "random architecture")}.`,
      sampled && data.budgets.length
        ? ` All budgets: ${smallShare(forecast.share_low)} … ${smallShare(forecast.share_high)} with 95 % confidence.`
        : "",
      limits.length > 1 ? ` By itself the tightest is ${limits.reduce((a, b) => (b[1] < a[1] ? b : a))[0]}.` : "",
      data.budgets.length ? "" : " The run had no budgets: nothing had to be ruled out.",
    ),
  );
  return panel;
}

function screenedPanel(data) {
  const { forecast } = data;
  const panel = h("div", { class: "panel" }, h("h3", null, "Screened out during the search"));
  const broken = Object.entries(forecast.broken).filter(([, count]) => isNumber(count));
  const proposed = isNumber(forecast.proposed) && forecast.proposed > 0 ? forecast.proposed : null;
  if (!broken.length) {
    const text = proposed
      ? `None of ${plural(proposed, "proposal")} broke a budget by its predicted bound.`
      : "No counts of the screening are recorded.";
    panel.append(empty(text));
    return panel;
  }
  const base = proposed || Math.max(1, ...broken.map(([, count]) => count));
  panel.append(
    barTable(broken.map(([text, count]) => [text, integer(count), bar(count / base)])),
    note(
      proposed ? `Of ${plural(proposed, "proposal")}: ` : "",
      "their predicted upper bound broke the budget, so they were never trained. One proposal can break several.",
    ),
  );
  return panel;
}

function rangesPanel(data) {
  const ranges = data.forecast.ranges.filter((range) => isNumber(range.min) && isNumber(range.max));
  if (!ranges.length) return h("div");
  return h(
    "div",
    null,
    h("h3", null, "What the space spans"),
    grid(
      ["", "smallest", "median", "largest", "limit"],
      ranges.map((range) => {
        const budget = data.budgets.find((item) => item.key === range.key);
        return [
          `${range.label}${range.device ? ` on ${range.device}, predicted` : ""}`,
          ...["min", "median", "max"].map((name) => formatMetric(range[name], range)),
          budget ? formatMetric(budget.limit, range) : "–",
        ];
      }),
      { right: [1, 2, 3, 4] },
    ),
  );
}

function sharesPanel(data) {
  const { search } = data;
  const heading = h("h3", null, "Choices: the front against what it was drawn from");
  if (!search.shares.length || !search.front)
    return [heading, empty("There is no front of evaluations yet, or the choices are not recorded.")];
  const reference = search.shares_from_baseline
    ? `the ${plural(search.shares_reference, "random architecture")} of the baseline`
    : `all ${plural(search.shares_reference, "evaluation")} of the search`;
  const host = h("div", { class: "choices-grid" });
  const measured = search.shares.map((choice) => ({ choice, change: difference(choice) }));
  const arrange = (byChange) =>
    host.replaceChildren(
      ...(byChange ? [...measured].sort((a, b) => b.change - a.change) : measured).map(({ choice, change }) =>
        choiceBlock(choice, change, search),
      ),
    );
  arrange(true);
  const order = h(
    "label",
    { class: "controls" },
    h("input", { type: "checkbox", checked: true, onchange: (event) => arrange(event.target.checked) }),
    " largest difference first",
  );
  return [
    heading,
    note(
      `Share of each option among the ${plural(search.front, "non-dominated evaluation")} (bar) and among ${reference} (line). `,
      search.front < 20 ? `With ${search.front} on the front a share is a hint, not a finding.` : "",
    ),
    order,
    host,
  ];
}

/** Shares of all options and of being inactive; they sum to 1. */
function sharesOf(counts, inactive) {
  const total = counts.reduce((sum, count) => sum + count, inactive) || 1;
  return [...counts, inactive].map((count) => count / total);
}

/** Total variation between front and reference, in [0, 1]. */
function difference(choice) {
  const [front, reference] = [
    sharesOf(choice.front, choice.front_inactive),
    sharesOf(choice.reference, choice.reference_inactive),
  ];
  return front.reduce((sum, share, place) => sum + Math.abs(share - reference[place]), 0) / 2;
}

function choiceBlock(choice, change, search) {
  const front = sharesOf(choice.front, choice.front_inactive);
  const reference = sharesOf(choice.reference, choice.reference_inactive);
  const labels = [...choice.labels, "(inactive)"];
  const shown = labels
    .map((_, place) => place)
    .filter((place) => place < choice.labels.length || front[place] || reference[place]);
  return h(
    "figure",
    { class: "choice" },
    h(
      "figcaption",
      null,
      h("span", { class: "choice-name" }, choice.name),
      h("span", { class: "muted", title: "total variation between the two distributions" }, `Δ ${change.toFixed(2)}`),
    ),
    h(
      "table",
      null,
      h(
        "tbody",
        null,
        shown
          .slice(0, 24)
          .map((place) =>
            h(
              "tr",
              null,
              h("th", { scope: "row" }, labels[place]),
              h("td", { class: "wide" }, twoShares(front[place], reference[place])),
              h("td", { class: "right", title: `reference ${percent(reference[place], 0)}` }, percent(front[place], 0)),
            ),
          ),
      ),
    ),
    shown.length > 24 ? note(`and ${shown.length - 24} more options`) : null,
  );
}

function twoShares(front, reference) {
  return s(
    "svg",
    { class: "bar two", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "track", width: 100, height: 10 }),
    s("rect", { class: "share", width: 100 * front, height: 10 }),
    s("line", { class: "reference", x1: 100 * reference, x2: 100 * reference, y1: 0, y2: 10 }),
  );
}
