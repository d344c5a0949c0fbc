// What another limit would give: the steps of the front, held against the choice.

function renderLadder(chosen, data, state) {
  const key = data.latency || limitKeys(data)[0];
  if (!key) return h("div");
  const quantity = data.quantities[key];
  const free = { ...state, limits: { ...state.limits, [key]: null } };
  const steps = staircase(
    data.files.filter((file) => fits(file, free) && !file.refused),
    key,
  );
  const shown = steps.slice(-14);
  const rows = shown.map((file) => ladderRow(file, chosen, key, data));
  const headings = ["limit", "file", "accuracy", "95 % interval", "change", ""];
  return h(
    "div",
    null,
    h("h3", null, `What another ${placed(quantity, data)} limit would give`),
    grid(headings, rows, { right: [0, 2, 4], className: "grid ladder-table", chosen: shown.indexOf(chosen) }),
    beyond(key, steps, data),
  );
}

/** The cells of a step: the least limit that lets the file pass, and what it gives. */
function ladderRow(file, chosen, key, data) {
  const limit = upTo(file.deciding[key]);
  const use = () => store.set({ limits: { ...store.state.limits, [key]: limit } });
  const change = chosen && file !== chosen ? points(file.accuracy - chosen.accuracy) : "";
  return [
    h(
      "button",
      { type: "button", class: "link", title: "use this limit", onclick: use },
      `≥ ${formatMetric(limit, data.quantities[key])}`,
    ),
    fileTitle(file),
    percent(file.accuracy),
    h("span", { class: "muted" }, intervalText(file)),
    change,
    h(
      "span",
      null,
      h("span", { class: "muted" }, file === chosen ? "the choice above" : told(file, chosen)),
      " ",
      flagSigns(file, data),
    ),
  ];
}

/** A limit that lets `value` pass, with three digits. */
function upTo(value) {
  const digits = 10 ** (Math.floor(Math.log10(value)) - 2);
  return Number((Math.ceil(value / digits - 1e-9) * digits).toPrecision(6));
}

const told = (file, chosen) =>
  chosen && chosen.interval && file.interval && !toldApart(file, chosen) ? "not told apart from the choice" : "";

/** A budget as it is given on the command line; with several devices it names its own. */
function budgetName(budget, data) {
  const quantity = data.quantities[budget.key];
  return quantity.device && data.devices.length > 1 ? `${quantity.short}.${quantity.device}` : quantity.short;
}

/** Files above the run's own budget were never looked for: say so, with the way to look. */
function beyond(key, steps, data) {
  const budget = data.budgets.find((item) => item.key === key);
  if (!budget || !steps.length) return null;
  const share = data.forecast.share;
  return note(
    `The search looked for nothing beyond its budget (${budget.text}`,
    isNumber(share) ? `; ${percent(share)} of the space met all budgets` : "",
    "). Whether more would pay is learned by going on with a larger one: ",
    h("code", null, `nas search run.resume=<this folder> budget.${budgetName(budget, data)}=…`),
  );
}
