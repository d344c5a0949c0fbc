// The table of exported files: sortable, each row opens to all that is known of the file.

const rowOf = new Map();

function latencyColumns(data) {
  const timing = data.quantities[data.latency];
  if (!timing) return [];
  const keys = latencyKeys(data);
  if (keys.length > 1) return keys.map((key) => deviceColumn(key, data));
  const column = (heading, value, extra) => ({
    heading,
    right: true,
    value,
    show: (file) => h("span", null, formatMetric(value(file), timing), extra ? h("small", null, extra(file)) : null),
  });
  return [
    column(
      "measured",
      (file) => file.costs[data.latency],
      (file) => spreadText(file, data.latency),
    ),
    column(
      data.files.some((file) => isEstimated(file, timing.device, data)) ? "estimated" : "predicted",
      (file) => file.predicted[data.latency],
    ),
    column(boundName(data), (file) => file.upper[data.latency]),
  ];
}

/** One of several devices: what was measured there, or what is expected; below it the bound. */
function deviceColumn(key, data) {
  const { device } = data.quantities[key];
  return {
    heading: device,
    title: `latency on ${device}`,
    right: true,
    value: (file) => file.figures[key],
    show: (file) => deviceCell(file, key, data),
  };
}

/** A figure and where it is from: plain where it was measured, after "≈" where it was not. */
function deviceCell(file, key, data) {
  const quantity = data.quantities[key];
  const bound = isNumber(file.upper[key]) ? `bound ${formatMetric(file.upper[key], quantity)}` : "";
  if (isMeasured(file, key)) return h("span", null, formatMetric(file.costs[key], quantity), h("small", null, bound));
  if (!isNumber(file.figures[key])) return h("span", { class: "muted" }, "not measured", h("small", null, bound));
  return h(
    "span",
    { title: "not measured on this device" },
    `≈ ${formatMetric(file.figures[key], quantity)}`,
    h("small", null, `${predictionName(file, key, data)}${bound ? `, ${bound}` : ""}`),
  );
}

function columns(data) {
  const cost = (key, heading) => ({
    heading,
    right: true,
    value: (file) => file.costs[key],
    show: (file) => formatMetric(file.costs[key], data.quantities[key]),
  });
  return [
    {
      heading: "",
      label: "marks",
      value: (file) => (file.non_dominated ? 0 : 1) + flags(file, data).length * 2,
      show: (file) => marks(file, data),
    },
    {
      heading: "model",
      value: (file) => file.digest,
      show: (file) => h("span", null, h("code", null, short(file.digest)), h("small", { class: "path" }, file.path)),
    },
    { heading: "precision", value: (file) => file.precision, show: (file) => file.precision },
    {
      heading: "accuracy",
      right: true,
      value: (file) => file.accuracy,
      show: (file) => h("span", null, percent(file.accuracy), h("small", null, intervalText(file))),
    },
    ...latencyColumns(data),
    cost("size_bytes", "size"),
    cost("peak_activation_bytes", "peak RAM"),
    // Three devices and more need the room; a row that opens has these, too.
    ...(latencyKeys(data).length > 2 ? [] : [cost("macs", "MACs"), agreement()]),
  ].filter(
    (column) =>
      column.heading === "" ||
      data.files.some((file) => column.value(file) !== undefined && column.value(file) !== null),
  );
}

const agreement = () => ({
  heading: "agrees",
  title: "share of test samples on which the file and torch decide alike",
  right: true,
  value: (file) => file.agreement,
  show: (file) => percent(file.agreement),
});

function renderModels(data) {
  const root = bodyOf("models");
  if (!data.files.length) {
    root.append(empty("front.csv has no rows: nothing was exported yet."));
    return;
  }
  const shown = columns(data);
  const body = h("tbody");
  const order = { column: shown.findIndex((column) => column.heading === "accuracy"), down: true };
  data.files.forEach((file) => rowOf.set(file, modelRow(file, shown, data)));
  const heads = shown.map((column, place) =>
    headCell(column, () => {
      order.down = order.column === place ? !order.down : column.heading === "accuracy" || column.heading === "agrees";
      order.column = place;
      sort();
    }),
  );
  const sort = () => {
    heads.forEach((head, place) =>
      head.setAttribute("aria-sort", place === order.column ? (order.down ? "descending" : "ascending") : "none"),
    );
    const column = shown[order.column];
    const files = [...data.files].sort(
      (a, b) =>
        compared(column.value(a), column.value(b), order.down) ||
        compared(latencyOf(a, data), latencyOf(b, data), false),
    );
    body.replaceChildren(...files.flatMap((file) => rowOf.get(file).rows));
  };
  sort();
  root.append(
    h("div", { class: "scroll" }, h("table", { class: "models" }, h("thead", null, h("tr", null, heads)), body)),
    marksKey(data),
  );
  store.listen((state) =>
    rowOf.forEach((entry, file) => entry.rows[0].classList.toggle("chosen", file === state.selected)),
  );
}

/** Orders values; what is missing stands last in either direction. */
function compared(a, b, down) {
  const [none, other] = [a === undefined || a === null, b === undefined || b === null];
  if (none || other) return Number(none) - Number(other);
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return down ? -order : order;
}

function headCell(column, turn) {
  return h(
    "th",
    { scope: "col", class: column.right ? "right" : null, title: column.title },
    h(
      "button",
      { type: "button", onclick: turn, "aria-label": column.label || null },
      column.heading || "●",
      h("i", { "aria-hidden": "true" }),
    ),
  );
}

function modelRow(file, shown, data) {
  const open = h(
    "button",
    { type: "button", class: "open", "aria-expanded": "false", "aria-label": `All about ${fileTitle(file)}` },
    "▸",
  );
  const row = h(
    "tr",
    { class: "model" },
    shown.map((column, place) =>
      h("td", { class: column.right ? "right" : null }, place === 0 ? open : null, column.show(file)),
    ),
  );
  const more = h("tr", { class: "more", hidden: true });
  const entry = {
    rows: [row, more],
    open(wanted) {
      if (wanted && !more.firstChild) more.append(h("td", { colspan: shown.length }, modelDetails(file, data)));
      more.hidden = !wanted;
      open.setAttribute("aria-expanded", String(wanted));
      open.textContent = wanted ? "▾" : "▸";
    },
  };
  row.addEventListener("click", () => {
    entry.open(more.hidden);
    store.set({ selected: file });
  });
  return entry;
}

/** Figures that have no column. */
function detailFigures(file, data) {
  const error = file.max_abs_error;
  return [
    ["digest", file.digest],
    ...figures(file, data),
    ["test samples", integer(file.num_samples)],
    ...Object.entries(file.timings).flatMap(([device, timing]) => {
      const where = data.devices.length > 1 ? `, ${device}` : "";
      const runs = isNumber(timing.runs) ? `, ${plural(timing.runs, "run")}` : "";
      return [
        [`slowest tenth of the runs${where}`, formatMetric(timing.p90_ms, { dimension: "time" })],
        [`timed${where}`, isNumber(timing.blocks) ? plural(timing.blocks, "block") + runs : null],
      ];
    }),
    [
      "largest logit difference",
      isNumber(error) ? (error < 0.001 ? error.toExponential(1) : threeDigits(error)) : null,
    ],
  ];
}

/** The machine that timed a file; with several devices each fact says of which. */
function hostPairs(device, host, data) {
  const pairs = plainPairs(host, { memory_bytes: (value) => formatQuantity(Number(value), "bytes") });
  return data.devices.length > 1 ? pairs.map(([key, value]) => [`${key}, ${device}`, value]) : pairs;
}

function modelDetails(file, data) {
  const origin = [
    ["runtime", file.runtime],
    ["sha256", file.sha256 ? h("code", { class: "hash" }, file.sha256) : null],
    ...Object.entries(file.timings).flatMap(([device, timing]) => hostPairs(device, timing.host, data)),
  ];
  const part = (title, content) => h("div", null, h("h4", null, title), content);
  return h(
    "div",
    { class: "details" },
    file.path ? h("p", null, copyable(file.path, "path")) : null,
    flagList(file, data),
    h(
      "div",
      { class: "columns" },
      part("figures", facts(detailFigures(file, data))),
      part("choices", Object.keys(file.choices).length ? choiceFacts(file.choices) : empty("not recorded")),
      part("file", facts(origin)),
    ),
  );
}

/** Selects a file and brings its row into sight, opened. */
function revealRow(file) {
  const entry = rowOf.get(file);
  store.set({ selected: file });
  if (!entry) return;
  entry.open(true);
  entry.rows[0].scrollIntoView({ block: "center", behavior: "smooth" });
}

function marksKey(data) {
  const used = new Map(data.files.flatMap((file) => flags(file, data)).map(([, sign]) => [sign, true]));
  const meanings = [
    ["✕", "breaks a budget of the run"],
    ["~", "timing not settled"],
    ["↑", "slower than its bound"],
    ["?", "not run in its own runtime"],
  ];
  const texts = [
    data.files.some((file) => file.non_dominated) ? "● non-dominated" : "",
    ...meanings.filter(([sign]) => used.has(sign)).map(([sign, text]) => `${sign} ${text}`),
  ];
  const unmeasured = data.files.some((file) => deviceKeys(file).some((key) => !isMeasured(file, key)));
  if (unmeasured && latencyKeys(data).length > 1) texts.push("≈ not measured, predicted or estimated");
  const small = latencyKeys(data).length > 1 ? "bound of the latency" : "spread of repeated timings";
  return note(
    `${texts.filter(Boolean).join(" · ")}${texts.some(Boolean) ? ". " : ""}Small figures: 95 % interval of the accuracy, ${small}. A row opens on click.`,
  );
}
