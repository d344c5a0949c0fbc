// Head of the page, and the order in which its parts are drawn.

const SECTIONS = [
  ["ship", "Ship", renderPicker],
  ["front", "Front", renderFront],
  ["models", "Files", renderModels],
  ["sensitivity", "Bits", renderSensitivity],
  ["devices", "Devices", renderDevices],
  ["latency", "Certainty", renderLatency],
  ["history", "Search", renderHistory],
  ["audit", "Audit", renderAudit],
  ["space", "Space", renderSpace],
  ["about", "Environment", renderAbout],
  ["notes", "Notes", renderNotes],
];

function renderMasthead(data) {
  const { about, search } = data;
  const set = about.data;
  document.getElementById("masthead").append(
    h("p", { class: "eyebrow" }, "neural architecture search · run report"),
    h("h1", null, data.name),
    h("p", { class: "verdict" }, verdict(data)),
    facts(
      [
        [
          "space",
          about.space.name
            ? `${about.space.name}${about.space.size ? `, ${spaceSize(about.space.size)} architectures` : ""}`
            : null,
        ],
        [
          "data",
          set.name
            ? `${set.name}${isNumber(set.num_train) ? `, ${integer(set.num_train)} / ${integer(set.num_validation)} / ${integer(set.num_test)}` : ""}`
            : null,
        ],
        [data.devices.length > 1 ? "devices" : "device", data.devices.map((device) => device.name).join(", ")],
        ["budgets", data.budgets.map((budget) => budget.text).join("; ") || (data.created ? "none" : null)],
        [
          "evaluated",
          search.count ? `${integer(search.count)}, ${integer(search.count - search.complete)} without result` : null,
        ],
        ["finished", moment(data.finished) || "not finished"],
      ],
      "facts strip",
    ),
  );
}

/** The page in one sentence: the file that the run's own budgets point to. */
function verdict(data) {
  if (!data.files.length) {
    return searchOnly(data);
  }
  const limits = Object.fromEntries(data.budgets.map((budget) => [budget.key, budget.limit]));
  delete limits.accuracy;
  const chosen = pick({ ...data, files: [...data.files] }, { precision: "any", limits });
  if (!chosen)
    return "No exported file keeps all budgets of this run; below you see which limit would have to give way.";
  const timing = data.quantities[data.latency];
  const certain = timing && !isMeasured(chosen, data.latency) ? ` (${predictionName(chosen, data.latency, data)})` : "";
  const latency = timing ? `, ${formatMetric(latencyOf(chosen, data), timing)} on ${timing.device}${certain}` : "";
  const fastest = spanOf(data);
  return [
    h("strong", null, `Ship ${fileTitle(chosen)}`),
    `: ${percent(chosen.accuracy)} accurate${chosen.interval ? ` (${intervalText(chosen)})` : ""}${latency}, `,
    `${formatMetric(chosen.costs.size_bytes, data.quantities.size_bytes)}. `,
    data.budgets.length
      ? `It is the most accurate file within the run's budgets${data.devices.length > 1 ? ` on ${data.devices.length === 2 ? "both" : `all ${data.devices.length}`} devices` : ""}. `
      : "It is the most accurate file; the run had no budgets. ",
    fastest,
  ];
}

function searchOnly(data) {
  const best = data.search.curves.best.value;
  return best.length
    ? `Nothing was exported yet. The best of ${plural(data.search.count, "evaluation")} has ${percent(best[best.length - 1])} validation accuracy.`
    : "Nothing was evaluated yet.";
}

function spanOf(data) {
  const values = data.files.map((file) => latencyOf(file, data)).filter((value) => value > 0);
  if (values.length < 2) return "";
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const where = data.devices.length > 1 ? " there" : "";
  return `${plural(data.files.length, "file")} span ${formatQuantity(low, "time")} to ${formatQuantity(high, "time")}${where}.`;
}

function renderContents() {
  const nav = document.getElementById("contents");
  nav.append(...SECTIONS.map(([id, name]) => h("a", { href: `#${id}` }, name)));
  const links = new Map(SECTIONS.map(([id], place) => [id, nav.children[place]]));
  const watcher = new IntersectionObserver(
    (entries) =>
      entries.forEach((entry) => {
        links.get(entry.target.id).classList.toggle("here", entry.isIntersecting);
      }),
    { rootMargin: "-30% 0px -60% 0px" },
  );
  SECTIONS.forEach(([id]) => watcher.observe(document.getElementById(id)));
}

/** A part that cannot be drawn says so in its place and leaves the others alone. */
function attempt(id, render, data) {
  try {
    render(data);
  } catch (error) {
    bodyOf(id).append(empty(`This part could not be drawn: ${error.message}`));
    console.error(error);
  }
}

const payload = JSON.parse(document.getElementById("payload").textContent);
const without = (name) => {
  SECTIONS.splice(
    SECTIONS.findIndex(([id]) => id === name),
    1,
  );
  document.getElementById(name).remove();
};
// One device has nothing to be told apart from.
if (payload.devices.length < 2) without("devices");
if (!payload.files.some((file) => file.sensitivities.length)) without("sensitivity");
renderMasthead(payload);
renderContents();
// The picker speaks first when all others listen, so it is drawn last; its place on the page is fixed.
[...SECTIONS.slice(1), SECTIONS[0]].forEach(([id, , render]) => attempt(id, render, payload));
addEventListener("scroll", () => card.hide(), { passive: true });
