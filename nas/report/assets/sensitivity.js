// How the operators of a quantised file take their bits: a bar of signal to noise each, the most sensitive first.

const POOR_DB = 20; // an error of a tenth of the signal
const MOST_BARS = 24;
const [BAR_ROW, BAR_TOP, BAR_VALUE] = [19, 24, 66];

/** Files that tell it, the most accurate first; of equals one that nothing dominates. */
const sensitiveFiles = (data) =>
  data.files
    .filter((file) => file.sensitivities.length)
    .sort((a, b) => b.accuracy - a.accuracy || Number(b.non_dominated) - Number(a.non_dominated));

function renderSensitivity(data) {
  const files = sensitiveFiles(data);
  const first = files.find((file) => file.non_dominated) || files[0];
  const shown = h("div");
  const show = (file) => shown.replaceChildren(...sensitivityOf(file, data));
  const select = h(
    "select",
    { onchange: (event) => show(files[Number(event.target.value)]) },
    files.map((file, place) =>
      h("option", { value: place, selected: file === first }, `${fileTitle(file)}, ${percent(file.accuracy)} accurate`),
    ),
  );
  bodyOf("sensitivity").append(h("p", { class: "controls" }, h("label", null, "file ", select)), shown);
  show(first);
}

function sensitivityOf(file, data) {
  const operators = file.sensitivities;
  const bars = operators.slice(0, MOST_BARS);
  const host = h("div", { class: "figure sensitivity" });
  drawn(host, (width) => host.replaceChildren(barsPlot(bars, width, data)));
  const names = [...new Set(operators.map((operator) => operator.precision))];
  const cells = ({ operator, op_type, precision, num_weights, sqnr_db }) => [
    operator,
    op_type,
    precision,
    integer(num_weights),
    decibels(sqnr_db),
  ];
  return [
    h("p", { class: "finding" }, sensitivityFinding(file)),
    file.reverted.length ? note(`Given more bits because the file decided too seldom like float32: ${file.reverted.join(", ")}.`) : "",
    names.length > 1
      ? h(
          "ul",
          { class: "sensitivity-keys" },
          names.map((name) => h("li", { class: bitsHue(name, data) }, h("span"), name)),
        )
      : "",
    host,
    note(
      "Signal to noise of each operator's output in decibels: 20 dB is an error of a tenth of the signal, 40 dB of a hundredth; short bars are sensitive. The noise is the operator's own, on what the float32 file hands it, for images of the calibration.",
    ),
    details(
      operators.length > bars.length ? `All ${plural(operators.length, "operator")} as a table` : "As a table",
      grid(["operator", "type", "precision", "weights", "signal to noise"], operators.map(cells), { right: [3, 4] }),
    ),
  ];
}

/** What the plot says, in a sentence. */
function sensitivityFinding({ sensitivities }) {
  const poor = sensitivities.filter(({ sqnr_db }) => isNumber(sqnr_db) && sqnr_db < POOR_DB);
  const [worst] = sensitivities;
  const which = `${worst.operator} in ${worst.precision} has the least, ${decibels(worst.sqnr_db)}`;
  return poor.length
    ? `${integer(poor.length)} of ${plural(sensitivities.length, "operator")} ${poor.length === 1 ? "has" : "have"} less than ${POOR_DB} dB: first to be given more bits, or trained with rounding. ${which}.`
    : `No operator has less than ${POOR_DB} dB. ${which}.`;
}

const decibels = (value) => (isNumber(value) ? `${fixed(value, 1)}\u00a0dB` : "no noise");

/** The class with the colour that a precision has on the whole page. */
function bitsHue(precision, data) {
  const order = [...new Set(["float32", "int8", ...data.files.map((file) => file.precision), "int4", "int8-dynamic"])];
  return `precision${Math.max(0, order.indexOf(precision)) % 4}`;
}

function barsPlot(operators, width, data) {
  const left = Math.round(Math.min(360, 0.44 * width));
  const most = operators.reduce((high, { sqnr_db }) => Math.max(high, sqnr_db || 0), 40);
  const x = scale([0, 10 * Math.ceil(most / 10)], [left, Math.max(left + 40, width - BAR_VALUE)]);
  const height = BAR_TOP + BAR_ROW * operators.length + 4;
  const label = `Signal to noise of ${plural(operators.length, "operator")}, the most sensitive first; the table below has the figures.`;
  const tick = (value) => [
    s("line", { class: value === POOR_DB ? "limit" : "grid", x1: x(value), x2: x(value), y1: BAR_TOP - 6, y2: height }),
    s("text", { class: "tick", x: x(value), y: BAR_TOP - 10 }, `${value} dB`),
  ];
  const step = x(10) - x(0) < 44 ? 20 : 10;
  const ticks = [];
  for (let value = 0; value <= x.domain[1]; value += step) ticks.push(tick(value));
  return s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, class: "plot", role: "img", "aria-label": label },
    ticks,
    operators.map((operator, place) => operatorBar(operator, BAR_TOP + BAR_ROW * place, x, data)),
  );
}

function operatorBar({ operator, op_type, precision, sqnr_db, num_weights }, y, x, data) {
  const [left, right] = x.range;
  const end = isNumber(sqnr_db) ? Math.max(left, Math.min(right, x(sqnr_db))) : right;
  const room = Math.max(6, Math.floor((left - 8) / 6.6));
  const name = operator.length > room ? `…${operator.slice(1 - room)}` : operator;
  const weights = num_weights ? `, ${plural(num_weights, "weight")}` : "";
  return s(
    "g",
    { class: bitsHue(precision, data) },
    s("title", null, `${operator} (${op_type}), ${precision}${weights}, ${decibels(sqnr_db)}`),
    s("text", { class: "name", x: left - 8, y: y + 13 }, name),
    s("rect", { class: "bits", x: left, y: y + 3, width: end - left, height: BAR_ROW - 6 }),
    s("text", { class: "value", x: end + 6, y: y + 13 }, isNumber(sqnr_db) ? fixed(sqnr_db, 1) : "no noise"),
  );
}
