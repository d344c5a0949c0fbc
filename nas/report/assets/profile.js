// Head, tables and method of a profile's page, and the order in which its parts are drawn.

function renderHead(data) {
  const [first] = data.profiles;
  const host = first.latency.host;
  const threads = plural(data.device.threads, "thread");
  document.getElementById("masthead").append(
    h("p", { class: "eyebrow" }, "neural architecture search · operator profile"),
    h("h1", null, data.name),
    h("p", { class: "verdict" }, verdict(data)),
    facts(
      [
        ["device", `${data.device.name}, ${threads}, batch ${data.device.batch}`],
        ["runtime", `${data.device.runtime} ${host.onnxruntime}`],
        ["processor", host.cpu],
        ["measured", moment(host.time)],
      ],
      "facts strip",
    ),
  );
}

function verdict(data) {
  const [first, second] = data.profiles;
  const sentence = (profile) => {
    const stages = [...profile.stages].sort((a, b) => b.share - a.share);
    const work = profile.families.filter((family) => family.name !== "convert");
    const convert = profile.families.find((family) => family.name === "convert");
    return [
      h("strong", null, `${ms(profile.latency.latency_ms)}${profile.precision ? ` in ${profile.precision}` : ""}. `),
      stages.length > 1 ? `${stageTitle(stages[0].name)} takes the most, ${percent(stages[0].share, 0)}; by kind, ` : "By kind, ",
      `${FAMILIES[work[0].name]} with ${percent(work[0].share, 0)}`,
      convert && convert.share >= 0.03 ? `. ${percent(convert.share, 0)} goes into changing layouts and types` : "",
      ". ",
    ];
  };
  const ratio = second ? second.latency.latency_ms / first.latency.latency_ms : null;
  return [
    sentence(first),
    second ? sentence(second) : null,
    ratio ? `${profileTitle(second)} takes ${threeDigits(ratio)} times as long as ${profileTitle(first)}.` : "",
  ];
}

function renderStages(data) {
  const names = [...new Set(data.profiles.flatMap((profile) => profile.stages.map((stage) => stage.name)))];
  const heading = (name) => {
    const about = data.notes[name] || {};
    return [
      h("code", { class: name ? null : "muted" }, stageTitle(name)),
      about.slot ? h("small", null, ` ${about.slot}`) : null,
      about.text ? h("span", { class: "stage-text" }, about.text) : null,
    ];
  };
  const rows = names.map((name) => [heading(name), (operator) => operator.stage === name]);
  bodyOf("stages").append(measureTable(data.profiles, rows, "stage"));
}

function renderWork(data) {
  const used = Object.keys(FAMILIES).filter((family) => sumOf(data.profiles[0], (o) => o.family === family).time_ms
    || data.profiles.some((profile) => sumOf(profile, (o) => o.family === family).time_ms));
  const longest = (family) => Math.max(...data.profiles.map((profile) => sumOf(profile, (o) => o.family === family).time_ms));
  used.sort((a, b) => longest(b) - longest(a));
  const rows = used.map((family) => [
    [h("span", { class: `chip ${family}` }), FAMILIES[family]],
    (operator) => operator.family === family,
  ]);
  bodyOf("work").append(measureTable(data.profiles, rows, "work"));
}

const COLUMNS = [
  ["#", (operator, place) => place + 1, (operator, place) => String(place + 1), true],
  ["layer", (operator) => operator.layer, (operator) => layerCell(operator), false],
  ["kernel", (operator) => operator.kind, (operator) => kernelCell(operator), false],
  ["shape", null, (operator) => `${shapeText(operator.in_shape)} → ${shapeText(operator.out_shape)}`, false],
  ["time", (operator) => operator.time_ms, (operator) => ms(operator.time_ms), true],
  ["share", (operator) => operator.share, (operator) => percent(operator.share), true],
  ["bytes", (operator) => operator.total_bytes, (operator) => formatQuantity(operator.total_bytes, "bytes"), true],
  ["bandwidth", (operator) => operator.bytes_per_second, (operator) => rateText(operator.bytes_per_second, "B"), true],
  ["MACs", (operator) => operator.macs, (operator) => (operator.macs ? formatQuantity(operator.macs, "count") : "–"), true],
  ["MAC rate", (operator) => operator.macs_per_second, (operator) => (operator.macs ? rateText(operator.macs_per_second, "MAC") : "–"), true],
];

/** A path may break behind its slashes only. */
const pathText = (path) => path.split("/").flatMap((part, place) => (place ? ["/", h("wbr"), part] : [part]));
const layerCell = (operator) =>
  h("span", { class: operator.mapped === "neighbour" ? "inferred" : null }, isMapped(operator) ? pathText(operator.layer) : "–");
const kernelCell = (operator) => [h("span", { class: `chip ${operator.family}` }), kernelText(operator)];

let showRow = () => {};

function renderOperators(data) {
  const body = bodyOf("operators");
  const state = { column: 0, down: false, lit: null };
  const host = h("div");
  const choose = fileChoice(data, () => draw());
  const draw = () => {
    const profile = choose.profile();
    const key = COLUMNS[state.column][1];
    const rows = profile.operators.map((operator, place) => [operator, place]);
    const value = ([operator, place]) => key(operator, place) ?? -1;
    rows.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (state.down ? -1 : 1));
    host.replaceChildren(operatorTable(rows, state, draw));
  };
  showRow = (profile, operator) => {
    if (choose.pick) choose.pick(profile);
    state.lit = operator;
    draw();
    card.hide();
    const row = host.querySelector("tr.lit");
    if (row) row.scrollIntoView({ block: "center" });
  };
  if (choose.node) body.append(choose.node);
  body.append(host, note("A layer in italics was found from the operators around: the runtime put the operator in. Shapes are those that run, with channels padded to a block or moved to the end."));
  draw();
}

function operatorTable(rows, state, draw) {
  const head = COLUMNS.map(([name, key, , right], place) => {
    const order = place === state.column ? (state.down ? "descending" : "ascending") : null;
    const sort = () => {
      state.down = place === state.column ? !state.down : right && place > 0;
      state.column = place;
      draw();
    };
    return h("th", { scope: "col", class: right ? "right" : null, "aria-sort": order }, key ? h("button", { type: "button", onclick: sort }, name) : name);
  });
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "operators" },
      h("thead", null, h("tr", null, head)),
      h(
        "tbody",
        null,
        rows.map(([operator, place]) =>
          h(
            "tr",
            { class: operator === state.lit ? "lit" : null },
            COLUMNS.map(([name, , cell, right]) => h("td", { class: right ? "right" : name === "layer" ? "layer" : null }, cell(operator, place))),
          ),
        ),
      ),
    ),
  );
}

function renderMethod(data) {
  const table = grid(
    ["file", "without profiler", "spread of blocks", "under the profiler", "times as long", "empty operator", "mapped by name", "by what is around", "not mapped"],
    data.profiles.map((profile) => [
      profile.file,
      ms(profile.latency.latency_ms),
      percent(profile.latency.spread),
      ms(profile.profiled_ms),
      threeDigits(profile.inflation),
      `${threeDigits(profile.gauge_us)}\u00a0µs`,
      percent(profile.mapped_by_name_share),
      percent(profile.mapped_share - profile.mapped_by_name_share),
      percent(Math.max(0, 1 - profile.mapped_share)),
    ]),
    { right: [1, 2, 3, 4, 5, 6, 7, 8] },
  );
  bodyOf("method").append(
    table,
    h(
      "div",
      { class: "prose" },
      h("p", null, "The total is the latency of the file without any profiler: the median over blocks of a block's fastest run, beside an anchor model that had to be undisturbed."),
      h("p", null, "Shares are from the runtime's profiler, means over the faster half of the recorded runs. Recording an operator takes time of its own, which for a small network is most of what is recorded. Operators that do next to nothing run along, and what is recorded for them is taken off every operator. Caches still suffer from the recording, so that shares of networks under about 0.1 ms are rough."),
      h("p", null, "Times of operators are their shares of the total. Bytes are of all tensors that an operator reads and writes, once each."),
    ),
  );
}

const payload = JSON.parse(document.getElementById("payload").textContent);
payload.profiles.forEach((profile) =>
  profile.operators.forEach((operator) => {
    operator.total_bytes = operator.activation_bytes + operator.parameter_bytes + operator.output_bytes;
  }),
);
chooseUnit(payload.profiles);
renderHead(payload);
[
  ["time", renderTime],
  ["stages", renderStages],
  ["work", renderWork],
  ["rates", renderRates],
  ["operators", renderOperators],
  ["method", renderMethod],
].forEach(([id, render]) => {
  try {
    render(payload);
  } catch (error) {
    bodyOf(id).append(empty(`This part could not be drawn: ${error.message}`));
    console.error(error);
  }
});
addEventListener("scroll", () => card.hide(), { passive: true });
