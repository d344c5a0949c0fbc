// The strip of time: stages above, their operators below, as wide as they are long.

const STAGE_HEIGHT = 40;
const BLOCK_HEIGHT = 46;

function renderTime(data) {
  const most = Math.max(...data.profiles.map((profile) => profile.latency.latency_ms));
  const body = bodyOf("time");
  data.profiles.forEach((profile) => {
    const host = h("div", { class: "figure" });
    const timing = profile.latency;
    body.append(
      h(
        "p",
        { class: "strip-title" },
        h("strong", null, `${profileTitle(profile)}: ${ms(timing.latency_ms)}`),
        h(
          "span",
          { class: "muted" },
          `${plural(profile.operators.length, "operator")}, ${formatQuantity(profile.macs, "count")} MACs, `,
          `${rateText((1e3 * profile.macs) / timing.latency_ms, "MAC")}; under the profiler ${ms(profile.profiled_ms)}`,
          timing.settled ? "" : " (did not settle)",
        ),
      ),
      host,
    );
    drawn(host, (width) => host.replaceChildren(strip(data, profile, width, most)));
  });
  const used = Object.keys(FAMILIES).filter((family) =>
    data.profiles.some((profile) => profile.operators.some((operator) => operator.family === family)),
  );
  body.append(
    h(
      "ul",
      { class: "legend" },
      used.map((family) => h("li", null, h("span", { class: `chip ${family}` }), h("span", null, FAMILIES[family]))),
    ),
    note(
      data.profiles.length > 1 ? "All files are drawn to one scale. " : "",
      "Each block is one call into the runtime, in the order of the network; its width is its time. Point at one, or walk with the arrow keys; Enter shows it in the table.",
    ),
  );
}

function strip(data, profile, width, most) {
  const perMs = width / most;
  const height = STAGE_HEIGHT + BLOCK_HEIGHT + 2;
  const svg = s("svg", {
    class: "strip",
    viewBox: `0 0 ${width} ${height}`,
    height,
    tabindex: 0,
    role: "group",
    "aria-label": `Time of ${profileTitle(profile)} by stage and operator`,
  });
  const cards = new Map();
  const blocks = [];
  let left = 0;
  profile.stages.forEach((stage) => {
    const sum = sumOf(profile, (operator) => operator.stage === stage.name);
    const wide = sum.time_ms * perMs;
    const box = s("rect", { class: "stage", x: left, y: 0, width: wide, height: STAGE_HEIGHT, rx: 2 });
    cards.set(box, { card: () => partCard(stageTitle(stage.name), sum, data.notes[stage.name]) });
    svg.append(box, ...stageLabel(stage.name, sum, left, wide));
    let x = left;
    sum.operators.forEach((operator) => {
      const block = s("rect", {
        class: `block ${operator.family}`,
        x,
        y: STAGE_HEIGHT + 2,
        width: operator.time_ms * perMs,
        height: BLOCK_HEIGHT,
      });
      x += operator.time_ms * perMs;
      cards.set(block, { card: () => operatorCard(operator), select: () => showRow(profile, operator) });
      blocks.push(block);
      svg.append(block);
    });
    left += wide;
  });
  pointed(svg, cards, blocks);
  return svg;
}

/** Name and share of a stage, as far as there is room. */
function stageLabel(name, sum, left, wide) {
  const title = stageTitle(name);
  const room = Math.floor((wide - 12) / 6.6);
  const brief = /^s\d+_/.test(title) ? title.slice(0, title.indexOf("_")) : "";
  const text = title.length <= room ? title : room >= 8 ? `${title.slice(0, room - 1)}…` : brief.length <= room ? brief : "";
  const share = percent(sum.share);
  const labels = [];
  if (text) labels.push(s("text", { class: "in-stage", x: left + 7, y: 17 }, text));
  if (share.length <= room) labels.push(s("text", { class: "in-stage quiet", x: left + 7, y: 32 }, share));
  return labels;
}
