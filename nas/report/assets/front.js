// The front: accuracy of the files against a cost, with what was searched behind them.

function renderFront(data) {
  const root = bodyOf("front");
  if (!data.axes.length || (!data.files.length && !data.search.sample.place.length)) {
    root.append(empty("Nothing was evaluated yet, so there is no front to draw."));
    return;
  }
  const view = { key: data.latency || data.axes[0], log: true, candidates: true, intervals: true, full: false };
  const host = h("div", { class: "figure" });
  let redraw = () => {};
  const change = (part) => {
    Object.assign(view, part);
    redraw();
  };
  root.append(frontControls(data, view, change), host, frontLegend(data));
  redraw = drawn(host, (width) => drawFront(host, data, view, width));
  store.listen(() => redraw());
}

function frontControls(data, view, change) {
  const name = (key) => {
    const quantity = data.quantities[key];
    return quantity.device ? `${quantity.label} on ${quantity.device}` : quantity.label;
  };
  const box = (key, text) =>
    h(
      "label",
      null,
      h("input", {
        type: "checkbox",
        checked: view[key],
        onchange: (event) => change({ [key]: event.target.checked }),
      }),
      ` ${text}`,
    );
  return h(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    h(
      "label",
      null,
      "against ",
      h(
        "select",
        { onchange: (event) => change({ key: event.target.value }) },
        data.axes.map((key) => h("option", { value: key, selected: key === view.key }, name(key))),
      ),
    ),
    box("log", "logarithmic"),
    box("candidates", "candidates"),
    box("intervals", "95 % intervals"),
    box("full", "whole range"),
  );
}

function frontDomains(data, view) {
  const sample = data.search.sample;
  const background = view.candidates ? sample.costs[view.key] || [] : [];
  const limits = data.budgets.filter((budget) => budget.key === view.key).map((budget) => budget.limit);
  const files = data.files.filter((file) => isNumber(file.figures[view.key]) && isNumber(file.accuracy));
  const x = padded([...files.map((file) => file.figures[view.key]), ...background, ...limits], {
    log: view.log,
    air: 0.05,
  });
  if (!view.log) x[0] = Math.max(0, x[0]);
  const heights = [
    ...files.map((file) => file.accuracy),
    ...(view.intervals ? files.flatMap((file) => file.interval || []) : []),
  ];
  const others = view.candidates ? sample.accuracy.filter(isNumber).sort((a, b) => a - b) : [];
  const floor = view.full || !heights.length ? 0 : Math.floor(others.length * 0.15);
  const y = padded([
    ...heights,
    ...(others.length ? [others[Math.min(floor, others.length - 1)], others[others.length - 1]] : []),
  ]);
  return { x, y: [Math.max(0, y[0]), Math.min(1.005, y[1])], below: others.filter((value) => value < y[0]).length };
}

function drawFront(host, data, view, width) {
  const quantity = data.quantities[view.key];
  const { x, y, below } = frontDomains(data, view);
  const plot = frame({
    width,
    height: Math.max(320, Math.min(520, width * 0.5)),
    x: {
      domain: x,
      log: view.log,
      label: `${quantity.label}${quantity.device ? ` on ${quantity.device}` : ""} ${quantity.device && width > 560 ? ` (${filesFrom(data, view.key)}, candidates predicted)` : ""}`,
      format: (value) => formatQuantity(value, quantity.dimension),
    },
    y: { domain: y, label: "accuracy", format: shareTicks(y) },
    label: "Accuracy against cost. With arrow keys you walk along the files; Enter selects one in the table.",
  });
  drawLimits(plot, data, view);
  const targets = [...(view.candidates ? drawCandidates(plot, data, view) : []), ...drawFiles(plot, data, view)];
  interactive(plot, targets);
  const focused = host.contains(document.activeElement);
  host.replaceChildren(
    plot.svg,
    below
      ? note(`${plural(below, "candidate")} of lower accuracy ${below === 1 ? "lies" : "lie"} below this frame.`)
      : "",
  );
  if (focused) plot.svg.focus({ preventScroll: true });
}

/** Where the figures of the files on an axis come from. */
function filesFrom(data, key) {
  const known = data.files.filter((file) => isNumber(file.figures[key]));
  if (known.every((file) => isMeasured(file, key))) return "files measured";
  const estimated = known.some((file) => isEstimated(file, deviceOf(key), data));
  return `files ${estimated ? "estimated" : "predicted"}, not measured`;
}

function drawLimits(plot, data, view) {
  const quantity = data.quantities[view.key];
  const line = (limit, className, text, row) => {
    const place = plot.x(limit);
    if (!(place >= plot.box.left && place <= plot.box.right)) return;
    const left = place > (plot.box.left + plot.box.right) / 2;
    plot.marks.append(s("line", { class: className, x1: place, x2: place, y1: plot.box.top, y2: plot.box.bottom }));
    plot.over.append(
      s(
        "text",
        {
          class: `${className} label`,
          x: place + (left ? -6 : 6),
          y: plot.box.bottom - 10 - 15 * row,
          "text-anchor": left ? "end" : "start",
        },
        text,
      ),
    );
  };
  data.budgets
    .filter((budget) => budget.key === view.key)
    .forEach((budget) => line(budget.limit, "budget", `budget ${formatMetric(budget.limit, quantity)}`, 0));
  const limit = store.state.limits[view.key];
  if (isNumber(limit) && !data.budgets.some((budget) => budget.key === view.key && budget.limit === limit)) {
    line(limit, "picked", `your limit ${formatMetric(limit, quantity)}`, 1);
  }
  const accuracy = data.budgets.find((budget) => budget.key === "accuracy");
  if (accuracy)
    plot.marks.append(
      s("line", {
        class: "budget",
        x1: plot.box.left,
        x2: plot.box.right,
        y1: plot.y(accuracy.limit),
        y2: plot.y(accuracy.limit),
      }),
    );
}

function drawCandidates(plot, data, view) {
  const sample = data.search.sample;
  const costs = sample.costs[view.key] || [];
  const known = sample.place
    .map((_, place) => place)
    .filter((place) => isNumber(costs[place]) && isNumber(sample.accuracy[place]) && (!view.log || costs[place] > 0));
  const at = (place) => [plot.x(costs[place]), plot.y(sample.accuracy[place])];
  plot.marks.append(
    dots(known.filter((place) => !sample.front[place]).map(at), "candidates"),
    dots(known.filter((place) => sample.front[place]).map(at), "candidates best"),
  );
  return known
    .map((place) => ({ x: at(place)[0], y: at(place)[1], card: () => candidateCard(data, place) }))
    .filter((target) => target.y <= plot.box.bottom);
}

function candidateCard(data, place) {
  const sample = data.search.sample;
  const codes = sample.choices[place];
  const choices = Object.fromEntries(
    sample.choice_names.map((name, column) => [
      name,
      codes[column] < 0 ? null : sample.choice_labels[column][codes[column]],
    ]),
  );
  return h(
    "div",
    null,
    h("strong", null, short(sample.digest[place])),
    h("span", { class: "muted" }, ` candidate ${sample.index[place] ?? sample.place[place] - 1}`),
    facts([
      ["validation accuracy", percent(sample.accuracy[place])],
      ...data.axes.map((key) => [
        `${key === data.latency ? "predicted " : ""}${data.quantities[key].label}`,
        formatMetric((sample.costs[key] || [])[place], data.quantities[key]),
      ]),
      ["took", duration(sample.seconds[place])],
      ["", sample.front[place] ? "on the front of the search" : null],
    ]),
    choiceFacts(choices),
  );
}

function drawFiles(plot, data, view) {
  const files = data.files.filter((file) => isNumber(file.figures[view.key]) && isNumber(file.accuracy));
  const at = (file) => [plot.x(file.figures[view.key]), plot.y(file.accuracy)];
  const steps = staircase(files, view.key).map(at);
  if (steps.length) {
    const end = [plot.box.right, steps[steps.length - 1][1]];
    plot.marks.append(s("path", { class: "staircase", d: path([...steps, end], { step: true }) }));
  }
  if (view.intervals) {
    files
      .filter((file) => file.interval)
      .forEach((file) =>
        plot.marks.append(
          s("path", {
            class: `whisker ${look(file.precision, data).className}`,
            d: `M${at(file)[0]} ${plot.y(file.interval[0])}V${plot.y(file.interval[1])}`,
          }),
        ),
      );
  }
  files.forEach((file) => plot.marks.append(fileMark(file, data, ...at(file))));
  return files.map((file) => ({
    x: at(file)[0],
    y: at(file)[1],
    rank: 1,
    card: () => fileCard(file, data),
    select: () => revealRow(file),
  }));
}

/** Hollow where something exported dominates it, struck out where it breaks a budget, ringed where it is selected. */
function fileMark(file, data, x, y) {
  const { shape, className } = look(file.precision, data);
  const bad = brokenBudgets(file, data).length > 0 || file.accepted === false;
  const dominated = file.non_dominated === false;
  return s(
    "g",
    null,
    file === store.state.selected ? s("circle", { class: "selected", cx: x, cy: y, r: 11 }) : null,
    mark(shape, x, y, 5, { class: `file ${className}${dominated ? " hollow" : ""}` }),
    bad ? mark("cross", x, y, 8, { class: "strike" }) : null,
  );
}

function frontLegend(data) {
  const precisions = [...new Set(data.files.map((file) => file.precision))];
  const fidelity = data.search.fidelities[0];
  const epochs = fidelity && fidelity.fidelity.epochs ? ` after ${fidelity.fidelity.epochs} epochs` : "";
  return legend(
    [
      ...precisions.map((precision) => {
        const { shape, className } = look(precision, data);
        return [swatch(mark(shape, 0, 0, 5, { class: `file ${className}` })), `${precision} file, test accuracy`];
      }),
      data.files.some((file) => file.non_dominated === false)
        ? [swatch(mark("circle", 0, 0, 5, { class: "file precision0 hollow" })), "dominated by another file"]
        : null,
      data.files.some((file) => file.accepted === false)
        ? [
            swatch(mark("circle", 0, 0, 5, { class: "file precision0" }), mark("cross", 0, 0, 8, { class: "strike" })),
            "breaks a budget",
          ]
        : null,
      [swatch(dots([[0, 0]], "candidates")), `candidate, validation accuracy${epochs}, predicted cost`],
      [swatch(dots([[0, 0]], "candidates best")), "front of the search"],
    ].filter(Boolean),
  );
}
