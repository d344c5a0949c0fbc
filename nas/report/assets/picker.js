// The picker: budgets in, the file to ship out, and what another budget would give.

/** Cost keys that a reader may put a limit on: those that any file has a figure for. */
function limitKeys(data) {
  const usual = [...latencyKeys(data), "size_bytes", "peak_activation_bytes"];
  const keys = [...usual, ...data.budgets.map((budget) => budget.key)];
  return [...new Set(keys)].filter((key) => key !== "accuracy" && data.files.some((file) => isNumber(file.deciding[key])));
}

const fits = (file, state) =>
  (state.precision === "any" || file.precision === state.precision) &&
  Object.entries(state.limits).every(([key, limit]) => limit === null || file.deciding[key] <= limit);

/** The best file within the limits: the most accurate, of equals the fastest; null if nothing fits. */
function pick(data, state) {
  const cost = (file) => latencyOf(file, data) ?? Infinity;
  const fitting = data.files.filter((file) => isNumber(file.accuracy) && fits(file, state) && !file.refused);
  return fitting.sort((a, b) => b.accuracy - a.accuracy || cost(a) - cost(b))[0] || null;
}

function renderPicker(data) {
  const root = bodyOf("ship");
  if (!data.files.length) {
    root.append(
      empty(
        data.search.count
          ? data.finished
            ? "No file was exported: no model of the front was trained and exported with success. The notes say more."
            : "No file was exported: the run has not come to its finish. What was searched so far is shown below."
          : "No file was exported, and no evaluation is recorded yet.",
      ),
    );
    return;
  }
  const keys = limitKeys(data);
  const limits = Object.fromEntries(keys.map((key) => [key, startLimit(key, data)]));
  const [result, ladder] = [h("div", { class: "result", "aria-live": "polite" }), h("div", { class: "ladder" })];
  root.append(
    h(
      "div",
      { class: "picker" },
      h(
        "form",
        { class: "limits", onsubmit: (event) => event.preventDefault() },
        h(
          "p",
          { class: "lead" },
          "Set what the device allows. Limits start at the budgets of the run; figures are those measured on the files, and bounds where nobody can measure.",
        ),
        keys.map((key) => limitControl(key, data)),
        precisionControl(data),
      ),
      result,
    ),
    ladder,
  );
  store.listen((state, change) => {
    if (!("limits" in change) && !("precision" in change)) return;
    const chosen = pick(data, state);
    result.replaceChildren(chosen ? resultCard(chosen, data, state) : nothingFits(data, state));
    ladder.replaceChildren(renderLadder(chosen, data, state));
  });
  store.set({ limits, precision: "any" });
  store.set({ selected: pick(data, store.state) });
}

function startLimit(key, data) {
  const budget = data.budgets.find((item) => item.key === key);
  return budget ? budget.limit : null;
}

/** The two ways to give a limit, still without a life of their own. */
function limitInputs(name) {
  const attributes = { class: "quantity", placeholder: "no limit", spellcheck: "false" };
  const field = h("input", { type: "text", "aria-label": `Limit of ${name}`, ...attributes });
  const spoken = `Limit of ${name}, slider; at the right end there is none`;
  return [field, h("input", { type: "range", min: 0, max: 1000, step: 1, "aria-label": spoken })];
}

function limitControl(key, data) {
  const quantity = data.quantities[key];
  const values = data.files.map((file) => file.deciding[key]).filter((value) => value > 0);
  const start = startLimit(key, data);
  const [low, high] = padded(start ? [...values, start] : values, { log: true, air: 0.04 });
  const position = scale([low, high], [0, 960], true);
  const name = quantity.device ? `${quantity.label} on ${quantity.device}` : quantity.label;
  const [field, slider] = limitInputs(name);
  const hint = h("span", { class: "hint", role: "alert" });
  const say = (limit) => store.set({ limits: { ...store.state.limits, [key]: limit } });
  slider.addEventListener("input", () => {
    const place = Number(slider.value);
    say(place > 960 ? null : Number((10 ** (Math.log10(low) + (place / 960) * Math.log10(high / low))).toPrecision(3)));
  });
  field.addEventListener("change", () => {
    try {
      say(
        field.value.trim() && field.value.trim() !== "no limit" ? parseQuantity(field.value, quantity.dimension) : null,
      );
      hint.textContent = "";
    } catch (error) {
      hint.textContent = error.message;
    }
  });
  store.listen((state) => {
    const limit = state.limits[key] ?? null;
    if (document.activeElement !== slider)
      slider.value = limit === null ? 1000 : Math.max(0, Math.min(960, position(limit)));
    const text = limit === null ? "no limit" : formatMetric(limit, quantity);
    if (!hint.textContent || document.activeElement === slider) [field.value, hint.textContent] = [text, ""];
    slider.setAttribute("aria-valuetext", text);
  });
  return h(
    "div",
    { class: "limit" },
    h("div", { class: "limit-head" }, h("span", { class: "limit-name" }, name, " ≤"), field),
    rug(key, data, position),
    slider,
    hint,
  );
}

/** A tick for each file where the slider would just let it pass. */
function rug(key, data, position) {
  const ticks = data.files
    .filter((file) => file.deciding[key] > 0)
    .map((file) => {
      const place = position(file.deciding[key]);
      return s("line", { class: look(file.precision, data).className, x1: place, x2: place, y1: 0, y2: 10 });
    });
  return s("svg", { class: "rug", viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" }, ticks);
}

function precisionControl(data) {
  const known = [...new Set(data.files.map((file) => file.precision))];
  if (known.length < 2) return null;
  const option = (value) =>
    h(
      "label",
      null,
      h("input", {
        type: "radio",
        name: "precision",
        value,
        checked: value === "any",
        onchange: () => store.set({ precision: value }),
      }),
      h("span", null, value),
    );
  return h("fieldset", { class: "segments" }, h("legend", null, "precision"), ["any", ...known].map(option));
}

function resultCard(file, data, state) {
  const big = (value, label, extra) =>
    h("div", { class: "big" }, h("b", null, value), h("span", null, label), extra ? h("small", null, extra) : null);
  return h(
    "article",
    { class: "ship-card" },
    h("p", { class: "eyebrow" }, "ship"),
    h("h3", null, fileTitle(file)),
    h(
      "div",
      { class: "bigs" },
      big(
        percent(file.accuracy),
        "accuracy of the file",
        file.interval
          ? `95 % interval ${intervalText(file)} (${plural(file.num_samples, "test sample")})`
          : "number of test samples unknown",
      ),
      latencyKeys(data)
        .slice(0, 4)
        .map((key) => big(...latencyFigure(file, key, data))),
      big(
        formatMetric(file.costs.size_bytes, data.quantities.size_bytes),
        "file",
        `peak activations ${formatMetric(file.costs.peak_activation_bytes, data.quantities.peak_activation_bytes)}`,
      ),
    ),
    file.path ? copyable(file.path, "path") : null,
    flagList(file, data),
    h(
      "ul",
      { class: "remarks" },
      remarks(file, data, state).map((text) => h("li", null, text)),
    ),
    h("button", { type: "button", class: "link screen", onclick: () => revealRow(file) }, "show it in the table"),
  );
}

/** A file's latency on a device in large type: the figure, where it is from, and what was expected. */
function latencyFigure(file, key, data) {
  const quantity = data.quantities[key];
  const bound = `${boundName(data)} ${formatMetric(file.upper[key], quantity)}`;
  const figure = formatMetric(file.figures[key], quantity);
  if (!isMeasured(file, key) && isNumber(file.figures[key]))
    return [figure, `${predictionName(file, key, data)} for ${quantity.device}, never measured`, bound];
  const spread = spreadText(file, key);
  return [
    figure,
    isMeasured(file, key)
      ? `measured on ${quantity.device}${spread ? `, ${spread}` : ""}`
      : `not measured on ${quantity.device}`,
    `${predictionName(file, key, data)} ${formatMetric(file.predicted[key], quantity)}, ${bound}`,
  ];
}

/** How much room the limits leave, and whether something cheaper is as good as far as the test can tell. */
function remarks(file, data, state) {
  const found = [];
  Object.entries(state.limits).forEach(([key, limit]) => {
    const value = file.deciding[key];
    if (limit === null || !isNumber(value)) return;
    const room = 1 - value / limit;
    const { spread } = timingOf(file, key);
    const tight = key.startsWith("latency_ms.") && isNumber(spread) && room < 2 * spread;
    if (tight)
      found.push(
        `It leaves ${percent(room)} of the limit of ${placed(data.quantities[key], data)}, less than twice the timing's spread: it may break the limit on a busy device.`,
      );
  });
  const alike = indistinct(file, data, state);
  if (alike) {
    found.push(
      h(
        "span",
        null,
        `With ${plural(file.num_samples, "test sample")} its accuracy is not told apart from that of `,
        h("button", { type: "button", class: "link", onclick: () => revealRow(alike) }, fileTitle(alike)),
        ` (${percent(alike.accuracy)}), which takes ${formatMetric(latencyOf(alike, data), data.quantities[data.latency])}.`,
      ),
    );
  }
  return found;
}

/** The fastest fitting file whose accuracy is not told apart from that of `file`; null if there is none faster. */
function indistinct(file, data, state) {
  const latency = latencyOf(file, data);
  if (!file.interval || !isNumber(latency)) return null;
  const alike = data.files.filter(
    (other) =>
      fits(other, state) &&
      !other.refused &&
      other.interval &&
      !toldApart(other, file) &&
      latencyOf(other, data) < 0.95 * latency,
  );
  return alike.sort((a, b) => latencyOf(a, data) - latencyOf(b, data))[0] || null;
}

/** Which single limit, relaxed how far, lets something pass. */
function nothingFits(data, state) {
  const hints = Object.entries(state.limits)
    .filter(([, limit]) => limit !== null)
    .map(([key, limit]) => {
      const relaxed = { ...state, limits: { ...state.limits, [key]: null } };
      const values = data.files
        .filter((file) => fits(file, relaxed) && !file.refused)
        .map((file) => file.deciding[key])
        .filter(isNumber);
      if (!values.length) return null;
      const needed = upTo(Math.min(...values));
      return needed > limit
        ? h(
            "li",
            null,
            `${placed(data.quantities[key], data)} ≤ ${formatMetric(needed, data.quantities[key])} would do (now ${formatMetric(limit, data.quantities[key])}). `,
            h(
              "button",
              {
                type: "button",
                class: "link",
                onclick: () => store.set({ limits: { ...state.limits, [key]: needed } }),
              },
              "set it",
            ),
          )
        : null;
    })
    .filter(Boolean);
  return h(
    "article",
    { class: "ship-card none" },
    h("p", { class: "eyebrow" }, "nothing fits"),
    h("h3", null, "No exported file keeps these limits"),
    hints.length
      ? h("ul", { class: "remarks" }, hints)
      : h("p", null, "No single limit is to blame: relax two or more, or allow another precision."),
  );
}
