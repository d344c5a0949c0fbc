// How figures are written and read. formatQuantity follows nas.units.format_quantity rule for rule.

const STEPS = {
  bytes: [
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
    [1, "B"],
  ],
  energy: [
    [1e3, "J"],
    [1, "mJ"],
    [1e-3, "uJ"],
    [1e-6, "nJ"],
    [1e-9, "pJ"],
  ],
  power: [
    [1, "W"],
    [1e-3, "mW"],
    [1e-6, "uW"],
  ],
  count: [
    [1e12, "e12"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
    [1, ""],
  ],
};
const UNITS = {
  time: { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1e3, min: 6e4 },
  bytes: { B: 1, kB: 1e3, KB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 },
  energy: { pJ: 1e-9, nJ: 1e-6, uJ: 1e-3, µJ: 1e-3, mJ: 1, J: 1e3, kJ: 1e6 },
  power: { uW: 1e-6, µW: 1e-6, mW: 1e-3, W: 1, kW: 1e3 },
  count: { "": 1, k: 1e3, K: 1e3, M: 1e6, G: 1e9, B: 1e9 },
  share: { "%": 0.01 },
};
const EXAMPLES = { time: "0.4 ms", bytes: "200 kB", energy: "3 mJ", power: "2.5 W", count: "40 M", share: "95 %" };

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Like toFixed, but a value that is exactly half way goes to the even neighbour, as in Python. */
function fixed(value, decimals) {
  const text = value.toFixed(decimals);
  const exact = Math.abs(value).toFixed(decimals + 30);
  const halfWay = exact.endsWith(`5${"0".repeat(29)}`) && !exact.endsWith("0".repeat(30));
  return halfWay && "13579".includes(text[text.length - 1])
    ? exact.slice(0, decimals ? -30 : -31).replace(/^/, value < 0 ? "-" : "")
    : text;
}

function threeDigits(value) {
  if (value === 0) return "0";
  if (Math.abs(value) >= 999.5) return fixed(value, 0);
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  const text = fixed(value, decimals);
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

/** A large number with two digits and an exponent: 1.2e+17. */
function twoDigits(value) {
  const power = Math.floor(Math.log10(Math.abs(value)));
  return Number(`${fixed(value / 10 ** power, 1)}e${power}`).toExponential();
}

function stepsOf(value, dimension) {
  if (dimension !== "time") return STEPS[dimension] || STEPS.count;
  return value >= 1e4 || value < 1e-3
    ? [
        [1e3, "s"],
        [1, "ms"],
        [1e-3, "us"],
      ]
    : [[1, "ms"]];
}

/** A canonical number with its unit and three significant digits; a share is given in per cent, as in Python. */
function formatQuantity(value, dimension) {
  if (!isNumber(value)) return "-";
  if (dimension === "share") return `${fixed(value, 1)} %`;
  if (dimension === "count" && Math.abs(value) >= 1e15) return twoDigits(value);
  const steps = stepsOf(value, dimension);
  const [factor, unit] = steps.find((step) => Math.abs(value) >= step[0]) || steps[steps.length - 1];
  return `${threeDigits(value / factor)} ${unit}`.trim();
}

/** A metric's value for people: accuracy, a share in [0, 1], in per cent, the rest with its unit. */
function formatMetric(value, quantity) {
  if (!isNumber(value)) return "–";
  return formatQuantity(quantity.dimension === "share" ? 100 * value : value, quantity.dimension).replace(
    " ",
    "\u00a0",
  );
}

const percent = (share, digits = 1) => (isNumber(share) ? `${fixed(100 * share, digits)}\u00a0%` : "–");
const integer = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en").replace(/,/g, "\u202f") : "–");
const plural = (count, one, many = `${one}s`) => `${integer(count)} ${count === 1 ? one : many}`;
const short = (digest) => String(digest).slice(0, 6);

/** Difference of two shares in percentage points, with its sign. */
function points(difference) {
  const text = Math.abs(100 * difference).toFixed(1);
  if (text === "0.0") return "±0.0 points";
  return `${difference < 0 ? "−" : "+"}${text} points`;
}

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 10) return `${threeDigits(seconds)} s`;
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

/** What a person typed as a canonical number; throws an Error with the reason. Shares come back in [0, 1]. */
function parseQuantity(text, dimension) {
  const match = /^\s*\+?((?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Zµ%]*)\s*$/.exec(text);
  const units = UNITS[dimension] || UNITS.count;
  const example = `write it like ${EXAMPLES[dimension] || "40 M"}`;
  if (!match) throw new Error(`not a quantity; ${example}`);
  if (!Object.hasOwn(units, match[2])) {
    throw new Error(match[2] ? `${match[2]} does not fit; ${example}` : `the unit is missing; ${example}`);
  }
  const value = Number(match[1]) * units[match[2]];
  if (!(value > 0) || !Number.isFinite(value)) throw new Error("must be positive");
  return value;
}

/** ISO 8601 as "2026-11-23 18:03 UTC"; other text as it is. */
function moment(text) {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(Z|\+00:00)?/.exec(text || "");
  return match ? `${match[1]} ${match[2]}${match[3] ? " UTC" : ""}` : text || "";
}
